//! A payload that learns that it is a copy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::payload::{Counter, Pattern};

/// `FILE DIR IDENTITY`: holds 8 MiB of known memory. When SIGUSR2 comes, it writes a report into a
/// file in DIR that has the name of the host: one line of facts, and then what IDENTITY holds.
///
/// The facts are `pid PID count N mode MODE uid UID memory WORD`, where N is the number that it
/// counted when it saw the signal, and WORD is `right` if all memory is.
pub fn run(words: &[&str]) {
    let [file, reports, identity] = words else { panic!("{words:?}") };
    let told: SigSet = [Signal::SIGUSR2].into_iter().collect();
    told.thread_block().unwrap();
    let signal = SignalFd::with_flags(&told, SfdFlags::SFD_NONBLOCK).unwrap();
    let memory = Pattern::new(WORDS);
    let counter = Counter::into(file);
    for n in 1u64.. {
        counter.at(n);
        if signal.read_signal().unwrap().is_some() {
            report(Path::new(reports), Path::new(identity), &memory, n);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn report(reports: &Path, identity: &Path, memory: &Pattern, n: u64) {
    let found = fs::metadata(identity).unwrap();
    let (mode, uid, pid) = (found.mode() & 0o7777, found.uid(), std::process::id());
    let memory = memory.wrong(0, WORDS.try_into().unwrap()).unwrap_or_else(|| "right".into());
    let facts = format!("pid {pid} count {n} mode {mode:o} uid {uid} memory {memory}\n");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (new, report) = (format!(".{}", host.trim()), host.trim());
    fs::write(reports.join(&new), facts + &fs::read_to_string(identity).unwrap()).unwrap();
    fs::rename(reports.join(new), reports.join(report)).unwrap();
}

/// The words of the memory.
const WORDS: u64 = 1 << 20;
