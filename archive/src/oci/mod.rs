//! Checkpoints as OCI images, without a builder of images.
//!
//! ```text
//! index ── annotations ──▶ manifest ── annotations ──▶ config
//!                                                  └─▶ layer: the archive as it is
//! ```
//!
//! An [`Image`] has one layer, whose bytes are those of the archive. Index and manifest carry the
//! same annotations: some engines look at the one, and some at the other. Equal archives make
//! equal images.
//!
//! ```no_run
//! use criu_archive::oci::{Image, Layout};
//!
//! let image = Image::of_archive("checkpoint.tar")?;
//! Layout::Directory("layout".into()).write(&image, Some("counter"))?;
//! let image = Layout::Directory("layout".into()).open(Some("counter"))?;
//! println!("{}", image.archive()?.members().count());
//! # Ok::<(), criu_archive::Error>(())
//! ```
//!
//! # Trust
//!
//! Documents (index, manifest, config) are read whole, up to 4 MiB, and their digests are checked.
//! The layer is read in place, and only its size is checked when an image is opened.
//! [`Image::verify`] reads the layer once and checks its digest. Copying an image checks the
//! digests of all that is copied.

mod digest;
mod facts;
mod image;
mod layout;
mod manifest;
mod tarball;

pub use digest::{Digest, InvalidDigest};
pub use facts::Facts;
pub use image::{Image, TOC_DIGEST, TOC_POSITION};
pub use layout::Layout;
pub use manifest::{Annotations, Descriptor, Platform};

#[cfg(feature = "registry")]
pub(crate) use digest::{Hasher, Reading, reading};
#[cfg(feature = "registry")]
pub(crate) use image::check;
#[cfg(any(feature = "registry", fuzzing))]
pub(crate) use image::{chosen, only_layer};
#[cfg(feature = "registry")]
pub(crate) use layout::new_file;
#[cfg(feature = "registry")]
pub(crate) use manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MANIFEST, MOST, check_size, json};
pub(crate) use manifest::{Document, INDEX};
