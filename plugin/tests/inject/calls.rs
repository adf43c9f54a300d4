//! System calls that a task is in: they go on after a fork and after the end of the holder.

use std::time::Duration;

use super::stage::{Victim, is_parked};
use super::tracer::TRACECLONE;
use super::victim::{RESULT, SIGNALS, TIME};

pub const TESTS: &[(&str, fn())] = &[
    ("nanosleep_goes_on", || sleeps("nanosleep", libc::SYS_nanosleep, 0)),
    ("a_sleep_until_a_time_goes_on", || sleeps("sleep-absolute", libc::SYS_clock_nanosleep, 0)),
    ("poll_goes_on", || sleeps("poll", libc::SYS_poll, 0)),
    ("select_goes_on", || sleeps("select", libc::SYS_select, 0)),
    ("ppoll_goes_on", || sleeps("ppoll", libc::SYS_ppoll, 0)),
    ("futex_goes_on", || sleeps("futex", libc::SYS_futex, -i64::from(libc::ETIMEDOUT))),
    ("pipe_read_goes_on", pipe_read_goes_on),
    ("pause_ends_with_a_signal", || signals("pause", libc::SYS_pause)),
    ("sigsuspend_ends_with_a_signal", || signals("sigsuspend", libc::SYS_rt_sigsuspend)),
    ("epoll_may_be_interrupted", || may_be_interrupted("epoll", libc::SYS_epoll_wait)),
];

/// Forks the task in its call, and removes the holder: stopped if `how` is 0, running if it is 1.
fn hold_and_remove(victim: &mut Victim, how: usize) {
    if how == 0 {
        let said = victim.trace(&["hold", "end"]);
        assert_eq!(said[1], "Ok(())", "{said:?}");
    } else {
        let holder = victim.hold_with(if how == 1 { 0 } else { TRACECLONE });
        is_parked(holder);
        victim.reap(holder, victim.pid);
    }
}

/// A call that takes a second.
fn sleeps(kind: &str, number: libc::c_long, result: i64) {
    for how in 0..3 {
        let mut victim = Victim::start(kind);
        victim.until_in(number);
        hold_and_remove(&mut victim, how);
        victim.until("the call returns", |victim| victim.get(TIME) > 0);
        assert_eq!(victim.result(), result);
        let time = Duration::from_micros(victim.get(TIME));
        assert!(time >= Duration::from_millis(999), "{time:?}");
        assert!(time < Duration::from_millis(3000), "{time:?}");
        victim.has_its_mask();
        victim.finish();
    }
}

fn pipe_read_goes_on() {
    for how in 0..3 {
        let mut victim = Victim::start("pipe");
        victim.until_in(libc::SYS_read);
        hold_and_remove(&mut victim, how);
        victim.until_in(libc::SYS_read);
        assert_eq!(victim.get(TIME), 0);
        victim.write(b"seven!!");
        victim.until("the call returns", |victim| victim.get(TIME) > 0);
        assert_eq!(victim.result(), 7);
        victim.has_its_mask();
        victim.finish();
    }
}

fn signals(kind: &str, number: libc::c_long) {
    for how in 0..3 {
        let mut victim = Victim::start(kind);
        victim.until_in(number);
        hold_and_remove(&mut victim, how);
        std::thread::sleep(Duration::from_millis(50));
        victim.until_in(number);
        assert_eq!((victim.get(TIME), victim.get(SIGNALS)), (0, 0));
        victim.signal(libc::SIGUSR1);
        victim.until("the call returns", |victim| victim.get(TIME) > 0);
        assert_eq!((victim.result(), victim.get(SIGNALS)), (-i64::from(libc::EINTR), 1));
        victim.has_its_mask();
        victim.finish();
    }
}

/// A call that CRIU interrupts, too.
fn may_be_interrupted(kind: &str, number: libc::c_long) {
    for how in 0..3 {
        let mut victim = Victim::start(kind);
        victim.until_in(number);
        hold_and_remove(&mut victim, how);
        victim.until("the call returns", |victim| victim.get(TIME) > 0);
        assert!([0, -i64::from(libc::EINTR)].contains(&victim.result()), "{}", victim.get(RESULT));
        victim.finish();
    }
}
