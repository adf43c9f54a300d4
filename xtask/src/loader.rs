//! The dynamic loader of an unpacked tree, on which the tree's programs run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, process};

/// The dynamic loader of an unpacked tree.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    root: &'a Path,
    /// The final place of the tree.
    home: &'a Path,
    /// The path from `root`, as `usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2`.
    file: PathBuf,
}

impl<'a> Loader<'a> {
    /// Looks for the loader in the tree at `root`.
    pub(crate) fn find(root: &'a Path, home: &'a Path) -> Result<Self> {
        for lib in ["usr/lib", "lib"] {
            let Ok(entries) = fs::read_dir(root.join(lib)) else {
                continue;
            };
            for dir in entries {
                for file in fs::read_dir(dir?.path()).into_iter().flatten() {
                    let file = file?.path();
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    if ["ld-linux", "ld64"].iter().any(|ld| name.starts_with(ld)) && file.exists() {
                        let file = file.strip_prefix(root)?.to_owned();
                        return Ok(Self { root, home, file });
                    }
                }
            }
        }
        Err("the packages hold no dynamic loader where it is expected: usr/lib/*/ld-linux*".into())
    }

    /// Makes the programs run on the libraries of this tree, and checks that the tree has them all.
    pub(crate) fn adopt(&self, programs: &[&str]) -> Result<()> {
        let interpreter = self.home.join(&self.file);
        // A program that executes a copy of itself in memory, as runtimes do, has no $ORIGIN.
        let final_path = self.libraries(&self.home.display().to_string());
        let first_path = format!("{}:{final_path}", self.libraries("$ORIGIN/../.."));
        for program in programs {
            let program = self.root.join(program);
            self.search(&program, &first_path)?;
            if !self.strangers(&program)?.is_empty() {
                self.clear_run_paths(&program)?;
            }
            let strangers = self.strangers(&program)?;
            if !strangers.is_empty() {
                return Err(format!(
                    "{} needs libraries that are not in its packages: {}",
                    program.display(),
                    strangers.join(", ")
                )
                .into());
            }
            // The path gets shorter, so patchelf writes it in place. A second growth, or a growth
            // together with a new interpreter, breaks programs of Go that are linked to libraries.
            self.search(&program, &final_path)?;
            process::read(
                self.patchelf().arg("--set-interpreter").arg(&interpreter).arg(&program),
            )?;
        }
        Ok(())
    }

    /// Sets the folders of a program's libraries.
    fn search(&self, program: &Path, run_path: &str) -> Result<()> {
        // `force`: an RPATH also counts for the libraries of libraries, a RUNPATH does not.
        process::read(self.patchelf().args(["--force-rpath", "--set-rpath", run_path]).arg(program))
            .map(drop)
    }

    /// Removes the RUNPATH of libraries, which would replace the program's RPATH.
    fn clear_run_paths(&self, program: &Path) -> Result<()> {
        for (_, library) in self.needed(program)? {
            if !library.starts_with(self.root) {
                continue;
            }
            let path = process::read(self.patchelf().arg("--print-rpath").arg(&library))?;
            if !path.trim().is_empty() {
                process::read(self.patchelf().arg("--remove-rpath").arg(&library))?;
            }
        }
        Ok(())
    }

    /// Returns libraries that the program would load from outside the tree, or not find at all.
    fn strangers(&self, program: &Path) -> Result<Vec<String>> {
        let mut needed = self.needed(program)?;
        needed.retain(|(_, path)| !path.starts_with(self.root));
        Ok(needed.into_iter().map(|(name, _)| name).collect())
    }

    /// Returns every library that the program loads, with its file.
    fn needed(&self, program: &Path) -> Result<Vec<(String, PathBuf)>> {
        let list = process::read(self.run("--list").arg(program))?;
        Ok(parse_list(&list))
    }

    /// Makes a command of the tree's own patchelf, so that all machines use the same version.
    fn patchelf(&self) -> Command {
        let mut command = self.run("--library-path");
        command
            .arg(self.libraries(&self.root.display().to_string()))
            .arg(self.root.join("usr/bin/patchelf"));
        command
    }

    fn run(&self, option: &str) -> Command {
        let mut command = Command::new(self.root.join(&self.file));
        command.arg(option);
        command
    }

    /// Returns the two library folders of a Debian tree; older packages still use `/lib`.
    fn libraries(&self, root: &str) -> String {
        let folder = self.file.parent().and_then(Path::file_name).unwrap_or_default();
        let folder = folder.to_string_lossy();
        format!("{root}/usr/lib/{folder}:{root}/lib/{folder}")
    }
}

/// Reads `ld.so --list`: `libc.so.6 => /lib/libc.so.6 (0x7f...)`, or `=> not found`.
fn parse_list(list: &str) -> Vec<(String, PathBuf)> {
    list.lines()
        .filter_map(|line| line.trim().split_once(" => "))
        .map(|(name, file)| {
            let file = file.split(" (0x").next().unwrap_or(file);
            (name.into(), file.into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_read() {
        let list = "\tlinux-vdso.so.1 (0x00007fc5)\n\
                    \tlibnl-3.so.200 => /p/usr/lib/t/libnl-3.so.200 (0x00007fc6)\n\
                    \tlibuuid.so.1 => not found\n\
                    \t/p/ld-linux-x86-64.so.2 (0x00007fc5)\n";
        let expected = [
            ("libnl-3.so.200".into(), "/p/usr/lib/t/libnl-3.so.200".into()),
            ("libuuid.so.1".into(), "not found".into()),
        ];
        assert_eq!(parse_list(list), expected);
    }
}
