//! Options as an operation collects them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};
use crate::rpc::{CriuOpts, CriuPageServerInfo};
use crate::transport::Handed;
use crate::value::{Dir, InheritFd, InvalidValue};

/// Options as an operation collects them.
#[derive(Clone, Debug)]
pub(crate) struct Opts<'a> {
    /// All options except descriptors.
    pub(super) message: CriuOpts,
    pub(crate) images: Dir<'a>,
    pub(crate) work: Option<Dir<'a>>,
    pub(crate) inherit: Vec<InheritFd<'a>>,
    pub(crate) page_server_socket: Option<BorrowedFd<'a>>,
    pub(crate) pidfd_store: Option<BorrowedFd<'a>>,
    /// The first value that cannot be sent.
    pub(super) fault: Option<InvalidValue>,
}

/// Options made ready to be sent.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) message: CriuOpts,
    /// The images directory; `None` if CRIU opens it itself. CRIU was handed this very descriptor.
    pub(crate) images: Option<OwnedFd>,
    /// The directory for logs and statistics: the images directory, unless the caller named
    /// another.
    pub(crate) work: Option<OwnedFd>,
}

impl<'a> Opts<'a> {
    pub(crate) fn new(images: Dir<'a>, log_file: &str) -> Self {
        let message = CriuOpts {
            images_dir_fd: -1,
            images_dir: images.named().map(|path| path.as_os_str().as_bytes().to_vec()),
            log_file: Some(log_file.into()),
            ..Default::default()
        };
        Self {
            message,
            images,
            work: None,
            inherit: Vec::new(),
            page_server_socket: None,
            pidfd_store: None,
            fault: None,
        }
    }

    /// Returns the message to send and the directories that it names, each opened once. Descriptors
    /// that the message names are put into `handed`.
    pub(crate) fn fill(&self, handed: &mut Handed) -> Result<Filled> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        let duplicate = |fd: BorrowedFd<'_>| {
            let copy = fd.try_clone_to_owned();
            copy.map_err(|source| Error::system("duplicate a descriptor", source))
        };
        let mut message = self.message.clone();
        let images = self.images.open().map_err(|error| match error.source.kind() {
            io::ErrorKind::NotFound => Error::NoImages { directory: self.images.path() },
            _ => error.into(),
        })?;
        if let Some(images) = &images {
            message.images_dir_fd = handed.show(duplicate(images.as_fd())?);
        }
        let work = match &self.work {
            Some(work) => work.open()?,
            None => images.as_ref().map(|images| duplicate(images.as_fd())).transpose()?,
        };
        if let (Some(work), Some(_)) = (&work, &self.work) {
            message.work_dir_fd = Some(handed.show(duplicate(work.as_fd())?));
        }
        if let Some(socket) = self.pidfd_store {
            message.pidfd_store_sk = Some(handed.show(duplicate(socket)?));
        }
        if let Some(socket) = self.page_server_socket {
            message.ps.get_or_insert_default().fd = Some(handed.place(duplicate(socket)?));
        }
        for inherit in &self.inherit {
            let fd = inherit.duplicate()?;
            let key = inherit.key().as_bytes().to_vec();
            message.inherit_fd.push(crate::rpc::InheritFd { key, fd: handed.place(fd) });
        }
        Ok(Filled { message, images, work })
    }

    /// Says whether the tasks outlive the dump.
    pub(crate) fn leaves_tasks(&self) -> bool {
        self.message.leave_running() || self.message.leave_stopped()
    }

    /// Says whether CRIU hands over the masters of terminals.
    pub(crate) fn wants_masters(&self) -> bool {
        self.message.orphan_pts_master()
    }

    /// Returns the cgroup that stops the tasks of a dump, if one is set.
    pub(crate) fn freezer(&self) -> Option<&[u8]> {
        self.message.freeze_cgroup.as_deref()
    }

    /// All options except descriptors.
    pub(crate) fn message(&self) -> &CriuOpts {
        &self.message
    }

    /// Changes the message directly.
    pub(crate) fn raw(&mut self, set: impl FnOnce(&mut CriuOpts)) {
        set(&mut self.message);
    }

    /// Says whether the restored root becomes a child of this process.
    pub(crate) fn is_sibling(&self) -> bool {
        self.message.rst_sibling()
    }

    /// Returns text as CRIU's bytes. A NUL would end it early, so it is noted as a fault.
    pub(super) fn text(&mut self, what: &'static str, text: impl AsRef<OsStr>) -> Vec<u8> {
        let bytes = text.as_ref().as_bytes().to_vec();
        if bytes.contains(&0) {
            let found = String::from_utf8_lossy(&bytes).into_owned();
            let fault = InvalidValue::new(what, found, "text without NUL bytes");
            self.fault.get_or_insert(fault);
        }
        bytes
    }

    /// Returns the address of a page server.
    pub(super) fn server(&mut self, address: &str, port: u16) -> CriuPageServerInfo {
        CriuPageServerInfo {
            address: Some(self.text("a page server's address", address)),
            port: Some(port.into()),
            ..Default::default()
        }
    }
}
