//! Names of containers.

use std::fmt;
use std::str::FromStr;

/// A container of a pod: `NAMESPACE/POD/CONTAINER`. The names are such as Kubernetes allows, so
/// they need no escapes in a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Container {
    namespace: String,
    pod: String,
    name: String,
}

/// The error for a text that names no container.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidContainer {
    /// The text has fewer or more than three parts.
    #[error("is not NAMESPACE/POD/CONTAINER")]
    Parts,
    /// A name is none that Kubernetes allows.
    #[error("the {0} is no name of Kubernetes: letters a-z, digits and dashes, {1} at most")]
    Name(&'static str, usize),
}

impl Container {
    /// Makes the name of a container in a pod of a namespace.
    ///
    /// # Errors
    /// [`InvalidContainer::Name`] if Kubernetes does not allow a name.
    pub fn new(namespace: &str, pod: &str, name: &str) -> Result<Self, InvalidContainer> {
        for (what, most, is_name) in [
            ("namespace", LABEL, is_label(namespace)),
            ("pod", SUBDOMAIN, is_subdomain(pod)),
            ("container", LABEL, is_label(name)),
        ] {
            if !is_name {
                return Err(InvalidContainer::Name(what, most));
            }
        }
        Ok(Self { namespace: namespace.into(), pod: pod.into(), name: name.into() })
    }

    /// Returns the namespace of the pod.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name of the pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Returns the name of the container in the pod.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Container {
    type Err = InvalidContainer;

    fn from_str(text: &str) -> Result<Self, InvalidContainer> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [namespace, pod, name] => Self::new(namespace, pod, name),
            _ => Err(InvalidContainer::Parts),
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.name)
    }
}

/// Tells if a text is a label of RFC 1123: a part of a host name in lower case.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL && is_part(text)
}

/// Tells if a text is a subdomain of RFC 1123: parts with dots between. Kubernetes bounds the
/// length of the whole, and not of each part.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The longest label, in bytes.
const LABEL: usize = 63;
/// The longest subdomain, in bytes.
const SUBDOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_path_are_refused() {
        let good: Container = "kube-system/etcd-node.example.org/etcd".parse().unwrap();
        assert_eq!(good.to_string(), "kube-system/etcd-node.example.org/etcd");
        let long = format!("a/{}/c", "p".repeat(253));
        assert!(long.parse::<Container>().is_ok());
        for bad in [
            "",
            "a",
            "a/b",
            "a/b/c/d",
            "a/b/",
            "/b/c",
            "../b/c",
            "a/../c",
            "a/b/..",
            "a/b?x/c",
            "a/b/c?timeout=1",
            "A/b/c",
            "a/b%2f/c",
            "a/b/c\n",
            "a/-b/c",
            "a/b-/c",
            "a/b./c",
            "a/b/c.d",
            "a/é/c",
            "a//c",
            "a/b c/c",
        ] {
            assert!(bad.parse::<Container>().is_err(), "{bad:?}");
        }
        assert!(format!("a/{}/c", "p".repeat(254)).parse::<Container>().is_err());
        assert!(format!("a/b/{}", "p".repeat(64)).parse::<Container>().is_err());
    }
}
