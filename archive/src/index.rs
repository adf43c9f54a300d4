//! Index of an archive's members, by folder and name.

use std::collections::BTreeMap;

use crate::error::Fault;
use crate::member::{Member, MemberKind};
use crate::path;
use crate::tar::{Found, Members, Sort, Stream};

/// Members of an archive, by folder and name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    members: BTreeMap<Place, Member>,
}

/// Folder from the root of the archive, and name in the folder.
type Place = (Box<str>, Box<str>);

impl Index {
    /// Reads the headers of all members.
    pub(crate) fn read(stream: impl Stream) -> Result<Self, Fault> {
        let mut index = Self::default();
        let mut members = Members::new(stream);
        while let Some(found) = members.next()? {
            index.add(found);
        }
        Ok(index)
    }

    fn add(&mut self, found: Found) {
        // Names that lead out of the archive are skipped.
        let Some(path) = path::normal(&found.name).filter(|path| !path.is_empty()) else { return };
        let kind = match found.sort {
            Sort::File => MemberKind::File,
            Sort::Directory => MemberKind::Directory,
            Sort::SymbolicLink => MemberKind::SymbolicLink(found.link.into()),
            Sort::HardLink => MemberKind::HardLink(found.link.into()),
            Sort::Sparse => MemberKind::Sparse,
            _ => MemberKind::Special,
        };
        let (folder, name) = path::split(&path);
        let place = (folder.into(), name.into());
        let Found { mode, uid, gid, modified, start, size, .. } = found;
        let path = path.into();
        // Of several members with one name the last counts, as when the archive is unpacked.
        let member = Member { path, kind, mode, uid, gid, modified, start, size };
        self.members.insert(place, member);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Finds a member by folder and name.
    pub(crate) fn find(&self, folder: &str, name: &str) -> Option<&Member> {
        self.members.get(&(folder.into(), name.into()))
    }

    /// Names of the members of a folder.
    pub(crate) fn names<'i>(&'i self, folder: &'i str) -> impl Iterator<Item = &'i str> {
        let members = self.members.range((folder.into(), "".into())..);
        let here = members.map(|(place, _)| place).take_while(move |place| &*place.0 == folder);
        here.map(|(_, name)| &**name)
    }

    /// Folders that have a file of this name.
    pub(crate) fn folders<'i>(&'i self, file: &'i str) -> impl Iterator<Item = &'i str> {
        let here = self.members.keys().filter(move |(_, name)| &**name == file);
        here.map(|(folder, _)| &**folder)
    }
}
