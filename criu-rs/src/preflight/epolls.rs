//! Checks of epolls: CRIU finds the files that they watch only among those that the process has
//! open.

use std::collections::HashMap;

use super::finding::Finding;
use super::live::{Task, Tree};
use super::proc::{self, Fd};
use crate::diagnosis::Cause;
use crate::sys::fd::{are_one, is_watched};

pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen: Vec<(&Task, &Fd)> = Vec::new();
    for task in tree.alive() {
        for fd in task.fds.iter().flatten().filter(|fd| fd.name() == EPOLL) {
            // CRIU saves an epoll with the first process that has it.
            if items(fd).next().is_none() || seen.iter().any(|other| is_one(other, (task, fd))) {
                continue;
            }
            if let Some(item) = lost(task, fd) {
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

/// Returns a file that an epoll watches and its process has not open.
fn lost(task: &Task, epoll: &Fd) -> Option<Item> {
    let mut places: HashMap<u64, Vec<i32>> = HashMap::new();
    for fd in task.fds.iter().flatten() {
        places.entry(fd.meta.inode).or_default().push(fd.number);
    }
    let mut added: HashMap<i32, u32> = HashMap::new();
    items(epoll).filter_map(Item::of).find(|item| {
        let count = added.entry(item.number).or_default();
        let watched = (epoll.number, item.number, *count);
        *count += 1;
        let numbers = places.get(&item.inode).map(Vec::as_slice).unwrap_or_default();
        // Most files are still where they were.
        let first = numbers.iter().filter(|&&number| number == item.number);
        let rest = numbers.iter().filter(|&&number| number != item.number).take(MAX_COMPARED);
        let mut is_open =
            |number: &i32| is_watched(task.pid.nix(), *number, watched) != Some(false);
        !first.chain(rest).any(&mut is_open)
    })
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

/// Most descriptors of one inode that are compared with a watched file.
const MAX_COMPARED: usize = 100;

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
