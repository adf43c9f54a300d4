//! The tracer: stops a task as CRIU does, and does with it what it is told.
//!
//! The words are `PID FLAGS ACTION...`; each action prints one line. Between two calls of
//! [`MARK`] are the system calls at which a test kills the tracer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use criu_plugin::inject::{self, Owner};

use super::raw::{self, ptrace};

/// A system call that nothing else makes.
pub const MARK: libc::c_long = libc::SYS_getpgrp;

/// Options of ptrace.
const TRACESYSGOOD: usize = 1;
pub const TRACECLONE: usize = 1 << 3;
pub const SUSPEND_SECCOMP: usize = 1 << 21;

pub fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let pid: i32 = words[0].parse().unwrap();
    let options: usize = words[1].parse().unwrap();
    // The test says when it is ready.
    let _ = std::io::stdin().read(&mut [0]).unwrap();
    if let [action @ ("reap" | "reap-on-small-stack"), holder] = words.get(2..).unwrap() {
        let holder = holder.parse().unwrap();
        let reap = move || {
            let deadline = Instant::now() + Duration::from_secs(5);
            measured(|| inject::reap(pid, holder, deadline))
        };
        // The guard of criu-rs has little more.
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        let result = match *action {
            "reap" => reap(),
            _ => thread.spawn(move || raw::without_variables(reap)).unwrap().join().unwrap(),
        };
        println!("{result:?}");
        return;
    }
    let threads = stop(pid, options | TRACESYSGOOD);
    let mut held = None;
    for action in &words[2..] {
        match *action {
            "hold" => {
                let before = look(pid);
                let owner = Owner { pid: 1, start: 2 };
                let result = measured(|| inject::fork_held(pid, owner));
                compare(&before, &look(pid), "the task");
                match result {
                    Ok(holder) => {
                        println!("{} {} {}", holder.pid, holder.start, holder.nanoseconds);
                        compare_memory(&before, holder.pid);
                        held = Some(holder);
                    }
                    Err(why) => println!("{:?} {}", why.reason, why.errno),
                }
            }
            "end" => {
                let Some(holder) = held.take() else { continue };
                let (before, holder) = (look(pid), holder.pid);
                let result = measured(|| inject::end(pid, holder));
                compare(&before, &look(pid), "the task");
                println!("{result:?}");
            }
            // The task may be killed meanwhile.
            "try" => {
                let owner = Owner { pid: 1, start: 2 };
                let result = measured(|| inject::fork_held(pid, owner));
                let end = result.map(|holder| measured(|| inject::end(pid, holder.pid)));
                println!("{end:?}");
            }
            other => panic!("{other}"),
        }
    }
    for tid in threads {
        let _ = ptrace::request(ptrace::DETACH, tid, 0, 0);
    }
}

/// Calls a function that does not allocate, between two marks.
fn measured<T>(function: impl FnOnce() -> T) -> T {
    raw::STRICT.store(true, Ordering::SeqCst);
    raw::call(MARK, [0; 6]);
    let result = function();
    raw::call(MARK, [0; 6]);
    raw::STRICT.store(false, Ordering::SeqCst);
    result
}

/// Stops all threads of a process.
fn stop(pid: i32, options: usize) -> BTreeSet<i32> {
    let mut threads = BTreeSet::new();
    loop {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return threads };
        let found: BTreeSet<i32> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.parse().unwrap()))
            .collect();
        if found.iter().all(|tid| threads.contains(tid)) {
            return threads;
        }
        for tid in found {
            if threads.insert(tid) {
                if ptrace::request(ptrace::SEIZE, tid, 0, options).is_err() {
                    println!("there is no such task");
                    std::process::exit(1);
                }
                let _ = ptrace::request(ptrace::INTERRUPT, tid, 0, 0);
                loop {
                    let status = ptrace::wait(tid);
                    if !libc::WIFSTOPPED(status) || status >> 16 == 128 {
                        break;
                    }
                    let signal = usize::try_from(libc::WSTOPSIG(status)).unwrap();
                    let _ = ptrace::request(ptrace::CONT, tid, 0, signal);
                }
            }
        }
    }
}

/// The state of a stopped thread: registers, mask, vectors, and the memory around its stack
/// pointer.
struct Look {
    state: Vec<u64>,
    address: u64,
    memory: Vec<u8>,
}

/// Bytes below the stack pointer that are looked at, and above.
const BELOW: u64 = 16_384;
const ABOVE: u64 = 2048;

fn look(pid: i32) -> Look {
    let state = ptrace::state(pid);
    let address = state[19] - BELOW;
    Look { memory: memory(pid, address), state, address }
}

fn memory(pid: i32, address: u64) -> Vec<u8> {
    let file = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut memory = vec![0; usize::try_from(BELOW + ABOVE).unwrap()];
    file.read_exact_at(&mut memory, address).unwrap();
    memory
}

fn compare(before: &Look, after: &Look, who: &str) {
    for (index, (old, new)) in before.state.iter().zip(&after.state).enumerate() {
        // Components that are not in their first state: the processor may forget that they were.
        if index == 28 + 64 {
            continue;
        }
        assert_eq!(old, new, "{who}: word {index} of the registers");
    }
    assert_eq!(before.address, after.address);
    assert!(before.memory == after.memory, "{who}: the memory around the stack pointer");
}

/// Makes sure that the holder's stack is that of the task.
fn compare_memory(before: &Look, holder: i32) {
    let memory = memory(holder, before.address);
    assert!(memory == before.memory, "the holder's memory around the stack pointer");
}
