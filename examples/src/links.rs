//! `links`: makes links to this program, one a word.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Output;
use crate::own;
use crate::tool::{Fallible, Tool};
use crate::word::{Kind, Table};

/// Options of `links`.
#[derive(Args)]
pub(crate) struct Links {
    /// The directory for the links, which must exist
    dir: PathBuf,
    /// Make links that stay right when the directory and the program move together
    #[arg(long)]
    relative: bool,
    /// Make the link `criu`, too, so that this program takes the place of criu
    #[arg(long)]
    as_criu: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Tool for Links {
    const WORD: &'static str = "links";
    const ABOUT: &'static str = "Makes links to this program, so that each word is a program.";
    const MORE: &'static str = "\
Examples:
  criu-rs links ~/.local/bin         make ~/.local/bin/dump, restore, crit and so on
  criu-rs links --relative .         make links in a directory that may move with the program
  criu-rs links --as-criu /opt/bin   make the link criu, too

A link to this program that is there already is made anew. If anything else has such a name, it is
left alone, and no link is made.

Exit status:
  0  done
  1  the directory cannot be used, or a name in it is taken
  2  wrong usage";

    fn run(self, name: &str, table: &Table) -> Fallible<ExitCode> {
        let output = Output::new(name, Self::WORD, self.json);
        let failed = |path: &Path, error: io::Error| {
            Fault::system(format!("make a link at {}", path.display()), error)
        };
        let dir = fs::canonicalize(&self.dir).map_err(|error| failed(&self.dir, error))?;
        let program = fs::canonicalize(own::PROGRAM);
        let program = program.map_err(|error| Fault::system("find this program", error))?;
        let target = if self.relative { from(&dir, &program) } else { program.clone() };
        let names = table.words.iter().filter(|row| row.kind != Kind::Own).map(|row| row.name);
        let names = names.chain(self.as_criu.then_some("criu"));
        let links: Vec<PathBuf> = names.map(|name| self.dir.join(name)).collect();
        let taken: Vec<String> = links
            .iter()
            .filter(|link| !is_free(link, &program))
            .map(|link| link.display().to_string())
            .collect();
        if !taken.is_empty() {
            let what = "no link is made: there is something else at";
            return Err(Fault::Failed(format!("{what} {}", taken.join(", "))).into());
        }
        for link in &links {
            replace(link, &target).map_err(|error| failed(link, error))?;
            output.print(format_args!("{} -> {}", link.display(), target.display()));
        }
        let links: Vec<_> = links.iter().map(|link| link.to_string_lossy()).collect();
        output.object("done", json!({ "links": links, "target": target.to_string_lossy() }));
        Ok(Exit::Done.into())
    }
}

/// Tells if nothing is at `path`, or a link to this program, or a dangling link to its name.
fn is_free(path: &Path, program: &Path) -> bool {
    if fs::symlink_metadata(path).is_err() {
        return true;
    }
    let Ok(target) = fs::read_link(path) else { return false };
    match fs::canonicalize(path) {
        Ok(leads_to) => leads_to == program,
        Err(_) => target.file_name() == program.file_name(),
    }
}

/// Makes a link in one step, even in the place of another.
fn replace(link: &Path, target: &Path) -> io::Result<()> {
    let mut new = OsString::from(".");
    new.push(link.file_name().unwrap_or_default());
    new.push(format!(".{}", std::process::id()));
    let new = link.with_file_name(new);
    symlink(target, &new)?;
    fs::rename(&new, link).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Returns the path that leads from a directory to a file, both absolute and free of links.
fn from(dir: &Path, file: &Path) -> PathBuf {
    let common = dir.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = dir.components().skip(common).map(|_| Component::ParentDir);
    up.chain(file.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_lead_from_the_directory_to_the_file() {
        for (dir, file, path) in [
            ("/opt/bin", "/opt/bin/criu-rs", "criu-rs"),
            ("/opt/links", "/opt/bin/criu-rs", "../bin/criu-rs"),
            ("/", "/usr/bin/criu-rs", "usr/bin/criu-rs"),
            ("/a/b", "/c/criu-rs", "../../c/criu-rs"),
        ] {
            assert_eq!(from(Path::new(dir), Path::new(file)), Path::new(path));
        }
    }
}
