//! Notes about checkpoints in the making, and what becomes of them after a kill.

use std::fmt;
use std::io;
use std::path::PathBuf;

use criu_rs::Pid;
use serde::{Deserialize, Serialize};

use super::Pods;
use super::frozen::{Thawed, thaw_all};
use super::output::Output;
use super::state_dir::{StateDir, is_id, note};

/// A note about a checkpoint in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Making {
    version: u32,
    /// Id of the sandbox.
    sandbox: String,
    /// The directory, and the names of the files to come.
    output: Output,
    /// Directories of the cgroups that are or will be frozen.
    cgroups: Vec<PathBuf>,
}

/// The result of a recovery, one for each checkpoint that was not finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The note, or the id of the sandbox.
    pub of: String,
    /// Set if the pod was still frozen.
    pub thawed: bool,
    /// Processes of CRIU that had to be killed.
    pub killed: Vec<Pid>,
    /// The reason why the note could not be followed. The note is kept then.
    pub problem: Option<String>,
}

impl Pods {
    /// Finishes what a killed program has left: thaws pods, removes files of checkpoints that are
    /// not complete, and holds on to networks of pods that are being restored. Sandboxes of
    /// restores that were not finished are left to [`tidy`](Self::tidy), which asks the engine.
    ///
    /// Blocks until the criu processes of that program have ended.
    pub fn recover(&self) -> Vec<Recovered> {
        let mut all = Vec::new();
        match self.state.notes(BEGIN) {
            Ok(notes) => all.extend(notes.iter().map(|note| self.recover_one(note))),
            Err(error) => all.push(Recovered {
                of: self.settings.state.display().to_string(),
                thawed: false,
                killed: Vec::new(),
                problem: Some(error.to_string()),
            }),
        }
        let others = self.starts.recover().into_iter().chain(self.recover_begun());
        all.extend(others.map(|(of, problem)| Recovered {
            of,
            thawed: false,
            killed: Vec::new(),
            problem: Some(problem),
        }));
        all
    }

    fn recover_one(&self, note: &str) -> Recovered {
        let follow = || -> io::Result<(String, Thawed)> {
            let making: Making = self.state.read(note)?;
            if making.version != VERSION || !is_id(&making.sandbox) || !making.output.is_sound() {
                return Err(io::Error::other("its values make no sense"));
            }
            let thawed = thaw_all(&making.cgroups, self.settings.patience)?;
            making.output.clear()?;
            self.state.remove(note)?;
            Ok((making.sandbox, thawed))
        };
        match follow() {
            Ok((of, Thawed { were_frozen, killed })) => {
                Recovered { of, thawed: were_frozen, killed, problem: None }
            }
            Err(error) => {
                let of = self.state.place(note).display().to_string();
                let problem = Some(error.to_string());
                Recovered { of, thawed: false, killed: Vec::new(), problem }
            }
        }
    }
}

impl Making {
    /// A note for a sandbox, of which nothing is frozen yet.
    pub(super) fn new(sandbox: &str, output: Output) -> Self {
        Self { version: VERSION, sandbox: sandbox.into(), output, cgroups: Vec::new() }
    }

    /// Writes the note.
    pub(super) fn write(&self, state: &StateDir) -> io::Result<()> {
        state.write(&note(BEGIN, &self.sandbox), self)
    }

    /// Writes the note with cgroups that will be frozen.
    pub(super) fn write_with(&self, state: &StateDir, cgroups: &[PathBuf]) -> io::Result<()> {
        Self { cgroups: cgroups.to_vec(), ..self.clone() }.write(state)
    }

    /// Removes the note.
    pub(super) fn remove(&self, state: &StateDir) -> io::Result<()> {
        state.remove(&note(BEGIN, &self.sandbox))
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) => write!(f, "{}: cannot be recovered: {problem}", self.of),
            None if self.thawed => write!(f, "sandbox {}: thawed, and the files removed", self.of),
            None => write!(f, "sandbox {}: the files removed, nothing was frozen", self.of),
        }?;
        for pid in &self.killed {
            write!(f, "; killed the criu process {pid}, which had not ended")?;
        }
        Ok(())
    }
}

/// Begins the names of these notes.
const BEGIN: &str = "checkpoint-";

/// Version of the form of these notes.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_says_what_was_done() {
        let mut one = Recovered { of: "1".into(), thawed: true, killed: Vec::new(), problem: None };
        assert_eq!(one.to_string(), "sandbox 1: thawed, and the files removed");
        one.thawed = false;
        assert!(!one.to_string().contains("thawed"), "{one}");
        one.problem = Some("p".into());
        assert_eq!(one.to_string(), "1: cannot be recovered: p");
    }
}
