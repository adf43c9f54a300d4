//! Building the targets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, process, workspace};

/// The targets, built.
#[derive(Debug)]
pub(super) struct Built {
    /// Where their programs are.
    folder: PathBuf,
    /// The compiler's version: each counts what is covered in its own way.
    pub(super) compiler: String,
}

impl Built {
    /// Builds them all with what libFuzzer looks at. On stable Rust too: the flags are the compiler's own, only
    /// the sanitizers need a nightly one.
    ///
    /// # Errors
    /// What cargo says.
    pub(super) fn make(root: &Path, only: Option<&str>, asan: bool) -> Result<Self> {
        let home = root.join("fuzz");
        let rustc =
            |args: &[&str]| process::read(Command::new("rustc").args(args).current_dir(&home));
        let version = match asan {
            true => rustc(&["+nightly", "-vV"]).map_err(|error| {
                format!("AddressSanitizer is in nightly Rust: `rustup toolchain install nightly`\n{error}")
            })?,
            false => rustc(&["-vV"])?,
        };
        let line = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let host = line("host: ").ok_or("rustc does not name its host")?.to_owned();
        let compiler = line("release: ").unwrap_or("?").to_owned();
        let target = workspace::target_dir().join(if asan { "fuzz-asan" } else { "fuzz" });
        let mut flags = vec!["--cfg", "fuzzing"];
        flags.extend(FLAGS);
        if asan {
            flags.push("-Zsanitizer=address");
        }
        // Through rustup where it is: CARGO names the cargo of the toolchain that runs us.
        let mut cargo = match asan {
            true => Command::new("rustup"),
            false => workspace::cargo(&[]),
        };
        if asan {
            cargo
                .args(["run", "nightly", "cargo"])
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("CARGO");
        }
        cargo
            .args(["build", "--release", "--locked", "--example", "seeds", "--target", &host])
            .current_dir(&home)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS");
        match only {
            Some(target) => cargo.args(["--bin", target]),
            None => cargo.arg("--bins"),
        };
        process::read(&mut cargo)?;
        let folder = target.join(host).join("release");
        Ok(Self { folder, compiler })
    }

    /// The program of a target.
    pub(super) fn program(&self, target: &str) -> PathBuf {
        self.folder.join(target)
    }

    /// A folder with what each target begins with, and the dictionary.
    pub(super) fn seeds(&self, name: &str) -> Result<PathBuf> {
        let seeds = super::folder(name)?;
        fs::remove_dir_all(&seeds)?;
        let mut make = Command::new(self.folder.join("examples/seeds"));
        process::read(make.arg(&seeds))?;
        Ok(seeds)
    }
}

/// Every target, by its file.
pub(super) fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(home().join("fuzz_targets"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        targets.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

/// The fuzzer's own workspace.
pub(super) fn home() -> PathBuf {
    workspace::root().join("fuzz")
}

/// What cargo-fuzz gives rustc, too.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
