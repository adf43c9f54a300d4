//! Checks of sockets by their kind and their peer.

use std::collections::{HashMap, HashSet};

use super::diag::{self, Unix};
use super::finding::{Finding, Severity};
use super::kernel;
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc::{self, Fd, Kind};
use crate::diagnosis::Cause;
use crate::sys::fd::{copy_of, is_corked, network_of, socket_protocol};
use crate::value::{External, NetworkLock, Pid, Version};

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut connected = false;
    // The sockets that the kernel lists, by network namespace.
    let mut tables: HashMap<Option<u64>, Tables> = HashMap::new();
    let ours: HashSet<u64> =
        tree.fds().filter(|(_, fd)| is_socket(fd)).map(|s| s.1.meta.inode).collect();
    let networks: HashSet<u64> =
        tree.alive().filter_map(|task| task.namespaces.get("net")).collect();
    for (task, fd) in tree.fds().filter(|(_, fd)| is_socket(fd)) {
        if !seen.insert(fd.meta.inode) {
            continue;
        }
        let net = task.namespaces.get("net");
        let tables = tables.entry(net).or_insert_with(|| Tables::of(tree, task));
        let inode = fd.meta.inode;
        let place = |finding: Finding| finding.pid(task.pid).fd(fd.number).inode(inode);
        // The kernel lists the sockets of a namespace that are bound or connected.
        if !tables.unix.contains_key(&inode) && !tables.inet.contains_key(&inode) {
            found.extend(elsewhere(tree, task, fd, &networks).map(place));
        }
        let finding = if let Some(unix) = tables.unix.get(&inode) {
            unix_socket(unix, inode, tables, &ours, look)
        } else {
            let protocol = socket_protocol(&proc::of(task.pid, "fd").join(fd.number.to_string()));
            let inet = tables.inet.get(&inode);
            connected |= inet.is_some_and(|inet| inet.is_tcp && inet.is_connected());
            let protocol = protocol.as_deref().unwrap_or_default();
            found.extend(too_old(protocol, look).map(place));
            let odd = odd(protocol, tables, inode).or_else(|| corked(protocol, task, fd));
            odd.or_else(|| internet(inet?, look))
        };
        found.extend(finding.map(place));
    }
    found.extend(network_lock(connected, look));
    found
}

fn is_socket(fd: &Fd) -> bool {
    fd.meta.kind == Kind::Socket && fd.name().starts_with("socket:[")
}

/// The sockets of a network namespace.
struct Tables {
    unix: HashMap<u64, Unix>,
    inet: HashMap<u64, Inet>,
    /// Netlink sockets by inode, and true for those that hold unread messages.
    netlink: HashMap<u64, bool>,
    /// A process in the namespace.
    task: Pid,
}

/// A TCP or UDP socket.
struct Inet {
    is_tcp: bool,
    state: u8,
    /// Unread bytes, or for a listening socket the connections that are not yet accepted.
    waiting: u64,
}

impl Inet {
    /// Returns true if the state is one with a peer.
    fn is_connected(&self) -> bool {
        matches!(self.state, 1 | 2 | 4 | 5 | 8 | 9 | 11)
    }
}

impl Tables {
    fn of(tree: &Tree, task: &Task) -> Self {
        let unix = diag::unix(task.pid, tree.is_here("net", task)).unwrap_or_default();
        let mut inet = HashMap::new();
        for (name, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
            let text = proc::text(proc::of(task.pid, "net").join(name)).unwrap_or_default();
            inet.extend(text.lines().filter_map(|line| row(line, is_tcp)));
        }
        Self { unix, inet, netlink: netlink(task.pid), task: task.pid }
    }

    /// Returns true if a netlink socket holds unread messages.
    fn is_unread(&self, inode: u64) -> bool {
        // The kernel's table skips sockets while others come and go.
        let again = || (0..TRIES).find_map(|_| netlink(self.task).get(&inode).copied());
        self.netlink.get(&inode).copied().or_else(again).unwrap_or(false)
    }
}

