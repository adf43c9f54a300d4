//! Members of an archive.

/// A member of an archive, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(crate) path: Box<str>,
    /// Offset of the name in the path. Archives have 100,000 members, which are sorted and searched
    /// by folder and name.
    pub(crate) name: u32,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified: u64,
    /// Offset of the first header in the unpacked archive.
    pub(crate) header: u64,
    /// Offset of the content in the unpacked archive.
    pub(crate) start: u64,
    pub(crate) size: u64,
}

/// Kinds of members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, with its target.
    SymbolicLink(Box<[u8]>),
    /// Another name of an earlier member, with that member's path.
    HardLink(Box<[u8]>),
    /// A file with holes, in a form that is not read.
    Sparse,
    /// A device, a FIFO, or something that tar does not define.
    Special,
}

impl Member {
    /// Path from the root of the archive, without `.` and doubled slashes: `checkpoint/core-1.img`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Folder from the root of the archive, and name in the folder.
    pub(crate) fn place(&self) -> (&str, &str) {
        let name = usize::try_from(self.name).unwrap_or(usize::MAX);
        let (folder, name) = self.path.split_at_checked(name).unwrap_or(("", &self.path));
        (folder.strip_suffix('/').unwrap_or(folder), name)
    }

    /// Kind of the member.
    pub fn kind(&self) -> &MemberKind {
        &self.kind
    }

    /// Bytes of content. Links and directories have none.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Permissions, as chmod(2) takes them.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Numbers of the owner and the owner's group.
    pub fn owner(&self) -> (u64, u64) {
        (self.uid, self.gid)
    }

    /// Time of the last change, in seconds since 1970.
    pub fn modified(&self) -> u64 {
        self.modified
    }
}
