//! TLS between a dump and its page server.

use std::path::{Path, PathBuf};

/// Certificates for TLS with a page server, as PEM files.
///
/// Each side shows a certificate, and checks that the name in the other's certificate is the
/// address by which it knows the other side. A file that is not set keeps CRIU's default below
/// /etc/pki. TLS does not combine with a page-server socket that is passed in: CRIU's client then
/// does not use TLS.
///
/// ```
/// use criu_rs::Tls;
///
/// let tls = Tls::new().ca("/etc/ca.pem").certificate("/etc/me.pem").key("/etc/me.key");
/// # drop(tls);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) revoked: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) any_name: bool,
}

impl Tls {
    /// Returns TLS with the files that CRIU expects below /etc/pki.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificate of the authority to trust, instead of /etc/pki/CA/cacert.pem and the
    /// system's authorities.
    #[must_use]
    pub fn ca(mut self, file: impl AsRef<Path>) -> Self {
        self.ca = Some(file.as_ref().into());
        self
    }

    /// Sets the authority's revocation list, instead of /etc/pki/CA/cacrl.pem.
    #[must_use]
    pub fn revoked(mut self, file: impl AsRef<Path>) -> Self {
        self.revoked = Some(file.as_ref().into());
        self
    }

    /// Sets this side's certificate, instead of /etc/pki/criu/cert.pem.
    #[must_use]
    pub fn certificate(mut self, file: impl AsRef<Path>) -> Self {
        self.certificate = Some(file.as_ref().into());
        self
    }

    /// Sets this side's private key, instead of /etc/pki/criu/private/key.pem.
    #[must_use]
    pub fn key(mut self, file: impl AsRef<Path>) -> Self {
        self.key = Some(file.as_ref().into());
        self
    }

    /// Accepts any name in the other side's certificate.
    #[must_use]
    pub fn any_name(mut self) -> Self {
        self.any_name = true;
        self
    }
}
