//! Reads and writes checkpoints as people ship them: archives of engines, OCI images, registries.
//!
//! ```text
//! bytes                    layers                        members               use
//!
//! file      ┐                                         ┌▶ Folder ─▶ ImageSet    criu_images
//! registry  ├▶ Blob ─▶ [decrypted] ─▶ [unpacked] ─▶ Archive ─▶ metadata       engine, container
//! pipe      ┘                                         └▶ Blob of a member      extract, convert
//! ```
//!
//! Each layer turns bytes that can be read at any place into others:
//! [`Blob`](criu_images::source::Blob) is the type of all of them. An [`Archive`] indexes its
//! members once. The members, pages included, are then read from their places in the archive.
//!
//! ```no_run
//! use criu_archive::Archive;
//! use criu_images::ImageSet;
//!
//! // As Podman exports a container: the images are in a folder.
//! let archive = Archive::open("/tmp/container.tar")?;
//! let set = ImageSet::new(archive.folder("checkpoint"))?;
//! println!("{}", set.checkpoint()?.tree());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Trust
//!
//! Archives may come from anywhere. Whatever their bytes are, reading ends in a result or in an
//! [`Error`] that names the member, never in a panic. The memory used is [bounded](bounds).

pub mod anonymise;
mod archive;
mod beside;
pub mod bounds;
pub mod convert;
#[cfg(feature = "age")]
pub mod crypt;
mod digest;
mod error;
mod extract;
pub mod foreign;
#[cfg(fuzzing)]
pub mod fuzzing;
mod in_order;
mod index;
pub mod inspection;
mod member;
pub mod metadata;
pub mod oci;
mod packing;
mod path;
pub mod record;
#[cfg(feature = "registry")]
pub mod registry;
pub mod report;
mod tar;
mod verify;
mod watch;
pub mod write;

pub use archive::{Archive, Folder};
pub use digest::{Digests, NoSha256, Sha256};
pub use error::{Error, ErrorKind, Result};
pub use extract::{Extracted, Extraction};
pub use member::{Member, MemberKind};
pub use packing::Packing;
pub use verify::Verified;
pub use watch::{UNWATCHED, Watch};

/// The program in the README, which has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
