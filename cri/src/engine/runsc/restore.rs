//! Restores by `runsc`: the sandbox's own container first, and then the others.

use std::path::Path;
use std::time::{Duration, Instant};

use criu_archive::record::Record;

use super::command::words;
use super::{FOLDER, Runsc, end, options, state_file};
use crate::engine::control::Control;
use crate::engine::error::EngineError;
use crate::engine::options::Options;
use crate::engine::outcome::Started;
use crate::engine::subject::Place;

impl Runsc {
    /// Restores a sandbox.
    pub(super) fn bring_back(
        &self,
        from: &Path,
        record: &Record,
        into: &Place,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Started>, EngineError> {
        into.check(record)?;
        self.refuse_unfit(record)?;
        let folder = from.join(FOLDER);
        state_file(&folder)?;
        let mut all = Vec::new();
        if let Some(sandbox) = &into.sandbox {
            let id = &sandbox.id;
            if into.containers.iter().all(|container| container.id != *id) {
                let bundle = sandbox.bundle.as_ref().ok_or_else(|| {
                    let what = format!("the sandbox {}", id.escape_debug());
                    EngineError::invalid(what, "has no bundle, and runsc restores it, too")
                })?;
                all.push((id, bundle));
            }
        }
        all.extend(into.containers.iter().map(|container| (&container.id, &container.bundle)));
        // A restore that fails removes what has these ids.
        let there = self.list(control)?;
        if let Some(state) = there.iter().find(|state| all.iter().any(|(id, _)| **id == state.id)) {
            let what = format!("the container {}", state.id.escape_debug());
            let why =
                format!("runsc has one already, in the state {}", state.status.escape_debug());
            return Err(EngineError::invalid(what, why));
        }
        let mut made = Made { runsc: self, ids: Vec::new() };
        let last = all.len() - 1;
        for (n, (id, bundle)) in all.into_iter().enumerate() {
            if n == last {
                control.moments.restored().map_err(EngineError::Hook)?;
            }
            let mut command = words([&"restore" as _, &"--detach" as _]);
            command.extend(options::arguments(options).into_iter().map(Into::into));
            command.extend(words([&"--image-path" as _, &folder as _]));
            command.extend(words([&"--bundle" as _, bundle as _, id as _]));
            made.ids.push(id);
            self.call(&command, control)?;
        }
        let started = into.containers.iter().map(|container| {
            let pid = self.state(&container.id, control)?.pid();
            Ok(Started { name: container.name.clone(), id: container.id.clone(), pid })
        });
        let started = started.collect::<Result<_, EngineError>>()?;
        made.ids.clear();
        Ok(started)
    }
}

/// Containers that were made. They are removed with this value.
struct Made<'a> {
    runsc: &'a Runsc,
    ids: Vec<&'a String>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let deadline = Instant::now().checked_add(REMOVAL_TIME);
        let control = Control { deadline, ..Control::default() };
        // A sandbox that waits for the rest of its containers takes no commands.
        let sandbox = self.ids.first().and_then(|id| self.runsc.state(id, &control).ok());
        if let Some(pid) = sandbox.and_then(|sandbox| sandbox.pid()) {
            let _ = end::end(pid);
        }
        for id in self.ids.iter().rev() {
            let _ = self.runsc.call(&["delete", "--force", id], &control);
        }
    }
}

/// Time for the removal of containers after a restore that failed.
const REMOVAL_TIME: Duration = Duration::from_secs(30);
