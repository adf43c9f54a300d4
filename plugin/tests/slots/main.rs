//! The slots of programs that are linked in other ways than Debian's CRIU: all slots bound at the
//! start and read-only (full RELRO), calls without a PLT, a fixed address.
//!
//! The programs are made by the C compiler that links Rust's programs.

#![allow(clippy::unwrap_used, unreachable_pub)]
#![cfg(target_arch = "x86_64")]

#[allow(dead_code, reason = "the tests with CRIU use more of it")]
#[path = "../criu/lab.rs"]
mod lab;

use std::fs;
use std::process::Command;

use criu_lab::scratch;
use criu_plugin::journal::{Field, State};

use lab::{Lab, Ledger, started};

/// The ways to link a program.
const WAYS: &[(&str, &[&str])] = &[
    ("lazy", &["-fPIE", "-pie", "-Wl,-z,relro,-z,lazy"]),
    ("no-relro", &["-fPIE", "-pie", "-Wl,-z,norelro,-z,lazy"]),
    ("full-relro", &["-fPIE", "-pie", "-Wl,-z,relro,-z,now"]),
    ("no-plt", &["-fPIE", "-pie", "-fno-plt", "-Wl,-z,relro,-z,now"]),
    ("fixed-address", &["-fno-pie", "-no-pie", "-Wl,-z,relro,-z,now"]),
    ("fixed-and-lazy", &["-fno-pie", "-no-pie", "-Wl,-z,relro,-z,lazy"]),
];

/// Calls lead to the plugin while a dump is made, and no slot becomes writable.
#[test]
fn calls_of_a_program_lead_to_the_plugin_whatever_way_it_is_linked() {
    for (way, flags) in WAYS {
        let lab = Lab::new("none".as_ref(), scratch(&format!("slots-{way}")));
        let program = lab.dir.join("program");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slots/program.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Werror"]).args(*flags).arg(source).arg("-o").arg(&program);
        let output = compiler.arg("-ldl").output().unwrap();
        assert!(output.status.success(), "{way}: {output:?}");
        // A holder that is kept of an earlier dump: so the plugin answers lists of children.
        let ledger = Ledger::with(u64::MAX, |journal| {
            let own = i32::try_from(std::process::id()).unwrap();
            let record = journal.add(0).unwrap();
            record.set(Field::Holder, own.unsigned_abs().into());
            record.set(Field::HolderStart, started(own));
            record.pass(State::Kept);
        });
        let mut command = Command::new(&program);
        command.arg(lab.libraries().join("libcriu_plugin.so"));
        let output = ledger.pass_to(&mut command, &lab).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        println!("{way}:\n{said}");
        ledger.is_ready();
        let lines: Vec<&str> = said.lines().collect();
        let [before, "init: 0", in_dump, after] = lines[..] else { panic!("{way}: {said}") };
        // A list that the plugin cannot look through is EIO.
        let told = |line: &str, when: &str, errno: i32| {
            let rest = line.strip_prefix(&format!("{when}: {errno}, scan -1 "));
            rest.unwrap_or_else(|| panic!("{way}: {said}")).to_owned()
        };
        let rights = told(before, "before", 0);
        assert!(rights.contains("r-x") && rights.contains("r--"), "{way}: {said}");
        assert_eq!(told(in_dump, "in", nix::libc::EIO), rights, "{way}");
        assert_eq!(told(after, "after", 0), rights, "{way}");
        fs::remove_dir_all(&lab.dir).unwrap();
    }
}
