//! Checks of the network interfaces that a dump saves.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::finding::Finding;
use super::live::Tree;
use super::look::Look;
use super::proc;
use crate::diagnosis::Cause;
use crate::host::netlink::{self, Socket, attributes};
use crate::value::Pid;

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let is_left_out = look.opts.empty_ns() != 0;
    if !tree.saves("net") || is_left_out {
        return Vec::new();
    }
    let mut found = Vec::new();
    for task in tree.one_of_each("net") {
        let inode = task.namespaces.get("net");
        let is_external = inode.is_some_and(|inode| look.is_external(&format!("net[{inode}]")));
        if tree.is_here("net", task) || is_external {
            continue;
        }
        for link in links(task.pid).unwrap_or_default().iter().filter(|link| !link.is_saved()) {
            let kind = if link.kind.is_empty() { "a device" } else { link.kind.as_str() };
            let detail = format!("{} ({kind})", link.name.escape_debug());
            found.push(Finding::blocks(Cause::UnsupportedLink).pid(task.pid).detail(detail));
        }
    }
    found
}

/// A network interface.
#[derive(Debug, Default)]
struct Link {
    /// The hardware type, `ARPHRD_`.
    hardware: u16,
    name: String,
    /// The kernel's name for its driver, such as `veth`. Empty for a device.
    kind: String,
}

impl Link {
    /// Returns true if CRIU saves the interface, or leaves it out because the kernel makes it.
    fn is_saved(&self) -> bool {
        match (self.hardware, self.kind.as_str()) {
            (LOOPBACK, _) => true,
            (ETHER, "veth" | "tun" | "bridge" | "macvlan") => true,
            (ETHER, "gretap") => self.name == "gretap0",
            (NONE, "tun") | (VOID, "venet") | (SIT, "sit") => true,
            (IPGRE, "gre") => self.name == "gre0",
            _ => false,
        }
    }

    fn read(body: &[u8]) -> Option<Self> {
        let hardware = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
        let mut link = Self { hardware, ..Self::default() };
        for (kind, value) in attributes(body.get(16..)?) {
            match kind {
                IFNAME => link.name = text(value),
                LINKINFO => {
                    let inner = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                    link.kind = inner.map(|(_, value)| text(value)).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(link)
    }
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// The interfaces in the network namespace of a process.
fn links(of: Pid) -> io::Result<Vec<Link>> {
    let namespace = File::open(proc::of(of, "ns/net"))?;
    // The namespace of a thread lasts until the thread ends, and this thread ends at once.
    let thread = std::thread::Builder::new().spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        let socket = Socket::open(SockProtocol::NetlinkRoute)?;
        // Family and padding; type; index; flags; change mask.
        socket.send(&netlink::request(GETLINK, netlink::DUMP, &[0; 16]))?;
        let mut found = Vec::new();
        socket.hear(|_, body| {
            found.extend(Link::read(body));
            found.len() < MAX_LINKS
        })?;
        Ok(found)
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

/// `RTM_GETLINK`, and attributes of its answer.
const GETLINK: u16 = 18;
const IFNAME: u16 = 3;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// Hardware types.
const ETHER: u16 = 1;
const LOOPBACK: u16 = 772;
const SIT: u16 = 776;
const IPGRE: u16 = 778;
const NONE: u16 = 0xfffe;
const VOID: u16 = 0xffff;

/// Most interfaces of a namespace that are checked.
const MAX_LINKS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_this_process_is_read() {
        let found = links(Pid::this()).unwrap();
        let lo = found.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.hardware == LOOPBACK && lo.is_saved() && lo.kind.is_empty());
        assert!(Link::read(&[0; 15]).is_none());
        let vxlan = Link { hardware: ETHER, name: "v".into(), kind: "vxlan".into() };
        assert!(!vxlan.is_saved() && !Link { kind: String::new(), ..vxlan }.is_saved());
    }
}
