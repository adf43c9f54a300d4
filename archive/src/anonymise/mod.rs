//! Copies of checkpoints for strangers: images, and what engines write beside them.
//!
//! [`criu_images::anonymise`] replaces what is private in images. An [`AnonymousCopy`] does so for
//! all sets of an archive or of a directory, and for JSON beside them: a path, a name or an address
//! has one pseudonym in the whole copy. Members of other kinds are left out. Each of them has a
//! [`Note`]: no bytes of an unknown kind get into the copy.
//!
//! ```no_run
//! use criu_archive::UNWATCHED;
//! use criu_archive::anonymise::AnonymousCopy;
//! use criu_archive::write::Options;
//!
//! let copy = AnonymousCopy::of_directory("/ckpt")?;
//! for note in copy.notes() {
//!     println!("{note}");
//! }
//! copy.draft().save("/tmp/report.tar", &Options::default(), UNWATCHED)?;
//! # Ok::<(), criu_archive::Error>(())
//! ```

mod directory;
mod fields;
mod json;
mod note;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use criu_images::anonymise::Anonymous;
use criu_images::kind::Kind;
use criu_images::source::{Blob, Directory, InMemory, Source};
use serde_json::Value;

use crate::archive::Archive;
use crate::bounds;
use crate::error::{Error, ErrorKind, Result};
use crate::member::MemberKind;
use crate::metadata::json::{bytes, parse};
use crate::metadata::names::{self, CHECKPOINT};
use crate::path;
use crate::write::Draft;

pub use note::{Fate, Note};

/// A copy of a checkpoint in the making, in which everything private is replaced.
#[derive(Clone, Debug)]
pub struct AnonymousCopy {
    draft: Draft,
    notes: Vec<Note>,
    /// Set if the copy is of a directory of images alone.
    is_bare: bool,
}

impl AnonymousCopy {
    /// Plans a copy of an archive. A new random secret makes the pseudonyms.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if there are no images.
    pub fn of_archive(archive: &Archive) -> Result<Self> {
        let mut plan = Plan::new(archive.name());
        let mut folder: Option<(String, Arc<Anonymous>)> = None;
        for member in archive.members() {
            let (above, name) = path::split(member.path());
            match member.kind() {
                MemberKind::Directory => {
                    if member.path().split('/').all(is_known) {
                        plan.draft.add_directory(member.path())?;
                    }
                }
                MemberKind::SymbolicLink(target) if name == "parent" => {
                    plan.link(above, &String::from_utf8_lossy(target))?;
                }
                MemberKind::File | MemberKind::HardLink(_) => {
                    let open = match &folder {
                        Some((path, open)) if path == above => Arc::clone(open),
                        _ => {
                            let open = Arc::new(plan.secret.beside(archive.folder(above)));
                            folder = Some((above.to_owned(), Arc::clone(&open)));
                            open
                        }
                    };
                    plan.file(above, name, &open, &mut || archive.bytes(member.path()))?;
                }
                kind => plan.left_out(member.path(), Self::reason_of(kind)),
            }
        }
        if !plan.draft.paths().any(|path| path.ends_with(".img")) {
            return Err(Error::new(archive.name(), ErrorKind::Malformed(NO_IMAGES)));
        }
        Ok(plan.done(false))
    }

