//! Checkpoints in registries (feature `registry`).
//!
//! ```no_run
//! use criu_archive::registry::{Access, Registry};
//!
//! let reference = "registry.example.org/checkpoints/counter:v1".parse()?;
//! let registry = Registry::connect(reference, &Access::default())?;
//! // Fetches the manifest and the config. The layer is read in place, by ranges.
//! let image = registry.open()?;
//! let archive = image.archive()?;
//! println!("{} members", archive.members().count());
//! println!("{} bytes fetched", registry.traffic().fetched);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! All calls wait for the registry, and a call from within an asynchronous runtime panics: wrap
//! it in `spawn_blocking`.
//!
//! # Trust
//!
//! A registry is not trusted. Each answer has a largest size: 4 MiB for a document, 64 KiB for an
//! error, and for a layer the size in the manifest. The digests of documents are checked, and so is
//! the digest of a layer that is fetched as a whole. Which manifest a *tag* means is the
//! registry's word; a reference with a digest (`name@sha256:...`) does without.
//!
//! A part of a layer cannot be checked against the digest of the whole. The manifest of an image
//! that this crate made has the digest of the table of contents of a seekable archive, and the
//! table has digests of what lies in the archive, so that parts are checked as well. Parts of
//! other layers have only the checksums of their packing.
//!
//! Credentials go to the registry that they were given for, and to the token server that it names;
//! a layer goes to the place that it names. Both are reached over TLS, or on the registry's own
//! host as it is reached itself. A redirect to another host gets no credentials. Only
//! [`Access::plain_http`] leads to other hosts without TLS.
//!
//! A connection is made in 15 seconds, and each byte comes in 60. A body takes 60 seconds at most,
//! and a second for each 32 KiB of its largest size. Five redirects are followed.

// Not oci-client: it reads manifests, tokens and the text of errors without a bound, does not show
// the range that an answer has, and panics on a token that is no header value.

mod access;
mod http;
mod login;
mod pull;
mod push;
mod ranges;
mod reference;

use std::fmt;
use std::sync::Arc;

use criu_images::source::Blob;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::oci::{
    DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Digest, Document, INDEX, Image, MANIFEST, MOST,
    check, check_size, chosen, only_layer,
};

pub use access::{Access, Credentials};
pub use http::Traffic;
pub use push::Pushed;
pub use reference::{InvalidReference, Reference};

use http::Http;
use ranges::Ranges;

/// A repository of a registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    reference: Reference,
    http: Arc<Http>,
}

impl Registry {
    /// Connects to the registry of a reference.
    ///
    /// A registry on this machine's loopback is tried with TLS, and then without; any other is
    /// reached by plain HTTP only if [`Access::plain_http`] says so.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`]; [`ErrorKind::Answer`] if the server is no registry;
    /// [`ErrorKind::Io`] if a file with credentials or certificates cannot be read;
    /// [`ErrorKind::Json`] if a file with credentials is faulty.
    pub fn connect(reference: Reference, access: &Access) -> Result<Self> {
        let http = Http::connect(&reference, access);
        match http {
            Ok(http) => Ok(Self { reference, http: Arc::new(http) }),
            Err(fault) => Err(Error::new(reference.to_string(), fault)),
        }
    }

    /// Returns the reference that the value was made of.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the number of requests and bytes until now.
    pub fn traffic(&self) -> Traffic {
        self.http.traffic()
    }

    /// Opens the image. Fetches the manifest and the config, and checks their digests. The layer is
    /// read by ranges where it is needed.
    ///
    /// # Errors
    /// [`ErrorKind::Answer`], [`ErrorKind::Denied`] and [`ErrorKind::Unreachable`] if the registry
    /// does not give the documents; [`ErrorKind::Json`], [`ErrorKind::Malformed`],
    /// [`ErrorKind::Value`] and [`ErrorKind::Digest`] for faulty documents;
    /// [`ErrorKind::TooLarge`] for documents above 4 MiB.
    pub fn open(&self) -> Result<Image> {
        self.try_open().map_err(|fault| self.fail(fault))
    }

    fn try_open(&self) -> Result<Image, Fault> {
        let (mut bytes, mut document) = self.document(&self.reference.version(), None)?;
        if let Document::Index(index) = &document {
            let found = chosen(index, None)?;
            check_size(found.size)?;
            (bytes, document) = self.document(&found.digest.to_string(), Some(found.digest))?;
        }
        let Document::Manifest(manifest) = document else {
            return Err(ErrorKind::Malformed("its indices are nested").into());
        };
        let layer = only_layer(&manifest)?.clone();
        let config = self.small(&manifest.config)?;
        let layer = Blob::new(Ranges::new(Arc::clone(&self.http), &layer));
        Image::of_documents(self.reference.to_string(), bytes, manifest, config, layer)
    }

    /// Fetches a manifest or an index.
    fn document(&self, version: &str, want: Option<Digest>) -> Result<(Vec<u8>, Document), Fault> {
        let (what, path) = ("fetch the manifest", format!("manifests/{version}"));
        let bytes = self.http.document(what, &path, &DOCUMENTS.join(", "), MOST)?;
        let want = want.or(self.reference.digest().filter(|d| d.to_string() == *version));
        if let Some(want) = want {
            check(Digest::of(&bytes), want).map_err(|fault| fault.of("manifest"))?;
        }
        let document = Document::parse(&bytes).map_err(|fault| fault.of("manifest"))?;
        Ok((bytes, document))
    }

    /// Fetches a small blob, and checks its digest.
    fn small(&self, blob: &Descriptor) -> Result<Vec<u8>, Fault> {
        let path = format!("blobs/{}", blob.digest);
        let bytes = self.http.document("fetch the config", &path, "*/*", blob.size.min(MOST))?;
        check(Digest::of(&bytes), blob.digest).map_err(|fault| fault.of("config"))?;
        Ok(bytes)
    }

    fn fail(&self, fault: Fault) -> Error {
        Error::new(self.reference.to_string(), fault)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("reference", &self.reference.to_string()).finish()
    }
}

/// Media types of documents that are understood.
const DOCUMENTS: [&str; 4] = [INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
