//! Moments of an operation, as a test sees them.

use std::path::PathBuf;
use std::sync::Mutex;

use criu_cri::engine::Moments;
use criu_rs::HookResult;

/// Writes down the moments, and does something at one of them.
#[derive(Default)]
pub struct Noted<'a> {
    names: Mutex<Vec<&'static str>>,
    pub cgroups: Mutex<Vec<PathBuf>>,
    /// The moment, and what is done then.
    pub at: Option<(&'static str, &'a (dyn Fn() -> HookResult + Sync))>,
}

impl<'a> Noted<'a> {
    pub fn at(name: &'static str, act: &'a (dyn Fn() -> HookResult + Sync)) -> Self {
        Self { at: Some((name, act)), ..Self::default() }
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.names.lock().unwrap().clone()
    }

    fn note(&self, name: &'static str) -> HookResult {
        self.names.lock().unwrap().push(name);
        match self.at {
            Some((wanted, act)) if wanted == name => act(),
            _ => Ok(()),
        }
    }
}

impl Moments for Noted<'_> {
    fn freezing(&self, cgroups: &[PathBuf]) -> HookResult {
        self.cgroups.lock().unwrap().extend_from_slice(cgroups);
        self.note("freezing")
    }

    fn frozen(&self) -> HookResult {
        self.note("frozen")
    }

    fn saved(&self) -> HookResult {
        self.note("saved")
    }

    fn reading(&self, done: u64, all: u64) {
        assert!(done <= all, "{done} of {all}");
        if !self.names().contains(&"reading") {
            self.note("reading").unwrap();
        }
    }

    fn restored(&self) -> HookResult {
        self.note("restored")
    }
}
