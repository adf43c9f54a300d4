//! States of a task, and reasons to give up.

use std::fs;
use std::os::unix::fs::FileExt;

use super::stage::{Victim, is_dead, is_parked, kill, until};
use super::tracer::{SUSPEND_SECCOMP, TRACECLONE};
use super::victim::{self, MEMORY};

pub const TESTS: &[(&str, fn())] = &[
    ("registers_and_vectors_stay", || spins("spin")),
    ("threads_go_on", || spins("threads")),
    ("a_holder_keeps_the_memory_of_its_moment", a_holder_keeps_the_memory_of_its_moment),
    ("an_ended_holder_leaves_nothing", an_ended_holder_leaves_nothing),
    ("a_killed_holder_tells_nobody", a_killed_holder_tells_nobody),
    ("process_1_of_a_namespace_is_forked", process_1_of_a_namespace_is_forked),
    ("a_stopped_task_stays_stopped", a_stopped_task_stays_stopped),
    ("a_mild_filter_is_passed", || filtered("mild")),
    ("a_holder_that_a_filter_would_kill_sleeps", || filtered("no-ppoll")),
    ("a_filter_that_kills_is_a_reason", || gives_up("sandbox", "Filter 0")),
    ("a_filter_of_wait4_is_a_reason", || gives_up("no-wait4", "Filter 0")),
    ("a_filter_that_wakes_the_holder_is_a_reason", || gives_up("no-ppoll-error", "Filter 0")),
    ("a_limit_of_processes_is_a_reason", || gives_up("limited", "Fork 11")),
    ("a_namespace_for_children_is_a_reason", || gives_up("unshared", "Fork 18")),
    ("another_stack_is_a_reason", || gives_up_in("own-stack", "Stack 0")),
    ("a_sequence_is_a_reason", a_sequence_is_a_reason),
];

fn spins(kind: &str) {
    let mut victim = Victim::start(kind);
    for round in 0..20 {
        let holder = victim.hold_with([0, TRACECLONE][round % 2]);
        is_parked(holder);
        victim.is_well();
        let threads: Vec<i32> = fs::read_dir(format!("/proc/{}/task", victim.pid))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        victim.reap(holder, threads[round % threads.len()]);
        victim.is_well();
    }
    victim.finish();
}

fn a_holder_keeps_the_memory_of_its_moment() {
    let mut victim = Victim::start("spin");
    let address = victim.get(MEMORY);
    let open =
        |pid: i32| fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
    let task = open(victim.pid).unwrap();
    task.write_all_at(b"before", address).unwrap();
    let holder = victim.hold();
    task.write_all_at(b"after!", address).unwrap();
    let mut bytes = [0; 6];
    open(holder).unwrap().read_exact_at(&mut bytes, address).unwrap();
    assert_eq!(bytes, *b"before");
    victim.is_well();
    victim.reap(holder, victim.pid);
    victim.finish();
}

fn an_ended_holder_leaves_nothing() {
    let mut victim = Victim::start("spin");
    for options in [0, TRACECLONE, SUSPEND_SECCOMP] {
        let said = victim.trace_with(options, &["hold", "end", "hold", "end"]);
        assert_eq!((said[1].as_str(), said[3].as_str()), ("Ok(())", "Ok(())"), "{said:?}");
        victim.is_well();
    }
    victim.finish();
}

fn a_killed_holder_tells_nobody() {
    let mut victim = Victim::start("spin");
    let holder = victim.hold();
    kill(holder);
    until("the holder is dead", || is_dead(holder));
    victim.is_well();
    assert_eq!(victim.get(victim::CHILDREN), 0);
    assert_eq!(victim.children(), [holder]);
    victim.reap(holder, victim.pid);
    victim.finish();
}

fn process_1_of_a_namespace_is_forked() {
    for options in [0, TRACECLONE] {
        let mut victim = Victim::first("spin");
        let holder = victim.hold_with(options);
        is_parked(holder);
        assert_eq!(victim.children(), [holder]);
        victim.is_well();
        victim.reap(holder, victim.pid);
        let said = victim.trace_with(options, &["hold", "end"]);
        assert_eq!(said[1], "Ok(())", "{said:?}");
        victim.is_well();
        victim.finish();
    }
}

fn a_stopped_task_stays_stopped() {
    let mut victim = Victim::start("spin");
    victim.signal(libc::SIGSTOP);
    let is_stopped =
        |victim: &Victim| victim::status(victim.pid, "State").unwrap().starts_with('T');
    victim.until("the task stops", is_stopped);
    let holder = victim.hold();
    victim.until("the task is stopped again", is_stopped);
    is_parked(holder);
    victim.reap(holder, victim.pid);
    victim.until("the task is stopped again", is_stopped);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(is_stopped(&victim));
    victim.signal(libc::SIGCONT);
    victim.is_well();
    victim.finish();
}

fn filtered(how: &str) {
    let mut victim = Victim::prepared("spin", how);
    for _ in 0..5 {
        let holder = victim.hold();
        is_parked(holder);
        victim.is_well();
        victim.reap(holder, victim.pid);
        victim.is_well();
    }
    victim.finish();
}

fn gives_up(how: &str, why: &str) {
    let mut victim = Victim::prepared("spin", how);
    let said = victim.trace(&["hold"]);
    assert_eq!(said, [why]);
    victim.is_well();
    victim.finish();
}

fn gives_up_in(kind: &str, why: &str) {
    let mut victim = Victim::start(kind);
    let said = victim.trace(&["hold"]);
    assert_eq!(said, [why]);
    victim.is_well();
    victim.finish();
}

fn a_sequence_is_a_reason() {
    let victim = Victim::start("sequence");
    assert_eq!(victim.trace(&["hold"]), ["Rseq 0"]);
    assert_eq!(victim.children(), [0; 0]);
}
