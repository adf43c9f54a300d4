//! The labels in a set of images.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use criu_images::ImageSet;
use criu_images::proto::{CredsEntry, Lsmtype};

use crate::labels::{Attribute, Label, SecurityModule};
use crate::sys::proc_link;

/// The labels in a set of images, by thread as the images number them.
#[derive(Debug)]
pub(super) struct Saved {
    threads: HashMap<u32, Labels>,
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
        let mut threads = HashMap::new();
        for task in set.checkpoint()?.tasks().filter(|task| task.is_alive()) {
            for thread in task.threads()? {
                let creds = thread.creds().or_else(|| task.creds());
                threads.insert(
                    thread.tid(),
                    creds.map(|creds| Labels::of(module, creds)).unwrap_or_default(),
                );
            }
        }
        Ok(Self { threads })
    }

    /// The label of a thread.
    pub(super) fn of(&self, id: u32, attribute: Attribute) -> Option<&Label> {
        let labels = self.threads.get(&id)?;
        match attribute {
            Attribute::Current => labels.current.as_ref(),
            Attribute::Sockcreate => labels.sockcreate.as_ref(),
            _ => None,
        }
    }

    /// All labels, each with its thread.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Label)> {
        self.threads.iter().flat_map(|(id, labels)| {
            let both = [&labels.current, &labels.sockcreate];
            both.into_iter().flatten().map(|label| (*id, label))
        })
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
