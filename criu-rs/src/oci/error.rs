//! What can go wrong with a bundle.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;

/// The result of an operation on a container.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a container cannot be saved or brought back as its bundle describes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `config.json` cannot be read.
    #[error("cannot read {}: {}", path.display(), reason(source))]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OciSpecError,
    },
    /// `config.json` asks for what cannot be done.
    #[error("config.json: {field}: {why}")]
    Unsupported {
        /// The field.
        field: String,
        /// Why, and what to do.
        why: String,
    },
    /// A file or directory of the bundle, the root file system or the machine cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Path {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The call's error.
        source: io::Error,
    },
    /// The images have a mount from outside the container that `config.json` does not speak of.
    #[error(
        "the images have an external mount at {} (key {key}) that config.json does not describe: \
         add it to its mounts, or name a source",
        point.display()
    )]
    UnknownMount {
        /// Where it is in the container.
        point: PathBuf,
        /// What it was remembered by.
        key: String,
    },
    /// The images have a mount that is not to be made.
    #[error("the images have a mount at {} that {why}", point.display())]
    Mount {
        /// Where it is in the container.
        point: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There are processes in the container that its first one has not started.
    #[error(
        "the container has processes that its first one has not started, and that CRIU would not save: {}; \
         end those that `exec` has added first",
        processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Beside {
        /// Their ids.
        processes: Vec<crate::value::Pid>,
    },
    /// The restored tasks would begin outside of the container's cgroups. The images have no cgroups that CRIU
    /// could make, and criu cannot be moved into the container's. Nothing was restored.
    #[error(
        "the restored tasks would be outside of the container's cgroups: the images have none, and {why}; \
         or dump with a CgroupMode other than Ignore"
    )]
    OutsideCgroups {
        /// Why criu cannot be moved, and what to do.
        why: &'static str,
    },
    /// A hook of the bundle failed.
    #[error("the {kind} hook {} {why}", path.display())]
    Hook {
        /// Which kind: `prestart` or `createRuntime`.
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// How it ended, and the end of what it printed.
        why: String,
    },
    /// `descriptors.json` is no array of a few strings.
    #[error("{}: {why}", path.display())]
    Descriptors {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// The images cannot be read.
    #[error("images in {}: {source}", directory.display())]
    Images {
        /// Their directory.
        directory: PathBuf,
        /// Why.
        source: criu_images::Error,
    },
    /// CRIU refused, failed or died.
    #[error(transparent)]
    Criu(#[from] crate::error::Error),
}

impl From<criu_images::Error> for Error {
    fn from(source: criu_images::Error) -> Self {
        Self::Images { directory: PathBuf::new(), source }
    }
}

impl Error {
    /// The same, of images in this directory.
    pub(crate) fn of_images_in(mut self, images: &Path) -> Self {
        if let Self::Images { directory, .. } = &mut self {
            *directory = images.into();
        }
        self
    }

    pub(crate) fn path(
        doing: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Path { doing, path: path.into(), source: source.into() }
    }

    pub(crate) fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), why: why.into() }
    }
}

/// What is behind the names of kinds of errors.
fn reason(error: &OciSpecError) -> String {
    match error {
        OciSpecError::Io(error) => error.to_string(),
        OciSpecError::SerDe(error) => error.to_string(),
        error => error.to_string(),
    }
}
