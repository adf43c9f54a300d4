//! Files of kubectl: servers and credentials by the name of a context.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::access::{Access, Source, Trust, read};
use super::error::{Error, ErrorKind, Result};
use super::text::short;
use super::yaml::Node;

/// Kubeconfig files: one, or several of which the first that has a name counts for the name.
///
/// Servers, authorities, client certificates, tokens and files of tokens are read. Programs that
/// fetch credentials, proxies and impersonation are refused where a context asks for them.
pub struct Kubeconfig {
    files: Vec<(PathBuf, Node)>,
}

/// The cluster of a context, with credentials of its user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cluster {
    /// URL of the API server.
    pub server: String,
    /// Authorities, and the user's credentials.
    pub access: Access,
}

impl Cluster {
    /// Returns the access for a kubelet of the cluster: the authorities and the credentials. A name
    /// of the API server's certificate is left out, and trust in anybody is, too.
    pub fn kubelet_access(&self) -> Access {
        let mut access = self.access.clone();
        access.server_name = None;
        if access.trusts_anybody() {
            access.trust = Trust::System;
        }
        access
    }
}

impl Kubeconfig {
    /// Reads one file.
    ///
    /// # Errors
    /// [`ErrorKind::File`], and [`ErrorKind::Malformed`] for a file that is no YAML.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self { files: vec![(path.to_owned(), parse(path)?)] })
    }

    /// Reads the files that `KUBECONFIG` names, with colons between, or else `~/.kube/config`.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read). Of several files some may be missing, and not all.
    pub fn of_environment() -> Result<Self> {
        let filled = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let Some(list) = filled("KUBECONFIG") else {
            let home = filled("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
            return Self::read(home.join(".kube/config"));
        };
        let (mut files, mut missing) = (Vec::new(), None);
        for path in env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
            match parse(&path) {
                Ok(node) => files.push((path, node)),
                Err(error) if is_missing(&error) => missing = missing.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if files.is_empty() => Err(error),
            _ => Ok(Self { files }),
        }
    }

    /// Returns the cluster and the credentials of a context, or of the current one.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if a name leads nowhere; [`ErrorKind::Unsupported`].
    pub fn cluster(&self, context: Option<&str>) -> Result<Cluster> {
        self.find_cluster(context).map_err(|kind| {
            let paths: Vec<String> =
                self.files.iter().map(|(path, _)| path.display().to_string()).collect();
            Error::new(paths.join(":"), kind)
        })
    }

    fn find_cluster(&self, context: Option<&str>) -> Result<Cluster, ErrorKind> {
        let current = || self.files.iter().find_map(|(_, node)| node.text("current-context"));
        let name = context.or_else(current).ok_or_else(|| {
            malformed("the kubeconfig", "has no current context, and none is named")
        })?;
        let (_, context) = self.find("contexts", "context", name)?;
        let of = |field: &str| {
            let what = format!("the context {}", short(name));
            context.text(field).ok_or_else(|| malformed(&what, &format!("names no {field}")))
        };
        let (file, cluster) = self.find("clusters", "cluster", of("cluster")?)?;
        let mut found = Cluster { server: String::new(), access: Access::default() };
        found.server = cluster
            .text("server")
            .ok_or_else(|| malformed("the cluster", "names no server"))?
            .to_owned();
        if cluster.text("proxy-url").is_some() {
            return Err(unsupported("the cluster has a proxy-url, and proxies are not used"));
        }
        if let Some(name) = cluster.text("tls-server-name") {
            found.access.server_name(name);
        }
        if let Some(source) = source(file, cluster, "certificate-authority")? {
            found.access.trust(source);
        }
        if cluster.text("insecure-skip-tls-verify") == Some("true") {
            if !matches!(found.access.trust, Trust::System) {
                let why = "has a certificate-authority and insecure-skip-tls-verify, and only one \
                           of them can be meant";
                return Err(malformed("the cluster", why));
            }
            found.access.trust_anybody();
        }
        if let Some(name) = context.text("user") {
            let (file, user) = self.find("users", "user", name)?;
            credentials(file, name, user, &mut found.access)?;
        }
        Ok(found)
    }

    /// Finds a named entry of a list, with the file that has the entry.
    fn find(&self, list: &str, field: &str, name: &str) -> Result<(&Path, &Node), ErrorKind> {
        let found = self.files.iter().find_map(|(path, node)| {
            let entries = node.list(list).iter();
            let mut entries = entries.filter(|entry| entry.text("name") == Some(name));
            Some((&**path, entries.next()?.get(field).unwrap_or(EMPTY)))
        });
        let what = format!("the {field} {}", short(name));
        found.ok_or_else(|| malformed(&what, "is not in the kubeconfig"))
    }
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&PathBuf> = self.files.iter().map(|(path, _)| path).collect();
        f.debug_struct("Kubeconfig").field("files", &paths).finish()
    }
}

