//! Namespaces, and the mounts in them.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::namespaces::{NamespaceKind, SavedNamespace};
use crate::proto::UidGidExtent;
use crate::text::{Text, count};
use crate::view::Table;

/// The namespaces of a checkpoint. Displays like lsns(8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Namespaces {
    /// Namespaces, in the order of the tree.
    pub namespaces: Vec<NamespaceRow>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NamespaceRow {
    /// Kind of namespace, such as `mnt`.
    pub kind: String,
    /// Id of the namespace in the set.
    pub id: u32,
    /// The namespace is CRIU's own, and not part of the checkpoint.
    pub host: bool,
    /// Key of an external namespace, which a restore must be given.
    pub external: Option<String>,
    /// Ids of the tasks in the namespace.
    pub pids: Vec<u32>,
    /// Lines of text about the content.
    pub contents: Vec<String>,
}

/// The mounts of every mount namespace. Displays like findmnt(8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Mounts {
    /// Mounts, by namespace; the host's namespace is left out.
    pub namespaces: Vec<MountTable>,
}

/// The mounts of a mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MountTable {
    /// The namespace's id in the set.
    pub id: u32,
    /// Ids of the tasks in the namespace.
    pub pids: Vec<u32>,
    /// Mounts, each followed by the mounts below it.
    pub mounts: Vec<MountRow>,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MountRow {
    /// Id of the mount.
    pub id: u32,
    /// Id of the mount above it.
    pub parent: u32,
    /// Distance from the root of the tree.
    pub depth: usize,
    /// Mount point, seen from the root of the namespace.
    pub target: String,
    /// Source: a device, or a name for a file system without a device.
    pub source: String,
    /// Directory of the file system that is mounted.
    pub root: String,
    /// The kind of file system.
    pub fs: String,
    /// The options, separated by commas.
    pub options: String,
    /// Key of an external mount, for which a restore must be given a place.
    pub external: Option<String>,
}

impl Namespaces {
    /// Lists the namespaces of a checkpoint.
    ///
    /// # Errors
    /// The errors of reading the tasks' ids images and the namespaces' own images.
    pub fn new(checkpoint: Checkpoint<'_>) -> Result<Self> {
        let rows = checkpoint.namespaces()?.iter().map(NamespaceRow::new).collect::<Result<_>>()?;
        Ok(Self { namespaces: rows })
    }
}

impl NamespaceRow {
    fn new(saved: &SavedNamespace<'_>) -> Result<Self> {
        let namespace = saved.namespace();
        Ok(Self {
            kind: namespace.kind.to_string(),
            id: namespace.id,
            host: namespace.host,
            external: saved.external()?,
            pids: saved.pids().to_vec(),
            contents: if namespace.host { Vec::new() } else { contents(saved)? },
        })
    }
}

fn contents(saved: &SavedNamespace<'_>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    match saved.namespace().kind {
        NamespaceKind::Mnt => {
            let mounts = saved.mounts()?;
            lines.extend(mounts.map(|mounts| count(mounts.iter().count(), "mount")));
        }
        NamespaceKind::Uts => {
            if let Some(names) = saved.uts()? {
                lines.push(format!("host {}", Text(&names.nodename)));
                // The kernel's word for a domain that nobody has set.
                if names.domainname != b"(none)" {
                    lines.push(format!("domain {}", Text(&names.domainname)));
                }
            }
        }
        NamespaceKind::User => {
            if let Some(users) = saved.users()? {
                lines.extend(extents("user", &users.uid_map));
                lines.extend(extents("group", &users.gid_map));
            }
        }
        NamespaceKind::Time => {
            if let Some(clocks) = saved.clocks()? {
                let show = |s: u64, ns: u64| format!("{s}.{ns:09} s");
                let (monotonic, boot) = (&clocks.monotonic, &clocks.boottime);
                lines.push(format!("monotonic {}", show(monotonic.tv_sec, monotonic.tv_nsec)));
                lines.push(format!("boot {}", show(boot.tv_sec, boot.tv_nsec)));
            }
        }
        NamespaceKind::Ipc => {
            if let Some(ipc) = saved.ipc()? {
                let bytes: u64 = ipc.queues.iter().map(|(_, bytes)| bytes).sum();
                let queues = count(ipc.queues.len(), "message queue");
                let objects = [
                    (ipc.segments.len(), count(ipc.segments.len(), "shared memory segment")),
                    (ipc.queues.len(), format!("{queues}, {}", count(bytes, "byte"))),
                    (ipc.semaphores.len(), count(ipc.semaphores.len(), "semaphore set")),
                ];
                let objects = objects.into_iter().filter(|(some, _)| *some > 0);
                lines.extend(objects.map(|(_, line)| line));
            }
        }
        NamespaceKind::Net => {
            let Some(network) = saved.network()? else {
                return Ok(lines);
            };
            for device in &network.devices {
                let mut line = format!("device {}, {}", Text(&device.name), device.type_name());
                for address in network.addresses_of(device.ifindex) {
                    line += &format!(", {address}");
                }
                lines.push(line);
            }
            for route in network.routes.iter().filter(|route| route.is_configured()) {
                let device = route.device.and_then(|index| network.device_name(index));
                let device = device.map(|name| format!(" dev {name}")).unwrap_or_default();
                lines.push(format!("route {route}{device}"));
            }
            lines.extend(network.rules.iter().map(|rule| format!("rule {rule}")));
            let filters = [
                ("iptables", &network.iptables),
                ("ip6tables", &network.ip6tables),
                ("nftables", &network.nftables),
            ];
            let filters = filters.iter().filter(|(_, text)| !text.is_empty());
            lines.extend(
                filters.map(|(name, text)| format!("{name}, {}", count(text.len(), "byte"))),
            );
        }
        NamespaceKind::Pid | NamespaceKind::Cgroup => {}
    }
    Ok(lines)
}

