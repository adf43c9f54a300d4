//! The work of a checkpoint: everything after the questions.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use criu_archive::write::upper_layer;
use criu_rs::{Cancel, HookResult};

use super::cgroups::unchanged;
use super::criu_options::annotation;
use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::layer::{root, upper_directory};
use super::output::{OpenOutput, archive_name};
use super::recovery::Making;
use super::refusal::Refusal;
use super::state_dir::StateDir;
use super::{Pods, parts};
use crate::engine::{After, Control, Moments, Options, Subject};
use crate::error::Code;

/// A checkpoint to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) engine: EngineFacts,
    pub(super) sandbox: SandboxFacts,
    /// The containers, in the order in which they started.
    pub(super) containers: Vec<ContainerFacts>,
    /// Names of init containers that have ended.
    pub(super) completed: Vec<String>,
    pub(super) subject: Subject,
    pub(super) options: Options,
    pub(super) deadline: Instant,
}

impl Pods {
    /// Saves a pod. Blocks. Returns notes for the caller.
    pub(super) fn save(
        &self,
        job: &Job,
        output: OpenOutput,
        cancel: &Cancel,
    ) -> Result<Vec<String>, Refusal> {
        let making = Making::new(&job.sandbox.status.id, output.output().clone());
        let unmade = Unmade { state: &self.state, making, output, kept: false };
        unmade
            .making
            .write(&self.state)
            .map_err(Refusal::file("write into", &self.settings.state))?;
        let result = self.write(job, &unmade.making, &unmade.output, cancel);
        match result.map_err(|refusal| unmade.output.named(refusal)) {
            Ok(notes) => unmade.keep().map(|()| notes),
            Err(refusal) => match unmade.undo() {
                Ok(()) => Err(refusal),
                Err(error) => Err(refusal.and(&format!("its files could not be removed: {error}"))),
            },
        }
    }

    fn write(
        &self,
        job: &Job,
        making: &Making,
        output: &OpenOutput,
        cancel: &Cancel,
    ) -> Result<Vec<String>, Refusal> {
        let work = output.begin()?;
        let moments = Told {
            state: &self.state,
            making,
            subject: &job.subject,
            layers: job
                .subject
                .containers
                .iter()
                .map(|one| {
                    let layer = work.path.join(format!("{}.diff", one.name));
                    upper_directory(one).map(|upper| (upper, layer))
                })
                .collect::<Result<_, _>>()?,
            problem: Mutex::new(None),
            deadline: job.deadline,
            cancel,
        };
        let specs = parts::specs(&job.subject)?;
        let control = Control {
            deadline: Some(job.deadline),
            cancel: Some(cancel),
            moments: &moments,
            after: After::Resume,
        };
        let saved = self.tool.checkpoint(&job.subject, &work.path, &job.options, &control);
        let own = moments.problem.into_inner().unwrap_or_default();
        let saved = match (saved, own) {
            (Ok(saved), None) => saved,
            (Err(_), Some(own)) | (Ok(_), Some(own)) => return Err(own),
            (Err(error), None) => return Err(error.into()),
        };
        // The pod runs again.
        making.write(&self.state).map_err(Refusal::file("write into", &self.settings.state))?;
        let watch = |_| match stopped(job.deadline, cancel) {
            None => std::ops::ControlFlow::Continue(()),
            Some(_) => std::ops::ControlFlow::Break(()),
        };
        let options = annotation(&self.settings.options, &job.sandbox.status.id, &job.options);
        let result = parts::archives(job, &work, specs, options.as_deref(), &watch)
            .and_then(|()| self.record(job, &saved, &work.done, &watch))
            .and_then(|notes| output.end(&work).map(|()| notes));
        result.map_err(|refusal| stopped(job.deadline, cancel).unwrap_or(refusal))
    }
}

/// Returns the refusal of an operation that is not to go on.
fn stopped(deadline: Instant, cancel: &Cancel) -> Option<Refusal> {
    if cancel.is_cancelled() {
        return Some(Refusal::new(Code::Cancelled, "the request was cancelled"));
    }
    let text = "the deadline has passed, and the checkpoint was undone";
    (Instant::now() >= deadline).then(|| Refusal::new(Code::DeadlineExceeded, text))
}

/// A checkpoint whose files are removed with this value.
struct Unmade<'a> {
    state: &'a StateDir,
    making: Making,
    output: OpenOutput,
    kept: bool,
}

impl Unmade<'_> {
    /// Keeps the files.
    fn keep(mut self) -> Result<(), Refusal> {
        let removed = self.making.remove(self.state);
        // With the note, the next recovery would remove the files.
        removed.map_err(|error| {
            Refusal::new(Code::Internal, format!("the note of the checkpoint stays: {error}"))
        })?;
        self.kept = true;
        Ok(())
    }

    /// Removes the files now.
    fn undo(mut self) -> io::Result<()> {
        self.kept = true;
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        self.output.clear()?;
        self.making.remove(self.state)
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // A note that stays is followed at the next start.
            let _ = self.clear();
        }
    }
}

/// The moments of a checkpoint: the note before the pod is frozen, and the changes in the root file
/// systems while it is.
struct Told<'a> {
    state: &'a StateDir,
    making: &'a Making,
    subject: &'a Subject,
    /// The upper directory of each container, and the file that gets the changes.
    layers: Vec<(PathBuf, PathBuf)>,
    /// The reason of a hook that refused.
    problem: Mutex<Option<Refusal>>,
    deadline: Instant,
    cancel: &'a Cancel,
}

impl Told<'_> {
    fn told(&self, result: Result<(), Refusal>) -> HookResult {
        result.map_err(|refusal| {
            let text = refusal.text().to_owned();
            if let Ok(mut problem) = self.problem.lock() {
                problem.get_or_insert(refusal);
            }
            text.into()
        })
    }

    /// Writes the changes of each root file system.
    fn layers(&self) -> Result<(), Refusal> {
        let watch = |_| match stopped(self.deadline, self.cancel) {
            None => std::ops::ControlFlow::Continue(()),
            Some(_) => std::ops::ControlFlow::Break(()),
        };
        for (upper, layer) in &self.layers {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(layer);
            let file = file.map_err(Refusal::file("make", layer))?;
            let written = upper_layer(upper, io::BufWriter::new(file), &watch);
            let file = written.map_err(|error| {
                stopped(self.deadline, self.cancel).unwrap_or_else(|| error.into())
            })?;
            let flushed = file.into_inner().map_err(io::IntoInnerError::into_error);
            flushed.map_err(Refusal::file("write", layer))?;
        }
        Ok(())
    }
}

impl Moments for Told<'_> {
    fn freezing(&self, cgroups: &[PathBuf]) -> HookResult {
        let written = self.making.write_with(self.state, cgroups);
        self.told(written.map_err(|error| {
            Refusal::new(Code::Internal, format!("the note of the checkpoint: {error}"))
        }))
    }

    fn frozen(&self) -> HookResult {
        // What was found out before may have changed until now, and does not change any more.
        let result = unchanged(self.subject).and_then(|()| {
            self.subject.containers.iter().try_for_each(|container| root(container).map(|_| ()))
        });
        self.told(result)
    }

    fn saved(&self) -> HookResult {
        self.told(self.layers())
    }
}

/// Returns the path of a container's archive.
pub(super) fn archive_path(directory: &Path, container: &str) -> Result<PathBuf, Refusal> {
    Ok(directory.join(archive_name(container)?))
}
