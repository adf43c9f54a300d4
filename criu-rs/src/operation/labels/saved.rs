//! The labels in a set of images.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};

use criu_images::ImageSet;
use criu_images::files::File;
use criu_images::proto::{CredsEntry, Lsmtype};

use crate::labels::{Attribute, Label, SecurityModule};
use crate::sys::proc_link;

/// The labels in a set of images, by the thread's number in the images.
#[derive(Debug)]
pub(super) struct Saved {
    threads: HashMap<u32, Labels>,
    sockets: HashMap<(&'static str, Vec<u8>), usize>,
}

#[derive(Debug, Default)]
struct Labels {
    current: Option<Label>,
    sockcreate: Option<Label>,
}

impl Saved {
    /// Reads the inventory, the tree and its core images.
    pub(super) fn read(images: &OwnedFd) -> Result<Self, criu_images::Error> {
        let set = ImageSet::open(proc_link(images.as_fd()))?;
        let module = match set.inventory().lsmtype.map(Lsmtype::try_from) {
            Some(Ok(Lsmtype::Selinux)) => Some(SecurityModule::Selinux),
            Some(Ok(Lsmtype::Apparmor)) => Some(SecurityModule::Apparmor),
            _ => None,
        };
        let (mut threads, mut sockets) = (HashMap::new(), HashMap::new());
        let mut tables = HashSet::new();
        for task in set.checkpoint()?.tasks().filter(|task| task.is_alive()) {
            if tables.insert(task.table_id()?) {
                for (file, label) in task.file_labels()? {
                    if let Some(class) = class_of(file.file()) {
                        *sockets.entry((class, label)).or_insert(0) += 1;
                    }
                }
            }
            for thread in task.threads()? {
                let creds = thread.creds().or_else(|| task.creds());
                threads.insert(
                    thread.tid(),
                    creds.map(|creds| Labels::of(module, creds)).unwrap_or_default(),
                );
            }
        }
        Ok(Self { threads, sockets })
    }

    /// Returns the label of a thread.
    pub(super) fn of(&self, id: u32, attribute: Attribute) -> Option<&Label> {
        let labels = self.threads.get(&id)?;
        match attribute {
            Attribute::Current => labels.current.as_ref(),
            Attribute::Sockcreate => labels.sockcreate.as_ref(),
            _ => None,
        }
    }

    /// Returns true if the label confines a thread.
    pub(super) fn confines(&self, label: &Label) -> bool {
        self.threads.values().any(|labels| labels.current.as_ref() == Some(label))
    }

    /// Returns the labels of sockets to which CRIU gives their labels back, with the classes and
    /// the numbers of these sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&'static str, &[u8], usize)> {
        self.sockets.iter().map(|((class, label), count)| (*class, label.as_slice(), *count))
    }

    /// Returns all labels, each with its thread.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Label)> {
        self.threads.iter().flat_map(|(id, labels)| {
            let both = [&labels.current, &labels.sockcreate];
            both.into_iter().flatten().map(|label| (*id, label))
        })
    }
}

/// The class, in an SELinux policy, of a file to which CRIU gives its label back.
fn class_of(file: &File) -> Option<&'static str> {
    match file {
        File::Inet(socket) => Some(match socket.protocol() {
            Some("tcp") => "tcp_socket",
            Some("udp" | "udplite") => "udp_socket",
            _ => "rawip_socket",
        }),
        _ => None,
    }
}

impl Labels {
    fn of(module: Option<SecurityModule>, creds: &CredsEntry) -> Self {
        let module = module.unwrap_or(SecurityModule::Other);
        let label = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Label::new(module, bytes.clone()))
        };
        Self { current: label(&creds.lsm_profile), sockcreate: label(&creds.lsm_sockcreate) }
    }
}
