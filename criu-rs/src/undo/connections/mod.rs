//! The release of TCP connections that a killed criu still holds.
//!
//! While CRIU dumps, it keeps packets away with iptables rules or an nftables table, and puts
//! sockets into repair mode to read them. A criu that fails undoes both. A criu that is killed
//! cannot, and the connections would stay silent for ever.

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

/// A guard of a tree's connections during a dump. Dropped without [`Connections::keep`], it
/// releases the connections that CRIU still holds.
#[derive(Debug)]
pub(crate) struct Connections {
    before: Arc<Before>,
    /// True if CRIU was asked to dump, so it may hold connections.
    expected: AtomicBool,
    kept: AtomicBool,
}

/// The state of a tree's connections before the dump.
#[derive(Debug)]
struct Before {
    root: Pid,
    /// True if the dump saves connections. Otherwise CRIU only cuts off the whole network of the
    /// tree, if the tree has a network namespace of its own.
    are_saved: bool,
    /// The networks before the dump. Afterwards tasks may be lost together with the killed criu.
    networks: Vec<Network>,
}

/// A network namespace that tasks are in.
#[derive(Debug)]
struct Network {
    inode: u64,
    namespace: File,
    /// The connections of the tasks, by inode of the socket.
    connections: HashMap<u64, Connection>,
    /// The names of CRIU's nftables tables that other dumps have made.
    tables: HashSet<String>,
}

impl Connections {
    /// Makes a guard for the tree of a dump. `None` if CRIU will not hold any connection of it.
    pub(crate) fn watch(root: Pid, message: &CriuOpts) -> Option<Self> {
        let are_saved = message.tcp_established();
        let is_apart = inode(&root.to_string()).is_some_and(|own| Some(own) != inode(HERE));
        let before = (are_saved || is_apart).then(|| within(move || Before::new(root, are_saved)));
        let before = Arc::new(before??);
        Some(Self { before, expected: false.into(), kept: false.into() })
    }

    /// Notes that CRIU is about to be asked to dump.
    pub(crate) fn expect(&self) {
        self.expected.store(true, Ordering::Relaxed);
    }

    /// Ends the guard without releasing anything.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Removes the rules that keep packets away, and takes sockets out of repair mode. A criu that
    /// is still there has to be stopped, and must not go on afterwards.
    pub(crate) fn release(&self) {
        if self.expected.load(Ordering::Relaxed) {
            let before = Arc::clone(&self.before);
            within(move || before.release());
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // A tracer means that a criu is still at work, which this process could not end.
        if !*self.kept.get_mut() && !tree::is_traced(self.before.root) {
            self.release();
        }
    }
}

/// Runs `work` in a thread and waits at most [`LIMIT`] for it. A task can make it last for ever: it
/// may have put another file in a socket's place, and closing the copy of that file may block.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = mpsc::channel();
    thread::Builder::new().spawn(move || done.send(work())).ok()?;
    is_done.recv_timeout(LIMIT).ok()
}

impl Before {
    fn new(root: Pid, are_saved: bool) -> Self {
        let mut networks = look(root, are_saved);
        for network in networks.iter_mut().filter(|network| network.is_at_stake()) {
            network.tables = network.enter(nftables::tables).unwrap_or_default();
        }
        Self { root, are_saved, networks }
    }

    fn release(&self) {
        let now = look(self.root, self.are_saved);
        let before: HashMap<_, _> =
            self.networks.iter().flat_map(|network| &network.connections).collect();
        // A connection that an earlier dump holds stays held.
        let is_ours = |(inode, _): &(&u64, &Connection)| {
            before.get(inode).is_none_or(|before| !before.was_in_repair)
        };
        for network in &self.networks {
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
    /// Returns true if it is the network namespace of this thread.
    fn is_here(&self) -> bool {
        Some(self.inode) == inode(HERE)
    }

    /// Returns true if CRIU may hold connections of this network, or the whole network.
    fn is_at_stake(&self) -> bool {
        !self.connections.is_empty() || !self.is_here()
    }

    /// Removes the rules for connections. In a network of the tasks' own it also removes the rules
    /// for the whole network.
    fn open(&self, connections: &[Ends]) {
        let whole = !self.is_here();
        if whole || !connections.is_empty() {
            self.enter(|| {
                iptables::remove(connections, whole);
                nftables::remove(&self.tables, connections, whole);
            });
        }
    }

    /// Runs `work` in this network. `None` if the network cannot be entered.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        if self.is_here() {
            return Some(work());
        }
        // A separate thread can be in another network than the rest of this process.
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, || {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).ok()?;
                Some(work())
            });
            thread.ok()?.join().ok()?
        })
    }
}

/// The inode of the network namespace of a process, or of this thread for [`HERE`].
fn inode(who: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{who}/ns/net")).ok().map(|meta| meta.ino())
}

/// The networks of a tree, and its connections if `with_connections` is true.
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

/// The name of this thread in `/proc`.
const HERE: &str = "thread-self";

/// Longest time for the work. Thousands of rules take a second; iptables waits up to five for
/// others.
const LIMIT: Duration = Duration::from_secs(12);