/// Reads the netlink sockets of a process's network namespace.
fn netlink(pid: Pid) -> HashMap<u64, bool> {
    let text = proc::text(proc::of(pid, "net/netlink")).unwrap_or_default();
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let memory: u64 = words.get(4)?.parse().ok()?;
        Some((words.last()?.parse().ok()?, memory > 0))
    };
    text.lines().filter_map(socket).collect()
}

/// Further reads of a table that lacks a socket.
const TRIES: usize = 3;

/// Reads a line of `/proc/net/tcp` or a similar table: the inode and the socket.
fn row(line: &str, is_tcp: bool) -> Option<(u64, Inet)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let state = u8::from_str_radix(words.get(3)?, 16).ok()?;
    let (_, waiting) = words.get(4)?.split_once(':')?;
    let waiting = u64::from_str_radix(waiting, 16).ok()?;
    let inode: u64 = words.get(9)?.parse().ok()?;
    (inode != 0).then_some((inode, Inet { is_tcp, state, waiting }))
}

fn unix_socket(
    unix: &Unix,
    inode: u64,
    tables: &Tables,
    ours: &HashSet<u64>,
    look: &Look<'_>,
) -> Option<Finding> {
    let peer = unix.peer.filter(|&peer| !ours.contains(&u64::from(peer)))?;
    // CRIU names the pair by the inode of the end in the tree.
    let external = External::UnixSocket(u32::try_from(inode).ok()?);
    if look.is_external(&external.to_string()) {
        let what = "a unix socket is saved without its peer";
        let detail = format!("the restore needs another: inherit_fd with the key socket:[{inode}]");
        return Some(Finding::new(Severity::Loses, what).detail(detail));
    }
    let (cause, is_set) = (Cause::ExternalUnixSocket, look.opts.ext_unix_sk());
    let has_name = tables.unix.get(&u64::from(peer)).is_some_and(|peer| peer.has_name);
    if unix.kind == DGRAM && has_name {
        let finding = Finding::needs(cause, vec![Need::ExtUnixSk], is_set).safe();
        return Some(
            finding.detail("a datagram socket, which the restore connects by its peer's name"),
        );
    }
    let peer_has_no_name = "a datagram socket whose peer has no name";
    let kind = if unix.kind == DGRAM { peer_has_no_name } else { "a stream socket" };
    let needs = vec![Need::External(external)];
    Some(Finding::needs(cause, needs, false).detail(kind).hint(NAME_IT))
}

/// Checks that this CRIU can read the options of such a socket on this kernel.
fn too_old(protocol: &str, look: &Look<'_>) -> Option<Finding> {
    let family = protocol.trim_end_matches("v6");
    let asked = ["TCP", "UDP", "UDP-Lite", "RAW", "PING", "PACKET"];
    let clash = asked.contains(&family).then(|| kernel::clash(look.version, |c| !c.every_dump));
    clash.flatten().map(|clash| Finding::blocks(Cause::CriuTooOld).detail(clash.detail()))
}

/// Checks that a process of the tree is in the network namespace of a socket.
fn elsewhere(tree: &Tree, task: &Task, fd: &Fd, networks: &HashSet<u64>) -> Option<Finding> {
    let copy = copy_of(task.pid.nix(), fd.number).ok()?;
    let network = network_of(&copy).ok()?;
    let inode = nix::sys::stat::fstat(&network).ok()?.st_ino;
    if networks.contains(&inode) || networks.is_empty() {
        return None;
    }
    if tree.saves("net") {
        return Some(Finding::blocks(Cause::ForeignNetwork).detail(format!("net:[{inode}]")));
    }
    let what = "a socket of another network namespace comes back in that of the tree";
    Some(Finding::new(Severity::Loses, what).detail(format!("net:[{inode}]")))
}

