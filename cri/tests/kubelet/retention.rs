//! Old checkpoints in a directory of a node.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use criu_cri::kubelet::retention::{Directory, Plan, Reason, Rules, Scope, Verdict, live_pods};
use criu_lab::checkpoints::Checkpoints;
use criu_lab::soon;

/// A directory of a node, and plans for it.
struct Node(Checkpoints);

impl Node {
    fn new(name: &str) -> Self {
        Self(Checkpoints::new(name))
    }

    fn directory(&self) -> PathBuf {
        self.0.directory()
    }

    fn archive(&self, file: &str, container: &str, hour: u32, bytes: usize) -> PathBuf {
        self.0.archive(file, container, hour, bytes)
    }

    fn plan(&self, rules: &Rules) -> Plan {
        let entries = Directory::open(self.directory()).unwrap().read().unwrap();
        Plan::new(entries, rules, SystemTime::now())
    }

    /// Names of the files that rules want to go, with the reasons.
    fn goes(&self, rules: &Rules) -> Vec<(String, Reason)> {
        // A process that another test is starting has the files of this one open for a moment.
        let is_open = |plan: &Plan| plan.rows().iter().any(|row| row.verdict == Verdict::Open);
        let mut plan = self.plan(rules);
        let closed = soon(|| {
            plan = self.plan(rules);
            !is_open(&plan)
        });
        assert!(closed, "{plan:?}");
        let mut found: Vec<(String, Reason)> = plan
            .removals()
            .map(|row| {
                let Verdict::Remove(reason) = row.verdict else { panic!("{row:?}") };
                (row.entry.name.to_str().unwrap().to_owned(), reason)
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn verdict(&self, rules: &Rules, name: &str) -> Verdict {
        let plan = self.plan(rules);
        plan.rows().iter().find(|row| row.entry.name == name).unwrap().verdict
    }
}

/// Rules under which no file is young.
fn rules() -> Rules {
    Rules::default().young(Duration::ZERO)
}

fn names(found: &[(String, Reason)]) -> Vec<&str> {
    found.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn rules_count_by_the_metadata_and_not_by_the_name() {
    let node = Node::new("rules");
    // The names of these files say another container.
    node.archive("checkpoint-a_ns-app-1.tar", "ns/a-b/app", 1, 1 << 10);
    node.archive("checkpoint-a_ns-app-2.tar", "ns/a-b/app", 2, 2 << 10);
    let third = node.archive("checkpoint-a_ns-app-3.tar", "ns/a-b/app", 3, 64 << 10);
    node.archive("checkpoint-a_ns-app-4.tar", "ns/a-b/side", 4, 1 << 10);
    node.archive("checkpoint-a_ns-app-5.tar", "other/a-b/app", 5, 1 << 10);
    let goes = |rules: &Rules| node.goes(rules);
    assert!(rules().is_empty() && goes(&rules()).is_empty());
    let found = goes(&rules().keep(Scope::Container, 1));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-1.tar", "checkpoint-a_ns-app-2.tar"]);
    assert!(found.iter().all(|(_, why)| *why == Reason::Count(Scope::Container)));
    let found = goes(&rules().keep(Scope::Pod, 1));
    assert_eq!(found.len(), 3, "{found:?}");
    let found = goes(&rules().keep(Scope::Namespace, 3));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-1.tar"]);
    let found = goes(&rules().keep(Scope::All, 1));
    assert!(found.len() == 4 && !names(&found).contains(&"checkpoint-a_ns-app-5.tar"));
    // The largest one is the newest of its container: all others go before.
    let largest = fs::metadata(third).unwrap().len();
    let found = goes(&rules().max_size(largest - 1));
    assert_eq!(found, [("checkpoint-a_ns-app-3.tar".to_owned(), Reason::Size)]);
    let found = goes(&rules().max_total(Scope::Container, largest));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-1.tar", "checkpoint-a_ns-app-2.tar"]);
    let found = goes(&rules().max_total(Scope::All, 0));
    assert_eq!(found.len(), 5);
    let since: SystemTime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_730_428_200);
    // 2024-11-01T02:30:00Z.
    let age = SystemTime::now().duration_since(since).unwrap();
    let found = goes(&rules().max_age(age));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-1.tar", "checkpoint-a_ns-app-2.tar"]);
    assert!(found.iter().all(|(_, why)| *why == Reason::Age));
    let live = BTreeSet::from(["uid-other".to_owned()]);
    assert_eq!(goes(&rules().of_live_pods(live)).len(), 5);
    // Rules for one namespace leave all others alone.
    let found = goes(&rules().of_namespace("other").max_total(Scope::All, 0));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-5.tar"]);
    let found = goes(&rules().of_pod("a-b").of_container("side").keep(Scope::All, 0));
    assert_eq!(names(&found), ["checkpoint-a_ns-app-4.tar"]);
}

#[test]
fn what_is_no_checkpoint_of_a_pod_is_never_deleted() {
    let node = Node::new("unread");
    let directory = node.directory();
    let one = node.archive("one.tar", "ns/pod/app", 1, 1 << 10);
    // Outside of the directory, with a link to it.
    let outside = node.0.place().join("outside.tar");
    fs::copy(&one, &outside).unwrap();
    symlink(&outside, directory.join("link.tar")).unwrap();
    fs::write(directory.join("text.tar"), "checkpoint-pod_ns-app.tar").unwrap();
    fs::write(directory.join("empty.tar"), "").unwrap();
    let whole = fs::read(&one).unwrap();
    fs::write(directory.join("cut.tar"), &whole[..whole.len() / 3]).unwrap();
    fs::create_dir(directory.join("directory.tar")).unwrap();
    let fifo = directory.join("fifo.tar");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    node.archive("evil.tar", "ns/-/app", 1, 1 << 10);
    let all = rules().max_total(Scope::All, 0).keep(Scope::All, 0).max_size(0);
    let plan = node.plan(&all);
    assert_eq!(node.goes(&all).len(), 1);
    for row in plan.rows().iter().filter(|row| row.entry.name != "one.tar") {
        assert_eq!(row.verdict, Verdict::Unread, "{row:?}");
    }
    assert_eq!(plan.rows().len(), 8);
    let removed = Directory::open(&directory).unwrap().remove(&plan);
    assert_eq!((removed.names.len(), removed.left.len()), (1, 0), "{removed:?}");
    assert!(!one.exists() && outside.exists() && directory.join("link.tar").is_symlink());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 7);
}

#[test]
fn marks_and_files_that_are_young_or_open_stay() {
    let node = Node::new("left");
    let path = |name: &str| node.directory().join(name);
    for (hour, name) in ["pinned.tar", "open.tar", "gone.tar"].iter().enumerate() {
        node.archive(name, "ns/pod/app", u32::try_from(hour).unwrap(), 1 << 10);
    }
    fs::write(path("pinned.tar.keep"), "").unwrap();
    let all = rules().keep(Scope::All, 0);
    // Young ones are left, and they are of the last 5 minutes by default.
    assert_eq!(node.verdict(&Rules::default().keep(Scope::All, 0), "gone.tar"), Verdict::Young);
    // Another process has the file open, for writing or not.
    let file = File::open(path("open.tar")).unwrap();
    let mut sleeper = Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    assert_eq!(node.verdict(&all, "open.tar"), Verdict::Open);
    assert_eq!(node.verdict(&all, "pinned.tar"), Verdict::Pinned);
    assert_eq!(node.verdict(&all, "gone.tar"), Verdict::Remove(Reason::Count(Scope::All)));
    // A pinned one does not count.
    assert_eq!(node.verdict(&rules().keep(Scope::All, 2), "open.tar"), Verdict::Keep);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    // What has happened between the plan and the end.
    let directory = Directory::open(node.directory()).unwrap();
    let late = node.archive("late.tar", "ns/pod/app", 9, 1 << 10);
    node.archive("swapped.tar", "ns/pod/app", 9, 1 << 10);
    node.archive("marked.tar", "ns/pod/app", 9, 1 << 10);
    let plan = node.plan(&all);
    assert_eq!(plan.removals().count(), 5);
    let file = File::options().append(true).open(&late).unwrap();
    file.set_len(1 << 20).unwrap();
    fs::copy(&late, path("swapped.tar")).unwrap();
    symlink("nowhere", path("marked.tar.keep")).unwrap();
    fs::remove_file(path("gone.tar")).unwrap();
    let reader = File::open(path("open.tar")).unwrap();
    let mut sleeper = Command::new("sleep").arg("60").stdin(reader).spawn().unwrap();
    let removed = directory.remove(&plan);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!((removed.names.len(), removed.bytes), (0, 0), "{removed:?}");
    assert_eq!(removed.gone, ["gone.tar"]);
    let mut left: Vec<(&str, &str)> =
        removed.left.iter().map(|(name, why)| (name.to_str().unwrap(), &**why)).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            ("late.tar", "it has changed"),
            ("marked.tar", "it has a .keep mark now"),
            ("open.tar", "a process has it open"),
            ("swapped.tar", "it has changed"),
        ]
    );
}

