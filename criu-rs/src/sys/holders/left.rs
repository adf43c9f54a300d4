//! The holders that a journal tells of, while or after a criu is at work.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use criu_plugin::journal::{Field, Journal, Record, State};

use super::bond::Held;
use super::{Bond, Look, Owner};
use crate::sys::proc::{Stat, each_child, number_for};
use crate::sys::raw;

/// Returns the holders of an owner that a journal tells of, and those that the plugin had no time
/// to tell of.
pub(crate) fn left(journal: &Journal<'_>, owner: Owner) -> Vec<Bond> {
    for record in journal.records().filter(|record| record.state() == Some(State::Forking)) {
        // A fork may be on its way to its call.
        let task = i32::try_from(record.get(Field::Task)).unwrap_or(0);
        each_child(task, |child| {
            let _ = Look::settled(child);
        });
    }
    let mut bonds = Vec::new();
    each_left(journal, owner, |held| {
        // SAFETY: the descriptor has just been made, and the function does not use it any more.
        let pidfd = unsafe { OwnedFd::from_raw_fd(held.pidfd) };
        bonds.push(Bond::new(held, pidfd));
    });
    bonds
}

/// Calls a function with each holder of an owner, and gives it the holder's descriptor. Children of
/// a task count if the plugin was about to fork the task. Holders that are kept of an earlier dump
/// are left out. Uses no heap.
pub(in crate::sys) fn each_left(journal: &Journal<'_>, owner: Owner, mut found: impl FnMut(Held)) {
    for record in journal.records() {
        let number = |field| i32::try_from(record.get(field)).ok().filter(|number| *number > 1);
        let Some(task) = number(Field::Task) else { continue };
        let known = number(Field::Holder);
        if let Some(held) = known.and_then(|holder| open(task, holder, owner, Some(&record))) {
            found(held);
        }
        let start = record.get(Field::TaskStart);
        let is_forking = record.state() == Some(State::Forking);
        if is_forking && Stat::of(task).is_some_and(|stat| start == 0 || stat.start == start) {
            each_child(task, |child| {
                if Some(child) == known || is_kept(journal, child) {
                    return;
                }
                if let Some(held) = open(task, child, owner, None) {
                    found(held);
                }
            });
        }
    }
}

/// Tells whether a process is a holder that is kept of an earlier dump.
fn is_kept(journal: &Journal<'_>, child: i32) -> bool {
    let mut records = journal.records().filter(|record| record.state() == Some(State::Kept));
    let named = records.find(|record| i32::try_from(record.get(Field::Holder)) == Ok(child));
    named.is_some_and(|record| {
        Stat::of(child).is_some_and(|stat| stat.start == record.get(Field::HolderStart))
    })
}

/// Opens a process if it is a holder of this owner, or what is left of one. The remains do not say
/// who the owner was: they count if the record has told of them or the task has them.
fn open(task: i32, holder: i32, owner: Owner, record: Option<&Record<'_>>) -> Option<Held> {
    let is_known = |stat: Stat| match record {
        Some(record) => stat.start == record.get(Field::HolderStart),
        None => stat.parent == task,
    };
    let is_one = || match Look::at(holder) {
        Some(Look::Parked(of)) => of == owner,
        Some(Look::Begins) if record.is_none() => false,
        Some(Look::Begins | Look::Dead) => Stat::of(holder).is_some_and(is_known),
        None => false,
    };
    if !is_one() {
        return None;
    }
    let pidfd = i32::try_from(raw::open_process(holder)).ok().filter(|pidfd| *pidfd >= 0)?;
    // Another process may have got the number before it was opened.
    let inner = number_for(holder, task).unwrap_or(0);
    if is_one() && raw::signal(pidfd, 0) {
        return Some(Held { task, holder, inner, pidfd });
    }
    raw::close(pidfd);
    None
}
