//! Whole sets: the links between images, and everything that is made from them.

use std::fmt::Write;

use criu_images::anonymise::Anonymous;
use criu_images::files::File;
use criu_images::memory::PageSource;
use criu_images::source::Source;
use criu_images::{Checkpoint, Diff, ImageSet, Result, Task, Thread, check, view};

use crate::pack::{Record, records, source};

/// Opens a set and asks it all questions there are.
pub fn run(data: &[u8]) {
    look(&records(data));
}

/// Asks a set all questions there are, each by itself.
pub fn look(records: &[Record]) {
    let Ok(set) = ImageSet::new(source(records)) else { return };
    let findings = check(&set);
    for finding in &findings {
        assert!(!finding.to_string().is_empty());
    }
    anonymous(records, &set);
    let Ok(checkpoint) = set.checkpoint() else { return };
    let mut said = checkpoint.tree().to_string();
    _ = all(checkpoint, &mut said);
    views(checkpoint);
    // The parent's memory is this set's: a set differs in nothing from itself.
    if let Ok(diff) = Diff::new(checkpoint, checkpoint) {
        // What was kept back for a lazy restore is not known, and said to be so.
        let same = diff.changed.iter().all(|task| {
            let changes = [&task.task, &task.fds, &task.mappings];
            changes.iter().all(|changes| changes.is_empty())
                && task.threads.is_empty()
                && task.dirty.iter().all(|dirty| dirty.ranges.is_empty())
        });
        let same = same && diff.tasks.is_empty() && diff.sockets.is_empty();
        assert!(same, "a set differs from itself:\n{diff}");
    }
    let empty: Vec<_> =
        records.iter().filter(|r| r.kind.is_none_or(|k| !is_memory(k.name))).collect();
    let empty: Vec<Record> = empty.into_iter().cloned().collect();
    if let Ok(other) = ImageSet::new(source(&empty)) {
        if let Ok(diff) = other.checkpoint().and_then(|other| Diff::new(other, checkpoint)) {
            _ = diff.to_string();
        }
    }
}

/// Copies a set for strangers. A copy looks into all messages, a set only into those that it needs:
/// if all images can be copied, the copy can be read as the set can.
fn anonymous(records: &[Record], set: &ImageSet) {
    let copy = Anonymous::new(source(records));
    let mut bytes = vec![0; 64 << 10];
    for name in copy.names().unwrap_or_default() {
        let Ok(blob) = copy.open(&name) else { return };
        if let Some(blob) = blob {
            let len = blob.len().min(bytes.len() as u64) as usize;
            _ = blob.read_at(0, &mut bytes[..len]);
            _ = blob.read_at(blob.len() - len as u64, &mut bytes[..len]);
        }
    }
    let again = ImageSet::new(copy).expect("a copy of a set opens");
    if let Ok(before) = set.checkpoint() {
        let after = again.checkpoint().expect("a copy of a checkpoint reads");
        assert_eq!(before.tasks().count(), after.tasks().count());
    }
}

fn is_memory(name: &str) -> bool {
    matches!(name, "PAGEMAP" | "PAGES" | "PAGES_SHMEM" | "FDINFO")
}

fn views(checkpoint: Checkpoint<'_>) {
    _ = view::Ps::new(checkpoint.tasks()).to_string();
    show(view::Ps::with_arguments(checkpoint.tasks(), true));
    show(view::Fds::new(checkpoint.tasks()));
    show(view::Mems::new(checkpoint.tasks()));
    show(view::Rss::new(checkpoint.tasks()));
    show(view::Sockets::new(checkpoint));
    show(view::Mounts::new(checkpoint));
    show(view::Namespaces::new(checkpoint));
    show(view::Security::new(checkpoint.tasks()));
    show(view::Summary::new(checkpoint));
}

