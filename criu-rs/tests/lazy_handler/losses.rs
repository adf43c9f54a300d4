//! Sources that fail, and handlers that end before their time.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use criu_lab::lazy::fork;
use criu_lab::{process, soon};
use criu_rs::lazy::{LazyError, OnLoss};
use nix::libc;
use nix::sys::signal::Signal;

use crate::PAGES;
use crate::stage::{Stage, without_fill};
use crate::task::Task;

pub fn lost() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    stage.supply.fails.store(true, Ordering::SeqCst);
    stage.tasks[0].1.write_all(b"x").unwrap();
    let error = stage.restoration.wait(Some(Duration::from_secs(5))).unwrap_err();
    assert!(error.to_string().contains("the test says so"), "{error}");
    let status = stage.tasks[0].0.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert!(soon(|| process::has_ended(child)), "the child lives");
    assert!(stage.restoration.wait(None).is_err(), "the error stays");
    let numbers = stage.restoration.statistics();
    assert_eq!((numbers.killed, numbers.poisoned), (1, 0), "{numbers:?}");
}

pub fn poisoned() {
    let mut options = without_fill(1);
    options.on_loss = OnLoss::SigBus;
    let mut stage = Stage::new(options);
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    stage.supply.fails.store(true, Ordering::SeqCst);
    stage.tasks[0].1.write_all(b"x").unwrap();
    let status = stage.tasks[0].0.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS));
    assert!(stage.restoration.wait(Some(Duration::from_secs(5))).is_err());
    assert!(!process::has_ended(child), "the child touches no missing page");
    let numbers = stage.restoration.statistics();
    assert_eq!((numbers.killed, numbers.poisoned), (0, 2), "{numbers:?}");
    process::send(child, Signal::SIGKILL);
}

/// A task with a child that does nothing: touches some pages, and others when it is told to.
pub fn doomed(task: &Task) {
    (0..10).for_each(|page| task.check(page));
    let child = fork(|| {
        std::thread::sleep(Duration::from_secs(100));
        0
    });
    (&task.parent).write_all(&child.to_ne_bytes()).unwrap();
    task.hear();
    (0..10).for_each(|page| task.check(page));
    task.check(PAGES / 2);
}

pub fn dropped() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    let (restoration, mut task) = (stage.restoration.clone(), stage.tasks.remove(0));
    drop(stage);
    let error = restoration.wait(Some(Duration::ZERO)).unwrap_err();
    assert!(matches!(error, LazyError::GivenUp(_)), "{error}");
    assert_eq!(task.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(soon(|| process::has_ended(child)), "the child lives");
}

pub fn dropped_amid() {
    for on_loss in [OnLoss::SigBus, OnLoss::Kill] {
        for _ in 0..2 {
            let mut options = without_fill(1);
            options.on_loss = on_loss;
            let mut stage = Stage::new(options);
            // Such a task is one that another has forked.
            stage.has_pidfd = false;
            stage.start("restless", PAGES);
            stage.restoration.complete();
            stage.hear_number();
            let (mut task, _parent) = stage.tasks.remove(0);
            drop(stage);
            assert_eq!(task.wait().unwrap().signal(), Some(libc::SIGBUS));
        }
    }
}

/// Threads whose messages wait often, and one that finds what is there.
pub fn restless(task: &Task) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let part = task.region.part(PAGES - 2 + thread, 1);
            scope.spawn(move || {
                loop {
                    part.discard();
                    // The kernel fills and poisons nothing while a message waits.
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
        }
        for page in 0..PAGES - 2 {
            task.check(page);
            if page == 100 {
                (&task.parent).write_all(&[0; 4]).unwrap();
            }
        }
        // The handler has not ended: the end of the others.
        std::process::exit(3);
    });
}

pub fn after() {
    for (on_loss, signal) in [(OnLoss::Kill, libc::SIGKILL), (OnLoss::SigBus, libc::SIGBUS)] {
        let mut options = without_fill(1);
        options.on_loss = on_loss;
        let mut stage = Stage::new(options);
        // The task comes late, and its restore is complete.
        stage.restoration.complete();
        stage.handler = None;
        let error = stage.try_start("some", PAGES).unwrap_err();
        assert!(matches!(error, LazyError::Stopped), "{error}");
        assert_eq!(stage.tasks[0].0.wait().unwrap().signal(), Some(signal));
    }
}
