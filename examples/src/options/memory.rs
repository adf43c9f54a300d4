//! The place that memory goes to on a dump or pre-dump.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use clap::Args;
use criu_rs::pages::{Client, Layout, Relay};
use criu_rs::{Compression, Criu, PreDumpMode};

use crate::fault::Fault;
use crate::fd;
use crate::options::applies;
use crate::options::tls::{Certificates, PAGE_SERVER};
use crate::options::values::Size;

/// Options of dump and pre-dump.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Memory {
    /// Track memory that changes after this dump, for the next one
    #[arg(long)]
    track_mem: Option<bool>,
    /// The previous images, as a path from the images directory
    #[arg(long, value_name = "DIR")]
    prev_images_dir: Option<PathBuf>,
    /// Compress pages, in blocks of 256 KiB
    #[arg(short = 'c', long, overrides_with = "compress_block")]
    compress: bool,
    /// Compress pages in blocks of this size, with K or M
    #[arg(long, value_name = "SIZE", overrides_with = "compress")]
    compress_block: Option<Size>,
    /// Compress faster and less: 1 to 65537
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65537))]
    compress_acceleration: Option<u32>,

    /// Send memory to the page server at --address and --port, or behind --ps-socket
    #[arg(long, help_heading = PAGE_SERVER)]
    page_server: Option<bool>,
    /// The page server's address
    #[arg(long, value_name = "HOST", help_heading = PAGE_SERVER)]
    address: Option<String>,
    /// The page server's port
    #[arg(
        long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..),
        help_heading = PAGE_SERVER
    )]
    port: Option<u16>,
    /// A connected socket of this process, by its number
    #[arg(long, value_name = "FD", help_heading = PAGE_SERVER)]
    ps_socket: Option<RawFd>,
    /// Speak TLS with the page server
    #[arg(long, help_heading = PAGE_SERVER)]
    tls: Option<bool>,
    #[command(flatten)]
    certificates: Certificates,
    /// Carry pages to --address and --port with a relay of our own: the tasks stand still for less
    #[arg(long, conflicts_with = "ps_socket", help_heading = PAGE_SERVER)]
    relay: bool,
}

applies! {
    Memory to Dump PreDump;
    one [track_mem];
    each [];
    with |self, operation, config| {
        if let Some(path) = &self.prev_images_dir {
            operation = operation.parent_img(path);
        }
        if let Some(compression) = self.compression() {
            operation = operation.compress(compression);
        }
        if self.page_server == Some(true) && self.ps_socket.is_none() && !self.relay {
            let (address, port) = self.server()?;
            operation = operation.page_server(address, port);
        }
        config.switch("page-server", self.page_server.filter(|on| !on));
        if self.tls == Some(true) && !self.relay {
            operation = operation.tls(self.certificates.tls());
        }
        config.switch("tls", self.tls.filter(|on| !on));
    }
}

impl Memory {
    /// Returns the way to a page server that is not CRIU's part. The operation borrows it.
    pub(crate) fn way(&self) -> Result<Option<Way>, Fault> {
        if self.relay && !self.has_server() {
            return Err(Fault::usage("--relay needs --page-server"));
        }
        if self.relay {
            let (address, port) = self.server()?;
            let relay = match self.tls {
                Some(true) => Relay::connect_tls(address, port, &self.certificates.tls()),
                _ => Relay::connect((address, port)),
            };
            let relay = relay.map_err(|error| {
                Fault::usage(format!("--relay: cannot reach {address} port {port}: {error}"))
            })?;
            return Ok(Some(Way::Relay(relay)));
        }
        let number = self.ps_socket.filter(|_| self.has_server());
        let socket = number.map(|number| fd::by_number("--ps-socket", number));
        Ok(socket.transpose()?.map(Way::Socket))
    }

