//! Messages of the tables. Lists stand side by side, one column a fact, so that zstd finds what
//! repeats.

use prost::Message;

/// The table of contents.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Contents {
    /// SHA-256 of the tar stream. Empty if it was not asked for.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) diff_id: Vec<u8>,
    /// Packed size of each frame of the tar stream. The frames stand at the start of the file, one
    /// behind the other.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) packed: Vec<u32>,
    /// Unpacked size of each frame.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) unpacked: Vec<u32>,
    #[prost(message, required, tag = "4")]
    pub(super) members: Members,
    #[prost(message, required, tag = "5")]
    pub(super) digests: Digests,
    #[prost(message, optional, tag = "6")]
    pub(super) hot: Option<Hot>,
}

/// Members in the order of the tar stream. The place of a member follows from the sizes of those
/// before, so places can neither overlap nor leave a gap.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Members {
    /// Bytes at the start of a name that are those of the name before.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) shared: Vec<u32>,
    /// The rest of each name, with a zero behind it.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) names: Vec<u8>,
    /// Target of each link, with a zero behind it.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) links: Vec<u8>,
    /// Kind of each member, one byte each.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) kinds: Vec<u8>,
    /// Blocks of 512 bytes before the content.
    #[prost(uint32, repeated, tag = "5")]
    pub(super) headers: Vec<u32>,
    /// Bytes of content.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) sizes: Vec<u64>,
    #[prost(uint32, repeated, tag = "7")]
    pub(super) modes: Vec<u32>,
    #[prost(uint64, repeated, tag = "8")]
    pub(super) uids: Vec<u64>,
    #[prost(uint64, repeated, tag = "9")]
    pub(super) gids: Vec<u64>,
    /// Time of the last change, as the distance from that of the member before.
    #[prost(sint64, repeated, tag = "10")]
    pub(super) times: Vec<i64>,
}

/// The place of the digests: those of the packed frames, 16 bytes each. Where they were asked for,
/// those of the contents of all files that are not empty follow, 32 bytes each.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Digests {
    /// Offset in the file.
    #[prost(uint64, tag = "1")]
    pub(super) start: u64,
    #[prost(uint64, tag = "2")]
    pub(super) len: u64,
    /// SHA-256 of each 16 KiB, and of the rest.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) blocks: Vec<u8>,
    /// Set if there are digests of contents.
    #[prost(bool, tag = "4")]
    pub(super) has_members: bool,
}

/// The place of the working set: an index, then frames.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hot {
    /// Offset in the file.
    #[prost(uint64, tag = "1")]
    pub(super) start: u64,
    /// Bytes of the index, packed.
    #[prost(uint32, tag = "2")]
    pub(super) index: u32,
    /// Bytes of the index, unpacked.
    #[prost(uint32, tag = "3")]
    pub(super) index_unpacked: u32,
    /// Packed size of each frame. All but the last have 64 KiB unpacked.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) packed: Vec<u32>,
    /// Bytes of all frames, unpacked.
    #[prost(uint64, tag = "5")]
    pub(super) unpacked: u64,
    /// SHA-256 of index and frames.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) digest: Vec<u8>,
}

/// The index of the working set: runs of pages in the order in which their bytes stand.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HotIndex {
    /// Place in the tar stream in units of 512 bytes, as the distance from the end of the run
    /// before.
    #[prost(sint64, repeated, tag = "1")]
    pub(super) starts: Vec<i64>,
    /// Size in units of 512 bytes.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) lens: Vec<u32>,
}

/// Returns a distance that was computed modulo 2^64.
pub(super) fn signed(distance: u64) -> i64 {
    i64::from_ne_bytes(distance.to_ne_bytes())
}
