//! Named steps, each with its time; what they print is kept in a file and shown on failure.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::Command;
use std::time::Instant;

use crate::{Result, workspace};

/// Runs one step to its end.
///
/// # Errors
/// With everything the step printed, if it fails.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    let folder = workspace::target_dir().join("xtask");
    let log = folder.join(format!("{name}.log"));
    fs::create_dir_all(&folder)?;
    let file = File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);

    eprint!("{name:10} ");
    io::stderr().flush()?;
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        format!("cannot start {program}: {error}")
    })?;
    // A piped standard input is a helper's lifeline: `wait` would close it.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    let seconds = started.elapsed().as_secs_f32();
    if !status.success() {
        eprintln!("FAILED after {seconds:.1} s");
        let said = fs::read(&log)?;
        io::stderr().write_all(&said)?;
        return Err(format!("step {name} failed ({status}); its output: {}", log.display()).into());
    }
    eprintln!("ok {seconds:7.1} s");
    Ok(())
}
