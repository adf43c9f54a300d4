//! Edits: images rewritten where they have to be, and every other byte kept.
//!
//! An [`Edit`] says what should be otherwise, and is carried out in all images that it concerns:
//! [`edit`] makes the new images, [`edit_directory`] also puts them in the place of the old ones.
//! [`rewrite`] is for whatever has no edit of its own.

mod directory;
mod rewrite;
mod rules;

use std::net::IpAddr;

use crate::bpf::Program;
use crate::error::{Error, Result};
use crate::set::ImageSet;
pub use directory::{edit_directory, recover};
pub use rewrite::{Change, Patch, Value, rewrite};
use rules::Rules;

/// Something that should be otherwise than it was dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an edit changes nothing until `edit` or `edit_directory` carries it out"]
pub enum Edit {
    /// Files below a path are below another: open files, programs, working and root directories, mapped
    /// files, unix sockets bound to a path, mount points, what inotify and fanotify watch. `/a` covers `/a` and `/a/b` but not `/ab`. The
    /// files themselves have to be there at restore, with the size they had.
    Path {
        /// The path, absolute.
        from: Vec<u8>,
        /// What it becomes.
        to: Vec<u8>,
    },
    /// Sockets that had an address have another one; their connections to each other stay. Connections
    /// to others cannot survive it. Both are IPv4, or both IPv6.
    Address {
        /// The address.
        from: IpAddr,
        /// What it becomes.
        to: IpAddr,
    },
    /// Sockets that were bound to a port are bound to another one; their connections to each other stay.
    Port {
        /// The port.
        from: u16,
        /// What it becomes.
        to: u16,
    },
    /// Cgroups below a path are below another one.
    Cgroup {
        /// The path, from the hierarchy's root.
        from: Vec<u8>,
        /// What it becomes.
        to: Vec<u8>,
    },
    /// The SELinux or AppArmor label of threads, of their new sockets, and of sockets.
    Label {
        /// Those with this label only; `None` changes all that have one.
        from: Option<Vec<u8>>,
        /// The new one.
        to: Vec<u8>,
    },
    /// Mounts of a source, as `/dev/sda1`, have another one.
    MountSource {
        /// The source.
        from: Vec<u8>,
        /// What it becomes.
        to: Vec<u8>,
    },
    /// Something that is external under a key, a mount or a namespace, has another one.
    ExternalKey {
        /// The key.
        from: Vec<u8>,
        /// What it becomes.
        to: Vec<u8>,
    },
    /// No thread is restricted by seccomp any more.
    DropSeccomp,
    /// One seccomp filter is gone. The other filters of its threads stay.
    DropFilter(u32),
    /// A seccomp filter is another program.
    ReplaceFilter(u32, Program),
}

/// An image that an edit has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an edited image is not yet in any directory"]
pub struct Edited {
    /// Its name in the set.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many messages in it are otherwise.
    pub changes: usize,
}

/// Makes the images that are otherwise after these edits, which are carried out one after another in each
/// image. No image means that there was nothing to edit. Parent sets stay as they are: they have only
/// memory.
///
/// ```
/// use criu_images::ImageSet;
/// use criu_images::edit::{Edit, edit};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let to = Edit::Path { from: b"/tmp".into(), to: b"/var/tmp".into() };
/// for image in edit(&set, &[to])? {
///     println!("{}: {} places", image.name, image.changes);
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
///
/// # Errors
/// Those of reading the images; [`ErrorKind::Value`](crate::ErrorKind::Value) and
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for an edit that makes no sense in this set.
pub fn edit(set: &ImageSet, edits: &[Edit]) -> Result<Vec<Edited>> {
    let mut edited: Vec<Edited> = Vec::new();
    for edit in edits {
        let rules = Rules::new(set, edit, &edited)?;
        for name in rules.images(set)? {
            let before = edited.iter().position(|image| image.name == name);
            let read;
            let bytes = match before.and_then(|index| edited.get(index)) {
                Some(image) => &image.bytes,
                None => match set.read(&name)? {
                    Some(bytes) => {
                        read = bytes;
                        &read
                    }
                    None => continue,
                },
            };
            let mut changes = 0;
            let changed = rewrite(&name, bytes, &mut |patch, bytes| {
                let touched = rules.apply(patch, bytes)?;
                changes += usize::from(touched);
                Ok(())
            })?;
            let Some(bytes) = changed else { continue };
            match before.and_then(|index| edited.get_mut(index)) {
                Some(image) => {
                    image.bytes = bytes;
                    image.changes += changes;
                }
                None => edited.push(Edited { name, bytes, changes }),
            }
        }
    }
    Ok(edited)
}

/// An image's bytes, as edits before have left them.
fn current(set: &ImageSet, edited: &[Edited], name: &str) -> Result<Option<Vec<u8>>, Error> {
    match edited.iter().find(|image| image.name == name) {
        Some(image) => Ok(Some(image.bytes.clone())),
        None => set.read(name),
    }
}
