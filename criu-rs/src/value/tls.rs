//! TLS between a dump and its page server.

use std::path::{Path, PathBuf};

/// Certificates for TLS with a page server; all files are PEM.
///
/// Both sides show a certificate, and each checks the other's name against the address it was given
/// itself. What is not set keeps CRIU's place for it under /etc/pki. It does not combine with a
/// page-server socket that is passed in: CRIU's client then speaks no TLS.
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
    /// TLS with the files CRIU expects under /etc/pki.
    pub fn new() -> Self {
        Self::default()
    }

    /// The authority to trust, instead of /etc/pki/CA/cacert.pem and the system's.
    pub fn ca(mut self, file: impl AsRef<Path>) -> Self {
        self.ca = Some(file.as_ref().into());
        self
    }

    /// Its revocation list, instead of /etc/pki/CA/cacrl.pem.
    pub fn revoked(mut self, file: impl AsRef<Path>) -> Self {
        self.revoked = Some(file.as_ref().into());
        self
    }

    /// This side's certificate, instead of /etc/pki/criu/cert.pem.
    pub fn certificate(mut self, file: impl AsRef<Path>) -> Self {
        self.certificate = Some(file.as_ref().into());
        self
    }

    /// This side's private key, instead of /etc/pki/criu/private/key.pem.
    pub fn key(mut self, file: impl AsRef<Path>) -> Self {
        self.key = Some(file.as_ref().into());
        self
    }

    /// Accept a certificate whatever name it carries.
    pub fn any_name(mut self) -> Self {
        self.any_name = true;
        self
    }
}
