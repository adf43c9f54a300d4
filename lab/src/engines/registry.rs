//! A registry on the loopback interface.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::tools::tool;
use crate::soon;

/// A running registry, which ends when the value is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry that speaks plain HTTP and keeps its blobs in `dir`, which must exist.
    ///
    /// # Panics
    /// The registry does not answer. The message is its log.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, "")
    }

    /// Starts a registry with further lines of its configuration, such as a section `auth`.
    ///
    /// # Panics
    /// The registry does not answer. The message is its log.
    pub fn start_with(dir: &Path, lines: &str) -> Self {
        // Somebody could take the port before the registry does, which would fail the test.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: 127.0.0.1:{port}}}\n\
             storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n{lines}",
            dir.join("blobs").display(),
        );
        let (file, log) = (dir.join("registry.yml"), dir.join("registry.log"));
        fs::write(&file, config).unwrap();
        let output = File::create(&log).unwrap();
        let mut command = Command::new(tool("bin/docker-registry"));
        command.arg("serve").arg(&file).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let registry = Self { child: command.spawn().unwrap(), port };
        let is_up = soon(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(is_up, "{}", fs::read_to_string(&log).unwrap_or_default());
        registry
    }

    /// The host and port, as names of images begin.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
