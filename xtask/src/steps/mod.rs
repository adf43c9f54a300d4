//! Named steps: a command each, with its time, its progress and a file with its output.
//!
//! ```text
//! watch      test programs and their results, in the output as it is written
//! times      the seconds that each step took the last time
//! failures   the part of an output that says what failed
//! screen     progress, on a terminal or in lines
//! plan       many steps, some beside each other, with a report at the end
//! ```

mod failures;
mod plan;
mod screen;
mod times;
mod watch;

pub(crate) use plan::{Plan, Start, Step};

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use screen::Screen;
use watch::{Tally, Watch};

use crate::{Result, workspace};

/// Runs one step to its end.
///
/// # Errors
/// If the step fails, after its whole output is printed.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    let screen = Screen::new(0);
    screen.begin(name, None);
    let ended = execute(name, command, &screen);
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            screen.end(name, "cannot start");
            return Err(error);
        }
    };
    screen.end(name, &ended.to_string());
    if ended.status.success() {
        return Ok(());
    }
    io::stderr().write_all(&fs::read(&ended.log)?)?;
    let (status, log) = (ended.status, ended.log.display());
    Err(format!("step {name} failed ({status}); its output: {log}").into())
}

/// A step that has ended.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    seconds: f32,
    /// The sum of all results that test programs printed.
    tally: Tally,
    log: PathBuf,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.status.success() { "ok" } else { "FAILED" };
        write!(f, "{word:6} {:7.1} s", self.seconds)?;
        if self.tally.programs > 0 {
            write!(f, "   {}", self.tally)?;
        }
        Ok(())
    }
}

/// Runs the command of a step, and reports what its output says meanwhile.
fn execute(name: &str, command: &mut Command, screen: &Screen) -> Result<Ended> {
    let log = log(name);
    fs::create_dir_all(log.parent().unwrap_or(&log))?;
    // A file, not a pipe: CRIU dumps what a test has for standard output.
    let file = File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);

    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        format!("cannot start {program}: {error}")
    })?;
    // A piped standard input is a helper's lifeline: `wait` would close it.
    let lifeline = child.stdin.take();
    let mut output = File::open(&log)?;
    let mut watch = Watch::default();
    let status = loop {
        let status = child.try_wait()?;
        let mut text = Vec::new();
        output.read_to_end(&mut text)?;
        for program in watch.feed(&text) {
            screen.program(name, &program);
        }
        screen.tick();
        match status {
            Some(status) => break status,
            None => thread::sleep(PAUSE),
        }
    };
    drop(lifeline);
    Ok(Ended { status, seconds: started.elapsed().as_secs_f32(), tally: watch.tally(), log })
}

/// The file with the output of a step.
fn log(name: &str) -> PathBuf {
    folder().join(format!("{name}.log"))
}

/// The folder with the outputs and times of steps.
fn folder() -> PathBuf {
    workspace::target_dir().join(if cfg!(test) { "xtask/unit" } else { "xtask" })
}

/// The start of a line of output that the report repeats: the step has tried something again.
pub(crate) const AGAIN: &str = "started again: ";

/// The time between two looks at an output.
const PAUSE: Duration = Duration::from_millis(100);
