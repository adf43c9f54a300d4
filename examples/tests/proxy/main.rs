//! The program `criu-cri-proxy` between a client and an engine that are not this project's: those
//! of grpcio. The tests need root, and what `cargo xtask setup --tests` installs.
//!
//! `engines` has tests with containerd as the engine.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod bounds;
mod ends;
mod passing;
mod sockets;

use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::engines::{CriProxy, OutsideEngine};
use criu_lab::place::{Short, needs_root};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-cri-proxy");

/// A folder with sockets, and an engine.
#[derive(Debug)]
pub struct Scene {
    /// The engine, until a test takes it.
    pub engine: Option<OutsideEngine>,
    /// The folder.
    pub folder: Short,
}

impl Scene {
    /// An engine that listens in a new folder.
    pub fn lay() -> Self {
        needs_root();
        let folder = Short::folder();
        let engine = Some(OutsideEngine::start(&folder.join("engine.sock")));
        Self { engine, folder }
    }

    /// The engine's socket.
    pub fn engine_socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    /// A proxy in front of the engine.
    #[track_caller]
    pub fn proxy(&self, options: &[&str]) -> CriProxy {
        let state = self.folder.join("state");
        let options = [&["--state", state.to_str().unwrap()], options].concat();
        CriProxy::start(Path::new(PROGRAM), self.folder.path(), &self.engine_socket(), &options)
    }

    /// The command of a proxy, without options.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--listen").arg(self.folder.join("cri.sock"));
        command.arg("--engine").arg(self.engine_socket());
        command.arg("--state").arg(self.folder.join("state"));
        command
    }
}
