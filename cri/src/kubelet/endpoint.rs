//! Places that are asked for a checkpoint: a kubelet, or the API server for a node.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;

use super::container::{Container, is_subdomain};

/// A kubelet, or a node behind an API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    /// Path before `/checkpoint`.
    prefix: String,
    /// The node behind an API server.
    node: Option<String>,
}

/// The error for a text that names no endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The host or the port of a kubelet is none.
    #[error("is not HOST[:PORT] or [IPV6]:PORT")]
    Kubelet,
    /// The URL of an API server is none.
    #[error("is not https://HOST[:PORT][/PATH]")]
    Url,
    /// The URL is one without TLS.
    #[error("is no https: credentials are sent over TLS only")]
    Plain,
    /// The name of a node is none that Kubernetes allows.
    #[error("is no name of a node")]
    Node,
}

impl Endpoint {
    /// A kubelet at `HOST[:PORT]`: a name, an IPv4 address, or an IPv6 address, in brackets if a
    /// port follows. The port is 10250 by default.
    ///
    /// # Errors
    /// [`InvalidEndpoint::Kubelet`].
    pub fn kubelet(place: &str) -> Result<Self, InvalidEndpoint> {
        let of = |host: &str, port: u16| {
            let host = host.to_owned();
            Self { host, port, prefix: String::new(), node: None }
        };
        let wrong = InvalidEndpoint::Kubelet;
        if place.parse::<Ipv6Addr>().is_ok() {
            return Ok(of(place, KUBELET));
        }
        if let Some(rest) = place.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong)?;
            return Ok(of(host, port(rest).ok_or(wrong)?.unwrap_or(KUBELET)));
        }
        let (host, rest) = place.split_at(place.find(':').unwrap_or(place.len()));
        if !is_host(host) {
            return Err(wrong);
        }
        Ok(of(host, port(rest).ok_or(wrong)?.unwrap_or(KUBELET)))
    }

    /// A node, by way of the API server at `https://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// [`InvalidEndpoint::Url`], [`InvalidEndpoint::Plain`] and [`InvalidEndpoint::Node`].
    pub fn api_server(url: &str, node: &str) -> Result<Self, InvalidEndpoint> {
        if !is_subdomain(node) {
            return Err(InvalidEndpoint::Node);
        }
        let uri: Uri = url.parse().map_err(|_| InvalidEndpoint::Url)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(InvalidEndpoint::Plain),
            _ => return Err(InvalidEndpoint::Url),
        }
        let authority = uri.authority().ok_or(InvalidEndpoint::Url)?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_whole = uri.query().is_none() && !authority.as_str().contains('@');
        if !is_whole || !(is_host(host) || host.parse::<Ipv6Addr>().is_ok()) {
            return Err(InvalidEndpoint::Url);
        }
        let above = uri.path().trim_end_matches('/');
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(443),
            prefix: format!("{above}/api/v1/nodes/{node}/proxy"),
            node: Some(node.to_owned()),
        })
    }

    /// Returns the name or the address of the server, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the node behind an API server; `None` for a kubelet.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Returns `HOST:PORT`, with an IPv6 address in brackets.
    pub(super) fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(host)) => format!("[{host}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Returns the path that checkpoints a container.
    pub(super) fn path(&self, of: &Container, timeout: Option<&str>) -> String {
        // No name has a character that would need an escape.
        let path = format!("{}/checkpoint/{of}", self.prefix);
        match timeout {
            Some(timeout) => format!("{path}?timeout={timeout}"),
            None => path,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "node {node} by way of https://{}", self.authority()),
            None => write!(f, "https://{}", self.authority()),
        }
    }
}

/// Reads `:PORT`, or nothing.
fn port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.strip_prefix(':')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| is_number && *port != 0)?;
    Some(Some(port))
}

/// Tells if a text is a name of a host, or an IPv4 address.
fn is_host(text: &str) -> bool {
    is_subdomain(&text.to_ascii_lowercase())
}

/// The port of a kubelet.
const KUBELET: u16 = 10250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_named_by_host_address_and_port() {
        let of = |place: &str| Endpoint::kubelet(place).map(|found| found.to_string());
        for (place, wanted) in [
            ("node-1", "https://node-1:10250"),
            ("Node-1.example.org:1", "https://Node-1.example.org:1"),
            ("192.0.2.7:443", "https://192.0.2.7:443"),
            ("2001:db8::7", "https://[2001:db8::7]:10250"),
            ("[2001:db8::7]", "https://[2001:db8::7]:10250"),
            ("[2001:db8::7]:65535", "https://[2001:db8::7]:65535"),
        ] {
            assert_eq!(of(place).as_deref(), Ok(wanted), "{place}");
        }
        for bad in [
            "",
            ":1",
            "node:",
            "node:0",
            "node:65536",
            "node:+1",
            "[node]:1",
            "[::1",
            "a/b",
            "https://node",
            "me@node",
            "node:1:2",
            "[::1]1",
            "node name",
        ] {
            assert_eq!(of(bad), Err(InvalidEndpoint::Kubelet), "{bad}");
        }
    }

    #[test]
    fn the_proxy_path_of_a_node_follows_the_path_of_the_api_server() {
        let container = "ns/pod/app".parse().unwrap();
        let path = |url: &str| {
            let found = Endpoint::api_server(url, "node-1").unwrap();
            (found.authority(), found.path(&container, Some("5")))
        };
        let proxy = "/api/v1/nodes/node-1/proxy/checkpoint/ns/pod/app?timeout=5";
        assert_eq!(path("https://api:6443"), ("api:6443".into(), proxy.into()));
        assert_eq!(path("https://[::1]:6443/"), ("[::1]:6443".into(), proxy.into()));
        let below = format!("/k8s/clusters/c-1{proxy}");
        assert_eq!(path("https://rancher/k8s/clusters/c-1"), ("rancher:443".into(), below));
        let kubelet = Endpoint::kubelet("node").unwrap();
        assert_eq!(kubelet.path(&container, None), "/checkpoint/ns/pod/app");
        for (url, node, wanted) in [
            ("http://api", "node", InvalidEndpoint::Plain),
            ("https://me:word@api", "node", InvalidEndpoint::Url),
            ("https://api?x=1", "node", InvalidEndpoint::Url),
            ("api:6443", "node", InvalidEndpoint::Url),
            ("https://api", "../node", InvalidEndpoint::Node),
            ("https://api", "", InvalidEndpoint::Node),
        ] {
            assert_eq!(Endpoint::api_server(url, node).unwrap_err(), wanted, "{url} {node}");
        }
    }
}
