//! Instant checkpoints: the memory is read while the containers run on.

use std::thread;
use std::time::Duration;

use criu_rs::Pod;

use super::Criu;
use super::checkpoint::{Dumped, DumpedContainer};
use super::options::{COMPRESSION, INSTANT, LZ4};
use super::told::Told;
use crate::engine::control::Control;
use crate::engine::error::EngineError;
use crate::engine::options::Options;
use crate::engine::outcome::SavedInstantly;

/// Refuses options that an instant checkpoint cannot have.
pub(super) fn check(options: &Options) -> Result<(), EngineError> {
    if options.is_on(INSTANT) && options.get(COMPRESSION) == Some(LZ4) {
        let why = format!("compresses no memory: leave `{COMPRESSION}` or `{INSTANT}` away");
        return Err(EngineError::invalid(format!("the option `{INSTANT}`"), why));
    }
    Ok(())
}

/// Captures a pod, and waits until the memory of all containers is in the images.
pub(super) fn save(
    engine: &Criu,
    pod: Pod<'_>,
    control: &Control<'_>,
    told: &mut Told<'_>,
) -> Result<Dumped, EngineError> {
    let captured = pod.instant(&engine.criu, &engine.instant, told);
    let captured = captured.map_err(|error| told.reason(error))?;
    let mut end = None;
    while !captured.is_finished() && end.is_none() {
        thread::sleep(TURN);
        let (done, all) = captured.progress();
        control.moments.reading(done, all);
        end = control.left().err();
    }
    if end.is_some() {
        captured.cancel();
    }
    let frozen = captured.frozen;
    let each = captured.containers.iter();
    let tasks: Vec<_> = each.map(|(_, capture)| capture.tasks.clone()).collect();
    let read = captured.wait().map_err(|error| match EngineError::from(error) {
        // The deadline cancels the reading, too.
        EngineError::Cancelled => end.unwrap_or(EngineError::Cancelled),
        error => error,
    })?;
    let containers = read.into_iter().zip(tasks).map(|((name, read), tasks)| DumpedContainer {
        name,
        instant: Some(SavedInstantly { tasks, read }),
    });
    Ok(Dumped { containers: containers.collect(), frozen })
}

/// Time between two looks at the reading.
const TURN: Duration = Duration::from_millis(10);
