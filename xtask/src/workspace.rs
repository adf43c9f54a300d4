//! The workspace's folder, its target directory, and its cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::Result;

/// The root folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The folders of all packages, by name and in order. `fuzz`, which is no member, is among them.
///
/// # Errors
/// If the root folder cannot be read.
pub fn packages() -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            packages.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    packages.sort();
    Ok(packages)
}

/// The target directory: `CARGO_TARGET_DIR`, else `target` in the root.
///
/// Absolute and free of links once it exists, so that paths kept in files can be compared.
pub(crate) fn target_dir() -> PathBuf {
    let dir = match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => env::current_dir().unwrap_or_default().join(dir),
        _ => root().join("target"),
    };
    dir.canonicalize().unwrap_or(dir)
}

/// Makes `cargo ARGS` in the root folder, with the cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    command
}

/// The path of the program that runs, also for a program that another one starts. A build may
/// replace our file.
pub(crate) fn ourselves() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", std::process::id()))
}

/// Tests that are built: what cargo says of its programs.
pub(crate) struct BuiltTests(String);

impl BuiltTests {
    /// Builds tests with a `cargo test --no-run`.
    ///
    /// # Errors
    /// If the tests do not build.
    pub(crate) fn make(mut build: Command) -> Result<Self> {
        build.arg("--message-format=json").stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = build.output()?;
        if !output.status.success() {
            return Err("the tests do not build, see above".into());
        }
        Ok(Self(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Returns one of the test programs as a command in the folder of its package.
    ///
    /// # Errors
    /// If cargo does not name the program.
    pub(crate) fn program(&self, package: &str, test: &str) -> Result<Command> {
        let mut programs = self.0.lines().filter_map(|line| program(line, package, test));
        programs.next_back().ok_or_else(|| format!("cargo does not name the test {test}").into())
    }
}

/// Reads a message of cargo about the wanted test.
fn program(message: &str, package: &str, test: &str) -> Option<Command> {
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    };
    let id = field("package_id")?;
    let is_package = id.contains(&format!("/{package}#")) || id.contains(&format!("#{package}@"));
    let is_test = message.contains("\"kind\":[\"test\"]") && field("name")? == test;
    if !is_package || !is_test {
        return None;
    }
    let folder = Path::new(field("manifest_path")?).parent()?;
    let mut program = Command::new(field("executable")?);
    program.current_dir(folder);
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_are_found() {
        let packages = packages().unwrap();
        for name in ["archive", "criu-rs", "fuzz", "xtask"] {
            assert!(packages.iter().any(|package| package == name), "{packages:?}");
        }
        assert!(!packages.iter().any(|package| package == "docs"), "{packages:?}");
    }

    #[test]
    fn a_test_program_is_found_in_the_messages_of_cargo() {
        let message = |id: &str, kind: &str| {
            format!(r#"{{"reason":"compiler-artifact","package_id":"path+file://{id}","#,)
                + &format!(
                    r#""manifest_path":"/w/criu-rs/Cargo.toml","target":{{"kind":["{kind}"],"#,
                )
                + r#""name":"real","src_path":"/w/x.rs"},"executable":"/t/real-1","fresh":true}"#
        };
        let found = program(&message("/w/criu-rs#0.1.0", "test"), "criu-rs", "real").unwrap();
        assert_eq!(found.get_program(), "/t/real-1");
        assert_eq!(found.get_current_dir(), Some(Path::new("/w/criu-rs")));
        assert!(program(&message("/w/x#criu-rs@0.1.0", "test"), "criu-rs", "real").is_some());
        assert!(program(&message("/w/criu-sys#0.1.0", "test"), "criu-rs", "real").is_none());
        assert!(program(&message("/w/criu-rs#0.1.0", "test"), "criu-rs", "tls").is_none());
        assert!(program(&message("/w/criu-rs#0.1.0", "lib"), "criu-rs", "real").is_none());
    }
}
