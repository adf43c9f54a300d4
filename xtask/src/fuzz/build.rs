//! The build of the targets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, process, workspace};

/// The targets, built.
#[derive(Debug)]
pub(super) struct Built {
    /// The folder of their programs.
    folder: PathBuf,
    /// The compiler's version. Compilers differ in the coverage that they count.
    pub(super) compiler: String,
}

impl Built {
    /// Builds all targets with the counters that libFuzzer reads. Stable Rust does: the flags are
    /// the compiler's own, and only sanitizers need nightly Rust.
    ///
    /// # Errors
    /// If a target does not build, with cargo's output.
    pub(super) fn make(root: &Path, only: Option<&str>, asan: bool) -> Result<Self> {
        let home = root.join("fuzz");
        let rustc =
            |args: &[&str]| process::read(Command::new("rustc").args(args).current_dir(&home));
        let version = if asan {
            rustc(&["+nightly", "-vV"]).map_err(|error| {
                format!("AddressSanitizer is in nightly Rust: `rustup toolchain install nightly`\n{error}")
            })?
        } else {
            rustc(&["-vV"])?
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
        // Through rustup for nightly: CARGO names the cargo of the toolchain that runs us.
        let mut cargo = if asan { Command::new("rustup") } else { workspace::cargo(&[]) };
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

    /// Returns the program of a target.
    pub(super) fn program(&self, target: &str) -> PathBuf {
        self.folder.join(target)
    }

    /// Makes a folder with the first inputs of each target, and the dictionary.
    pub(super) fn seeds(&self, name: &str) -> Result<PathBuf> {
        let seeds = super::folder(name)?;
        fs::remove_dir_all(&seeds)?;
        let mut make = Command::new(self.folder.join("examples/seeds"));
        process::read(make.arg(&seeds))?;
        Ok(seeds)
    }
}

/// Returns every target, by its file.
pub(super) fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(home().join("fuzz_targets"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        targets.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

/// The folder of the fuzzer's own workspace.
pub(super) fn home() -> PathBuf {
    workspace::root().join("fuzz")
}

/// Flags for rustc, the same as cargo-fuzz's.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
