//! Effects of each edit on each message.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::rewrite::{Patch, Value, holders};
use super::{Edit, Edited};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::frame::Image;
use crate::kind::{self, Entries, Kind};
use crate::proto::{
    CgControllerEntry, CgMemberEntry, CgroupDirEntry, CredsEntry, FanotifyMountMarkEntry,
    FdinfoEntry, FhEntry, FileEntry, InetSkEntry, MntEntry, NetnsEntry, PidnsEntry, RegFileEntry,
    SeccompEntry, SeccompFilter, SeccompMode, TaskCoreEntry, ThreadCoreEntry, UnixSkEntry,
};
use crate::schema::{Entry, typed};
use crate::set::ImageSet;

/// An edit, and the facts of the set that it needs.
pub(crate) struct Rules<'e> {
    edit: &'e Edit,
    /// Addresses and ports that sockets of the set are bound to, for edits of addresses and ports.
    bound: HashSet<(Vec<u32>, u32)>,
    /// Seccomp filters, for edits of a single filter.
    filters: Vec<SeccompFilter>,
    /// Number of filters seen so far.
    seen: Cell<u32>,
    /// New names of the cgroup directories to come, in the order of the image.
    names: RefCell<VecDeque<Option<Vec<u8>>>>,
}

impl<'e> Rules<'e> {
    pub(crate) fn new(set: &ImageSet, edit: &'e Edit, edited: &[Edited]) -> Result<Self> {
        let refuse = |image: &str, kind| Err(Error::new(image, Fault::from(kind)));
        let mut rules = Self {
            edit,
            bound: HashSet::new(),
            filters: Vec::new(),
            seen: Cell::new(0),
            names: RefCell::default(),
        };
        match edit {
            Edit::Path { from, to } | Edit::Cgroup { from, to }
                if !from.starts_with(b"/") || !to.starts_with(b"/") =>
            {
                return refuse("edit", ErrorKind::Unsupported("paths that are not absolute"));
            }
            Edit::Address { from, to } if from.is_ipv4() != to.is_ipv4() => {
                return refuse("edit", ErrorKind::Unsupported("addresses of two families"));
            }
            Edit::Address { .. } | Edit::Port { .. } => rules.read_bound(set, edited)?,
            Edit::DropFilter(index) | Edit::ReplaceFilter(index, _) => {
                let name = kind::SECCOMP.file;
                if let Some(bytes) = current(set, edited, name)? {
                    let entry: SeccompEntry =
                        Image::parse(name, &bytes, kind::SECCOMP)?.single()?;
                    rules.filters = entry.seccomp_filters;
                }
                if *index as usize >= rules.filters.len() {
                    let (what, id) = ("seccomp filter", (*index).into());
                    return refuse(name, ErrorKind::Dangling { what, id });
                }
            }
            _ => {}
        }
        Ok(rules)
    }

    fn read_bound(&mut self, set: &ImageSet, edited: &[Edited]) -> Result<()> {
        for kind in holders("inet_sk_entry") {
            let name = kind.file_name(0);
            let Some(bytes) = current(set, edited, &name)? else { continue };
            let mut image = Image::parse(&name, &bytes, kind)?;
            while let Some(entry) = image.next_entry()? {
                let socket = if kind == kind::FILES {
                    entry.decode::<FileEntry>()?.isk
                } else {
                    Some(entry.decode::<InetSkEntry>()?)
                };
                self.bound.extend(socket.map(|socket| (socket.src_addr, socket.src_port)));
            }
        }
        Ok(())
    }

    /// Returns the names of the images in which something may change.
    pub(crate) fn images(&self, set: &ImageSet) -> Result<Vec<String>> {
        let messages: &[&str] = match self.edit {
            Edit::Path { .. } => &[
                "reg_file_entry",
                "unix_sk_entry",
                "mnt_entry",
                "fh_entry",
                "fanotify_mount_mark_entry",
            ],
            Edit::Address { .. } | Edit::Port { .. } => &["inet_sk_entry"],
            Edit::Cgroup { .. } => &["cgroup_entry"],
            Edit::Label { .. } => &["creds_entry", "fdinfo_entry"],
            Edit::MountSource { .. } => &["mnt_entry"],
            Edit::ExternalKey { .. } => &["mnt_entry", "netns_entry", "pidns_entry"],
            Edit::DropSeccomp | Edit::DropFilter(_) => &["seccomp_entry", "core_entry"],
            Edit::ReplaceFilter(..) => &["seccomp_entry"],
            // No rule: marks need entries of their own.
            Edit::MarkLazy => &[],
        };
        let kinds: Vec<&Kind> = messages.iter().flat_map(|message| holders(message)).collect();
        let mut names = set.names()?;
        names.retain(|name| {
            let kind = Kind::of_file(name).map(|(kind, _)| kind);
            kind.is_some_and(|kind| kinds.contains(&kind) && kind.entries != Entries::Raw)
        });
        names.sort_unstable();
        Ok(names)
    }

