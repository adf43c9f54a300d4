//! Containers, as their runtime tells of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use criu_rs::Pid;
use criu_rs::oci::oci_spec::runtime::State;

use crate::fault::Fault;

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Found {
    /// The first process.
    pub(crate) pid: Pid,
    /// The directory that holds `config.json`.
    pub(crate) bundle: PathBuf,
}

/// Asks a runtime for a container, by its id: its command `state` after these flags.
pub(crate) fn ask(
    program: &Path,
    root: Option<&Path>,
    flags: &[String],
    id: &str,
) -> Result<Found, Fault> {
    let runtime = program.display();
    let mut command = Command::new(program);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let said = command.args(flags).arg("state").arg(id).output();
    let said = said.map_err(|error| Fault::system(format!("start {runtime}"), error))?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        let why = if why.trim().is_empty() { said.status.to_string() } else { why.into() };
        return Err(Fault::usage(format!("{runtime} state {id}: {}", why.trim())));
    }
    let state: State = serde_json::from_slice(&said.stdout)
        .map_err(|error| Fault::system(format!("read what {runtime} says of {id}"), error))?;
    let pid = (*state.pid()).filter(|pid| *pid > 0).and_then(|pid| Pid::try_from(pid).ok());
    let pid = pid.ok_or_else(|| {
        let status = state.status();
        Fault::usage(format!("container {id} does not run: {runtime} says {status}"))
    })?;
    Ok(Found { pid, bundle: state.bundle().clone() })
}
