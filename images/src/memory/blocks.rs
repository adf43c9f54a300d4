//! Compressed runs: pages in LZ4 blocks, as CRIU 4.3 writes them.

use crate::error::{ErrorKind, Fault};
use crate::proto::PagemapBlocks;

/// Places and sizes of the blocks of a run.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Bytes that a block holds; the last block may hold fewer.
    block: u64,
    /// Bytes that the run holds.
    size: u64,
    /// Ends of the blocks' stored bytes, counted from the run's first stored byte.
    ends: Vec<u64>,
}

/// A block, as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Offset of the stored bytes from the run's first stored byte.
    pub(crate) stored_at: u64,
    pub(crate) stored: u64,
    /// Offset in the run of the first byte that the block holds.
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl Blocks {
    /// Checks that the blocks fit the run.
    pub(crate) fn new(pages: u64, page: u64, blocks: &PagemapBlocks) -> Result<Self, Fault> {
        let wrong = |field, found, want| {
            Fault::from(ErrorKind::Value { found, want }).field("pagemap_blocks", field)
        };
        let per_block = u64::from(blocks.pages_per_block);
        let block = per_block.saturating_mul(page);
        if per_block == 0 || block > MAX_BLOCK {
            let want = "at least one page and at most 4 MiB";
            return Err(wrong("pages_per_block", per_block, want));
        }
        let size = pages.saturating_mul(page);
        let sizes = &blocks.block_sizes;
        if sizes.len() as u64 != pages.div_ceil(per_block) {
            return Err(wrong("block_sizes", sizes.len() as u64, "one size for each block"));
        }
        let mut ends = Vec::with_capacity(sizes.len());
        let mut at = 0u64;
        for (index, &stored) in sizes.iter().enumerate() {
            let holds = block.min(size.saturating_sub(block.saturating_mul(index as u64)));
            if u64::from(stored) > holds {
                return Err(wrong("block_sizes", stored.into(), "no more than the block holds"));
            }
            at = at.saturating_add(stored.into());
            ends.push(at);
        }
        if blocks.total_payload_size == at {
            Ok(Self { block, size, ends })
        } else {
            let want = "the sum of the blocks' sizes";
            Err(wrong("total_payload_size", blocks.total_payload_size, want))
        }
    }

    /// Returns the number of stored bytes of all blocks.
    pub(crate) fn stored(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the block that holds a byte of the run.
    pub(crate) fn at(&self, offset: u64) -> Option<Block> {
        let index = usize::try_from(offset / self.block).ok()?;
        let end = *self.ends.get(index)?;
        let stored_at = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        let start = self.block.checked_mul(index as u64)?;
        let size = self.block.min(self.size.checked_sub(start)?);
        Some(Block { stored_at, stored: end.checked_sub(stored_at)?, start, size })
    }
}

/// Returns the bytes that a block holds. They are stored as they are, or compressed.
pub(crate) fn unpack(stored: Vec<u8>, size: usize) -> Result<Vec<u8>, ErrorKind> {
    if stored.len() == size {
        return Ok(stored);
    }
    let mut bytes = vec![0; size];
    match lz4_flex::block::decompress_into(&stored, &mut bytes) {
        Ok(length) if length == size => Ok(bytes),
        Ok(length) => {
            let want = "as many bytes as the LZ4 block should hold";
            Err(ErrorKind::Value { found: length as u64, want })
        }
        Err(_) => Err(ErrorKind::Malformed("holds a broken LZ4 block")),
    }
}

/// Largest block in bytes: CRIU's own limit. A block is unpacked as a whole.
const MAX_BLOCK: u64 = 4 << 20;
