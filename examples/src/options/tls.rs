//! Certificates for TLS with a page server, or with its clients.

use std::path::PathBuf;

use clap::Args;
use criu_rs::Tls;

/// Options of words that speak TLS.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Certificates {
    /// The authority to trust
    #[arg(long, value_name = "FILE", help_heading = PAGE_SERVER)]
    tls_cacert: Option<PathBuf>,
    /// The authority's revocation list
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

/// The heading of options for a page server.
pub(crate) const PAGE_SERVER: &str = "Page server";

impl Certificates {
    /// Returns the options as the library takes them.
    pub(crate) fn tls(&self) -> Tls {
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