    /// Fills the patch of one message. Returns true if there is anything in the patch.
    pub(crate) fn apply(&self, patch: &mut Patch, bytes: &[u8]) -> Result<bool, ErrorKind> {
        match (self.edit, patch.message()) {
            (Edit::Path { from, to }, "reg_file_entry") => {
                let file: RegFileEntry = decode(bytes)?;
                Ok(text(patch, "name", below(&file.name, from, to)))
            }
            (Edit::Path { from, to }, "unix_sk_entry") => {
                let socket: UnixSkEntry = decode(bytes)?;
                let directory = socket.name_dir.as_deref();
                let directory = directory.and_then(|name| below(name, from, to));
                let moved = text(patch, "name_dir", directory);
                Ok(text(patch, "name", below(&socket.name, from, to)) || moved)
            }
            (Edit::Path { from, to }, "mnt_entry") => {
                let mount: MntEntry = decode(bytes)?;
                Ok(text(patch, "mountpoint", below(&mount.mountpoint, from, to)))
            }
            (Edit::Path { from, to }, "fh_entry") => {
                let handle: FhEntry = decode(bytes)?;
                let path = handle.path.as_deref();
                Ok(text(patch, "path", path.and_then(|path| below(path, from, to))))
            }
            (Edit::Path { from, to }, "fanotify_mount_mark_entry") => {
                let mark: FanotifyMountMarkEntry = decode(bytes)?;
                let path = mark.path.as_deref();
                Ok(text(patch, "path", path.and_then(|path| below(path, from, to))))
            }
            (Edit::Address { from, to }, "inet_sk_entry") => {
                let socket: InetSkEntry = decode(bytes)?;
                let moved = address(patch, "src_addr", &socket.src_addr, *from, *to);
                let inside = self.is_bound(&socket.dst_addr, socket.dst_port);
                Ok(inside && address(patch, "dst_addr", &socket.dst_addr, *from, *to) || moved)
            }
            (Edit::Port { from, to }, "inet_sk_entry") => {
                let socket: InetSkEntry = decode(bytes)?;
                let (from, to) = (u32::from(*from), Value::Number((*to).into()));
                let (bound, inside) =
                    (socket.src_port == from, self.is_bound(&socket.dst_addr, socket.dst_port));
                if bound {
                    patch.set("src_port", [to.clone()]);
                }
                let connected = inside && socket.dst_port == from;
                if connected {
                    patch.set("dst_port", [to]);
                }
                Ok(bound || connected)
            }
            (Edit::Cgroup { from, to }, "cg_member_entry") => {
                let member: CgMemberEntry = decode(bytes)?;
                let Some(path) = below(&member.path, from, to) else { return Ok(false) };
                // Length of the part of the path that the cgroup namespace hides.
                if let Some(hidden) = member.cgns_prefix.filter(|hidden| *hidden > 0) {
                    let hidden = hidden as usize;
                    let moved = match hidden.checked_sub(from.len()) {
                        Some(rest) => to.len() + rest,
                        None if path.get(..hidden) == member.path.get(..hidden) => hidden,
                        None => {
                            let what = "cgroup paths that cross a namespace's root";
                            return Err(ErrorKind::Unsupported(what));
                        }
                    };
                    patch.set("cgns_prefix", [Value::Number(moved as u64)]);
                }
                Ok(text(patch, "path", Some(path)))
            }
            (Edit::Cgroup { from, to }, "cg_controller_entry") => {
                let mut names = self.names.borrow_mut();
                for dir in decode::<CgControllerEntry>(bytes)?.dirs {
                    directory(&dir, None, from, to, &mut names)?;
                }
                Ok(false)
            }
            (Edit::Cgroup { .. }, "cgroup_dir_entry") => {
                let name = self.names.borrow_mut().pop_front().flatten();
                Ok(text(patch, "dir_name", name))
            }
            (Edit::Label { from, to }, "creds_entry") => {
                let creds: CredsEntry = decode(bytes)?;
                let mut set = |field, label: &Option<Vec<u8>>| {
                    text(patch, field, relabelled(label.as_deref(), from, to))
                };
                let thread = set("lsm_profile", &creds.lsm_profile);
                Ok(set("lsm_sockcreate", &creds.lsm_sockcreate) || thread)
            }
            (Edit::Label { from, to }, "fdinfo_entry") => {
                let fd: FdinfoEntry = decode(bytes)?;
                let label = fd.xattr_security_selinux.as_deref();
                Ok(text(patch, "xattr_security_selinux", relabelled(label, from, to)))
            }
            (Edit::MountSource { from, to }, "mnt_entry") => {
                let mount: MntEntry = decode(bytes)?;
                Ok(text(patch, "source", (mount.source == *from).then(|| to.clone())))
            }
            (Edit::ExternalKey { from, to }, "mnt_entry" | "netns_entry" | "pidns_entry") => {
                let key = match patch.message() {
                    "mnt_entry" => decode::<MntEntry>(bytes)?.ext_key,
                    "netns_entry" => decode::<NetnsEntry>(bytes)?.ext_key,
                    _ => decode::<PidnsEntry>(bytes)?.ext_key,
                };
                Ok(text(patch, "ext_key", (key.as_ref() == Some(from)).then(|| to.clone())))
            }
            (Edit::DropSeccomp | Edit::DropFilter(_) | Edit::ReplaceFilter(..), message) => {
                self.seccomp(message, patch, bytes)
            }
            _ => Ok(false),
        }
    }

