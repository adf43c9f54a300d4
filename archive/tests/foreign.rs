//! Heads of files that other tools have really written. gVisor's are tested where its runsc runs,
//! in `cri/tests/engine`.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use criu_archive::foreign::Head;
use criu_lab::scratch;

/// An emulated machine, whose processors stand still, is written into a file.
#[test]
fn a_stream_of_qemu_tells_its_machine_and_its_memory() {
    let dir = scratch("foreign-qemu");
    let stream = dir.join("stream");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-M", "pc-q35-7.2", "-m", "16", "-S", "-monitor", "stdio"]);
    qemu.args(["-display", "none", "-vga", "none", "-nodefaults"]);
    let mut child = qemu.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let words = format!("migrate \"exec:cat>{}\"\nquit\n", stream.display());
    child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());

    let Some(Head::Qemu(found)) = Head::open(&stream).unwrap() else { panic!("no stream") };
    assert_eq!((found.version, &*found.machine), (3, "pc-q35-7.2"));
    let memory = found.ram.iter().find(|block| block.name == "pc.ram").unwrap();
    assert_eq!(memory.size, 16 << 20);
    assert!(found.memory() > memory.size && found.size > 100_000, "{found:?}");
    std::fs::remove_dir_all(dir).unwrap();
}
