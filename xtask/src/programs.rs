//! Programs that CRIU and the tests execute.

use std::path::Path;
use std::process::Command;

use crate::{Result, process};

/// A program, or the path of a file, and the Debian package that has it.
pub(crate) const OF_TESTS: &[(&str, &str)] = &[
    // CRIU saves and restores routes and rules of a network namespace with it; tests make namespaces.
    ("ip", "iproute2"),
    // Opens the core files that are made of checkpoints, of any architecture.
    ("gdb-multiarch", "gdb-multiarch"),
    // CRIU locks TCP connections with the one or the other's library while it dumps them.
    ("iptables-restore", "iptables"),
    ("nft", "nftables"),
    // crit's: the tests compare JSON with it, and have it compress pages.
    ("/usr/lib/python3/dist-packages/google/protobuf/__init__.py", "python3-protobuf"),
    ("/usr/lib/python3/dist-packages/lz4/block/__init__.py", "python3-lz4"),
    ("hexdump", "bsdextrautils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    // Ordinary programs that are looked at before they are saved.
    ("busybox", "busybox"),
    ("memcached", "memcached"),
    ("nginx", "nginx-light"),
    ("perl", "perl-base"),
    ("/usr/bin/python3", "python3"),
    ("redis-server", "redis-server"),
    ("/usr/sbin/sshd", "openssh-server"),
];

/// Makes sure that all of `programs` are there, each with its package: as root by installing their packages.
///
/// # Errors
/// The command that installs what is missing.
pub(crate) fn provide(programs: &[(&str, &'static str)]) -> Result<()> {
    let mut packages: Vec<_> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !process::is_root() {
        return Err(format!(
            "the tests execute programs that are missing here: run `apt-get install {names}` as root"
        )
        .into());
    }
    eprintln!("installing on the system: {names}");
    let install = [&["install", "--yes", "--no-install-recommends"], &packages[..]].concat();
    // The lists may be old or, in a container, absent; that one of them is stale does not matter.
    apt_get(&install)
        .or_else(|_| {
            let _ = apt_get(&["update"]);
            apt_get(&install)
        })
        .map_err(|error| format!("the tests need {names}, which do not install: {error}").into())
}

fn is_there(program: &str) -> bool {
    match program.starts_with('/') {
        true => Path::new(program).exists(),
        false => process::which(program).is_some(),
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    // No service is started, only because its program is there.
    apt.env("RUNLEVEL", "1");
    process::read(&mut apt).map(drop)
}
