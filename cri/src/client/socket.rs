//! Sockets of engines.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tower_service::Service;

/// Sockets on which engines listen by default, in the order in which they are tried.
pub const SOCKETS: [&str; 4] = [
    "/run/criu-cri-proxy/cri.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];

/// Returns the first of [`SOCKETS`] that exists.
pub fn default_socket() -> Option<&'static Path> {
    SOCKETS.iter().map(Path::new).find(|path| path.exists())
}

/// Returns the path of an endpoint: `unix:///run/containerd/containerd.sock`, or a path alone.
///
/// Returns `None` if the endpoint is no Unix socket, or its path is relative.
pub fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    path.starts_with('/').then(|| path.into())
}

/// Connects to one socket, whatever address is asked for.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Arc<Path>);

impl Service<http::Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let path = Arc::clone(&self.0);
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_sockets_by_absolute_path() {
        for endpoint in ["unix:///run/c.sock", "/run/c.sock"] {
            assert_eq!(socket_path(endpoint).as_deref(), Some(Path::new("/run/c.sock")));
        }
        for endpoint in ["", "run/c.sock", "unix://run/c.sock", "tcp://127.0.0.1:1", "http:///c"] {
            assert_eq!(socket_path(endpoint), None, "{endpoint}");
        }
    }
}
