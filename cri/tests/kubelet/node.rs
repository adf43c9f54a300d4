//! A server in the place of a kubelet, and clients of it.

use criu_cri::kubelet::{Access, Endpoint, Kubelet};
use criu_lab::certs::Wanted;
use criu_lab::https::Server;

/// A server in the place of a kubelet, or of an API server.
pub(crate) trait Node {
    fn endpoint(&self) -> Endpoint;
    /// Access that trusts the authority, without credentials.
    fn access(&self) -> Access;
    /// A client with a certificate of the authority.
    fn client(&self) -> Kubelet;
    /// A client by way of the API server that this server is.
    fn by_api(&self) -> Kubelet;
}

impl Node for Server {
    fn endpoint(&self) -> Endpoint {
        Endpoint::kubelet(&format!("127.0.0.1:{}", self.port)).unwrap()
    }

    fn access(&self) -> Access {
        let mut access = Access::default();
        access.trust_file(self.authority.file());
        access
    }

    fn client(&self) -> Kubelet {
        let signed = self.authority.sign(2, &Wanted { common: "me", ..Wanted::default() });
        let mut access = self.access();
        access.certificate_files(signed.certificate, signed.key);
        Kubelet::new(self.endpoint(), access)
    }

    fn by_api(&self) -> Kubelet {
        let url = format!("https://127.0.0.1:{}", self.port);
        Kubelet::new(Endpoint::api_server(&url, "node-1").unwrap(), self.access())
    }
}
