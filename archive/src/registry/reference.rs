//! Names of images in registries.

use std::fmt;
use std::str::FromStr;

use crate::oci::Digest;

/// Name of an image in a registry: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
///
/// The host is needed: it has a dot or a port, or is `localhost`. Without tag and digest the tag is
/// `latest`. With both, the digest decides.
///
/// ```
/// use criu_archive::registry::Reference;
///
/// let reference: Reference = "localhost:5000/checkpoints/counter".parse()?;
/// assert_eq!(reference.registry(), "localhost:5000");
/// assert_eq!(reference.tag(), Some("latest"));
/// # Ok::<(), criu_archive::registry::InvalidReference>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host of the registry, with the port if there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest of the manifest or index, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Last part of a request for the manifest: the digest, or the tag.
    pub(super) fn version(&self) -> String {
        match self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag().unwrap_or(LATEST).to_owned(),
        }
    }

    /// Host that serves the registry, which for Docker's is another one.
    pub(super) fn host(&self) -> &str {
        if self.registry == DOCKER { "registry-1.docker.io" } else { &self.registry }
    }

    /// Returns true if the host is this machine's loopback.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(&*self.registry, |(host, _)| host);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |address: std::net::IpAddr| address.is_loopback();
        host == LOCALHOST || address.parse().is_ok_and(is_loopback)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// A text that names no image in a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// The text does not begin with the host of a registry.
    #[error("begins with no registry: a host with a dot, a port, or `localhost`, before a `/`")]
    Registry,
    /// The repository is missing or has characters that none has.
    #[error(
        "has no valid repository: small letters, digits, and single `.`, `_`, `-` or `/` between"
    )]
    Repository,
    /// The tag has characters that none has, or is too long.
    #[error("has no valid tag: at most 128 letters, digits, `_`, `.` and `-`")]
    Tag,
    /// The digest is of another form.
    #[error("has no valid digest: `sha256:` and 64 hexadecimal digits in lower case")]
    Digest,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (registry, rest) = text.split_once('/').ok_or(InvalidReference::Registry)?;
        if !is_registry(registry) {
            return Err(InvalidReference::Registry);
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| InvalidReference::Digest)?))
            }
            None => (rest, None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(InvalidReference::Tag);
        }
        let repository = match (registry, repository.contains('/')) {
            (DOCKER, false) => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        if !is_repository(&repository) {
            return Err(InvalidReference::Repository);
        }
        let tag = match (tag, digest) {
            (None, None) => Some(LATEST.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            let port = port.strip_prefix(':').filter(|_| is_address);
            return is_address
                && (port.is_some() || text.ends_with(']'))
                && port.is_none_or(is_port);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        let is_fine = |char: char| char.is_ascii_alphanumeric() || char == '-';
        !label.is_empty() && label.chars().all(is_fine)
    };
    let is_host = host.len() <= 253 && host.split('.').all(is_label);
    let is_clear = host.contains('.') || host == LOCALHOST || port.is_some();
    is_host && is_clear && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_repository(text: &str) -> bool {
    let is_word = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    // Between words: `.`, `_`, `__`, or any number of `-`.
    let is_mark =
        |mark: &str| matches!(mark, "" | "." | "_" | "__") || mark.bytes().all(|byte| byte == b'-');
    let is_part = |part: &str| {
        let ends = part.starts_with(is_word) && part.ends_with(is_word);
        ends && part.split(is_word).all(is_mark)
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let is_fine = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-');
    (1..=128).contains(&text.len()) && text.chars().all(is_fine) && !text.starts_with(['.', '-'])
}

const LATEST: &str = "latest";
const LOCALHOST: &str = "localhost";
const DOCKER: &str = "docker.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_their_text() {
        let digest = Digest::of(b"");
        let texts = [
            "registry.example.org/counter:v1".to_owned(),
            "localhost/counter:v1".to_owned(),
            "host:5000/a/b-c/d_e__f/g.h:V1.2_3".to_owned(),
            "[::1]:5000/counter:v1".to_owned(),
            format!("127.0.0.1:5000/counter@{digest}"),
            format!("127.0.0.1:5000/counter:v1@{digest}"),
        ];
        for text in texts {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let latest: Reference = "docker.io/alpine".parse().unwrap();
        assert_eq!(latest.to_string(), "docker.io/library/alpine:latest");
        assert_eq!(latest.host(), "registry-1.docker.io");
    }

    #[test]
    fn other_texts_are_refused() {
        use InvalidReference::{Digest, Registry, Repository, Tag};
        let wrong = [
            ("alpine", Registry),
            ("alpine:latest", Registry),
            ("library/alpine", Registry),
            ("user@host.org/x", Registry),
            ("host.org:0/x", Registry),
            ("host.org:99999/x", Registry),
            ("host..org/x", Registry),
            ("[::1]x/x", Registry),
            ("host.org/", Repository),
            ("host.org/X", Repository),
            ("host.org/../x", Repository),
            ("host.org/x/", Repository),
            ("host.org/x?y", Repository),
            ("host.org/x%2e", Repository),
            ("host.org/x:", Tag),
            ("host.org/x:a b", Tag),
            ("host.org/x:../y", Tag),
            ("host.org/x@sha256:00", Digest),
        ];
        for (text, why) in wrong {
            assert_eq!(text.parse::<Reference>(), Err(why), "{text}");
        }
    }

    #[test]
    fn the_loopback_is_known() {
        for host in ["localhost", "127.0.0.1:5000", "localhost:1", "[::1]:5000", "127.3.4.5"] {
            let reference: Reference = format!("{host}/x").parse().unwrap();
            assert!(reference.is_loopback(), "{host}");
        }
        for host in ["localhost.example.org", "128.0.0.1", "[::2]:5000", "host:5000"] {
            let reference: Reference = format!("{host}/x").parse().unwrap();
            assert!(!reference.is_loopback(), "{host}");
        }
    }
}
