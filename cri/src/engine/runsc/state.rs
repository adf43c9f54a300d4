//! The containers that `runsc` knows.

use std::collections::BTreeMap;

use criu_rs::Pid;
use serde::Deserialize;

use super::Runsc;
use crate::engine::control::Control;
use crate::engine::error::EngineError;

/// A container, as `runsc list` and `runsc state` show it.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) status: String,
    /// The process of the sandbox; -1 if it has ended.
    pub(super) pid: i32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl State {
    /// Says whether the container is in the sandbox with this id.
    pub(super) fn is_in(&self, sandbox: &str) -> bool {
        let annotated = self.annotations.get("io.kubernetes.cri.sandbox-id");
        self.id == sandbox || annotated.is_some_and(|id| id == sandbox)
    }

    /// Says whether the container has ended.
    pub(super) fn is_over(&self) -> bool {
        self.status == "stopped"
    }

    /// The process of the sandbox, if it has one.
    pub(super) fn pid(&self) -> Option<Pid> {
        Pid::new(self.pid)
    }
}

impl Runsc {
    /// Returns all containers.
    pub(super) fn list(&self, control: &Control<'_>) -> Result<Vec<State>, EngineError> {
        let said = self.read(&["list", "-format=json"], control)?;
        // No containers are `null`.
        let all: Option<Vec<State>> = serde_json::from_str(said.trim()).map_err(unread)?;
        Ok(all.unwrap_or_default())
    }

    /// Returns a container.
    pub(super) fn state(&self, id: &str, control: &Control<'_>) -> Result<State, EngineError> {
        let said = self.read(&["state", id], control)?;
        serde_json::from_str(&said).map_err(unread)
    }
}

fn unread(error: serde_json::Error) -> EngineError {
    let why = error.to_string().escape_debug().to_string();
    EngineError::invalid("the answer of runsc", why)
}
