//! Options that say which kubelet is asked, and by whom.

use std::path::PathBuf;

use clap::Args;
use criu_cri::kubelet::{Access, Cluster, Endpoint, Error, ErrorKind, Kubeconfig, Kubelet};

use crate::fault::Fault;

/// Options of words that ask a kubelet. The names are those of kubectl.
#[derive(Args)]
pub(super) struct PlaceArgs {
    /// The node of the pod, which is asked by way of the API server
    #[arg(long, value_name = "NODE", group = "place", required = true)]
    node: Option<String>,
    /// The kubelet itself; the port is 10250 unless given
    #[arg(long, value_name = "HOST[:PORT]", group = "place")]
    kubelet: Option<String>,
    /// The URL of the API server; else that of the kubeconfig
    #[arg(long, value_name = "URL", requires = "node", help_heading = ACCESS)]
    server: Option<String>,
    /// A file of kubectl with servers and credentials; else those that KUBECONFIG names, or
    /// ~/.kube/config, unless there are other credentials
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; else the current one
    #[arg(long, value_name = "NAME", help_heading = ACCESS)]
    context: Option<String>,
    /// A client certificate in PEM form
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = ACCESS)]
    client_certificate: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, value_name = "FILE", requires = "client_certificate", help_heading = ACCESS)]
    client_key: Option<PathBuf>,
    /// A file with a bearer token, such as that of a service account
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    token_file: Option<PathBuf>,
    /// The authorities that may have signed the server's certificate, or this certificate itself
    #[arg(long, value_name = "FILE", alias = "certificate-authority", help_heading = ACCESS)]
    ca: Option<PathBuf>,
    /// The name that the server's certificate is for, if that is not its host
    #[arg(long, value_name = "NAME", help_heading = ACCESS)]
    tls_server_name: Option<String>,
    /// Accept any certificate: whoever answers gets the token. For nodes with self-signed
    /// certificates, if --ca cannot be had
    #[arg(long, conflicts_with = "ca", help_heading = ACCESS)]
    insecure_skip_tls_verify: bool,
}

impl PlaceArgs {
    /// Makes the client.
    pub(super) fn kubelet(&self) -> Result<Kubelet, Fault> {
        let cluster = self.cluster()?;
        let (endpoint, mut access) = match (&self.kubelet, &self.node) {
            (Some(place), _) => {
                let wrong = |error| Fault::usage(format!("--kubelet {place}: {error}"));
                let access = cluster.as_ref().map(Cluster::kubelet_access);
                (Endpoint::kubelet(place).map_err(wrong)?, access)
            }
            (None, node) => {
                let node = node.as_deref().unwrap_or_default();
                let known = cluster.as_ref().map(|cluster| &cluster.server);
                let Some(url) = self.server.as_ref().or(known) else {
                    let why = "--node needs the API server: give --server or --kubeconfig";
                    return Err(Fault::usage(why));
                };
                let wrong = |error| Fault::usage(format!("{url}, node {node}: {error}"));
                let endpoint = Endpoint::api_server(url, node).map_err(wrong)?;
                (endpoint, cluster.map(|cluster| cluster.access))
            }
        };
        let access = access.get_or_insert_default();
        self.add(access);
        Ok(Kubelet::new(endpoint, access.clone()))
    }

    /// Reads the kubeconfig, if it is named or needed.
    fn cluster(&self) -> Result<Option<Cluster>, Fault> {
        let context = self.context.as_deref();
        if let Some(path) = &self.kubeconfig {
            return Ok(Some(Kubeconfig::read(path)?.cluster(context)?));
        }
        let is_named = context.is_some();
        let needs_server = self.node.is_some() && self.server.is_none();
        if !is_named && !needs_server && self.has_credentials() {
            return Ok(None);
        }
        match Kubeconfig::of_environment().and_then(|config| config.cluster(context)) {
            Ok(cluster) => Ok(Some(cluster)),
            Err(error) if !is_named && is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn has_credentials(&self) -> bool {
        self.client_certificate.is_some() || self.token_file.is_some()
    }

    /// Sets the options that are given in place of those of the kubeconfig.
    fn add(&self, access: &mut Access) {
        if self.has_credentials() {
            access.without_credentials();
        }
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            access.certificate_files(certificate, key);
        }
        if let Some(file) = &self.token_file {
            access.token_file(file);
        }
        if let Some(file) = &self.ca {
            access.trust_file(file);
        }
        if self.insecure_skip_tls_verify {
            access.trust_anybody();
        }
        if let Some(name) = &self.tls_server_name {
            access.server_name(name);
        }
    }
}

/// Tells that there is no kubeconfig.
fn is_missing(error: &Error) -> bool {
    let ErrorKind::File { source, .. } = error.kind() else { return false };
    source.kind() == std::io::ErrorKind::NotFound
}

/// The heading of these options.
const ACCESS: &str = "Access";
