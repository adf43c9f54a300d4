//! A worker without a process, for tests of the ways workers are ended.

use super::endable::Endable;
use super::subject::Subject;
use crate::host::Held;
use crate::value::Pid;

/// A worker that behaves as told, and notes the calls it gets.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) subject: Subject,
    pub(crate) is_safe: bool,
    pub(crate) heeds_term: bool,
    pub(crate) ended: bool,
    /// The calls so far.
    pub(crate) done: Vec<&'static str>,
}

impl Scripted {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, is_safe: false, heeds_term: true, ended: false, done: Vec::new() }
    }
}

impl Endable for Scripted {
    fn subject(&self) -> Subject {
        self.subject
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn is_gone(&mut self) -> bool {
        self.ended
    }

    fn hold(&mut self, _root: Pid) -> bool {
        self.is_safe
    }

    fn halt(&mut self) -> bool {
        self.done.push("halt");
        !self.ended
    }

    fn sweep(&mut self, root: Option<Pid>) -> Vec<Held> {
        self.done.push("sweep");
        root.and_then(Held::of).into_iter().collect()
    }

    fn terminate(&mut self) {
        self.done.push("terminate");
        self.ended = self.heeds_term;
    }

    fn kill(&mut self) {
        self.done.push("kill");
        self.ended = true;
    }

    fn bury(&mut self, tasks: &[Held]) {
        if !tasks.is_empty() {
            self.done.push("reap");
        }
    }
}