    fn reason_of(kind: &MemberKind) -> &'static str {
        match kind {
            MemberKind::SymbolicLink(_) => "a symbolic link",
            MemberKind::Sparse => "a sparse file",
            _ => "a device, a FIFO or of an unknown kind",
        }
    }

    /// Plans a copy of a directory of images, with all its parents, or of a directory into which an
    /// archive was unpacked.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the directory or a parent cannot be read;
    /// [`ErrorKind::Malformed`] if there are no images.
    pub fn of_directory(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let place = path.to_string_lossy();
        let fail = |error| Error::new(&*place, ErrorKind::Images(error));
        let top = Directory::open(path).map_err(fail)?;
        let mut plan = Plan::new(&place);
        if has_images(&top).map_err(fail)? {
            plan.chain(Arc::new(top))?;
            return Ok(plan.done(true));
        }
        plan.folder("", top.clone())?;
        let mut found = false;
        let entries = fs::read_dir(path).map_err(|error| Error::new(&*place, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::new(&*place, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_directory {
                continue;
            }
            let folder = Directory::open(path.join(entry.file_name())).map_err(fail)?;
            found |= has_images(&folder).map_err(fail)?;
            plan.folder(&name, folder)?;
            if let Ok(target) = fs::read_link(entry.path().join("parent")) {
                plan.link(&name, &target.to_string_lossy())?;
            }
        }
        if !found {
            return Err(Error::new(&*place, ErrorKind::Malformed(NO_IMAGES)));
        }
        Ok(plan.done(false))
    }

    /// The archive in the making. Images of a directory are in the folder `checkpoint`.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Members that are not in the copy, or not with their content. Notes have the names in the
    /// original, so they are for the owner of the checkpoint.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Returns true if a folder has a file of a name that CRIU gives.
fn has_images(source: &dyn Source) -> criu_images::Result<bool> {
    let names = source.names()?;
    Ok(names.iter().any(|name| name.ends_with(".img") && Kind::of_file(name).is_some()))
}

/// A copy that is being planned.
struct Plan {
    place: String,
    /// Secret of the whole copy.
    secret: Anonymous,
    draft: Draft,
    notes: Vec<Note>,
}

impl Plan {
    fn new(place: &str) -> Self {
        let secret = Anonymous::new(InMemory::default());
        Self { place: place.to_owned(), secret, draft: Draft::new(), notes: Vec::new() }
    }

    fn done(mut self, is_bare: bool) -> AnonymousCopy {
        self.notes.sort_by(|a, b| (a.fate(), a.member()).cmp(&(b.fate(), b.member())));
        AnonymousCopy { draft: self.draft, notes: self.notes, is_bare }
    }

    fn left_out(&mut self, member: &str, reason: impl Into<String>) {
        self.notes.push(Note::new(Fate::LeftOut, member, reason));
    }

    /// Adds a set of images and its parents, in the folders in which engines have them.
    fn chain(&mut self, source: Arc<dyn Source>) -> Result<()> {
        let (mut folder, mut source) = (CHECKPOINT.to_owned(), source);
        for generation in 1.. {
            let parent = source.parent();
            let parent =
                parent.map_err(|error| Error::new(&*self.place, ErrorKind::Images(error)))?;
            self.draft.add_directory(&folder)?;
            self.folder(&folder, source)?;
            let Some(parent) = parent else { break };
            let next = names::pre_checkpoint(generation);
            self.draft.add_link(&format!("{folder}/parent"), &format!("../{next}"))?;
            (folder, source) = (next, Arc::from(parent));
        }
        Ok(())
    }

    /// Adds the files of a folder.
    fn folder(&mut self, folder: &str, source: impl Source + 'static) -> Result<()> {
        let names = source.names();
        let mut names =
            names.map_err(|error| Error::new(&*self.place, ErrorKind::Images(error)))?;
        names.sort_unstable();
        let source: Arc<dyn Source> = Arc::new(source);
        let images = Arc::new(self.secret.beside(Arc::clone(&source)));
        for name in names.iter().filter(|name| *name != "parent") {
            match source.size(name) {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) if matches!(error.kind(), criu_images::ErrorKind::NotAFile) => {
                    // The folders of an unpacked archive come by themselves.
                    if !folder.is_empty() || !Path::new(&self.place).join(name).is_dir() {
                        self.left_out(&path::join(folder, name), "no regular file");
                    }
                    continue;
                }
                Err(error) => return Err(Error::new(&*self.place, ErrorKind::Images(error))),
            }
            let mut open = || {
                let opened = source.open(name);
                let place = |error| Error::new(name, ErrorKind::Images(error));
                opened.map_err(place)?.ok_or_else(|| Error::new(name, ErrorKind::Missing))
            };
            self.file(folder, name, &images, &mut open)?;
        }
        Ok(())
    }

    /// Adds a file: an image, JSON, or a note on what was left out.
    fn file(
        &mut self,
        folder: &str,
        name: &str,
        images: &Arc<Anonymous>,
        open: &mut dyn FnMut() -> Result<Blob>,
    ) -> Result<()> {
        let original = path::join(folder, name);
        let copy = path::join(&self.path(folder), &self.part(name));
        if [names::ARTIFACTS, names::VOLUMES].contains(&folder.split('/').next().unwrap_or("")) {
            self.left_out(&original, "a secret or a volume");
            Ok(())
        } else if let Some((kind, _)) = Kind::of_file(name) {
            let source: Arc<dyn Source> = Arc::clone(images) as _;
            match source.size(name) {
                Ok(Some(_)) if Anonymous::empties(kind) => {
                    let reason = "an archive of files, or a table of connections";
                    self.notes.push(Note::new(Fate::Emptied, &original, reason));
                    self.draft.add_file(&copy, source, &self.place, name)
                }
                Ok(_) => self.draft.add_file(&copy, source, &self.place, name),
                Err(error) => {
                    self.left_out(&original, format!("cannot be read: {error}"));
                    Ok(())
                }
            }
        } else if is_log(name) {
            self.left_out(&original, "a log");
            Ok(())
        } else if name.ends_with(".tar") {
            self.left_out(&original, "an archive of files");
            Ok(())
        } else if is_json(folder, name) {
            match self.json(name, open) {
                Ok(text) => self.draft.add_bytes(&copy, text),
                Err(reason) => {
                    self.left_out(&original, reason);
                    Ok(())
                }
            }
        } else {
            self.left_out(&original, "of no known kind");
            Ok(())
        }
    }

    /// Reads a file as JSON, and replaces what is private in it.
    fn json(
        &self,
        name: &str,
        open: &mut dyn FnMut() -> Result<Blob>,
    ) -> std::result::Result<Vec<u8>, String> {
        let blob = open().map_err(|error| error.to_string())?;
        let fail = |fault| Error::new(name, fault).to_string();
        let text = bytes(&blob, bounds::METADATA.get()).map_err(fail)?;
        let value: Value = parse(&text).map_err(fail)?;
        let replaced = json::replaced(&self.secret, name, value);
        serde_json::to_vec(&replaced).map_err(|error| error.to_string())
    }

    /// Adds the link to a parent set in the same archive.
    fn link(&mut self, folder: &str, target: &str) -> Result<()> {
        let parent = path::join(folder, "parent");
        if path::follow(folder, target.as_bytes()).is_none() {
            self.left_out(&parent, "a link that leads out");
            return Ok(());
        }
        let target: Vec<_> = target.split('/').map(|part| self.part(part)).collect();
        self.draft.add_link(&path::join(&self.path(folder), "parent"), &target.join("/"))
    }

    /// Pseudonym of the path of a folder.
    fn path(&self, folder: &str) -> String {
        let parts: Vec<_> = folder.split('/').map(|part| self.part(part)).collect();
        parts.join("/")
    }

    /// Pseudonym of a part of the path of a member. Names that engines and CRIU give stay.
    fn part(&self, part: &str) -> String {
        if is_known(part) {
            return part.to_owned();
        }
        String::from_utf8_lossy(&self.secret.name(part.as_bytes())).into_owned()
    }
}

/// Returns true for a name that engines and CRIU give to members.
fn is_known(name: &str) -> bool {
    let folders = ["", ".", "..", CHECKPOINT, names::ARTIFACTS, names::VOLUMES];
    names::is_pre_checkpoint(name)
        || folders.contains(&name)
        || JSON.contains(&name)
        || Kind::of_file(name).is_some()
}

/// Returns true for a member of JSON that engines write: at the top, or beside images.
fn is_json(folder: &str, name: &str) -> bool {
    JSON.contains(&name) && folder.is_empty() != (name == names::DESCRIPTORS)
}

fn is_log(name: &str) -> bool {
    [names::PODMAN_LOG, names::CRIO_LOG, names::CONTAINERD_LOG, names::DUMP_LOG].contains(&name)
        || name.ends_with(".log")
}

const NO_IMAGES: &str = "has no images of CRIU";

/// Members of JSON.
const JSON: &[&str] = &[
    names::CONFIG_DUMP,
    names::SPEC_DUMP,
    names::NETWORK_STATUS,
    names::STATUS,
    names::STATUS_DUMP,
    names::BIND_MOUNTS,
    names::DELETED_FILES,
    names::DESCRIPTORS,
    names::POD_OPTIONS,
    names::POD_DUMP,
];
