//! The moments of a pod, handed on to the caller.

use criu_rs::{HookResult, PodError, PodHooks};

use super::beside::Looked;
use crate::engine::control::Control;
use crate::engine::error::EngineError;

/// Hands the moments of a pod on. CRIU's own limit counts from its start only.
pub(super) struct Told<'a> {
    control: &'a Control<'a>,
    /// The containers of a checkpoint.
    looked: Vec<Looked>,
    /// The reason, if the operation has to end.
    end: Option<EngineError>,
}

impl<'a> Told<'a> {
    pub(super) fn new(control: &'a Control<'a>, looked: Vec<Looked>) -> Self {
        Self { control, looked, end: None }
    }

    /// Returns the reason why the operation did not come to its end.
    pub(super) fn reason(&mut self, error: PodError) -> EngineError {
        self.end.take().unwrap_or_else(|| error.into())
    }

    fn go_on(&mut self) -> HookResult {
        let left = self.control.left().map(drop);
        self.ended(left)
    }

    fn ended(&mut self, result: Result<(), EngineError>) -> HookResult {
        result.map_err(|end| {
            let why = end.to_string();
            self.end = Some(end);
            why.into()
        })
    }
}

impl PodHooks for Told<'_> {
    fn frozen(&mut self) -> HookResult {
        // A session may have begun since the first look. None begins now.
        let alone = self.looked.iter().try_for_each(Looked::check);
        self.ended(alone)?;
        self.control.moments.frozen()?;
        self.go_on()
    }

    fn saved(&mut self) -> HookResult {
        self.control.moments.saved()?;
        self.go_on()
    }

    fn restored(&mut self) -> HookResult {
        self.control.moments.restored()?;
        self.go_on()
    }
}
