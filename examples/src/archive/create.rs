//! `archive create`: makes an archive of a directory of images.

use std::fs::{File, read_dir};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::{Args, ValueEnum};
use criu_archive::convert::Parts;
use criu_archive::metadata::{Engine, Metadata};
use criu_images::kind::INVENTORY;
use criu_images::source::{Blob, Directory};

use super::new_archive::NewArchive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::open_archive;
use crate::tool::Fallible;

/// Options of `archive create`.
#[derive(Args)]
pub(crate) struct Create {
    /// Directory of images
    #[arg(value_name = "IMAGES")]
    images: PathBuf,
    #[command(flatten)]
    output: NewArchive,
    /// Engine that is to restore the archive; by default that of --from-archive
    #[arg(long, value_enum)]
    engine: Option<Restorer>,
    /// OCI bundle of the container: its config.json becomes spec.dump
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Archive whose members other than images are taken
    #[arg(long, value_name = "ARCHIVE")]
    from_archive: Option<PathBuf>,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Identifier of the container: 64 hexadecimal digits
    #[arg(long, value_parser = identifier)]
    id: Option<String>,
    /// Full name of the container's image, such as docker.io/library/redis:7
    #[arg(long)]
    image: Option<String>,
    /// Identifier of the container's image: 64 hexadecimal digits, with or without sha256:
    #[arg(long, value_name = "ID", value_parser = image_identifier)]
    image_id: Option<String>,
    /// OCI runtime
    #[arg(long, default_value = "runc")]
    runtime: String,
    /// Tar archive of what changed in the container's root file system
    #[arg(long, value_name = "TAR")]
    rootfs_diff: Option<PathBuf>,
}

impl Create {
    /// Files that are read.
    fn inputs(&self) -> Vec<PathBuf> {
        let named = [self.from_archive.clone(), self.rootfs_diff.clone()];
        let spec = self.bundle.as_ref().map(|bundle| bundle.join("config.json"));
        let images = read_dir(&self.images).into_iter().flatten().flatten();
        named.into_iter().flatten().chain(spec).chain(images.map(|image| image.path())).collect()
    }

    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let place = self.images.display().to_string();
        let images = Directory::open(&self.images)?;
        let target = self.output.target(self.inputs().iter().map(PathBuf::as_path))?;
        if !self.images.join(INVENTORY.file).exists() {
            let wanted = "name the directory that holds the images of one dump";
            return Err(format!("{place}: has no {}: {wanted}", INVENTORY.file).into());
        }
        let mut parts = Parts::new(place, Arc::new(images));
        let time = || time_of(&self.images.join(INVENTORY.file));
        if let Some(time) = self.output.fixed_time().or_else(time) {
            parts = parts.time(time);
        }
        let mut engine = self.engine.map(Restorer::engine);
        if let Some(path) = &self.from_archive {
            let archive = open_archive(path)?;
            if engine.is_none() {
                let found = Metadata::of(archive.name(), &archive.folder("")).engine()?;
                engine = Some(found).filter(|found| *found != Engine::Unknown);
            }
            parts = parts.metadata_of(archive);
        }
        let Some(engine) = engine else {
            let text = "name the engine that is to restore the archive: --engine podman, cri-o, \
                        containerd, or none for criu-rs alone";
            return Err(Fault::usage(text).into());
        };
        if engine != Engine::Unknown {
            parts = parts.runtime(&self.runtime);
        }
        if let Some(bundle) = &self.bundle {
            let file = bundle.join("config.json");
            parts = parts.spec(file.display().to_string(), open(&file)?);
        }
        if let Some(diff) = &self.rootfs_diff {
            parts = parts.rootfs_diff(open(diff)?);
        }
        if let Some(name) = self.name {
            parts = parts.name(name);
        }
        if let Some(id) = self.id {
            parts = parts.id(id);
        }
        if let Some(image) = self.image {
            parts = parts.image(image);
        }
        if let Some(id) = self.image_id {
            parts = parts.image_id(id);
        }
        let conversion = parts.conversion(engine).map_err(|error| match &self.rootfs_diff {
            Some(diff) if error.member() == Some(ROOTFS_DIFF) => {
                format!("{}: {}", diff.display(), error.kind())
            }
            _ => error.to_string(),
        })?;
        self.output.write(&target, &conversion, None)?;
        Ok(Exit::Done.into())
    }
}

/// Restorers of archives, as `--engine` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Restorer {
    Podman,
    CriO,
    Containerd,
    /// No engine: the images, which criu-rs restores
    None,
}

impl Restorer {
    fn engine(self) -> Engine {
        match self {
            Self::Podman => Engine::Podman,
            Self::CriO => Engine::CriO,
            Self::Containerd => Engine::Containerd,
            Self::None => Engine::Unknown,
        }
    }
}

/// Reads the identifier of a container.
fn identifier(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("64 hexadecimal digits are wanted, and there are {} characters", text.len()))
}

/// Reads the identifier of an image, with or without `sha256:`.
pub(super) fn image_identifier(text: &str) -> Result<String, String> {
    identifier(text.strip_prefix("sha256:").unwrap_or(text))
}

/// Opens a regular file.
fn open(path: &Path) -> Fallible<Blob> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if !path.metadata().map_err(named)?.is_file() {
        return Err(format!("{}: is not a regular file", path.display()).into());
    }
    Ok(Blob::try_from(File::open(path).map_err(named)?).map_err(named)?)
}

/// Time of the last change, in seconds since 1970.
fn time_of(path: &Path) -> Option<u64> {
    let modified = path.metadata().ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

const ROOTFS_DIFF: &str = "rootfs-diff.tar";
