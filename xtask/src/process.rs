//! Programs that run quietly: their output matters only if they fail.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use crate::Result;

/// Runs the command to its end and returns its standard output.
///
/// # Errors
/// If the command fails; names the command, its status and the last lines of its output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    if !output.status.success() {
        return Err(format!(
            "`{}` failed ({}):\n{}",
            show(command),
            output.status,
            indent(&said(&output))
        )
        .into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the command to its end, and returns its output and status.
///
/// # Errors
/// Only if the command cannot be started.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| {
        let name = command.get_program().to_string_lossy();
        match error.kind() {
            ErrorKind::NotFound => format!("{name} is not installed").into(),
            _ => format!("cannot start {name}: {error}").into(),
        }
    })
}

/// Returns the output of a finished program, standard output first, trimmed.
pub(crate) fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Makes a command that has another program run `inner`: `nice -n 10 cargo test`.
pub(crate) fn wrap(outer: &Command, inner: &Command) -> Command {
    let mut command = Command::new(outer.get_program());
    command.args(outer.get_args()).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = inner.get_current_dir() {
        command.current_dir(dir);
    }
    command
}

/// Returns the last lines of a text, indented for the message around them.
pub(crate) fn indent(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = lines[start..].iter().map(|l| format!("    {l}")).collect();
    if start > 0 {
        shown.insert(0, "    ...".into());
    }
    shown.join("\n")
}

/// Finds a program on PATH, and then in the `sbin` folders that a user's PATH may lack.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    path_folders()
        .into_iter()
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

/// Returns the folders of PATH.
pub(crate) fn path_folders() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

/// Tells if we are root: `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The most lines of a failed program's output to show. apt's own summary is shorter.
const SHOWN: usize = 40;
