//! Programs that CRIU and the tests execute.

use std::path::Path;
use std::process::Command;

use crate::{Result, process};

/// A program, or the path of a file, and the Debian package that has it.
pub(crate) const OF_TESTS: &[(&str, &str)] = &[
    // CRIU saves and restores routes and rules of a network namespace with it. Tests make
    // namespaces with it.
    ("ip", "iproute2"),
    // Opens the core files that are made of checkpoints, for any architecture.
    ("gdb-multiarch", "gdb-multiarch"),
    // CRIU locks TCP connections during a dump, with this program or with the library of nft.
    ("iptables-restore", "iptables"),
    ("nft", "nftables"),
    // For crit: the tests compare JSON with crit's, and let crit compress pages.
    ("/usr/lib/python3/dist-packages/google/protobuf/__init__.py", "python3-protobuf"),
    ("/usr/lib/python3/dist-packages/lz4/block/__init__.py", "python3-lz4"),
    ("hexdump", "bsdextrautils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    // Ordinary programs that the tests look at and save.
    ("busybox", "busybox"),
    // Opens the reports about checkpoints.
    ("chromium", "chromium"),
    ("memcached", "memcached"),
    ("nginx", "nginx-light"),
    ("perl", "perl-base"),
    ("/usr/bin/python3", "python3"),
    // Its migration streams are read.
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("redis-server", "redis-server"),
    ("/usr/sbin/sshd", "openssh-server"),
    // Unpacks archives of a form that ours do not read, as they advise.
    ("xz", "xz-utils"),
    // Packs archives beside ours, also for tar.
    ("zstd", "zstd"),
];

/// Makes sure that all `programs` are installed. Root's run installs the missing packages.
///
/// # Errors
/// If a program is missing, with the command that installs the packages.
pub(crate) fn provide(programs: &[(&str, &'static str)]) -> Result<()> {
    let mut packages: Vec<_> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { install(&packages) }
}

/// Installs packages of Debian's on the system.
///
/// # Errors
/// If somebody else than root asks, with the command that installs the packages.
pub(crate) fn install(packages: &[&'static str]) -> Result<()> {
    let names = packages.join(" ");
    if !process::is_root() {
        return Err(format!(
            "programs of the tests are missing: run `apt-get install {names}` as root"
        )
        .into());
    }
    eprintln!("installing on the system: {names}");
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    // The package lists may be old or, in a container, missing. An error of a single list does not
    // matter.
    apt_get(&install)
        .or_else(|_| {
            let _ = apt_get(&["update"]);
            apt_get(&install)
        })
        .map_err(|error| {
            format!("the tests need {names}, which cannot be installed: {error}").into()
        })
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        Path::new(program).exists()
    } else {
        process::which(program).is_some()
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    // Keeps the services of the packages from starting.
    apt.env("RUNLEVEL", "1");
    process::read(&mut apt).map(drop)
}
