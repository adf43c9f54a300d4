//! The tracer is killed at the entry and at the exit of each of its calls that change the task.

use std::fs;

use criu_plugin::inject;

use super::stage::{Tracer, Victim, is_dead, kill, until};
use super::tracer::{SUSPEND_SECCOMP, TRACECLONE};
use super::victim::TIME;

pub const TESTS: &[(&str, fn())] = &[
    ("a_task_in_user_mode_outlives_its_tracer", || holding("spin", "", TRACECLONE)),
    ("a_task_with_threads_outlives_its_tracer", || holding("threads", "", 0)),
    ("a_task_in_calls_outlives_its_tracer", || holding("loop", "", 0)),
    ("a_task_with_a_filter_outlives_its_tracer", || holding("spin", "no-ppoll", SUSPEND_SECCOMP)),
    ("a_pipe_read_outlives_a_tracer", || in_call("pipe", libc::SYS_read)),
    ("a_pause_outlives_a_tracer", || in_call("pause", libc::SYS_pause)),
    ("a_sigsuspend_outlives_a_tracer", || in_call("sigsuspend", libc::SYS_rt_sigsuspend)),
    ("a_task_outlives_who_ends_its_holder", ending),
    ("a_task_in_user_mode_outlives_who_reaps", || reaping("spin")),
    ("a_task_in_calls_outlives_who_reaps", || reaping("loop")),
];

/// Kills the tracer while it makes a holder.
fn holding(kind: &str, how: &str, options: usize) {
    let mut victim = Victim::prepared(kind, how);
    let mut all = [0; 3];
    for _ in 0..PASSES {
        let pass = holding_once(&mut victim, options);
        all = [all[0] + pass[0], all[1] + pass[1], all[2] + pass[2]];
    }
    println!("{kind} {how}: {} stops, {} parked, {} dead", all[0], all[1], all[2]);
    victim.finish();
}

/// Kills a tracer at each call. Returns the number of tracers, of holders that sleep then, and of
/// holders that have ended without notice.
fn holding_once(victim: &mut Victim, options: usize) -> [usize; 3] {
    let (mut stop, mut parked, mut zombies) = (0, 0, 0);
    while Tracer::start(victim.pid, options, &["hold"]).kill_at(stop) {
        victim.is_well();
        for child in victim.children() {
            // A child sleeps for good, or ends.
            until("the child is parked or dead", || {
                is_dead(child) || inject::parked(child).is_some()
            });
            parked += usize::from(!is_dead(child));
            zombies +=
                usize::from(is_dead(child) && fs::metadata(format!("/proc/{child}")).is_ok());
            if fs::metadata(format!("/proc/{child}")).is_ok() {
                victim.reap(child, victim.pid);
            }
        }
        victim.is_well();
        assert_eq!(victim.children(), [0; 0]);
        stop += 1;
    }
    // The tracer was killed at its end, with the holder parked.
    for child in victim.children() {
        victim.reap(child, victim.pid);
    }
    assert!(stop > 50 && parked >= 4, "{stop} stops, {parked} parked, {zombies} zombies");
    [stop, parked, zombies]
}

/// Kills the tracer while it makes a holder of a task that is in a call.
fn in_call(kind: &str, number: libc::c_long) {
    let mut victim = Victim::start(kind);
    let mut stop = 0;
    while Tracer::start(victim.pid, 0, &["hold"]).kill_at(stop) {
        victim.until_in(number);
        assert_eq!(victim.get(TIME), 0, "the call has returned");
        for child in victim.children() {
            victim.reap(child, victim.pid);
        }
        victim.until_in(number);
        stop += 1;
    }
    assert!(stop > 50, "{stop} stops");
    for child in victim.children() {
        victim.reap(child, victim.pid);
    }
    victim.until_in(number);
    if kind == "pipe" {
        victim.write(b"seven!!");
    } else {
        victim.signal(libc::SIGUSR1);
    }
    victim.until("the call returns", |victim| victim.get(TIME) > 0);
    let result = if kind == "pipe" { 7 } else { -i64::from(libc::EINTR) };
    assert_eq!(victim.result(), result);
    victim.has_its_mask();
    victim.finish();
}

/// Kills the tracer while it ends a holder.
fn ending() {
    let mut victim = Victim::start("spin");
    let mut stop = 0;
    loop {
        let mut tracer = Tracer::start(victim.pid, 0, &["hold", "end"]);
        tracer.skip(1);
        if !tracer.kill_at(stop) {
            break;
        }
        victim.is_well();
        for child in victim.children() {
            victim.reap(child, victim.pid);
        }
        victim.is_well();
        stop += 1;
    }
    assert!(stop > 20, "{stop} stops");
    for child in victim.children() {
        victim.reap(child, victim.pid);
    }
    victim.finish();
}

/// Kills the process that reaps.
fn reaping(kind: &str) {
    let mut victim = Victim::start(kind);
    let mut stop = 0;
    loop {
        let holder = victim.hold();
        kill(holder);
        until("the holder is dead", || is_dead(holder));
        let goes_on = Tracer::start(victim.pid, 0, &["reap", &holder.to_string()]).kill_at(stop);
        victim.is_well();
        for child in victim.children() {
            victim.reap(child, victim.pid);
        }
        victim.is_well();
        if !goes_on {
            break;
        }
        stop += 1;
    }
    assert!(stop > 20, "{stop} stops");
    victim.finish();
}

/// Number of times that each call is tried: what the task does meanwhile differs.
const PASSES: usize = 3;