#[test]
fn bytes_of_a_file_with_several_names_count_once_and_with_the_last_name() {
    let node = Node::new("names");
    let path = |name: &str| node.directory().join(name);
    let bytes = fs::metadata(node.archive("a.tar", "ns/pod/app", 1, 1 << 10)).unwrap().len();
    fs::hard_link(path("a.tar"), path("b.tar")).unwrap();
    let all = rules().keep(Scope::All, 0);
    assert_eq!((node.goes(&all).len(), node.plan(&all).bytes()), (2, bytes));
    // A name that stays keeps the bytes.
    let outside = node.0.place().join("outside.tar");
    fs::hard_link(path("a.tar"), &outside).unwrap();
    assert_eq!(node.plan(&all).bytes(), 0);
    fs::remove_file(&outside).unwrap();
    let removed = Directory::open(node.directory()).unwrap().remove(&node.plan(&all));
    assert_eq!((removed.names.len(), removed.bytes), (2, bytes), "{removed:?}");
    assert!(removed.left.is_empty() && removed.gone.is_empty(), "{removed:?}");
}

#[test]
fn a_node_without_pods_makes_no_orphans() {
    let node = Node::new("pods");
    let pods = node.0.place().join("pods");
    assert!(live_pods(&pods).is_err());
    fs::create_dir(&pods).unwrap();
    assert!(live_pods(&pods).is_err());
    fs::create_dir(pods.join("uid-a")).unwrap();
    fs::write(pods.join("file"), "").unwrap();
    let live = live_pods(Path::new(&pods)).unwrap();
    node.archive("a.tar", "ns/a/app", 1, 1 << 10);
    node.archive("b.tar", "ns/b/app", 1, 1 << 10);
    let found = node.goes(&rules().of_live_pods(live));
    assert_eq!(found, [("b.tar".to_owned(), Reason::Orphan)]);
}
