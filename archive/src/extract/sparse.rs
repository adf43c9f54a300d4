//! Copies of bytes into files with holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use criu_images::source::Blob;

use crate::error::{Error, Result};

/// Copies bytes into an empty file, with holes where they are zeros. `each` is called with the
/// bytes of each piece once these are written, and can stop the copy by an error.
///
/// # Errors
/// Errors that `unread` makes of a read, and `unwritten` of a write; those of `each`.
pub(crate) fn copy_sparse(
    blob: &Blob,
    file: &File,
    unread: impl Fn(io::Error) -> Error,
    unwritten: impl Fn(io::Error) -> Error,
    mut each: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut piece = Vec::new();
    let mut at = 0;
    while at < blob.len() {
        let left = usize::try_from(blob.len() - at).unwrap_or(usize::MAX);
        piece.resize(left.min(PIECE), 0);
        blob.read_at(at, &mut piece).map_err(&unread)?;
        write(file, at, &piece).map_err(&unwritten)?;
        at += piece.len() as u64;
        each(piece.len() as u64)?;
    }
    file.set_len(blob.len()).map_err(unwritten)
}

/// Writes a piece, with holes where it has zeros.
fn write(file: &File, mut at: u64, piece: &[u8]) -> io::Result<()> {
    for block in piece.chunks(HOLE) {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at)?;
        }
        at += block.len() as u64;
    }
    Ok(())
}

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// Unit of holes.
const HOLE: usize = 64 << 10;
