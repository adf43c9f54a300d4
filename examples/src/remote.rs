//! Images in registries and layouts, as the words name them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use criu_archive::oci::{Image, Layout, TOC_DIGEST};
use criu_archive::registry::{Access, Reference, Registry};
use criu_archive::{Archive, ErrorKind};
use criu_images::source::Blob;
use nix::unistd::{mkstemp, unlink};

use crate::fault::Fault;
use crate::progress::Progress;

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
    /// File with certificates of further authorities to trust
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
    /// Reads the name of an image. `None` for a path of a file or directory that exists, for a path
    /// in a directory that exists, and for a text that is no such name. `docker://` before a name
    /// makes it one of a registry whatever exists.
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
        let name = text.strip_prefix("docker://");
        let is_below = |(first, _): (&str, &str)| Path::new(first).exists();
        if name.is_none() && text.split_once('/').is_some_and(is_below) {
            return None;
        }
        name.unwrap_or(text).parse().ok().map(Self::Registry)
    }

    /// Reads a name that has to be one of an image. `of_file` says why a file is none.
    ///
    /// # Errors
    /// A fault of usage with the reason, and with the forms of names.
    pub(crate) fn required(path: &Path, of_file: &str) -> Result<Self, Fault> {
        Self::of(path).ok_or_else(|| {
            let why = match path.to_string_lossy().parse::<Reference>() {
                Err(_) if path.is_file() => of_file.to_owned(),
                Err(why) => why.to_string(),
                Ok(_) => IS_HERE.to_owned(),
            };
            let path = path.display();
            Fault::usage(format!("{path}: is no image: {why}\nimages are named {FORMS}"))
        })
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

    /// Writes the layer. The digest is known to be right when all has been written. `progress` gets
    /// the number of bytes that have come from a registry.
    pub(crate) fn write_layer(
        &self,
        to: &mut impl io::Write,
        progress: impl FnMut(u64),
    ) -> criu_archive::Result<()> {
        match &self.registry {
            Some(registry) => registry.fetch_layer(&self.image, to, progress),
            None => self.image.write_layer(to),
        }
    }

    /// Tells that each part of the layer that is read is compared with a digest.
    pub(crate) fn has_digests(&self) -> bool {
        self.image.layer().annotations.contains_key(TOC_DIGEST)
    }

    /// Opens the archive of the whole layer, once its digest was found right. The layer of a
    /// registry is fetched into a file without a name in a directory.
    ///
    /// # Errors
    /// Returns the reason for a person.
    pub(crate) fn checked(&self, directory: &Path) -> Result<Archive, String> {
        let said = |error: criu_archive::Error| error.to_string();
        if self.registry.is_none() {
            self.image.verify().map_err(said)?;
            return self.image.archive().map_err(said);
        }
        let named = |error: io::Error| format!("{}: {error}", directory.display());
        let mut file = nameless(directory).map_err(named)?;
        let progress = Progress::of_bytes(self.image.layer().size);
        let tell = progress.listener();
        self.write_layer(&mut file, tell).map_err(said)?;
        drop(progress);
        Archive::new(self.image.name(), Blob::try_from(file).map_err(named)?).map_err(said)
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
    let Some(opened) = image(path)? else { return Ok(None) };
    let archive = opened.image.archive().map_err(|error| error.to_string())?;
    Ok(Some((archive, opened)))
}

/// Opens an image, if a path that does not exist is the name of one.
///
/// # Errors
/// Returns the reason for a person.
pub(crate) fn image(path: &Path) -> Result<Option<Opened>, String> {
    let Some(named) = Named::of(path) else { return Ok(None) };
    let opened = Opened::of(&named, HELD.get().unwrap_or(&Access::default()));
    opened.map(Some).map_err(|error| match error.kind() {
        // A path with a dot looks like the name of a registry.
        ErrorKind::Unreachable(_) => format!("{error}\n{} is no file here, either", path.display()),
        _ => error.to_string(),
    })
}

/// Makes a file in a directory, and removes its name.
pub(crate) fn nameless(directory: &Path) -> io::Result<File> {
    let (file, path) = mkstemp(&directory.join(".criu-rs-pull-XXXXXX"))?;
    unlink(&path)?;
    Ok(File::from(file))
}

/// Forms of the names of images.
const FORMS: &str = "HOST/NAME:TAG, oci:DIR or oci-archive:FILE";
static HELD: OnceLock<Access> = OnceLock::new();
/// Reason why a name is not taken for one of a registry.
const IS_HERE: &str = "a file or directory here has this name, or the part before the \
    slash; write docker:// before the name of an image";
