//! Archives in the making.
//!
//! A [`Draft`] lists the members of an archive: bytes, files of a directory of images, members of
//! other archives. Nothing is read before the draft is [written](Draft::write), and then piece by
//! piece: memory holds a piece, never an image.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use criu_archive::UNWATCHED;
//! use criu_archive::write::{Draft, Options};
//! use criu_images::source::Directory;
//!
//! let mut draft = Draft::new();
//! draft.add_images("checkpoint", "/ckpt", Arc::new(Directory::open("/ckpt")?))?;
//! draft.add_bytes("note", b"before the update")?;
//! draft.save("/tmp/checkpoint.tar", &Options::default(), UNWATCHED)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order
//!
//! A reader of a stream, or of a registry, gets what is small first: directories, `config.dump` and
//! `spec.dump`, other metadata, images, logs and root file system, and then the pages.

mod content;
mod draft;
mod folder;
mod headers;
mod new_file;
mod order;
mod upper;

pub(crate) use content::{Content, Pieces};
pub use draft::{Draft, Options, Pack, Saved};
pub(crate) use folder::Folder;
pub(crate) use headers::empty_file;
pub(crate) use new_file::NewFile;
pub use upper::upper_layer;
