//! Credentials of a process's threads, and what restricts them, as lines of a tree.

use std::collections::HashMap;

use criu_images::view::{CapabilitySets, FilterRow, ThreadSecurity};

use super::tree::Tree;

/// Filters that were shown, with the process that they were shown for.
#[derive(Default)]
pub(super) struct Known<'a>(HashMap<Vec<Words<'a>>, u32>);

/// Words of a filter. Its place in the image is left out: equal filters may be there twice.
type Words<'a> = (&'a [&'static str], &'a str);

impl<'a> Known<'a> {
    /// Adds what is known of the threads of a process. Threads that are alike share their lines.
    pub(super) fn add(&mut self, tree: &mut Tree, depth: usize, threads: &[&'a ThreadSecurity]) {
        let mut groups: Vec<(&'a ThreadSecurity, Vec<u32>)> = Vec::new();
        for &thread in threads {
            match groups.iter_mut().find(|(first, _)| first.is_like(thread)) {
                Some((_, tids)) => tids.push(thread.tid),
                None => groups.push((thread, vec![thread.tid])),
            }
        }
        for (first, tids) in &groups {
            let mut depth = depth;
            if groups.len() > 1 {
                let noun = if tids.len() == 1 { "thread" } else { "threads" };
                let tids: Vec<String> = tids.iter().map(u32::to_string).collect();
                tree.add(depth, format!("{noun} {}", listed(&tids)));
                depth += 1;
            }
            self.thread(tree, depth, first);
        }
    }

    fn thread(&mut self, tree: &mut Tree, depth: usize, thread: &'a ThreadSecurity) {
        let others: Vec<String> = thread.other_groups.iter().map(u32::to_string).collect();
        let also =
            if others.is_empty() { String::new() } else { format!(", also {}", listed(&others)) };
        let (user, group) = (ids(thread.users), ids(thread.groups));
        tree.add(depth, format!("user {user}; group {group}{also}"));
        let CapabilitySets { effective, permitted, inheritable, bounding, ambient, .. } =
            &thread.capabilities;
        let spaced = |names: &String| names.replace(',', ", ");
        tree.add(depth, format!("capabilities: {}", spaced(effective)));
        let sets = [
            ("may be switched on", permitted, permitted != effective),
            ("can ever get", bounding, bounding != permitted),
            ("inheritable", inheritable, inheritable != "none"),
            ("ambient", ambient, ambient != "none"),
        ];
        for (name, set, _) in sets.iter().filter(|(_, _, says_more)| *says_more) {
            tree.add(depth + 1, format!("{name}: {}", spaced(set)));
        }
        if !thread.secure_bits.is_empty() {
            tree.add(depth, format!("secure bits: {}", thread.secure_bits.join(", ")));
        }
        tree.fact(depth, "label", thread.label.as_ref());
        if thread.no_new_privs {
            tree.add(depth, "no new privileges");
        }
        self.seccomp(tree, depth, thread);
        for (path, controllers) in by_path(&thread.cgroups) {
            let controllers = match &controllers[..] {
                ["unified"] => String::new(),
                several => format!(" of {}", several.join(", ")),
            };
            tree.add(depth, format!("cgroup {path}{controllers}"));
        }
    }

    fn seccomp(&mut self, tree: &mut Tree, depth: usize, thread: &'a ThreadSecurity) {
        if thread.filters.is_empty() {
            let calls = if thread.seccomp == "strict" {
                ": only read, write, exit and sigreturn"
            } else {
                ""
            };
            return tree.add(depth, format!("seccomp {}{calls}", thread.seccomp));
        }
        let words = |filter: &'a FilterRow| (&filter.flags[..], &*filter.summary);
        let filters: Vec<Words<'_>> = thread.filters.iter().map(words).collect();
        match self.0.get(&filters) {
            Some(pid) if *pid != thread.pid => {
                return tree.add(depth, format!("seccomp filters: those of process {pid}"));
            }
            Some(_) => {}
            None => {
                self.0.insert(filters, thread.pid);
            }
        }
        tree.add(depth, "seccomp filters");
        for FilterRow { index, flags, instructions, summary, .. } in &thread.filters {
            let flags: String = flags.iter().map(|flag| format!(", {flag}")).collect();
            let title = format!("filter {index}, {instructions} instructions{flags}");
            tree.add(depth + 1, title);
            let clauses = summary.split("; ");
            let several = clauses.clone().count() > 1;
            for (i, clause) in clauses.enumerate() {
                // The first answer is for the calls that no other answer names.
                let default = if i == 0 && several { " by default" } else { "" };
                tree.add(depth + 2, shortened(clause) + default);
            }
        }
    }
}

/// Collects the controllers of each path. `cgroups` has lines as `/proc/PID/cgroup` without their
/// numbers.
fn by_path(cgroups: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut paths: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in cgroups {
        let (controller, path) = line.split_once(':').unwrap_or(("", line));
        let controller = if controller.is_empty() { "unified" } else { controller };
        match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, controllers)) => controllers.push(controller),
            None => paths.push((path, vec![controller])),
        }
    }
    paths
}

/// Shows four ids, as one if they are equal.
fn ids(ids: [u32; 4]) -> String {
    let [real, effective, saved, files] = ids;
    if ids.iter().all(|id| *id == real) {
        return real.to_string();
    }
    format!("{real}, effective {effective}, saved {saved}, file system {files}")
}

/// Joins words, the last replaced by a count if they are many.
fn listed<T: AsRef<str>>(words: &[T]) -> String {
    let shown: Vec<&str> = words.iter().take(MOST).map(AsRef::as_ref).collect();
    match words.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Shortens the list of calls of an answer. Tables and JSON have all.
fn shortened(clause: &str) -> String {
    let Some((answer, calls)) = clause.split_once(" on ") else { return clause.to_owned() };
    let calls: Vec<&str> = calls.split(", ").collect();
    match calls.len() {
        0..=MOST => format!("{answer} on {}", calls.join(", ")),
        many => format!("{answer} on {many} calls: {}", listed(&calls)),
    }
}

/// Most words of a list in a line.
const MOST: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        assert_eq!(shortened("allows"), "allows");
        assert_eq!(shortened("fails with EPERM on socket, bpf"), "fails with EPERM on socket, bpf");
        let calls: Vec<String> = (0..30).map(|call| format!("call{call}")).collect();
        let line = shortened(&format!("allows on {}", calls.join(", ")));
        assert!(line.starts_with("allows on 30 calls: call0, call1, "), "{line}");
        assert!(line.ends_with("call23 and 6 more"), "{line}");
    }

    #[test]
    fn controllers_share_the_line_of_their_path() {
        let lines = [":/a", "cpu:/a", "name=systemd:/b"].map(str::to_owned);
        let expected = [("/a", vec!["unified", "cpu"]), ("/b", vec!["name=systemd"])];
        assert_eq!(by_path(&lines), expected);
    }

    #[test]
    fn ids_that_differ_are_named() {
        assert_eq!(ids([7; 4]), "7");
        assert_eq!(ids([0, 0, 0, 33]), "0, effective 0, saved 0, file system 33");
    }
}