/// Sets the credentials of a user.
fn credentials(file: &Path, name: &str, user: &Node, to: &mut Access) -> Result<(), ErrorKind> {
    let show = short(name);
    if let Some(exec) = user.get("exec") {
        let program = short(exec.text("command").unwrap_or("a program"));
        return Err(unsupported(&format!(
            "the user {show} gets credentials from {program} (exec), which is not run"
        )));
    }
    for (field, what) in [
        ("auth-provider", "an auth-provider, which is not asked"),
        ("username", "a password, which no Kubernetes takes since 1.19"),
        ("as", "another user to act as, which is not done"),
    ] {
        if user.get(field).is_some() {
            return Err(unsupported(&format!("the user {show} has {what}")));
        }
    }
    let certificate = source(file, user, "client-certificate")?;
    match (certificate, source(file, user, "client-key")?) {
        (Some(certificate), Some(key)) => {
            to.certificate(certificate, key);
        }
        (None, None) => {}
        _ => {
            let why = "has a client certificate without a key, or a key without a certificate";
            return Err(malformed(&format!("the user {show}"), why));
        }
    }
    // The file is the newer one of the two.
    if let Some(path) = user.text("tokenFile") {
        to.token_file(beside(file, path));
    } else if let Some(token) = user.text("token") {
        to.token(Source::Given(token.as_bytes().to_vec()));
    }
    Ok(())
}

/// Returns the value of `FIELD-data`, or the file that `FIELD` names.
fn source(file: &Path, node: &Node, field: &str) -> Result<Option<Source>, ErrorKind> {
    let data = format!("{field}-data");
    if let Some(text) = node.text(&data) {
        let bytes = base64(text).ok_or_else(|| malformed(&data, "is no base64"))?;
        return Ok(Some(Source::Given(bytes)));
    }
    Ok(node.text(field).map(|path| Source::File(beside(file, path))))
}

/// Returns a path that a file names. It begins in the directory of the file.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn parse(path: &Path) -> Result<Node> {
    let fail = |kind| Error::new("kubeconfig", kind);
    let bytes = read(path).map_err(fail)?;
    let wrong = |why: &str| fail(malformed(&path.display().to_string(), why));
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text"))?;
    let node = Node::parse(text).map_err(|why| wrong(&why))?;
    match node.text("kind") {
        None | Some("Config") => Ok(node),
        Some(_) => Err(wrong("is no kubeconfig: its kind is another one")),
    }
}

fn is_missing(error: &Error) -> bool {
    let ErrorKind::File { source, .. } = error.kind() else { return false };
    source.kind() == std::io::ErrorKind::NotFound
}

fn malformed(what: &str, why: &str) -> ErrorKind {
    ErrorKind::Malformed { what: what.to_owned(), why: why.to_owned() }
}

fn unsupported(why: &str) -> ErrorKind {
    ErrorKind::Unsupported(why.to_owned())
}

/// Decodes base64, with or without `=` at its end. White space is left out.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    FORM.decode(digits).ok()
}

const FORM: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// An entry without fields.
const EMPTY: &Node = &Node::Text(None);
