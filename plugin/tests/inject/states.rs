//! States of a task, and reasons to give up.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Child, Command};

use super::stage::{Tracer, Victim, is_dead, is_parked, kill, until};
use super::tracer::{SUSPEND_SECCOMP, TRACECLONE};
use super::victim::{self, MEMORY};

pub const TESTS: &[(&str, fn())] = &[
    ("registers_and_vectors_stay", || spins("spin")),
    ("threads_go_on", || spins("threads")),
    ("a_holder_keeps_the_memory_of_its_moment", a_holder_keeps_the_memory_of_its_moment),
    ("an_ended_holder_leaves_nothing", an_ended_holder_leaves_nothing),
    ("a_killed_holder_tells_nobody", a_killed_holder_tells_nobody),
    ("a_holder_sleeps_through_signals", a_holder_sleeps_through_signals),
    ("process_1_of_a_namespace_is_forked", process_1_of_a_namespace_is_forked),
    ("a_stopped_task_stays_stopped", a_stopped_task_stays_stopped),
    ("a_mild_filter_is_passed", || filtered("mild")),
    ("a_holder_that_a_filter_would_kill_sleeps", || filtered("no-ppoll")),
    ("a_filter_that_kills_is_a_reason", || gives_up("sandbox", "Filter 0")),
    ("a_filter_of_wait4_is_a_reason", || gives_up("no-wait4", "Filter 0")),
    ("a_filter_that_wakes_the_holder_is_a_reason", || gives_up("no-ppoll-error", "Filter 0")),
    ("a_limit_of_processes_is_a_reason", || gives_up("limited", "Fork 11")),
    ("a_namespace_for_children_is_a_reason", || gives_up("unshared", "Fork 18")),
    ("dispatched_calls_are_a_reason", || gives_up("dispatched", "Filter 0")),
    ("a_stack_that_a_child_does_not_have_is_a_reason", || gives_up_in("wiped-stack", "Park 71")),
    ("a_32_bit_task_is_a_reason", a_32_bit_task_is_a_reason),
    ("another_stack_with_a_guard_will_do", || spins("guarded-stack")),
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
    let open = |pid: i32| File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
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

fn a_holder_sleeps_through_signals() {
    let mut victim = Victim::start("spin");
    let holder = victim.hold();
    for _ in 0..20 {
        for signal in [libc::SIGUSR1, libc::SIGABRT, libc::SIGSTOP, libc::SIGCONT, 40] {
            super::raw::signal(holder, signal);
        }
        is_parked(holder);
    }
    victim.is_well();
    // The task itself may have noticed: the kernel tells a parent when a child is stopped, whatever
    // the child's exit signal.
    victim.reap(holder, victim.pid);
    assert_eq!(victim.children(), [0; 0]);
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
    // The task is out of its sequence for a moment when it was preempted.
    let mut tries = std::iter::repeat_with(|| victim.trace(&["hold", "end"])).take(50);
    assert!(tries.any(|said| said[0] == "Rseq 0"));
    assert_eq!(victim.children(), [0; 0]);
}

fn a_32_bit_task_is_a_reason() {
    let task = Short::start();
    let mut tracer = Tracer::start(task.pid(), 0, &["try"]);
    tracer.go();
    assert_eq!(tracer.said(), "Err(GiveUp { reason: Compat, errno: 0 })\n");
    until("the task sleeps", || {
        fs::read_to_string(format!("/proc/{}/stat", task.pid())).unwrap().contains(") S ")
    });
}

/// A program of 32 bits, which calls pause for ever.
struct Short(Child);

impl Short {
    fn start() -> Self {
        let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
        let size = 84 + u32::try_from(code.len()).unwrap();
        let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([2, 0, 3, 0]);
        for word in
            [1, BASE + 84, 52, 0, 0, 0x0020_0034, 1, 0, 1, 0, BASE, BASE, size, size, 5, 4096]
        {
            file.extend(u32::to_le_bytes(word));
        }
        file.truncate(52 + 32);
        file.extend(code);
        let path = std::env::temp_dir().join(format!("short-{}", std::process::id()));
        let mut program = File::create(&path).unwrap();
        program.write_all(&file).unwrap();
        program.set_permissions(fs::Permissions::from_mode(0o700)).unwrap();
        drop(program);
        let child = Command::new(&path).spawn().unwrap();
        fs::remove_file(&path).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const BASE: u32 = 0x0804_8000;
