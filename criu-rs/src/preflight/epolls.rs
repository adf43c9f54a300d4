//! Checks of epolls: CRIU finds the files that they watch only among those that the process has
//! open.

use std::collections::HashSet;

use super::finding::Finding;
use super::live::{Task, Tree};
use super::proc::{self, Fd};
use crate::diagnosis::Cause;
use crate::sys::fd::are_one;

pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen: Vec<(&Task, &Fd)> = Vec::new();
    for task in tree.alive() {
        let mut open: Option<HashSet<u64>> = None;
        for fd in task.fds.iter().flatten().filter(|fd| fd.name() == EPOLL) {
            let has_items = fd.info.lines().any(|line| line.starts_with("tfd:"));
            // CRIU saves an epoll with the first process that has it.
            if !has_items || seen.iter().any(|other| is_one(other, (task, fd))) {
                continue;
            }
            let inodes = || task.fds.iter().flatten().map(|fd| fd.meta.inode).collect();
            let open = open.get_or_insert_with(inodes);
            let is_lost = |item: &Item| !open.contains(&item.inode);
            if let Some(item) = fd.info.lines().filter_map(Item::of).find(is_lost) {
                let detail = format!("it was descriptor {}", item.number);
                let finding = Finding::blocks(Cause::EpollTarget).pid(task.pid).fd(fd.number);
                found.push(finding.detail(detail));
            }
            if seen.len() < MAX_SHARED {
                seen.push((task, fd));
            }
        }
    }
    found
}

fn is_one(&(a, of_a): &(&Task, &Fd), (b, of_b): (&Task, &Fd)) -> bool {
    // A child that has inherited an epoll has it under the same number, and with the same items.
    let is_alike = a.pid != b.pid && items(of_a).eq(items(of_b));
    is_alike && are_one((a.pid.nix(), of_a.number), (b.pid.nix(), of_b.number)) == Some(true)
}

fn items(fd: &Fd) -> impl Iterator<Item = &str> {
    fd.info.lines().filter(|line| line.starts_with("tfd:"))
}

/// A file that an epoll watches.
struct Item {
    /// The number under which it was added.
    number: i32,
    inode: u64,
}

impl Item {
    /// Reads `tfd:        5 events:       19 data:  5  pos:0 ino:7d1 sdev:d`.
    fn of(line: &str) -> Option<Self> {
        let number = proc::value(line, "tfd")?.split_whitespace().next()?.parse().ok()?;
        let inode = line.split_whitespace().find_map(|word| word.strip_prefix("ino:"))?;
        Some(Self { number, inode: u64::from_str_radix(inode, 16).ok()? })
    }
}

const EPOLL: &str = "anon_inode:[eventpoll]";

/// Most epolls that are compared with those of later processes.
const MAX_SHARED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read() {
        let line = "tfd:        5 events:       19 data:                5  pos:0 ino:7d1 sdev:d";
        let item = Item::of(line).unwrap();
        assert_eq!((item.number, item.inode), (5, 0x7d1));
        assert!(Item::of("tfd: 5 events: 19").is_none() && Item::of("pos:\t0").is_none());
    }
}
