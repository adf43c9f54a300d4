//! Pipes, FIFOs and terminals whose other end is outside the tree.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use criu_lab::soon;
use criu_rs::preflight::{Need, Report, Severity};
use criu_rs::{AfterDump, Dump, InheritFd, Pid, Restore};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_a_pipe_to_the_outside", pipes),
    ("preflight_foresees_a_fifo_to_the_outside", fifo),
    ("preflight_does_not_mind_pipes_that_lose_nothing", no_alarm),
    ("preflight_foresees_a_terminal_used_outside", master),
    ("preflight_foresees_a_seccomp_listener_outside", listener),
];

/// The findings that tell of a loss: their words, and the options that prevent it.
fn lost(report: &Report) -> Vec<(&str, Vec<Need>)> {
    let loses = report.findings().iter().filter(|found| found.severity == Severity::Loses);
    loses.map(|found| (&*found.what, found.keeps().into_iter().cloned().collect())).collect()
}

fn name(fd: impl AsFd) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).unwrap();
    link.to_str().unwrap().to_owned()
}

/// The read end and the write end of a new pipe.
fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// Tests a program between two pipes. After a restore without them it ends, and with them it works.
fn pipes(lab: &Lab) {
    let (theirs_in, ours_in) = pipe();
    let (ours_out, theirs_out) = pipe();
    let (input, output) = (name(&theirs_in), name(&theirs_out));
    let mut target =
        lab.start_with(&["echo"], |command| command.stdin(theirs_in).stdout(theirs_out));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let what = "the other end of a pipe is outside the tree";
    let mut wanted = [&input, &output].map(|key| (what, vec![Need::InheritFd(key.clone())]));
    let mut found = lost(&report);
    wanted.sort_by_key(|(_, needs)| format!("{needs:?}"));
    found.sort_by_key(|(_, needs)| format!("{needs:?}"));
    assert_eq!(found, wanted, "{report}");
    assert!(report.will_work() && report.options().is_empty(), "{report}");
    let own = format!("process {} ", Pid::this());
    assert!(report.findings().iter().all(|found| found.detail.starts_with(&own)), "{report}");
    let text = report.to_string();
    assert!(text.contains(&format!(".inherit_fd(InheritFd::new({input:?}, ..))")), "{text}");
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    // Nobody writes to its input any more: it ends.
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.is_gone();
    drop((ours_in, ours_out));
    let (theirs_in, mut ours_in) = pipe();
    let (mut ours_out, theirs_out) = pipe();
    let restore = Restore::new(&images).inherit_fd(InheritFd::new(input, &theirs_in));
    let restored = restore.inherit_fd(InheritFd::new(output, &theirs_out)).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    ours_in.write_all(b"x").unwrap();
    let mut byte = [0];
    ours_out.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

fn open_fifo(path: &Path, is_write: bool) -> File {
    let mut how = OpenOptions::new();
    how.read(!is_write).write(is_write).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap()
}

fn fifo(lab: &Lab) {
    let path = lab.dir.join("fifo");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let target =
        lab.python(&format!("f = os.open('{}', os.O_RDONLY | os.O_NONBLOCK)", path.display()));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    assert_eq!(lost(&dump.preflight(&lab.criu).unwrap()), [], "nobody has the other end");
    let writer = open_fifo(&path, true);
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(lost(&report), [("the other end of a FIFO is outside the tree", vec![])]);
    dump.run(&lab.criu).unwrap();
    // A writer that has left is not lost.
    drop(writer);
    assert_eq!(lost(&dump.preflight(&lab.criu).unwrap()), []);
}

fn no_alarm(lab: &Lab) {
    // Both ends are in one process, in two processes, and in a process and its thread.
    let inside = "\
r, w = os.pipe()
r2, w2 = os.pipe()
if os.fork() == 0:
    os.close(r); os.close(w2)
    while True: time.sleep(1)
os.close(w); os.close(r2)
p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
r3, w3 = os.pipe()
os.close(r3)
r4, w4 = os.pipe()
os.close(w4)";
    let target = lab.python(inside);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(report.findings(), [], "{report}");
    dump.run(&lab.criu).unwrap();
    // The readers outside have gone before the dump: nothing is lost with them.
    let (reader, writer) = pipe();
    let target = lab.start_with(&["count"], |command| command.stdout(writer));
    let images = lab.dir("broken");
    let dump = Dump::new(target.pid, &images);
    assert_eq!(lost(&dump.preflight(&lab.criu).unwrap()).len(), 1);
    drop(reader);
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(report.findings(), [], "{report}");
}

fn master(lab: &Lab) {
    criu_lab::own_terminals();
    let shown = lab.dir.join("terminal");
    let target = lab.python(&format!(
        "m = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)\n\
         fcntl.ioctl(m, 0x40045431, struct.pack('i', 0))\n\
         open('{}', 'w').write(os.ptsname(m) if hasattr(os, 'ptsname') else '/dev/pts/%d' % \
         struct.unpack('I', fcntl.ioctl(m, 0x80045430, bytes(4)))[0])",
        shown.display()
    ));
    let path = std::fs::read_to_string(&shown).unwrap();
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    assert_eq!(lost(&dump.preflight(&lab.criu).unwrap()), []);
    let mut how = OpenOptions::new();
    let slave = how.read(true).custom_flags(nix::libc::O_NOCTTY).open(path).unwrap();
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(lost(&report), [("a terminal is used by a process outside the tree", vec![])]);
    dump.run(&lab.criu).unwrap();
    drop(slave);
}

/// Tests a process whose filter asks somebody outside.
fn listener(lab: &Lab) {
    let target = lab.start(&["filters", "1"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    assert_eq!(lost(&dump.preflight(&lab.criu).unwrap()), []);
    let other = lab.python(&format!(
        "code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))\n\
         program = ctypes.create_string_buffer(struct.pack('H6xQ', 1, ctypes.addressof(code)))\n\
         libc.prctl(38, 1, 0, 0, 0)\nl = call(317, 1, {}, program)",
        8
    ));
    assert!(soon(|| lost(&dump.preflight(&lab.criu).unwrap()).len() == 1), "{}", other.pid);
    dump.run(&lab.criu).unwrap();
}
