//! Errors of a container.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::OciSpecError;

/// The result of every function for containers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a container cannot be saved or restored as its bundle describes it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `config.json` cannot be read.
    #[error("cannot read {}: {}", path.display(), reason(source))]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Arc<OciSpecError>,
    },
    /// `config.json` asks for something that cannot be done.
    #[error("config.json: {field}: {why}")]
    Unsupported {
        /// The field.
        field: String,
        /// The reason, and what to do.
        why: String,
    },
    /// An option or another value of the caller's cannot be used.
    #[error("{what}: {why}")]
    Invalid {
        /// The option or value.
        what: String,
        /// The difference between found and wanted.
        why: String,
    },
    /// A file or directory of the bundle, the root file system or the machine cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Path {
        /// The action that failed.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The system call's error.
        source: Arc<io::Error>,
    },
    /// The images have a mount from outside the container that `config.json` does not describe.
    #[error(
        "the images have an external mount at {} (key {key}) that config.json does not describe: \
         add it to its mounts, or name a source",
        point.display()
    )]
    UnknownMount {
        /// The mount point in the container.
        point: PathBuf,
        /// The key by which the images remember the mount.
        key: String,
    },
    /// The images have a mount that must not be made.
    #[error("the images have a mount at {} that {why}", point.display())]
    Mount {
        /// The mount point in the container.
        point: PathBuf,
        /// The reason.
        why: String,
    },
    /// The container has processes beside the tree of its first one, and CRIU would not save them.
    #[error(
        "the container has processes beside the tree of its first one, which CRIU would not \
         save: {}; first end the processes that `exec` has added",
        processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Beside {
        /// The ids of these processes.
        processes: Vec<crate::value::Pid>,
    },
    /// The restored tasks would begin outside of the container's cgroups. The images have no
    /// cgroups that CRIU could make, and criu cannot be moved into the container's. Nothing was
    /// restored.
    #[error(
        "the restored tasks would be outside of the container's cgroups: the images have none, \
         and {why}, or dump with a CgroupMode other than Ignore"
    )]
    OutsideCgroups {
        /// The reason why criu cannot be moved, and what to do.
        why: &'static str,
    },
    /// A hook of the bundle failed.
    #[error("the {kind} hook {} {why}", path.display())]
    Hook {
        /// The kind: `prestart` or `createRuntime`.
        kind: &'static str,
        /// The hook's program.
        path: PathBuf,
        /// The hook's end, and the beginning of what it printed.
        why: String,
    },
    /// `descriptors.json` is not an array of a few texts.
    #[error("{}: {why}", path.display())]
    Descriptors {
        /// The file.
        path: PathBuf,
        /// The difference.
        why: String,
    },
    /// The images directory does not exist.
    #[error("the images directory {} does not exist", directory.display())]
    NoImages {
        /// The directory.
        directory: PathBuf,
    },
    /// The images cannot be read.
    #[error("cannot read the images in {}: {source}", directory.display())]
    Images {
        /// The images directory.
        directory: PathBuf,
        /// The reason.
        source: criu_images::Error,
    },
    /// CRIU refused, failed or died.
    #[error(transparent)]
    Criu(crate::error::Error),
}

impl From<crate::error::Error> for Error {
    fn from(error: crate::error::Error) -> Self {
        match error {
            crate::error::Error::NoImages { directory } => Self::NoImages { directory },
            error => Self::Criu(error),
        }
    }
}

impl From<criu_images::Error> for Error {
    fn from(source: criu_images::Error) -> Self {
        Self::Images { directory: PathBuf::new(), source }
    }
}

impl Error {
    /// Adds the directory to an error about images.
    pub(crate) fn of_images_in(mut self, images: &Path) -> Self {
        match &mut self {
            Self::Images { source, .. } if !images.exists() && is_missing(source) => {
                return Self::NoImages { directory: images.into() };
            }
            Self::Images { directory, .. } => *directory = images.into(),
            _ => {}
        }
        self
    }

    pub(crate) fn path(
        doing: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Path { doing, path: path.into(), source: Arc::new(source.into()) }
    }

    pub(crate) fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), why: why.into() }
    }
}

fn is_missing(error: &criu_images::Error) -> bool {
    match error.kind() {
        criu_images::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        kind => matches!(kind, criu_images::ErrorKind::Missing),
    }
}

/// The message of the innermost error.
fn reason(error: &OciSpecError) -> String {
    match error {
        OciSpecError::Io(error) => error.to_string(),
        OciSpecError::SerDe(error) => error.to_string(),
        error => error.to_string(),
    }
}