fn show(view: Result<impl std::fmt::Display>) {
    match view {
        Ok(view) => _ = view.to_string(),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Calls all accessors that the views do not use.
fn all(checkpoint: Checkpoint<'_>, said: &mut String) -> Result<()> {
    for task in checkpoint.tasks() {
        assert_eq!(checkpoint.task(task.pid()).map(|t| t.pid()), Some(task.pid()));
        assert!(task.children().all(|child| child.ppid() == task.pid()));
        drop(of_task(&task, said));
    }
    if let Ok(cgroups) = checkpoint.cgroups() {
        _ = write!(said, "{cgroups:?}");
    }
    let queues = checkpoint.queues().ok();
    for file in checkpoint.files()? {
        _ = write!(said, "{file} {:?} {} {:?}", file.path(), file.is_deleted(), file.memfd());
        _ = write!(said, "{:?} {:?}", file.terminal(), file.peer().map(|peer| peer.id()));
        if let Some(queues) = &queues {
            _ = write!(said, "{:?}", queues.of(&file));
        }
        match file.file() {
            File::Inet(socket) => {
                _ = write!(said, "{:?} {:?}", socket.local(), socket.remote());
                _ = write!(said, "{:?} {:?}", socket.protocol(), socket.state_name());
            }
            File::Unix(socket) => {
                let address = socket.address().map(|address| address.to_string());
                _ = write!(said, "{address:?} {} {}", socket.type_name(), socket.state_name());
            }
            other => _ = write!(said, "{} {:?}", other.word(), other.flags()),
        }
    }
    _ = write!(said, "{:?}", checkpoint.locks());
    for shared in checkpoint.shared_memory()? {
        let pages = shared.runs().map(|run| run.pages).fold(0, u64::saturating_add);
        let mut head = [0; 64];
        _ = write!(said, "{shared} {} {pages} {:?}", shared.id(), shared.read_at(0, &mut head));
    }
    for saved in checkpoint.namespaces()? {
        _ = write!(said, "{} {:?} {:?}", saved.namespace(), saved.pids(), saved.external());
        _ = write!(said, "{:?} {:?} {:?}", saved.users(), saved.pid(), saved.clocks());
        _ = write!(said, "{:?} {:?} {:?}", saved.uts(), saved.ipc(), saved.mounts());
        if let Ok(Some(mounts)) = saved.mounts() {
            for mount in mounts.iter() {
                _ = write!(said, "{} {} {}", mount.target(), mount.source(), mount.fs());
                _ = write!(
                    said,
                    "{} {:?}",
                    mount.options(),
                    mount.external().map(|t| t.to_string())
                );
            }
        }
        if let Ok(Some(network)) = saved.network() {
            _ = write!(said, "{network:?}");
        }
    }
    Ok(())
}

fn of_task(task: &Task<'_>, said: &mut String) -> Result<()> {
    _ = write!(said, "{task} {:?} {:?} {:?}", task.creds(), task.ids(), task.namespaces());
    _ = write!(said, "{:?} {:?} {:?}", task.core(), task.mm(), task.fs());
    for limit in task.limits() {
        _ = write!(said, "{limit}");
    }
    for timer in task.timers() {
        _ = write!(said, "{timer}");
    }
    for disposition in task.dispositions() {
        _ = write!(said, "{disposition:?}");
    }
    for pending in task.pending() {
        _ = write!(said, "{pending:?}");
    }
    _ = write!(said, "{:?}", task.cgroups());
    for file in [task.cwd(), task.root_dir(), task.exe()] {
        show(file.map(|file| file.map_or(String::new(), |file| file.to_string())));
    }
    if let Ok(threads) = task.threads() {
        threads.iter().for_each(|thread| of_thread(thread, said));
    }
    let files = task.files()?;
    for fd in files.iter().take(16) {
        _ = write!(said, "{:?}", fd.epoll_targets(&files));
    }
    Ok(())
}

fn of_thread(thread: &Thread<'_>, said: &mut String) {
    _ = write!(said, "{} {} {:?}", thread.tid(), thread.name(), thread.architecture());
    _ = write!(said, "{} {:?} {:?}", thread.blocked(), thread.creds(), thread.cgroups());
    for pending in thread.pending() {
        _ = write!(said, "{pending:?}");
    }
    if let Some(creds) = thread.creds() {
        let bits: Vec<_> = creds.secure_bits().collect();
        _ = write!(said, "{} {} {bits:?}", creds.effective(), creds.bounding());
        _ = write!(said, "{:?}", creds.label().map(|label| label.to_string()));
    }
    match thread.seccomp() {
        Ok(seccomp) => _ = write!(said, "{seccomp}"),
        Err(error) => _ = write!(said, "{error}"),
    }
}
