//! Index of an archive's members, by folder and name.

mod rules;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use criu_images::source::Blob;

use crate::bounds;
use crate::error::{ErrorKind, Fault};
use crate::member::{Member, MemberKind};
use crate::packing::Listed;
use crate::path;
use crate::tar::{Found, Members, Sort, Stream};

pub(crate) use rules::{LEADS_OUT, extractable, member, stays_inside};

/// Members of an archive, by folder and name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    members: Vec<Member>,
}

impl Index {
    /// Reads the headers of all members.
    pub(crate) fn read(stream: impl Stream) -> Result<Self, Fault> {
        Ok(Self::read_to(stream, u64::MAX)?.0)
    }

    /// Reads a stream to its end, at most `limit` bytes. Returns the index, and the bytes of the
    /// stream.
    pub(crate) fn read_to(stream: impl Stream, limit: u64) -> Result<(Self, u64), Fault> {
        let mut found = Vec::new();
        let mut members = Members::new(stream).at_most(limit);
        while let Some(next) = members.next()? {
            found.extend(rules::member(next, members.began())?);
        }
        Ok((Self::new(found)?, members.len()))
    }

    /// Reads a stream to its end, at most `limit` bytes. Returns the index, the content of small
    /// members by its offset, and the bytes of the stream.
    pub(crate) fn read_kept(stream: impl Stream, limit: u64) -> Result<(Self, Kept, u64), Fault> {
        let mut found = Vec::new();
        let mut kept = Kept::new();
        let mut members = Members::new(stream).at_most(limit);
        let mut room = bounds::KEPT.get();
        let is_small = |found: &Found, room: u64| {
            let is_bulk = BULK.iter().any(|end| found.name.ends_with(end.as_bytes()))
                || found.name.windows(PAGES.len()).any(|part| part == PAGES.as_bytes());
            found.sort == Sort::File && found.size <= LARGEST_KEPT.min(room) && !is_bulk
        };
        while let Some((next, content)) = members.next_kept(|found| is_small(found, room))? {
            if let Some(content) = content {
                room = room.saturating_sub(content.len() as u64);
                kept.insert(next.start, Blob::from(content));
            }
            found.extend(rules::member(next, members.began())?);
        }
        Ok((Self::new(found)?, kept, members.len()))
    }

    /// Makes the index of an archive from its table of contents.
    pub(crate) fn listed(toc: Vec<Listed>) -> Result<Self, Fault> {
        let limit = bounds::MEMBERS.get();
        if toc.len() as u64 > limit {
            return Err(ErrorKind::TooMany { what: "members", limit }.into());
        }
        let checked = toc.into_iter().map(|listed| rules::member(listed.found, listed.header));
        Self::new(checked.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// Makes the index of members that each keep the rules.
    ///
    /// # Errors
    /// Errors for members that do not keep the rules together.
    pub(crate) fn new(mut members: Vec<Member>) -> Result<Self, Fault> {
        members.shrink_to_fit();
        members.sort_unstable_by(|a, b| a.place().cmp(&b.place()).then(a.start.cmp(&b.start)));
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
        (member.place() == (folder, name)).then_some(member)
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
        let places = self.from(folder, "").iter().map(Member::place);
        places.take_while(move |(here, _)| *here == folder).map(|(_, name)| name)
    }

    /// Folders that have a file of this name.
    pub(crate) fn folders<'i>(&'i self, file: &'i str) -> impl Iterator<Item = &'i str> {
        let here = self.members.iter().map(Member::place).filter(move |(_, name)| *name == file);
        here.map(|(folder, _)| folder)
    }

    /// Members from a folder and a name on.
    fn from(&self, folder: &str, name: &str) -> &[Member] {
        let is_before = |member: &Member| member.place().cmp(&(folder, name)) == Ordering::Less;
        let first = self.members.partition_point(is_before);
        self.members.get(first..).unwrap_or_default()
    }
}

/// Content of members, by its offset in the unpacked archive.
pub(crate) type Kept = BTreeMap<u64, Blob>;

/// Ends of the names of members that are large, or that few ask for: pages, nested archives, logs.
const BULK: [&str; 3] = [".tar", ".log", "LogPath"];

const PAGES: &str = "pages-";

/// Largest member that is kept in memory, in bytes. Most images of a task have a few KiB.
const LARGEST_KEPT: u64 = 4 << 20;
