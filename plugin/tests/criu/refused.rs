//! A CRIU that the plugin cannot work with dumps as without it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use criu_lab::mounts::OwnMounts;
use criu_lab::{filter, payload};
use criu_plugin::journal::{Plugin, State};

use crate::lab::{Dump, Lab, Ledger, TestFn};
use crate::pages;
use crate::payload::parts_of;

pub const TESTS: &[(&str, TestFn)] =
    &[("a_kernel_without_the_scan_of_pagemaps_is_refused", without_scan)];

/// The kernel refuses the scan as kernels before 6.7 do.
fn without_scan(lab: &Lab) {
    // CRIU keeps what it has found out about the kernel in /run.
    let _mounts = OwnMounts::with_run("ramfs");
    let target = lab.start(&["parts", "2", "0", "small:2048"]);
    let ledger = Ledger::new(0, &[(target.pid, State::Wanted)]);
    let images = lab.dir.join("images");
    let plain = lab.command(&images, target.pid, &["--leave-running"]);
    let mut command = payload::command(&["old-kernel"], &lab.dir.join("unused"));
    command.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    let dump = Dump::wait(ledger.pass_to(&mut command, lab).spawn().unwrap(), images).succeeds();
    let enotty = u64::try_from(nix::libc::ENOTTY).unwrap();
    assert_eq!(ledger.plugin(), (Plugin::Refused as u64, enotty));
    assert_eq!(ledger.record(target.pid).state, State::Wanted);
    assert_eq!(pages::of_task(&dump, target.pid, &parts_of(target.file())[0]), 2048);
    target.goes_on();
}

/// `FILE PROGRAM ARGUMENTS...`: becomes a program for which the kernel has no scan of pagemaps.
pub fn old_kernel(words: &[&str]) {
    let (ioctl, scan) = (u32::try_from(nix::libc::SYS_ioctl).unwrap(), 0xc060_6610);
    let code = [
        (LOAD, 0, 0, 0),
        (IS, 0, 3, ioctl),
        // The second argument.
        (LOAD, 0, 0, 24),
        (IS, 0, 1, scan),
        (RETURN, 0, 0, 0x0005_0000 | u32::try_from(nix::libc::ENOTTY).unwrap()),
        (RETURN, 0, 0, 0x7fff_0000),
    ];
    filter::install(&code, 0).unwrap();
    panic!("{}", Command::new(words[1]).args(&words[2..]).exec());
}

/// Loads a word of what the kernel tells of a system call.
const LOAD: u16 = 0x20;
/// Compares it.
const IS: u16 = 0x15;
const RETURN: u16 = 0x06;
