//! What CRIU holds TCP connections by while it dumps, and must not leave behind.
//!
//! It keeps packets away with rules of iptables or a table of nftables, and puts sockets into repair mode to read them. A
//! criu that fails undoes both. One that is ended cannot: the connections would stay silent for ever.

mod connection;
mod iptables;
mod nftables;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use procfs::process::{FDTarget, Process};

use crate::host::tree;
use crate::rpc::CriuOpts;
use crate::value::Pid;
use connection::{Connection, Ends, connected};

/// Watches over a tree's connections during a dump: dropped without [`Connections::keep`] it lets go of what CRIU
/// still holds.
#[derive(Debug)]
pub(crate) struct Connections {
    watched: Arc<Watched>,
    /// Whether CRIU may hold something: it has been asked to.
    expected: AtomicBool,
    kept: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    root: Pid,
    /// Whether connections are saved. Otherwise only a whole network is cut off, if the root has one of its own.
    are_saved: bool,
    /// Before the dump, for tasks may be lost with the criu that was at work on them.
    before: Vec<Network>,
}

/// A network namespace that tasks are in.
#[derive(Debug)]
struct Network {
    inode: u64,
    namespace: File,
    /// Those of the tasks, by inode.
    connections: HashMap<u64, Connection>,
    /// Tables of CRIU's that are there: of other dumps.
    tables: HashSet<String>,
}

impl Connections {
    /// Looks at the tree of a dump; `None` where CRIU holds nothing of it.
    pub(crate) fn watch(root: Pid, message: &CriuOpts) -> Option<Self> {
        let are_saved = message.tcp_established();
        let is_apart = inode(&root.to_string()).is_some_and(|own| Some(own) != inode(HERE));
        let watched =
            (are_saved || is_apart).then(|| within(move || Watched::new(root, are_saved)));
        let watched = Arc::new(watched??);
        Some(Self { watched, expected: false.into(), kept: false.into() })
    }

    /// CRIU is about to be asked.
    pub(crate) fn expect(&self) {
        self.expected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Takes away what keeps packets away, and sockets out of repair mode. A criu that is still there has to stand still,
    /// and cannot go on.
    pub(crate) fn release(&self) {
        if self.expected.load(Ordering::Relaxed) {
            let watched = Arc::clone(&self.watched);
            within(move || watched.release());
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // Where tasks are still traced a criu is at it that this process could not end.
        if !*self.kept.get_mut() && !tree::is_traced(self.watched.root) {
            self.release();
        }
    }
}

/// Does something that a task can make last for ever: what it has put in a socket's place is closed here, too.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = mpsc::channel();
    thread::Builder::new().spawn(move || done.send(work())).ok()?;
    is_done.recv_timeout(LIMIT).ok()
}

impl Watched {
    fn new(root: Pid, are_saved: bool) -> Self {
        let mut before = look(root, are_saved);
        for network in before.iter_mut().filter(|network| network.is_at_stake()) {
            network.tables = network.enter(nftables::tables).unwrap_or_default();
        }
        Self { root, are_saved, before }
    }

    fn release(&self) {
        let now = look(self.root, self.are_saved);
        let before: HashMap<_, _> =
            self.before.iter().flat_map(|network| &network.connections).collect();
        // What an earlier dump holds is not ours to let go.
        let is_ours = |(inode, _): &(&u64, &Connection)| {
            before.get(inode).is_none_or(|before| !before.was_in_repair)
        };
        for network in &self.before {
            let same = now.iter().filter(|now| now.inode == network.inode);
            let all = std::iter::once(network).chain(same).flat_map(|network| &network.connections);
            network.open(&all.filter(is_ours).map(|(_, own)| own.ends).collect::<Vec<_>>());
        }
        let all = now.iter().flat_map(|network| &network.connections);
        for (inode, connection) in all.filter(is_ours) {
            connection.end_repair();
            if let Some(before) = before.get(inode) {
                connection.reuse(before.was_reused);
            }
        }
    }
}

impl Network {
    fn is_here(&self) -> bool {
        Some(self.inode) == inode(HERE)
    }

    /// Whether CRIU holds something of it: connections, or all of it.
    fn is_at_stake(&self) -> bool {
        !self.connections.is_empty() || !self.is_here()
    }

    /// Takes away what keeps packets of connections away, and in a network of the tasks' own those of all.
    fn open(&self, connections: &[Ends]) {
        let whole = !self.is_here();
        if whole || !connections.is_empty() {
            self.enter(|| {
                iptables::remove(connections, whole);
                nftables::remove(&self.tables, connections, whole);
            });
        }
    }

    /// Does something in it; `None` where that cannot be entered.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        if self.is_here() {
            return Some(work());
        }
        // A thread of its own can be in another network than the rest of this process.
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, || {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).ok()?;
                Some(work())
            });
            thread.ok()?.join().ok()?
        })
    }
}

/// The network namespace of a process, or of this thread.
fn inode(who: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{who}/ns/net")).ok().map(|meta| meta.ino())
}

/// The networks of a tree, with its connections if those are asked for.
fn look(root: Pid, with_connections: bool) -> Vec<Network> {
    let mut networks: HashMap<u64, (Network, HashMap<u64, Ends>)> = HashMap::new();
    for pid in tree::descendants(root) {
        let (Some(inode), Ok(process)) = (inode(&pid.to_string()), Process::new(pid.as_raw()))
        else {
            continue;
        };
        let (network, ends) = match networks.entry(inode) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { continue };
                let network = Network {
                    inode,
                    namespace,
                    connections: HashMap::new(),
                    tables: HashSet::new(),
                };
                let ends = if with_connections { connected(&process) } else { HashMap::new() };
                new.insert((network, ends))
            }
        };
        if ends.is_empty() {
            continue;
        }
        for descriptor in process.fd().into_iter().flatten().flatten() {
            let FDTarget::Socket(socket) = descriptor.target else { continue };
            let Some(ends) = ends.get(&socket) else { continue };
            let new = || Connection::new(*ends, socket, (pid, descriptor.fd));
            network.connections.entry(socket).or_insert_with(new);
        }
    }
    networks.into_values().map(|(network, _)| network).collect()
}

/// In /proc.
const HERE: &str = "thread-self";

/// Thousands of rules take a second; iptables waits up to five for others.
const LIMIT: Duration = Duration::from_secs(12);
