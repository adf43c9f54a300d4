//! A running `docker-registry`, on a port of the loopback or of another address.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::place::engine;
use crate::wait::soon;

/// A running registry. It ends when the value is dropped; its blobs stay in its directory.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    port: u16,
    dir: PathBuf,
}

/// The properties of a registry.
#[derive(Debug, Default)]
pub struct RegistryWanted<'w> {
    /// The certificate and the key, for TLS.
    pub tls: Option<(&'w Path, &'w Path)>,
    /// A file of `htpasswd` with users.
    pub users: Option<&'w Path>,
    /// The address to listen on, in place of 127.0.0.1.
    pub address: Option<&'w str>,
}

impl Registry {
    /// Starts a registry with plain HTTP, with its blobs and its log in a directory.
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, &RegistryWanted::default())
    }

    /// Starts a registry of some properties, and waits until it listens.
    ///
    /// # Panics
    /// Panics if the registry does not listen. The message is its log.
    pub fn with(dir: &Path, wanted: &RegistryWanted<'_>) -> Self {
        fs::create_dir_all(dir).unwrap();
        for _ in 1..PORTS {
            if let Ok(registry) = Self::on_a_port(dir, wanted) {
                return registry;
            }
        }
        Self::on_a_port(dir, wanted).unwrap_or_else(|log| panic!("{log}"))
    }

    /// Starts a registry on a port that is free, and waits until it listens. Somebody else may take
    /// the port before the registry does.
    ///
    /// # Errors
    /// The log of a registry that has ended.
    fn on_a_port(dir: &Path, wanted: &RegistryWanted<'_>) -> Result<Self, String> {
        let address = wanted.address.unwrap_or("127.0.0.1");
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http:\n  addr: {address}:{port}\n",
            dir.join("blobs").display()
        );
        if let Some((certificate, key)) = wanted.tls {
            config += &format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                certificate.display(),
                key.display()
            );
        }
        if let Some(users) = wanted.users {
            config += &format!("auth: {{htpasswd: {{realm: lab, path: {}}}}}\n", users.display());
        }
        let file = dir.join("registry.yml");
        fs::write(&file, config).unwrap();
        let log = dir.join("registry.log");
        let child = Command::new(engine("docker-registry"))
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut registry = Self { child, address: address.to_owned(), port, dir: dir.to_owned() };
        let mut has_ended = false;
        let is_settled = soon(|| {
            let listens = TcpStream::connect((address, port)).is_ok();
            has_ended = registry.child.try_wait().unwrap().is_some();
            has_ended || listens
        });
        let log = || fs::read_to_string(&log).unwrap();
        assert!(is_settled, "the registry does not listen: {}", log());
        if has_ended { Err(log()) } else { Ok(registry) }
    }

    /// The name of an image in the registry, such as `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}:{}/{name}", self.address, self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that holds a blob, by the 64 digits of its digest.
    pub fn blob(&self, digits: &str) -> PathBuf {
        let start = digits.get(..2).unwrap();
        let blobs = "blobs/docker/registry/v2/blobs/sha256";
        self.dir.join(blobs).join(start).join(digits).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that are tried.
const PORTS: usize = 3;

/// A file of `htpasswd` with the user `lab`, whose password is `oracle`.
pub fn users(file: &Path) {
    // The registry takes bcrypt alone.
    let line = "lab:$2b$05$abcdefghijklmnopqrstuu6q02RGTPQRatu/PYGEiwQ8MtAp6bhHK\n";
    fs::File::create(file).unwrap().write_all(line.as_bytes()).unwrap();
}
