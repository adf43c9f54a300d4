//! Images that CRIU restores from: a directory as it is, or one that was laid out of an archive.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criu_archive::Folder;
use criu_archive::inspection::Place;
use criu_archive::registry::{Registry, Traffic};
use criu_rs::lazy::{Images, LazyError, LazyOptions, LazyPages, Outline};
use nix::unistd::mkdtemp;
use serde_json::json;

use crate::fault::Fault;
use crate::images::{find_place, open_place, set_in};
use crate::options::Common;
use crate::output::Output;
use crate::places::check_directory;
use crate::remote;

/// Images that CRIU restores from.
pub(crate) struct Held {
    directory: PathBuf,
    laid_out: Option<LaidOut>,
}

/// A private directory with the images of an archive. Dropped, it is removed.
struct LaidOut {
    _private: Private,
    outline: Outline,
    images: Option<Arc<Images>>,
    registry: Option<Registry>,
    /// Traffic with the registry up to the moment at which CRIU was started.
    before: Traffic,
}

struct Private(PathBuf);

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Held {
    /// Opens the images at a path: a directory, an archive, or an image in a registry. If `lazy`,
    /// pages that come later stay where they are.
    pub(crate) fn open(
        path: &Path,
        common: &Common,
        lazy: bool,
        output: &Output,
    ) -> Result<Self, Fault> {
        let failed = |error: String| Fault::Failed(error);
        let (place, registry) = if path.is_dir() {
            return Ok(Self::of_directory(&set_in(path)));
        } else if let Some((archive, opened)) = remote::open(path).map_err(failed)? {
            (find_place(path, archive, None).map_err(failed)?, opened.registry)
        } else {
            // What is no archive either is told as a directory that is missing.
            let is_named = path.exists() || path.to_string_lossy().contains(':');
            if !is_named {
                check_directory("--images-dir", path)?;
            }
            (open_place(path).map_err(failed)?, None)
        };
        let folder = folder_of(&place, path)?;
        let lost = |error: LazyError| Fault::Failed(error.to_string());
        let images = lazy.then(|| Images::new(folder.clone()).map(Arc::new));
        let images = images.transpose().map_err(lost)?;
        let private = Private::make(common.work_dir(Path::new(".")))?;
        let later = images.as_ref().map(|images| &**images.snapshot());
        let outline = Outline::write(&folder, &private.0, later).map_err(lost)?;
        if lazy {
            // One request, instead of one for each page that the tasks want first.
            let archive = place.in_archive().map(criu_archive::Archive::prefetch);
            archive.transpose().map_err(|error| Fault::Failed(error.to_string()))?;
        }
        let before = registry.as_ref().map(Registry::traffic).unwrap_or_default();
        if lazy {
            let (now, later) = (outline.copied, outline.later);
            output
                .say(format!("{now} bytes of images are here, {later} bytes of pages come later"));
        }
        let directory = private.0.clone();
        let laid_out = Some(LaidOut { _private: private, outline, images, registry, before });
        Ok(Self { directory, laid_out })
    }

    /// Takes a directory.
    pub(crate) fn of_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), laid_out: None }
    }

    /// Directory that CRIU reads.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells that the directory was laid out of an archive, and does not stay.
    pub(crate) fn is_laid_out(&self) -> bool {
        self.laid_out.is_some()
    }

    /// Returns the options of the restore: the log does not go into a directory that does not stay.
    pub(crate) fn common(&self, common: &Common) -> Common {
        if self.is_laid_out() { common.or_work_dir(Path::new(".")) } else { common.clone() }
    }

    /// Opens the source of pages that come later.
    pub(crate) fn pages(&self, options: LazyOptions) -> Result<LazyPages, LazyError> {
        let images = self.laid_out.as_ref().and_then(|laid_out| laid_out.images.clone());
        match images {
            None => LazyPages::open(&self.directory, options),
            Some(images) => LazyPages::new(Arc::clone(images.snapshot()), images, options),
        }
    }

    /// Tells what was fetched up to now, if the images are in a registry.
    pub(crate) fn tell(&self, output: &Output) {
        let Some(LaidOut { outline, registry: Some(registry), before, .. }) = &self.laid_out else {
            return;
        };
        let now = registry.traffic();
        output.say(format!(
            "{} bytes came from the registry before the restore, {} in all, in {} requests",
            before.fetched, now.fetched, now.requests
        ));
        output.object(
            "fetched",
            json!({
                "before": before.fetched,
                "bytes": now.fetched,
                "requests": now.requests,
                "copied": outline.copied,
                "later": outline.later,
            }),
        );
    }
}

impl Private {
    fn make(above: &Path) -> Result<Self, Fault> {
        let template = above.join(".criu-rs-images-XXXXXX");
        let made = mkdtemp(&template);
        made.map(|path| Self(path.canonicalize().unwrap_or(path))).map_err(|error| {
            Fault::system(
                format!("make a directory in {}", above.display()),
                io::Error::from(error),
            )
        })
    }
}

fn folder_of(place: &Place, path: &Path) -> Result<Folder, Fault> {
    let archive = place.in_archive();
    let folder = archive.map(|archive| archive.folder(place.folder()));
    folder.ok_or_else(|| Fault::usage(format!("--images-dir: {} is no archive", path.display())))
}