/// Checks for a datagram that is held back (`UDP_CORK`).
fn corked(protocol: &str, task: &Task, fd: &Fd) -> Option<Finding> {
    if !matches!(protocol.trim_end_matches("v6"), "UDP" | "UDP-Lite") {
        return None;
    }
    let copy = copy_of(task.pid.nix(), fd.number).ok()?;
    let finding = Finding::blocks(Cause::UnsupportedSocket);
    is_corked(&copy).then(|| finding.detail("a UDP socket that holds a datagram back (UDP_CORK)"))
}

/// Checks a socket that is neither a unix nor an internet socket.
fn odd(protocol: &str, tables: &Tables, inode: u64) -> Option<Finding> {
    match protocol.trim_end_matches("v6") {
        "TCP" | "UDP" | "UDP-Lite" | "RAW" | "PING" | "PACKET" | "UNIX" | "UNIX-STREAM" => None,
        // Older kernels do not report the protocol.
        "" => None,
        "MPTCP" => {
            let hint = "have the program use plain TCP (a Go program: GODEBUG=multipathtcp=0)";
            Some(Finding::blocks(Cause::UnsupportedSocket).detail("MPTCP").hint(hint))
        }
        "NETLINK" => {
            let finding = Finding::blocks(Cause::UnreadNetlink);
            let hint = "wait until the program has read them";
            tables.is_unread(inode).then(|| finding.hint(hint))
        }
        other => Some(Finding::blocks(Cause::UnsupportedSocket).detail(other.to_owned())),
    }
}

fn internet(inet: &Inet, look: &Look<'_>) -> Option<Finding> {
    match (inet.is_tcp, inet.state) {
        (true, LISTEN) if inet.waiting > 0 => {
            let is_set = look.opts.tcp_skip_in_flight();
            let finding = Finding::needs(Cause::TcpInFlight, vec![Need::TcpSkipInFlight], is_set);
            Some(finding.detail(format!("{} of them", inet.waiting)))
        }
        (true, _) if inet.is_connected() => {
            let is_set = look.opts.tcp_established() || look.opts.tcp_close();
            let needs = vec![Need::TcpEstablished, Need::TcpClose];
            Some(Finding::needs(Cause::ConnectedTcp, needs, is_set))
        }
        (false, _) if inet.waiting > 0 => {
            let what = "received datagrams that were not read are lost";
            let plural = if inet.waiting == 1 { "" } else { "s" };
            let detail = format!("{} byte{plural}", inet.waiting);
            Some(Finding::new(Severity::Loses, what).detail(detail))
        }
        _ => None,
    }
}

/// Checks that CRIU can keep packets away from connections while their tasks stand still.
fn network_lock(connected: bool, look: &Look<'_>) -> Option<Finding> {
    use crate::rpc::CriuNetworkLockMethod as Method;
    let locks = connected && (look.opts.tcp_established() || look.opts.tcp_close());
    let method = look.opts.network_lock.map_or(Ok(Method::Iptables), Method::try_from).ok()?;
    if !locks || look.opts.tcp_close() || method != Method::Iptables {
        return None;
    }
    let is_there = kernel::in_path(look.criu, "iptables-restore");
    let mut needs = vec![Need::NetworkLock(NetworkLock::Nftables)];
    if look.version >= Version::new(3, 19, 0) {
        needs.push(Need::NetworkLock(NetworkLock::Skip));
    }
    (!is_there).then(|| {
        let detail = "iptables-restore is not installed where criu looks for it";
        Finding::needs(Cause::NetworkLockFailed, needs, false).detail(detail)
    })
}

/// Advice for sockets that `ext_unix_sk` alone does not save.
const NAME_IT: &str = "\
name the socket as external (unix[INODE]) and give the restore another in its place (inherit_fd \
with the key socket:[INODE], and ext_unix_sk), or have the program close it";

const DGRAM: u8 = 2;
const LISTEN: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_and_its_head_is_not() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert!(row(head, true).is_none());
        let line = " 0: 0100007F:0016 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 \
                    4711 1 0 100 0 0 10 0";
        let (inode, inet) = row(line, true).unwrap();
        assert_eq!((inode, inet.state, inet.waiting), (4711, LISTEN, 3));
        assert!(row("x y", true).is_none());
    }
}
