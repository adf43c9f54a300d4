//! Checkpoints of tools other than CRIU: what the heads of their files say.
//!
//! gVisor's `runsc` writes a state file with a map of texts, QEMU a stream of migration,
//! Firecracker a state file with its version. The heads are read, and the state after them is not.

mod cursor;
mod firecracker;
mod gvisor;
mod qemu;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use criu_images::source::Blob;
use nix::fcntl::OFlag;

use crate::error::{Error, ErrorKind, Fault, Result};

pub use firecracker::FirecrackerState;
pub use gvisor::GvisorState;
pub use qemu::{QemuStream, RamBlock};

/// Head of a file that another tool than CRIU has written.
///
/// ```no_run
/// use criu_archive::foreign::Head;
///
/// if let Some(head) = Head::open("/ckpt/web/checkpoint.img")? {
///     println!("a checkpoint of {}", head.tool());
///     for (name, value) in head.facts() {
///         println!("{name}: {value}");
///     }
/// }
/// # Ok::<(), criu_archive::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// A state file of gVisor.
    Gvisor(GvisorState),
    /// A migration stream of QEMU.
    Qemu(QemuStream),
    /// A state file of Firecracker.
    Firecracker(FirecrackerState),
}

impl Head {
    /// Opens a file, and reads its head. `None` if the file is of no tool that this crate knows.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::NotAFile`]; the errors of [`read`](Self::read).
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        let open = || -> Result<Option<Self>, Fault> {
            // A FIFO without a writer does not block.
            let flags = OFlag::O_NONBLOCK.bits();
            let file = File::options().read(true).custom_flags(flags).open(path);
            let file = file.map_err(ErrorKind::Io)?;
            if !file.metadata().map_err(ErrorKind::Io)?.is_file() {
                return Err(ErrorKind::NotAFile.into());
            }
            read(&Blob::try_from(file).map_err(ErrorKind::Io)?)
        };
        open().map_err(|fault| Error::new(path.to_string_lossy(), fault))
    }

    /// Reads the head of a file; `name` is for errors. `None` if the file is of no tool that this
    /// crate knows.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`], [`ErrorKind::TooLarge`], [`ErrorKind::TooMany`],
    /// [`ErrorKind::Json`], [`ErrorKind::Malformed`] or [`ErrorKind::Value`] for a head that begins
    /// as a known tool's and then breaks its form; [`ErrorKind::Io`].
    pub fn read(name: &str, file: &Blob) -> Result<Option<Self>> {
        read(file).map_err(|fault| Error::new(name, fault))
    }

    /// Returns the name of the tool, as records have it: `runsc`, `qemu`, `firecracker`.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::Gvisor(_) => "runsc",
            Self::Qemu(_) => "qemu",
            Self::Firecracker(_) => "firecracker",
        }
    }

    /// Returns the version of the form, as records have it: the version of a snapshot of
    /// Firecracker, the machine type of QEMU. Empty for gVisor, whose files name none.
    pub fn format(&self) -> String {
        match self {
            Self::Gvisor(_) => String::new(),
            Self::Qemu(stream) => stream.machine.clone(),
            Self::Firecracker(state) => state.version.clone(),
        }
    }

    /// Returns what the head says, as names and values in the words of the tool. They are texts of
    /// strangers, and may hold control characters.
    pub fn facts(&self) -> Vec<(String, String)> {
        match self {
            Self::Gvisor(state) => state.facts(),
            Self::Qemu(stream) => stream.facts(),
            Self::Firecracker(state) => state.facts(),
        }
    }
}

fn read(file: &Blob) -> Result<Option<Head>, Fault> {
    let found = gvisor::read(file)?.map(Head::Gvisor);
    let found = match found {
        None => qemu::read(file)?.map(Head::Qemu),
        found => found,
    };
    match found {
        None => Ok(firecracker::read(file)?.map(Head::Firecracker)),
        found => Ok(found),
    }
}
