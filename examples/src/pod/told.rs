//! The moments of a pod's checkpoint and restore.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use criu_cri::coordinator::{CoordinatorError, Member};
use criu_cri::engine::Moments;
use criu_rs::{HookResult, PodHooks};

use crate::fault::Fault;
use crate::output::Output;
use crate::progress::Progress;

/// Tells a person what happens, and waits at each moment for the other members of a job, if there
/// is a job.
pub(super) struct Told<'a> {
    output: &'a Output,
    member: Option<Mutex<Member>>,
    /// The line of the work that goes on.
    line: Mutex<Line>,
}

/// A line that is shown on a terminal.
enum Line {
    /// No line, or that of the whole operation.
    Whole(Option<Progress>),
    /// The memory that is being read.
    Memory(Progress),
}

impl<'a> Told<'a> {
    pub(super) fn new(output: &'a Output, member: Option<Member>) -> Self {
        Self { output, member: member.map(Mutex::new), line: Mutex::new(Line::Whole(None)) }
    }

    /// Shows the time of the operation, until it ends or its memory is being read.
    pub(super) fn with_line(self, progress: Progress) -> Self {
        progress.show();
        Self { line: Mutex::new(Line::Whole(Some(progress))), ..self }
    }

    /// Registers for a restore, and waits until all members have. Nothing of the restore is made
    /// before, and the network that the member shuts is shut.
    pub(super) fn join_restore(&self) -> Result<(), Fault> {
        let failed = |error: CoordinatorError| Fault::Failed(error.to_string());
        self.with(|member| member.join_restore()).map_err(failed)
    }

    fn with<E>(&self, come: impl FnOnce(&mut Member) -> Result<(), E>) -> Result<(), E> {
        let Some(member) = &self.member else { return Ok(()) };
        come(&mut member.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Moments for Told<'_> {
    /// Waits for the other members while all containers still run.
    fn freezing(&self, _: &[PathBuf]) -> HookResult {
        Ok(self.with(Member::join_dump)?)
    }

    fn frozen(&self) -> HookResult {
        self.output.say("all containers stand still");
        self.with(PodHooks::frozen)
    }

    fn saved(&self) -> HookResult {
        self.output.say("all containers are saved");
        self.with(PodHooks::saved)
    }

    fn reading(&self, done: u64, all: u64) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Line::Whole(whole) = &mut *line {
            // The new line takes the place of the old one.
            drop(whole.take());
            self.output.say("all containers run on, and their memory is read");
            *line = Line::Memory(Progress::of_bytes(all));
        }
        if let Line::Memory(progress) = &*line {
            progress.show_part(done, all);
        }
    }

    fn restored(&self) -> HookResult {
        self.output.say("all containers are there");
        self.with(PodHooks::restored)
    }
}
