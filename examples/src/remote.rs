//! Images in registries and layouts, as the words name them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use criu_archive::Archive;
use criu_archive::oci::{Image, Layout};
use criu_archive::registry::{Access, Reference, Registry};

/// Options of words that speak with a registry.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP: everybody on the way can read and change the checkpoint. A registry on
    /// this machine's loopback needs no such option
    #[arg(long, global = true)]
    plain_http: bool,
    /// A file with credentials, as Podman and Docker write them; else the one that
    /// REGISTRY_AUTH_FILE names, or Podman's and Docker's own
    #[arg(long, value_name = "FILE", global = true)]
    authfile: Option<PathBuf>,
    /// A file with certificates of authorities to trust, too
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
}

impl RegistryArgs {
    pub(crate) fn access(&self) -> Access {
        let mut access = Access::default();
        access.plain_http = self.plain_http;
        access.authfile.clone_from(&self.authfile);
        access.ca.clone_from(&self.ca);
        access
    }

    /// Holds the access for all images in registries that this run of the program opens.
    pub(crate) fn hold(&self) {
        // A program runs one word.
        let _ = HELD.set(self.access());
    }
}

/// A place of an image.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// `oci:DIR[:TAG]` and `oci-archive:FILE[:TAG]`.
    Layout(Layout, Option<String>),
    /// `HOST[:PORT]/NAME[:TAG][@DIGEST]`.
    Registry(Reference),
}

impl Named {
    /// Reads the name of an image. `None` for a path of a file or directory that exists, and for a
    /// text that is no such name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let text = path.to_str().filter(|_| !path.exists())?;
        if let Some(rest) = text.strip_prefix("oci:") {
            let (place, tag) = tagged(rest);
            return Some(Self::Layout(Layout::Directory(place.into()), tag));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (place, tag) = tagged(rest);
            return Some(Self::Layout(Layout::Archive(place.into()), tag));
        }
        let text = text.strip_prefix("docker://").unwrap_or(text);
        text.parse().ok().map(Self::Registry)
    }
}

/// Splits `PLACE:TAG`, unless a file has this name.
fn tagged(text: &str) -> (&str, Option<String>) {
    match text.rsplit_once(':') {
        Some((place, tag)) if !Path::new(text).exists() && !tag.contains('/') => {
            (place, Some(tag.to_owned()))
        }
        _ => (text, None),
    }
}

/// An image that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) image: Image,
    /// The registry that the image is in.
    pub(crate) registry: Option<Registry>,
}

impl Opened {
    /// Opens an image by its name.
    pub(crate) fn of(named: &Named, access: &Access) -> criu_archive::Result<Self> {
        match named {
            Named::Layout(layout, tag) => {
                Ok(Self { image: layout.open(tag.as_deref())?, registry: None })
            }
            Named::Registry(reference) => {
                let registry = Registry::connect(reference.clone(), access)?;
                Ok(Self { image: registry.open()?, registry: Some(registry) })
            }
        }
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        self.image.annotations().clone()
    }
}

/// Opens the archive in an image, if a path that does not exist is the name of one.
///
/// # Errors
/// Returns the reason for a person.
pub(crate) fn open(path: &Path) -> Result<Option<(Archive, Opened)>, String> {
    let Some(named) = Named::of(path) else { return Ok(None) };
    let open = || {
        let opened = Opened::of(&named, HELD.get().unwrap_or(&Access::default()))?;
        Ok((opened.image.archive()?, opened))
    };
    open().map(Some).map_err(|error: criu_archive::Error| error.to_string())
}

static HELD: OnceLock<Access> = OnceLock::new();
