//! Seekable archives: independent zstd frames with tables at the end.
//!
//! ```text
//! frames of the tar stream │ digests │ [working set] │ table of contents │ seek table
//! └───── zstd frames ─────┘ └──────────────────── skippable frames ────────────────┘
//! ```
//!
//! Programs that do not know the tables pass over them: `zstd -d` and `tar --zstd` read the archive
//! as it is. The seek table is that of zstd's seekable format, which other programs read. The table
//! of contents is this crate's own, and tells where members and frames are. A reader needs the last
//! bytes of the file only: the seek table says its own size in its last bytes, and the table of
//! contents ends before it with its own size.
//!
//! A frame has 64 KiB of the tar stream, and a page of memory is never in two frames.

mod contents;
mod cut;
mod digests;
mod frames;
mod hot;
mod open;
mod pool;
mod reader;
mod seek_table;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

pub(super) use open::open;
pub(super) use reader::Shared;
pub(super) use writer::Writer;

/// Starts a skippable frame.
fn skippable(payload: usize) -> std::io::Result<[u8; 8]> {
    let len = u32::try_from(payload);
    let len = len.map_err(|_| std::io::Error::other("a table of the archive is above 4 GiB"))?;
    let mut head = [0; 8];
    let (magic, size) = head.split_at_mut(4);
    magic.copy_from_slice(&SKIPPABLE.to_le_bytes());
    size.copy_from_slice(&len.to_le_bytes());
    Ok(head)
}

/// Magic of the skippable frames with this crate's tables.
const SKIPPABLE: u32 = 0x184d_2a5c;
