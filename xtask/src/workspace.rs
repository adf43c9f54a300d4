//! Where the workspace lies, where it builds, and its cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
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

/// `cargo ARGS` in the root, with the cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    command
}
