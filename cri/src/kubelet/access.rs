//! Trust and credentials of a request.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;

use super::error::ErrorKind;

/// A certificate, a key or a token: in a file, or given. A file is read anew for each request.
/// `Debug` does not show what is given.
#[derive(Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Bytes.
    Given(Vec<u8>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Given(_) => f.write_str("Given(..)"),
        }
    }
}

impl Source {
    /// Reads a value of at most 1 MiB.
    pub(super) fn read(&self) -> Result<Vec<u8>, ErrorKind> {
        match self {
            Self::File(path) => read(path),
            Self::Given(bytes) => Ok(bytes.clone()),
        }
    }

    /// Returns the name of the value in messages.
    pub(super) fn name(&self, what: &str) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Given(_) => format!("the given {what}"),
        }
    }
}

/// Servers that are trusted, and credentials for them. By default the system's authorities are
/// trusted, and there are no credentials.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub(super) trust: Trust,
    pub(super) server_name: Option<String>,
    /// The certificates, with the client's own first, and the key.
    pub(super) certificate: Option<(Source, Source)>,
    pub(super) token: Option<Source>,
}

/// Certificates of servers that are accepted.
#[derive(Clone, Debug, Default)]
pub(super) enum Trust {
    /// Certificates that the system's authorities have signed.
    #[default]
    System,
    /// Certificates that these authorities have signed, or that are among them.
    Authorities(Source),
    /// Any certificate.
    Anybody,
}

impl Access {
    /// Trusts the authorities in a file of PEM, and no others. A certificate that is self-signed
    /// is an authority for itself.
    pub fn trust_file(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.trust(Source::File(path.into()))
    }

    /// Trusts authorities in PEM form, and no others.
    pub fn trust(&mut self, authorities: Source) -> &mut Self {
        self.trust = Trust::Authorities(authorities);
        self
    }

    /// Accepts any certificate. Whoever answers at the address gets the token, and can answer what
    /// it likes. For nodes whose certificates nobody has signed, in a network that is trusted.
    pub fn trust_anybody(&mut self) -> &mut Self {
        self.trust = Trust::Anybody;
        self
    }

    /// Sets the name that the server's certificate has to be for, if that is not the host that is
    /// asked.
    pub fn server_name(&mut self, name: impl Into<String>) -> &mut Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets a client certificate and its key, in files of PEM.
    pub fn certificate_files(
        &mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> &mut Self {
        self.certificate(Source::File(certificate.into()), Source::File(key.into()))
    }

    /// Sets a client certificate and its key, in PEM form.
    pub fn certificate(&mut self, certificate: Source, key: Source) -> &mut Self {
        self.certificate = Some((certificate, key));
        self
    }

    /// Sets a bearer token in a file, such as that of a service account.
    pub fn token_file(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.token(Source::File(path.into()))
    }

    /// Sets a bearer token. White space around it is left out.
    pub fn token(&mut self, token: Source) -> &mut Self {
        self.token = Some(token);
        self
    }

    /// Takes away the client certificate and the token.
    pub fn without_credentials(&mut self) -> &mut Self {
        (self.certificate, self.token) = (None, None);
        self
    }

    /// Returns true if there is a client certificate or a token.
    pub fn has_credentials(&self) -> bool {
        self.certificate.is_some() || self.token.is_some()
    }

    /// Returns true if any certificate is accepted.
    pub fn trusts_anybody(&self) -> bool {
        matches!(self.trust, Trust::Anybody)
    }

    /// Reads the token, and makes the header of it.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, ErrorKind> {
        let Some(source) = &self.token else { return Ok(None) };
        let bytes = source.read()?;
        let token = bytes.trim_ascii();
        let wrong = |why: &str| {
            Err(ErrorKind::Malformed { what: source.name("token"), why: why.to_owned() })
        };
        if token.is_empty() {
            return wrong("has no token");
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return wrong("has a token with white space or characters that no token has");
        }
        match HeaderValue::from_bytes(&[b"Bearer ", token].concat()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Ok(Some(value))
            }
            Err(_) => wrong("has a token that no header can hold"),
        }
    }
}

/// Reads a file of at most 1 MiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ErrorKind> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::Error::other("is larger than 1 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| ErrorKind::File { path: path.to_owned(), source })
}

/// The largest file, in bytes.
const MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_no_debug_and_no_error() {
        let mut access = Access::default();
        access.token(Source::Given(b"secret\n".to_vec()));
        access.certificate(Source::Given(b"secret".to_vec()), Source::Given(b"secret".to_vec()));
        assert!(!format!("{access:?}").contains("secret"));
        let header = access.authorization().unwrap().unwrap();
        assert_eq!(header.as_bytes(), b"Bearer secret");
        assert!(!format!("{header:?}").contains("secret"));
        for bad in [&b""[..], b" \n", b"secret word", b"secret\nX-Other: a", b"secret\xff"] {
            let said = access.token(Source::Given(bad.to_vec())).authorization().unwrap_err();
            assert!(!said.to_string().contains("secret"), "{said}");
        }
        let large = std::env::temp_dir().join(format!("criu-cri-token-{}", std::process::id()));
        File::create(&large).unwrap().set_len(MOST + 1).unwrap();
        let said = access.token_file(&large).authorization().unwrap_err().to_string();
        std::fs::remove_file(&large).unwrap();
        assert!(said.ends_with("is larger than 1 MiB"), "{said}");
    }
}
