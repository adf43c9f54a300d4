//! Images that CRIU restores from: a directory as it is, or one that was laid out of an archive.

use std::path::{Path, PathBuf};

use criu_archive::inspection::Place;
use criu_archive::registry::{Registry, Traffic};
use criu_rs::archive::{Archive, LaidOut};
use criu_rs::lazy::{LazyError, LazyOptions, LazyPages};
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
    laid_out: Option<FromArchive>,
}

/// Times at which the pages of an archive are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// The pages come before the restore.
    First,
    /// The pages come after the start of the tasks, except for pages that CRIU itself reads.
    Later,
    /// The pages come after the start of the tasks, except for the working set as well.
    WorkingSetFirst,
}

/// The images of an archive, and the registry that they come from.
struct FromArchive {
    images: LaidOut,
    registry: Option<Registry>,
    /// Traffic with the registry up to the moment at which CRIU was started.
    before: Traffic,
}

impl Held {
    /// Opens the images at a path: a directory, an archive, or an image in a registry. Pages that
    /// come later stay where they are. Other bytes of an image are compared with its digests before
    /// one is used, or it is said that they are not.
    pub(crate) fn open(
        path: &Path,
        common: &Common,
        pages: Pages,
        output: &Output,
    ) -> Result<Self, Fault> {
        let failed = |error: String| Fault::Failed(error);
        let is_lazy = pages != Pages::First;
        let above = common.work_dir(Path::new("."));
        let (place, registry) = if path.is_dir() {
            return Ok(Self::of_directory(&set_in(path)));
        } else if let Some(opened) = remote::image(path).map_err(failed)? {
            let archive = if is_lazy || opened.has_digests() {
                if !opened.has_digests() {
                    output.say(UNCHECKED);
                }
                opened.image.archive().map_err(|error| Fault::Failed(error.to_string()))?
            } else {
                opened.checked(above).map_err(failed)?
            };
            (find_place(path, archive, None).map_err(failed)?, opened.registry)
        } else {
            // What is no archive either is told as a directory that is missing.
            let is_named = path.exists() || path.to_string_lossy().contains(':');
            if !is_named {
                check_directory("--images-dir", path)?;
            }
            (open_place(path).map_err(failed)?, None)
        };
        let (archive, folder) = folder_of(&place, path)?;
        let laid_out = match pages {
            Pages::First => LaidOut::whole,
            Pages::Later => LaidOut::lazy,
            Pages::WorkingSetFirst => LaidOut::lazy_with_working_set,
        };
        let images = laid_out(archive, folder, above);
        let images = images.map_err(|error| Fault::Failed(error.to_string()))?;
        let before = registry.as_ref().map(Registry::traffic).unwrap_or_default();
        if is_lazy {
            let (now, later) = (images.outline().copied, images.outline().later);
            output
                .say(format!("{now} bytes of images are here, {later} bytes of pages come later"));
        }
        let directory = images.directory().to_owned();
        Ok(Self { directory, laid_out: Some(FromArchive { images, registry, before }) })
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
        let laid_out =
            self.laid_out.as_ref().map(|laid_out| laid_out.images.pages(options.clone()));
        match laid_out.transpose()?.flatten() {
            None => LazyPages::open(&self.directory, options),
            Some(pages) => Ok(pages),
        }
    }

    /// Tells what was fetched up to now, if the images are in a registry.
    pub(crate) fn tell(&self, output: &Output) {
        let Some(FromArchive { images, registry: Some(registry), before }) = &self.laid_out else {
            return;
        };
        let outline = images.outline();
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

fn folder_of<'p>(place: &'p Place, path: &Path) -> Result<(&'p Archive, &'p str), Fault> {
    let archive = place.in_archive().map(|archive| (archive, place.folder()));
    archive.ok_or_else(|| Fault::usage(format!("--images-dir: {} is no archive", path.display())))
}

const UNCHECKED: &str = "nothing compares this memory with a digest: the image has none for parts \
    of its layer; `criu-rs pull` compares the whole";