    /// Connects to the page server, for memory that has been captured.
    pub(crate) fn client(&self, criu: &Criu) -> Result<Option<Client>, Fault> {
        if !self.has_server() {
            return Ok(None);
        }
        let (address, port) = self.server()?;
        let layout = Layout::of(criu.version()?);
        let client = match self.tls {
            Some(true) => Client::connect_tls(address, port, &self.certificates.tls(), layout),
            _ => Client::connect((address, port), layout),
        };
        let unreachable = |error| {
            let why = format!("--page-server: cannot reach {address} port {port}: {error}");
            Fault::usage(why)
        };
        client.map(Some).map_err(unreachable)
    }

    /// Tells if pages go to a page server.
    pub(crate) fn has_server(&self) -> bool {
        self.page_server == Some(true)
    }

    /// Returns the directory of the previous images, as a path from the images directory.
    pub(crate) fn previous(&self) -> Option<&Path> {
        self.prev_images_dir.as_deref()
    }

    /// Returns these options without the directory of the previous images.
    pub(crate) fn without_previous(&self) -> Self {
        Self { prev_images_dir: None, ..self.clone() }
    }

    /// Returns these options without a page server that CRIU knows of.
    pub(crate) fn without_server(&self) -> Self {
        Self { page_server: None, tls: None, ..self.clone() }
    }

    fn server(&self) -> Result<(&str, u16), Fault> {
        match (&self.address, self.port) {
            (Some(address), Some(port)) => Ok((address, port)),
            _ => Err(Fault::usage("--page-server needs --address and --port, or --ps-socket")),
        }
    }

    /// Returns the address and port on which a lazy dump listens.
    pub(crate) fn lazy_address(&self) -> Result<(&str, u16), Fault> {
        match (self.page_server, self.port) {
            (Some(true), _) => {
                Err(Fault::usage("--page-server and --lazy-pages exclude each other"))
            }
            (_, Some(port)) => Ok((self.address.as_deref().unwrap_or("0.0.0.0"), port)),
            (_, None) => Err(Fault::usage("--lazy-pages needs --port, on which to listen")),
        }
    }

    /// Returns the options that were given and have no effect beside the others; criu accepts them.
    pub(crate) fn unused(&self, lazy: bool) -> Vec<&'static str> {
        let (server, socket) = (self.has_server(), self.ps_socket.is_some());
        let place = lazy || server && !socket;
        [
            ("--address", self.address.is_some() && !place),
            ("--port", self.port.is_some() && !place),
            ("--ps-socket", socket && !server),
        ]
        .into_iter()
        .filter_map(|(name, is_unused)| is_unused.then_some(name))
        .collect()
    }

    fn compression(&self) -> Option<Compression> {
        let acceleration = self.compress_acceleration;
        let given = self.compress || self.compress_block.is_some() || acceleration.is_some();
        let mut compression = given.then(Compression::new)?;
        if let Some(Size(bytes)) = self.compress_block {
            compression = compression.block_size(bytes);
        }
        if let Some(level) = acceleration {
            compression = compression.acceleration(level);
        }
        Some(compression)
    }
}

/// A way to a page server.
pub(crate) enum Way {
    Socket(OwnedFd),
    Relay(Relay),
}

impl AsFd for Way {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Relay(relay) => relay.as_fd(),
        }
    }
}

impl Way {
    /// Ends the way after the operation.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        let Self::Relay(relay) = self else { return Ok(()) };
        let ended = relay.finish().map(|_| ());
        ended.map_err(|error| Fault::system("relay", std::io::Error::other(error.to_string())))
    }
}

/// Options of pre-dump alone.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct PreDumpOnly {
    /// The way to read memory: splice, with the tasks frozen, or read, after they have been let go
    #[arg(long, value_name = "MODE")]
    pre_dump_mode: Option<PreDumpMode>,
}

applies! {
    PreDumpOnly to PreDump;
    one [pre_dump_mode];
    each [];
    with |self, operation, _config| {}
}

/// Memory on demand: an option of dump and restore.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Lazy {
    /// Memory on demand: a dump serves it at --address and --port, a restore fetches it from `criu
    /// lazy-pages`
    #[arg(long)]
    pub(crate) lazy_pages: bool,
}
