//! The times of an operation's steps.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::output::micros;

/// Steps that are done, each with its time.
pub(super) struct Steps {
    begun: Instant,
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Begins the first step.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, done: Vec::new() }
    }

    /// Ends a step, and begins the next.
    pub(super) fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push((name, now - self.last));
        self.last = now;
    }

    /// Returns the steps in their order, and the time of all, in microseconds.
    pub(super) fn add_to(&self, facts: &mut Value) {
        let steps = self.done.iter();
        let steps = steps.map(|(name, time)| json!({ "step": name, "elapsed_us": micros(*time) }));
        facts["steps"] = steps.collect();
        facts["elapsed_us"] = micros(self.begun.elapsed()).into();
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, time)) in self.done.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {:.3} s", time.as_secs_f64())?;
        }
        Ok(())
    }
}