    /// Returns true if a socket of the set is bound to this address and port.
    fn is_bound(&self, address: &[u32], port: u32) -> bool {
        port != 0 && self.bound.contains(&(address.to_vec(), port))
    }

    fn seccomp(&self, message: &str, patch: &mut Patch, bytes: &[u8]) -> Result<bool, ErrorKind> {
        match message {
            "seccomp_filter" => {
                let index = self.seen.replace(self.seen.get().saturating_add(1));
                match self.edit {
                    Edit::DropFilter(gone) if index != *gone => {
                        let filter: SeccompFilter = decode(bytes)?;
                        let left = filter.prev.and_then(|prev| self.without(*gone, prev));
                        patch.set("prev", left.map(|index| Value::Number(index.into())));
                        Ok(left != filter.prev)
                    }
                    Edit::ReplaceFilter(replaced, program) if index == *replaced => {
                        Ok(text(patch, "filter", Some(program.to_bytes())))
                    }
                    Edit::ReplaceFilter(..) => Ok(false),
                    _ => {
                        patch.remove();
                        Ok(true)
                    }
                }
            }
            "thread_core_entry" => {
                let thread: ThreadCoreEntry = decode(bytes)?;
                self.thread(
                    patch,
                    thread.seccomp_mode,
                    thread.seccomp_filter,
                    ["seccomp_mode", "seccomp_filter"],
                )
            }
            "task_core_entry" => {
                let task: TaskCoreEntry = decode(bytes)?;
                let fields = ["old_seccomp_mode", "old_seccomp_filter"];
                self.thread(patch, task.old_seccomp_mode, task.old_seccomp_filter, fields)
            }
            _ => Ok(false),
        }
    }

    /// Removes dropped filters from a thread: from its mode and its first filter.
    fn thread(
        &self,
        patch: &mut Patch,
        mode: Option<i32>,
        first: Option<u32>,
        [mode_field, first_field]: [&str; 2],
    ) -> Result<bool, ErrorKind> {
        if mode.is_none_or(|mode| mode == SeccompMode::Disabled as i32) {
            return Ok(false);
        }
        let left = match (self.edit, first) {
            (Edit::DropFilter(gone), Some(first)) => self.without(*gone, first),
            (Edit::DropFilter(_), None) => return Ok(false),
            _ => None,
        };
        if left == first && left.is_some() {
            return Ok(false);
        }
        if left.is_none() {
            patch.set(mode_field, [Value::Number(0)]);
        }
        patch.set(first_field, left.map(|index| Value::Number(index.into())));
        Ok(true)
    }

