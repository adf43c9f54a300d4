//! Signals and deaths at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stage::{Tracer, Victim, kill, until};
use super::tracer::TRACECLONE;
use super::victim::{SIGNALS, status};

pub const TESTS: &[(&str, fn())] = &[
    ("signals_come_all_along", || signals(&[libc::SIGUSR1])),
    ("stops_come_all_along", || signals(&[libc::SIGSTOP, libc::SIGCONT])),
    ("a_task_may_die_at_any_moment", a_task_may_die_at_any_moment),
    ("a_tracer_may_die_at_any_moment", a_tracer_may_die_at_any_moment),
];

/// Sends signals while holders are made and reaped.
fn signals(signals: &[i32]) {
    for kind in ["spin", "loop"] {
        let mut victim = Victim::start(kind);
        let pid = victim.pid;
        let signals = signals.to_vec();
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let storm = thread::spawn(move || {
            let mut count = 0_u64;
            while !told.load(Ordering::SeqCst) {
                for signal in &signals {
                    super::raw::signal(pid, *signal);
                    thread::sleep(Duration::from_micros(300));
                }
                count += 1;
            }
            count
        });
        let (mut held, mut given_up, mut unreaped) = (0, 0, 0);
        let begin = Instant::now();
        // Few forks come through a storm of stops on a busy machine.
        while held < 4 || begin.elapsed() < Duration::from_secs(2) {
            assert!(begin.elapsed() < Duration::from_secs(120), "{held} held, {given_up} given up");
            let options = [0, TRACECLONE][held % 2];
            let said = victim.trace_with(options, &["try"]);
            match said[0].as_str() {
                "Ok(Ok(()))" => held += 1,
                said if said.contains("reason: Stop") => given_up += 1,
                "Err(GiveUp { reason: Fork, errno: 513 })" => given_up += 1,
                // The holder is dead, but the task was stopped again and again.
                "Ok(Err(Errno(71)))" | "Ok(Err(Errno(16)))" => unreaped += 1,
                other => panic!("{other}"),
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let sent = storm.join().unwrap();
        victim.signal(libc::SIGCONT);
        victim.is_well();
        println!("{kind}: {sent} signals, {held} held, {given_up} given up, {unreaped} unreaped");
        for child in victim.children() {
            victim.reap(child, victim.pid);
        }
        if signals_are_counted(&victim) {
            assert!(victim.get(SIGNALS) > sent / 50, "{} of {sent}", victim.get(SIGNALS));
        }
        victim.finish();
    }
}

fn signals_are_counted(victim: &Victim) -> bool {
    victim.get(SIGNALS) > 0
}

fn a_task_may_die_at_any_moment() {
    for round in 0..60 {
        let mut victim = Victim::start("spin");
        let mut tracer = Tracer::start(victim.pid, 0, &["try"]);
        let pid = victim.pid;
        tracer.go();
        thread::sleep(Duration::from_micros(round * 50));
        kill(pid);
        let begin = Instant::now();
        tracer.ends();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        victim.is_killed();
    }
    until("no holder is left", || super::stage::holders().is_empty());
}

fn a_tracer_may_die_at_any_moment() {
    for kind in ["spin", "loop", "threads"] {
        let mut victim = Victim::start(kind);
        for round in 0..150 {
            let mut tracer = Tracer::start(victim.pid, 0, &["try"]);
            tracer.go();
            thread::sleep(Duration::from_micros(round * 20));
            tracer.kill();
            victim.is_well();
            for child in victim.children() {
                let inner = status(child, "NSpid");
                if inner.is_some() {
                    victim.reap(child, victim.pid);
                }
            }
        }
        victim.finish();
    }
}
