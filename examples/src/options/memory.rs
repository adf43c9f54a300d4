//! Where memory goes on a dump or pre-dump.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use clap::Args;
use criu_rs::{Compression, PreDumpMode, Tls};

use crate::fault::Fault;
use crate::fd;
use crate::options::applies;
use crate::options::values::Size;

/// Options of dump and pre-dump.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Memory {
    /// Track what changes after this dump, for the next one
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
    #[arg(
        long, value_name = "FD", conflicts_with_all = ["address", "port"],
        help_heading = PAGE_SERVER
    )]
    ps_socket: Option<RawFd>,
    /// Speak TLS with the page server
    #[arg(long, help_heading = PAGE_SERVER)]
    tls: Option<bool>,
    /// The authority to trust
    #[arg(long, value_name = "FILE", help_heading = PAGE_SERVER)]
    tls_cacert: Option<PathBuf>,
    /// Its revocation list
    #[arg(long, value_name = "FILE", help_heading = PAGE_SERVER)]
    tls_cacrl: Option<PathBuf>,
    /// This side's certificate
    #[arg(long, value_name = "FILE", help_heading = PAGE_SERVER)]
    tls_cert: Option<PathBuf>,
    /// This side's private key
    #[arg(long, value_name = "FILE", help_heading = PAGE_SERVER)]
    tls_key: Option<PathBuf>,
    /// Accept a certificate whatever name it carries
    #[arg(long, help_heading = PAGE_SERVER)]
    tls_no_cn_verify: bool,
}

const PAGE_SERVER: &str = "Page server";

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
        if self.page_server == Some(true) && self.ps_socket.is_none() {
            match (&self.address, self.port) {
                (Some(address), Some(port)) => operation = operation.page_server(address, port),
                _ => {
                    let want = "--page-server: want --address and --port, or --ps-socket";
                    return Err(Fault::usage(want));
                }
            }
        }
        config.switch("page-server", self.page_server.filter(|on| !on));
        if self.tls == Some(true) {
            operation = operation.tls(self.certificates());
        }
        config.switch("tls", self.tls.filter(|on| !on));
    }
}

impl Memory {
    /// The page server's socket, which the operation borrows.
    pub(crate) fn socket(&self) -> Result<Option<OwnedFd>, Fault> {
        match self.ps_socket {
            Some(_) if self.page_server != Some(true) => {
                Err(Fault::usage("--ps-socket: want --page-server with it"))
            }
            Some(number) => fd::by_number("--ps-socket", number).map(Some),
            None => Ok(None),
        }
    }

    /// Where a lazy dump listens.
    pub(crate) fn lazy_address(&self) -> Result<(&str, u16), Fault> {
        match (self.page_server, self.port) {
            (Some(true), _) => Err(Fault::usage("want --page-server or --lazy-pages, not both")),
            (_, Some(port)) => Ok((self.address.as_deref().unwrap_or("0.0.0.0"), port)),
            (_, None) => Err(Fault::usage("--lazy-pages: want --port, where to listen")),
        }
    }

    /// Refuses what would be of no use.
    pub(crate) fn check(&self, lazy: bool) -> Result<(), Fault> {
        let place = [("--address", self.address.is_some()), ("--port", self.port.is_some())];
        match place.iter().find(|(_, given)| *given) {
            Some((name, _)) if !lazy && self.page_server != Some(true) => {
                Err(Fault::usage(format!("{name}: want --page-server with it")))
            }
            _ => Ok(()),
        }
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

    fn certificates(&self) -> Tls {
        let mut tls = Tls::new();
        if let Some(file) = &self.tls_cacert {
            tls = tls.ca(file);
        }
        if let Some(file) = &self.tls_cacrl {
            tls = tls.revoked(file);
        }
        if let Some(file) = &self.tls_cert {
            tls = tls.certificate(file);
        }
        if let Some(file) = &self.tls_key {
            tls = tls.key(file);
        }
        if self.tls_no_cn_verify {
            tls = tls.any_name();
        }
        tls
    }
}

/// Options of pre-dump alone.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct PreDumpOnly {
    /// How memory is read: splice, with the tasks frozen, or read, after they have been let go
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
