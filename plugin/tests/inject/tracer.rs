//! The tracer: stops a task as CRIU does, and does with it what it is told.
//!
//! The words are `PID FLAGS ACTION...`; each action prints one line. Between two calls of
//! [`MARK`] are the system calls at which a test kills the tracer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
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
    let pid: i32 = words[0].parse().unwrap();
    let options: usize = words[1].parse().unwrap();
    // The test says when it is ready.
    let _ = std::io::stdin().read(&mut [0]).unwrap();
    if let [action, holder] = &words[2..] {
        if action == "reap" {
            let deadline = Instant::now() + Duration::from_secs(5);
            mark();
            let result = inject::reap(pid, holder.parse().unwrap(), deadline);
            mark();
            println!("{result:?}");
            return;
        }
    }
    let threads = stop(pid, options | TRACESYSGOOD);
    let mut held = None;
    for action in &words[2..] {
        match action.as_str() {
            "hold" => {
                let before = look(pid);
                let owner = Owner { pid: 1, start: 2 };
                mark();
                let result = inject::fork_held(pid, owner);
                mark();
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
                let before = look(pid);
                let holder = held.take().unwrap().pid;
                mark();
                let result = inject::end(pid, holder);
                mark();
                compare(&before, &look(pid), "the task");
                println!("{result:?}");
            }
            other => panic!("{other}"),
        }
    }
    for tid in threads {
        ptrace::request(ptrace::DETACH, tid, 0, 0).unwrap();
    }
}

fn mark() {
    raw::call(MARK, [0; 6]);
}

/// Stops all threads of a process.
fn stop(pid: i32, options: usize) -> BTreeSet<i32> {
    let mut threads = BTreeSet::new();
    loop {
        let found: BTreeSet<i32> = fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        if found.iter().all(|tid| threads.contains(tid)) {
            return threads;
        }
        for tid in found {
            if threads.insert(tid) {
                ptrace::request(ptrace::SEIZE, tid, 0, options).unwrap();
                ptrace::request(ptrace::INTERRUPT, tid, 0, 0).unwrap();
                loop {
                    let status = ptrace::wait(tid);
                    assert!(libc::WIFSTOPPED(status), "{status:#x}");
                    if status >> 16 == 128 {
                        break;
                    }
                    let signal = usize::try_from(libc::WSTOPSIG(status)).unwrap();
                    ptrace::request(ptrace::CONT, tid, 0, signal).unwrap();
                }
            }
        }
    }
}

/// What a stopped thread has: registers, mask, vectors, and the memory around its stack pointer.
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