    /// Returns the new target of a link to a filter after the filter `gone` is removed.
    fn without(&self, gone: u32, index: u32) -> Option<u32> {
        let index = if index == gone { self.filters.get(gone as usize)?.prev? } else { index };
        Some(if index > gone { index - 1 } else { index })
    }
}

/// Returns the bytes of an image, as earlier edits have left them.
fn current(set: &ImageSet, edited: &[Edited], name: &str) -> Result<Option<Vec<u8>>, Error> {
    match edited.iter().find(|image| image.name == name) {
        Some(image) => Ok(Some(image.bytes.clone())),
        None => set.read(name),
    }
}

fn decode<M: Entry>(bytes: &[u8]) -> Result<M, ErrorKind> {
    // The caller has checked the bytes.
    typed::decode(bytes).map_err(|_| ErrorKind::Malformed("cannot be decoded"))
}

/// Sets a text field. Returns true if there is a new text.
fn text(patch: &mut Patch, field: &str, new: Option<Vec<u8>>) -> bool {
    match new {
        Some(new) => {
            patch.set(field, [Value::Bytes(new)]);
            true
        }
        None => false,
    }
}

/// Returns `path` with `to` in place of `from`, if it is `from` or lies below.
fn below(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let (from, to) = (from.strip_suffix(b"/").unwrap_or(from), to.strip_suffix(b"/").unwrap_or(to));
    let rest = path.strip_prefix(from)?;
    // Names of unix sockets end with a NUL.
    match rest {
        [] | [b'/' | 0, ..] => {
            let new = [to, rest].concat();
            Some(if new.is_empty() { b"/".to_vec() } else { new })
        }
        _ => None,
    }
}

fn relabelled(label: Option<&[u8]>, from: &Option<Vec<u8>>, to: &[u8]) -> Option<Vec<u8>> {
    let label = label?;
    let concerned = from.as_deref().is_none_or(|from| from == label);
    (concerned && label != to).then(|| to.to_vec())
}

/// Sets an address if it is `from`, also an IPv4 address in an IPv6 socket. Returns true if it was.
fn address(patch: &mut Patch, field: &str, words: &[u32], from: IpAddr, to: IpAddr) -> bool {
    let mapped = |address: Ipv4Addr| words_of(IpAddr::V6(address.to_ipv6_mapped()));
    let new = match (from, to) {
        _ if words == words_of(from) => words_of(to),
        (IpAddr::V4(from), IpAddr::V4(to)) if words == mapped(from) => mapped(to),
        _ => return false,
    };
    patch.set(field, new.into_iter().map(|word| Value::Number(word.into())));
    true
}

/// Returns an address as CRIU has it: the words lie in memory in network order.
fn words_of(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(address) => vec![u32::from_le_bytes(address.octets())],
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk().copied());
            words.map(u32::from_le_bytes).collect()
        }
    }
}

/// Appends the new name, if any, of a directory and of all directories below it. The first
/// directories of a controller have whole paths. The others have names in the directory `parent`.
fn directory(
    dir: &CgroupDirEntry,
    parent: Option<&[u8]>,
    from: &[u8],
    to: &[u8],
    names: &mut VecDeque<Option<Vec<u8>>>,
) -> Result<(), ErrorKind> {
    let trimmed = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
    let path = match parent {
        None => trimmed(&dir.dir_name),
        Some(parent) => {
            let name = dir.dir_name.strip_prefix(b"/").unwrap_or(&dir.dir_name);
            [parent, b"/", name].concat()
        }
    };
    names.push_back(match parent {
        None => below(&dir.dir_name, from, to),
        Some(parent) if path == trimmed(from) => {
            let to = trimmed(to);
            let beside = to.strip_prefix(parent).and_then(|rest| rest.strip_prefix(b"/"));
            let Some(name) = beside.filter(|name| !name.contains(&b'/')) else {
                let what = "cgroups that move out of a directory which is itself restored";
                return Err(ErrorKind::Unsupported(what));
            };
            let slash: &[u8] = if dir.dir_name.starts_with(b"/") { b"/" } else { b"" };
            Some([slash, name].concat())
        }
        Some(_) => None,
    });
    // The image has been checked: messages nest no deeper than the schema's limit.
    dir.children.iter().try_for_each(|child| directory(child, Some(&path), from, to, names))
}
