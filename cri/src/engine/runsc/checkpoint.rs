//! Checkpoints by `runsc`: the whole sandbox while it is paused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::command::words;
use super::state::State;
use super::{FOLDER, Runsc, end, options, state_file};
use crate::engine::control::{After, Control};
use crate::engine::error::EngineError;
use crate::engine::folders::Folders;
use crate::engine::options::Options;
use crate::engine::outcome::Saved;
use crate::engine::seen::Seen;
use crate::engine::subject::Subject;

impl Runsc {
    /// Saves a sandbox.
    pub(super) fn save(
        &self,
        what: &Subject,
        to: &Path,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Saved>, EngineError> {
        what.check()?;
        let sandbox = self.sandbox_of(what, control)?;
        let (mut folders, folder) = (Folders::default(), to.join(FOLDER));
        folders.make(folder.clone())?;
        control.moments.freezing(&[]).map_err(EngineError::Hook)?;
        let since = Instant::now();
        control.left()?;
        // A pause that fails may have paused the sandbox, too.
        let paused = Paused { runsc: self, sandbox: &sandbox.id };
        paused.call("pause")?;
        control.moments.frozen().map_err(EngineError::Hook)?;
        let mut command = words::<'_>([&"checkpoint" as _, &"--leave-running" as _]);
        command.extend(options::arguments(options).into_iter().map(Into::into));
        command.extend(words([&"--image-path" as _, &folder as _, &sandbox.id as _]));
        self.call(&command, control)?;
        // What runsc has written is to be what a restore will accept.
        state_file(&folder)?;
        control.moments.saved().map_err(EngineError::Hook)?;
        control.left()?;
        match control.after {
            After::Resume => paused.resume()?,
            After::Stop => paused.end(&sandbox)?,
        }
        folders.keep();
        let (frozen, mut arguments) = (since.elapsed(), self.flags.clone());
        arguments.extend(options::arguments(options));
        let saved = what.containers.iter().map(|container| Saved {
            name: container.name.clone(),
            folder: PathBuf::from(FOLDER),
            frozen,
            arguments: arguments.clone(),
            features: Vec::new(),
            seen: Seen::outside(container),
            #[cfg(feature = "instant")]
            instant: None,
        });
        Ok(saved.collect())
    }

    /// Finds the sandbox of a subject, which has to name everything that runs in it.
    fn sandbox_of(&self, what: &Subject, control: &Control<'_>) -> Result<State, EngineError> {
        let named: BTreeSet<&str> = what.containers.iter().map(|one| one.id.as_str()).collect();
        let id = match (&what.sandbox, what.containers.as_slice()) {
            (Some(sandbox), _) => &sandbox.id,
            (None, [only]) => &only.id,
            (None, _) => {
                let why = "runsc saves whole sandboxes: name the sandbox of the containers";
                return Err(EngineError::invalid("the containers", why));
            }
        };
        let all = self.list(control)?;
        let inside = all.iter().filter(|state| state.is_in(id) && !state.is_over());
        let found: BTreeSet<&str> = inside
            .map(|state| state.id.as_str())
            .filter(|found| found != id || named.contains(id.as_str()))
            .collect();
        if found != named {
            let list = |ids: &BTreeSet<&str>| {
                let ids: Vec<_> = ids.iter().map(|id| id.escape_debug().to_string()).collect();
                if ids.is_empty() { "none".into() } else { ids.join(", ") }
            };
            let why = format!(
                "found {} in the sandbox {}, wanted {}: runsc saves all of a sandbox",
                list(&found),
                id.escape_debug(),
                list(&named),
            );
            return Err(EngineError::invalid("the containers", why));
        }
        let invalid =
            |why: &str| EngineError::invalid(format!("the sandbox {}", id.escape_debug()), why);
        let sandbox = all.into_iter().find(|state| state.id == *id);
        let sandbox = sandbox.ok_or_else(|| invalid("runsc has no such container"))?;
        // After a checkpoint that fails the sandbox would run.
        if sandbox.status == "paused" {
            return Err(invalid("found a paused sandbox, wanted a running one"));
        }
        Ok(sandbox)
    }
}

/// A sandbox that is paused or about to be. The sandbox is resumed with this value.
struct Paused<'a> {
    runsc: &'a Runsc,
    sandbox: &'a str,
}

impl Paused<'_> {
    fn resume(self) -> Result<(), EngineError> {
        let resumed = self.thaw();
        std::mem::forget(self);
        resumed
    }

    /// Ends all containers of the sandbox before they run on, and waits until they have ended.
    fn end(self, sandbox: &State) -> Result<(), EngineError> {
        let Some(pid) = sandbox.pid() else { return Ok(()) };
        let failed = |errno: Errno| EngineError::io("end the sandbox", self.sandbox)(errno.into());
        end::end(pid).map_err(failed)?;
        std::mem::forget(self);
        Ok(())
    }

    fn thaw(&self) -> Result<(), EngineError> {
        self.call("resume")
    }

    /// Pauses or resumes the sandbox. The caller's limits do not hold here: runsc notes a pause
    /// when the sandbox is paused already, and resumes no sandbox without the note.
    fn call(&self, word: &str) -> Result<(), EngineError> {
        let deadline = Instant::now().checked_add(THAW_TIME);
        let control = Control { deadline, ..Control::default() };
        self.runsc.call(&[word, self.sandbox], &control)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let _ = self.thaw();
    }
}

/// Time for a pause, and for the end of a checkpoint that was interrupted. The sandbox itself
/// writes the files, and takes no command before it has written them.
const THAW_TIME: Duration = Duration::from_secs(60);
