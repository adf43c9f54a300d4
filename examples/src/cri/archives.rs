//! Private directories for archives on their way, and the archives in them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use criu_archive::Archive;
use criu_archive::metadata::{Engine, Metadata};
use criu_archive::oci::{Image, Layout};
use criu_archive::registry::{Pushed, Registry};
use nix::unistd::mkdtemp;

use super::engine::Engine as Node;
use crate::fault::Fault;
use crate::progress::Progress;
use crate::remote::{Named, Opened, RegistryArgs};
use crate::target;
use crate::tool::Fallible;

/// Options of words that send or fetch archives.
#[derive(Args)]
pub(super) struct WayArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Directory for an archive on its way to or from an image, with room for all memory of the
    /// containers. By default TMPDIR or /tmp; a layout's archive goes beside the layout
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// A directory that only this user enters. It is removed with all that is in it when the value is
/// dropped.
pub(super) struct Private(PathBuf);

impl Private {
    /// Makes a private directory in another one.
    pub(super) fn new(above: &Path) -> Result<Self, Fault> {
        let failed = |source: io::Error| {
            Fault::system(format!("make a directory in {}", above.display()), source)
        };
        // Engines are told absolute paths.
        let above = fs::canonicalize(above).map_err(failed)?;
        mkdtemp(&above.join(".criu-rs-cri-XXXXXX")).map(Self).map_err(|errno| failed(errno.into()))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Forms in which a checkpoint is kept.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// An archive.
    File(PathBuf),
    /// A directory with the files of a pod.
    Directory(PathBuf),
    Image(Named),
}

impl Place {
    /// Decides the form by the path that was given, as `push` and `pull` do.
    pub(super) fn of(path: &Path) -> Self {
        if path.is_dir() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Self::Directory(path.to_owned());
        }
        match Named::of(path) {
            Some(named) => Self::Image(named),
            None => Self::File(path.to_owned()),
        }
    }
}

impl WayArgs {
    /// The directory in which an archive for a place is made: beside the place, or the work
    /// directory.
    pub(super) fn beside<'p>(&'p self, place: &'p Place) -> PathBuf {
        let path = match place {
            Place::File(path) | Place::Directory(path) => path.as_path(),
            Place::Image(Named::Layout(layout, _)) if self.work_dir.is_none() => layout.path(),
            Place::Image(_) => {
                return self.work_dir.clone().unwrap_or_else(std::env::temp_dir);
            }
        };
        // A slash at the end of a path does not matter.
        let path: PathBuf = path.components().collect();
        match path.parent() {
            Some(above) if above != Path::new("") => above.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// Sends an archive to an image. Returns the name with the digest, for a person.
    pub(super) fn send(&self, node: &Node, archive: &Path, to: &Named) -> Fallible<Sent> {
        let image = Image::of_archive(archive)?;
        let (digest, bytes) = (image.digest().to_string(), image.layer().size);
        let reference = match to {
            Named::Layout(layout, tag) => {
                let place = layout.path().display().to_string();
                let (layout, tag): (Layout, _) = (layout.clone(), tag.clone());
                node.work(Progress::of_time("writing the image"), move |_| {
                    layout.write(&image, tag.as_deref())
                })??;
                format!("{place}@{digest}")
            }
            Named::Registry(reference) => {
                let (access, reference) = (self.registry.access(), reference.clone());
                let name = format!("{}/{}", reference.registry(), reference.repository());
                let progress = Progress::of_bytes(bytes);
                let pushed: Pushed = node.work(progress, move |tell| {
                    Registry::connect(reference, &access)?.push(&image, tell)
                })??;
                format!("{name}@{}", pushed.digest)
            }
        };
        Ok(Sent { reference, digest, bytes })
    }

    /// Fetches the archive of an image into a file, and checks its digest.
    pub(super) fn fetch(&self, node: &Node, from: &Named, to: &Path) -> Fallible<String> {
        let (from, access, to) = (from.clone(), self.registry.access(), to.to_owned());
        let digest = node.work(Progress::of_time("fetching the image"), move |_| {
            let opened = Opened::of(&from, &access)?;
            match &opened.registry {
                Some(registry) => registry.pull(&opened.image, &to, |_| {})?,
                None => opened.image.save(&to)?,
            }
            Ok::<_, criu_archive::Error>(opened.image.digest().to_string())
        })??;
        Ok(digest)
    }
}

/// An archive that was sent.
pub(super) struct Sent {
    /// Name of the image with its digest.
    pub(super) reference: String,
    pub(super) digest: String,
    pub(super) bytes: u64,
}

/// Opens an archive of one container that `engine` has written, and returns it.
///
/// # Errors
/// If the file is no such archive.
pub(super) fn of_container(path: &Path) -> Result<Archive, Fault> {
    let archive = Archive::open(path).map_err(failed)?;
    let images = archive.sets().next().is_some();
    let metadata = archive.folder("");
    let found = Metadata::of(archive.name(), &metadata).engine().map_err(failed)?;
    let name = path.display();
    match found {
        _ if !images => Err(Fault::Failed(format!("{name}: holds no images of CRIU"))),
        Engine::Containerd | Engine::CriO => Ok(archive),
        _ => Err(Fault::Failed(format!(
            "{name}: is no archive of containerd or CRI-O: make one with `criu-rs archive convert \
             --to containerd`"
        ))),
    }
}

/// Moves a file or directory to its place, on the disk. An old file is replaced.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), Fault> {
    let to: PathBuf = to.components().collect();
    let failed = |error| Fault::Failed(target::named(&to.display(), error).to_string());
    fs::File::open(from).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(from, &to).map_err(failed)?;
    let above = to.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    fs::File::open(above).and_then(|above| above.sync_all()).map_err(failed)
}

fn failed(error: criu_archive::Error) -> Fault {
    Fault::Failed(error.to_string())
}
