//! Index of an archive's members, by folder and name.

mod rules;

use std::cmp::Ordering;

use crate::error::Fault;
use crate::member::{Member, MemberKind};
use crate::path;
use crate::tar::{Members, Stream};

/// Members of an archive, by folder and name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    members: Vec<Member>,
}

impl Index {
    /// Reads the headers of all members.
    pub(crate) fn read(stream: impl Stream) -> Result<Self, Fault> {
        let mut found = Vec::new();
        let mut members = Members::new(stream);
        while let Some(next) = members.next()? {
            found.extend(rules::member(next)?);
        }
        Self::new(found)
    }

    /// Makes the index of members that each keep the rules.
    ///
    /// # Errors
    /// Errors for members that do not keep the rules together.
    pub(crate) fn new(mut members: Vec<Member>) -> Result<Self, Fault> {
        members.shrink_to_fit();
        members.sort_unstable_by(|a, b| place(a).cmp(&place(b)).then(a.start.cmp(&b.start)));
        // Of a directory that is described twice the last description counts, as when the archive
        // is unpacked.
        let mut clash = None;
        members.dedup_by(|next, kept| {
            let is_same = next.path == kept.path;
            if is_same && clash.is_none() {
                clash = rules::twice(kept, next).err();
            }
            if is_same {
                std::mem::swap(next, kept);
            }
            is_same
        });
        clash.map_or(Ok(()), Err)?;
        let index = Self { members };
        rules::together(&index)?;
        Ok(index)
    }

    /// All members, by folder and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// All members, in the order of the archive.
    pub(crate) fn in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.iter().collect();
        members.sort_unstable_by_key(|member| member.start);
        members
    }

    /// Finds a member by folder and name.
    pub(crate) fn find(&self, folder: &str, name: &str) -> Option<&Member> {
        let member = self.from(folder, name).first()?;
        (place(member) == (folder, name)).then_some(member)
    }

    /// Finds the member that a hard link names: one that comes before the link.
    pub(crate) fn target(&self, member: &Member) -> Option<&Member> {
        let MemberKind::HardLink(target) = member.kind() else { return None };
        let target = path::normal(target)?;
        let (folder, name) = path::split(&target);
        self.find(folder, name).filter(|target| target.start < member.start)
    }

    /// Follows a hard link to the member that has the content.
    pub(crate) fn with_content<'i>(&'i self, member: &'i Member) -> Option<&'i Member> {
        match member.kind() {
            MemberKind::HardLink(_) => self.target(member),
            _ => Some(member),
        }
    }

    /// Names of the members of a folder.
    pub(crate) fn names<'i>(&'i self, folder: &'i str) -> impl Iterator<Item = &'i str> {
        let places = self.from(folder, "").iter().map(place);
        places.take_while(move |(here, _)| *here == folder).map(|(_, name)| name)
    }

    /// Folders that have a file of this name.
    pub(crate) fn folders<'i>(&'i self, file: &'i str) -> impl Iterator<Item = &'i str> {
        let here = self.members.iter().map(place).filter(move |(_, name)| *name == file);
        here.map(|(folder, _)| folder)
    }

    /// Members from a folder and a name on.
    fn from(&self, folder: &str, name: &str) -> &[Member] {
        let is_before = |member: &Member| place(member).cmp(&(folder, name)) == Ordering::Less;
        let first = self.members.partition_point(is_before);
        self.members.get(first..).unwrap_or_default()
    }
}

/// Folder from the root of the archive, and name in the folder.
fn place(member: &Member) -> (&str, &str) {
    path::split(&member.path)
}
