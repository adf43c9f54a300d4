//! Children, which have the memory of the fork.

use std::panic::{AssertUnwindSafe, catch_unwind};

use criu_lab::lazy::fork;
use criu_rs::lazy::LazyOptions;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::PAGES;
use crate::stage::Stage;
use crate::task::{Dice, Task};

pub fn forks() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.start("fork", PAGES);
    stage.restoration.complete();
    stage.finish();
}

pub fn forking(task: &Task) {
    let mut dice = Dice::new(7);
    let mut written = Vec::new();
    let mut children = Vec::new();
    for round in 0..10 {
        for _ in 0..20 {
            task.check(dice.below(PAGES / 2));
        }
        // Children see what was written before the fork, and not what is written later.
        let page = PAGES / 2 + round * 10;
        task.region.set_word(page, 1, 1000 + round as u64);
        written.push((page, 1000 + round as u64));
        task.region.part(page + 1, 2).discard();
        let grandchild = || {
            (0..PAGES / 2).step_by(97).for_each(|page| task.check(page));
            0
        };
        let child = || {
            let pid = fork(|| survives(grandchild));
            written.iter().for_each(|&(page, word)| {
                assert_eq!(task.region.word(page, 1), word);
                (1..3).for_each(|n| task.check_zero(page + n));
            });
            let mut dice = Dice::new(round as u64);
            (0..300).for_each(|_| task.check(dice.below(PAGES / 2)));
            let later = PAGES / 2 + (round + 1) * 10;
            task.check(later);
            ends_well(pid)
        };
        children.push(fork(|| survives(child)));
    }
    assert!(children.into_iter().all(|pid| ends_well(pid) == 0));
}

/// Turns a panic in a forked child into its exit code.
fn survives(child: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(child)).unwrap_or(1)
}

pub fn signal_of(pid: i32) -> Option<Signal> {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Signaled(_, signal, _) => Some(signal),
        _ => None,
    }
}

fn ends_well(pid: i32) -> i32 {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        _ => 2,
    }
}
