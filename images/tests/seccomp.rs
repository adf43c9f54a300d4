//! Seccomp images made to cost time or memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{image, one_task};
use criu_images::bpf::Summary;
use criu_images::proto::{
    CoreEntry, PstreeEntry, SeccompEntry, SeccompFilter, TaskCoreEntry, ThreadCoreEntry,
};
use criu_images::source::InMemory;
use criu_images::view::Security;
use criu_images::{ErrorKind, Filter, ImageSet, Seccomp, bounds, kind};
use prost::Message;

/// Instructions of a program: code, jt, jf, k.
type Code = Vec<(u16, u8, u8, u32)>;

/// A program whose paths double with each bit of an argument, and all differ.
fn intricate(seed: u32) -> Code {
    let mut code = vec![(0x00, 0, 0, seed), (0x02, 0, 0, 0)];
    for bit in 0..12 {
        code.extend([
            (0x20, 0, 0, 16),
            (0x45, 0, 3, 1 << bit),
            (0x60, 0, 0, 0),
            (0x04, 0, 0, 1 << bit),
            (0x02, 0, 0, 0),
        ]);
    }
    code.push((0x06, 0, 0, 0x7fff_0000));
    code
}

/// A program that forbids one system call.
fn forbids(call: u32) -> Code {
    vec![(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x8000_0000), (0x06, 0, 0, 0x7fff_0000)]
}

/// A set of one task whose threads all have these filters.
fn set(programs: &[Code], threads: u32) -> ImageSet {
    let mut files = one_task(Vec::new());
    let bytes = |code: &Code| {
        let one = |&(code, jt, jf, k): &(u16, u8, u8, u32)| {
            let ([a, b], [c, d, e, f]) = (code.to_le_bytes(), k.to_le_bytes());
            [a, b, jt, jf, c, d, e, f]
        };
        code.iter().flat_map(one).collect()
    };
    let filters = programs.iter().zip(0..).map(|(code, index): (_, u32)| SeccompFilter {
        filter: bytes(code),
        prev: index.checked_sub(1),
        ..Default::default()
    });
    let entry = SeccompEntry { seccomp_filters: filters.collect() };
    let mut one = |kind: &kind::Kind, id: u32, message: Vec<u8>| {
        files.insert(kind.file_name(id.into()), image(kind, &[message]));
    };
    one(kind::SECCOMP, 0, entry.encode_to_vec());
    let task = PstreeEntry { pid: 1, threads: (1..=threads).collect(), ..Default::default() };
    one(kind::PSTREE, 0, task.encode_to_vec());
    let last = u32::try_from(programs.len()).unwrap() - 1;
    for tid in 1..=threads {
        let thread = ThreadCoreEntry {
            seccomp_mode: Some(2),
            seccomp_filter: Some(last),
            creds: Some(criu_images::proto::CredsEntry::default()),
            ..Default::default()
        };
        let tc = TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() };
        let tc = (tid == 1).then_some(tc);
        let core = CoreEntry { mtype: 1, tc, thread_core: Some(thread), ..Default::default() };
        one(kind::CORE, tid, core.encode_to_vec());
    }
    open(files)
}

fn open(files: InMemory) -> ImageSet {
    ImageSet::new(files).unwrap()
}

/// Summaries of the root's filters, in the order of installation reversed.
fn summaries(set: &ImageSet) -> Vec<Arc<Summary>> {
    let threads = set.checkpoint().unwrap().root().threads().unwrap();
    match threads[0].seccomp().unwrap() {
        Seccomp::Filters(filters) => {
            filters.iter().map(|filter: &Filter<'_>| filter.summary().unwrap()).collect()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn all_filters_of_a_set_have_one_budget() {
    let programs: Vec<Code> = (0..64).map(intricate).chain([forbids(101)]).collect();
    let set = set(&programs, 1);
    let all = summaries(&set);
    // The last filter comes first.
    assert_eq!(all[0].to_string(), "allows; kills the process on ptrace");
    let complete = all.iter().filter(|summary| summary.is_complete).count();
    assert!((1..16).contains(&complete), "{complete}");
    let unknown = all.last().unwrap();
    assert_eq!(unknown.to_string(), "is too intricate: its answers are unknown");
    assert!(unknown.default.0.is_empty() && unknown.exceptions.is_empty());
    // Another look costs nothing, and says the same.
    assert!(summaries(&set).iter().zip(&all).all(|(again, first)| Arc::ptr_eq(again, first)));
}

#[test]
fn equal_programs_are_followed_once() {
    let programs: Vec<Code> = (0..500).map(|i| forbids(100 + i % 2)).collect();
    let all = summaries(&set(&programs, 1));
    assert!(all.iter().all(|summary| summary.is_complete));
    let shared = |at: usize| all.iter().filter(|other| Arc::ptr_eq(other, &all[at])).count();
    assert_eq!((shared(0), shared(1)), (250, 250));
}

#[test]
fn the_longest_filter_that_the_kernel_takes_is_followed() {
    // In a row, as libseccomp writes them: each system call passes all instructions.
    let long = |length: u32| -> Code {
        let tests = (0..length - 2).map(|i| (0x15, 0, 0, 500 + i));
        let last = [(0x06, 0, 0, 0x7fff_0000)];
        [(0x20, 0, 0, 0)].into_iter().chain(tests).chain(last).collect()
    };
    let programs: Vec<Code> = [2, 4095, 4096].into_iter().map(long).collect();
    let all = summaries(&set(&programs, 1));
    assert!(all.iter().all(|summary| summary.to_string() == "allows"));
}

#[test]
fn a_thread_has_no_more_filters_than_the_kernel_takes() {
    let chain = |length: usize| {
        let set = set(&vec![vec![(0x06, 0, 0, 0x7fff_0000)]; length], 1);
        let threads = set.checkpoint().unwrap().root().threads().unwrap();
        threads[0].seccomp().map(|seccomp| seccomp.to_string())
    };
    assert_eq!(chain(6554).unwrap(), "6554 filters");
    let error = chain(6555).unwrap_err();
    assert_eq!(error.to_string(), "seccomp.img: has more than 6554 filters of a thread");
}

#[test]
fn the_filters_of_many_threads_are_bounded_in_a_view() {
    // A few KiB of filters and threads would make rows of many GiB.
    let many: Code = (0..200)
        .map(|i| (0x15, 0, 1, 2 * i))
        .flat_map(|test| [test, (0x06, 0, 0, 0x7fff_0000)])
        .collect();
    let code: Code = [vec![(0x20, 0, 0, 0)], many, vec![(0x06, 0, 0, 0)]].concat();
    // The only test of this program that looks at the bound.
    bounds::VIEW.raise(1 << 20);
    let set = set(&vec![code; 100], 60);
    let error = Security::new(set.checkpoint().unwrap().tasks()).unwrap_err();
    let ErrorKind::TooMany { limit, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(*limit, 1 << 20);
    let few = self::set(&[forbids(101), forbids(101)], 60);
    let view = Security::new(few.checkpoint().unwrap().tasks()).unwrap();
    assert_eq!(view.threads.iter().map(|thread| thread.filters.len()).sum::<usize>(), 120);
}