/// Shows ids inside and outside, a line for each row of the map.
fn extents<'a>(noun: &'a str, map: &'a [UidGidExtent]) -> impl Iterator<Item = String> + use<'a> {
    let last = |first: u32, count: u32| (u64::from(first) + u64::from(count)).saturating_sub(1);
    map.iter().map(move |extent| match *extent {
        UidGidExtent { first, lower_first, count: 1 } => {
            format!("{noun} {first} is {lower_first} outside")
        }
        UidGidExtent { first, lower_first, count } => {
            let (end, lower_end) = (last(first, count), last(lower_first, count));
            format!("{noun}s {first}-{end} are {lower_first}-{lower_end} outside")
        }
    })
}

impl Mounts {
    /// Lists the mounts of a checkpoint.
    ///
    /// # Errors
    /// The errors of reading the tasks' ids images and the mount namespaces' own images.
    pub fn new(checkpoint: Checkpoint<'_>) -> Result<Self> {
        let mut namespaces = Vec::new();
        for saved in checkpoint.namespaces()? {
            let Some(mounts) = saved.mounts()? else {
                continue;
            };
            let rows = mounts.iter().map(|mount| MountRow {
                id: mount.entry.mnt_id,
                parent: mount.entry.parent_mnt_id,
                depth: mount.depth,
                target: mount.target().to_string(),
                source: mount.source().to_string(),
                root: Text(&mount.entry.root).to_string(),
                fs: mount.fs().to_string(),
                options: mount.options(),
                external: mount.external().map(|key| key.to_string()),
            });
            namespaces.push(MountTable {
                id: saved.namespace().id,
                pids: saved.pids().to_vec(),
                mounts: rows.collect(),
            });
        }
        Ok(Self { namespaces })
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[">NS", "TYPE", ">TASKS", ">PID", "WHERE", "CONTENTS"]);
        for row in &self.namespaces {
            let place = match (&row.external, row.host) {
                (Some(key), _) => format!("external {key}"),
                (None, true) => "host".to_owned(),
                (None, false) => "own".to_owned(),
            };
            let mut cells = vec![
                row.id.to_string(),
                row.kind.clone(),
                row.pids.len().to_string(),
                row.pids.first().map(u32::to_string).unwrap_or_default(),
                place,
            ];
            let mut lines = row.contents.iter();
            cells.push(lines.next().cloned().unwrap_or_default());
            table.row(cells);
            for line in lines {
                let mut cells = vec![String::new(); 5];
                cells.push(line.clone());
                table.row(cells);
            }
        }
        table.fmt(f)
    }
}

impl fmt::Display for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespaces.is_empty() {
            return f.write_str("no mount namespace except the host's");
        }
        for (i, namespace) in self.namespaces.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n\n" };
            let tasks = count(namespace.pids.len(), "task");
            writeln!(f, "{gap}mount namespace {} of {tasks}", namespace.id)?;
            let mut table = Table::new(&["TARGET", "SOURCE", "FSTYPE", "EXTERNAL", "OPTIONS"]);
            for mount in &namespace.mounts {
                let indent = mount.depth.min(MAX_INDENT) * 2;
                // As findmnt does for a mount that shows only a part of its file system.
                let source = match mount.root.as_str() {
                    "/" | "" => mount.source.clone(),
                    root => format!("{}[{root}]", mount.source),
                };
                table.row(vec![
                    format!("{:indent$}{}", "", mount.target),
                    source,
                    mount.fs.clone(),
                    mount.external.clone().unwrap_or_default(),
                    mount.options.clone(),
                ]);
            }
            table.fmt(f)?;
        }
        Ok(())
    }
}

const MAX_INDENT: usize = 20;
