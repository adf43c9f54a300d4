//! Files of a checkpoint.

use serde::{Deserialize, Serialize};

use super::holder::Holder;
use super::words::words;
use crate::digest::Sha256;
use crate::error::{ErrorKind, Result};
use crate::metadata::Other;
use crate::path;
use crate::watch::Watch;

words! {
    /// Use of a file.
    Role {
        /// Archive of a container's checkpoint.
        Archive = "archive",
        /// Image of a tool, other than pages: `core-1.img`, `checkpoint.img`.
        Image = "image",
        /// Pages of memory.
        Pages = "pages",
        /// Changes of a root file system.
        Rootfs = "rootfs",
        /// Configuration of a pod or container.
        Config = "config",
        /// Log of a tool or container.
        Log = "log",
    }
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct File {
    /// Path from the directory of the record, without `.` and `..`.
    pub path: String,
    /// Bytes of the file, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest of the file, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Use of the file.
    pub role: Role,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl File {
    /// Makes a file of which nothing but the path is known.
    pub fn new(path: impl Into<String>, role: Role) -> Self {
        Self { path: path.into(), role, ..Self::default() }
    }

    /// Reads a file of the directory or archive to its end, and makes its entry with size and
    /// digest. `watch` is called with the bytes that have been read, and can stop the work.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`]; the errors of [`Holder::bytes`]; [`ErrorKind::Io`];
    /// [`ErrorKind::Stopped`].
    pub fn measured(
        holder: &Holder,
        path: impl Into<String>,
        role: Role,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let path = path.into();
        let fail = |kind| holder.fault(&path, kind);
        let bytes = holder.bytes(&path)?.ok_or_else(|| fail(ErrorKind::Missing))?;
        let sum = Sha256::of(&bytes, watch).map_err(fail)?;
        Ok(Self { size: Some(bytes.len()), sha256: Some(sum), ..Self::new(path, role) })
    }
}

impl Default for File {
    fn default() -> Self {
        let (path, role, other) = (String::new(), Role::Other("".into()), Other::new());
        Self { path, size: None, sha256: None, role, other }
    }
}

/// Returns true for a path that leads to a file below the directory, and that is written in the
/// only way that this file has.
pub(super) fn is_local(path: &str) -> bool {
    let is_clean = path::normal(path.as_bytes()).is_some_and(|normal| normal == path);
    is_clean && !path.is_empty() && path.len() <= MAX_PATH && !path.contains('\0')
}

/// Longest path, in bytes: `PATH_MAX` of Linux.
const MAX_PATH: usize = 4096;
