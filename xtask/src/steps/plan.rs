//! Many steps, some beside each other, with a report at the end.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::failures::failures;
use super::screen::Screen;
use super::times::Times;
use super::watch::Tally;
use super::{Ended, execute};
use crate::{Result, process};

/// A step of a plan.
pub(crate) struct Step {
    name: &'static str,
    /// The step without whose success this one cannot work.
    needs: Option<&'static str>,
    /// Other work on the machine goes first.
    is_gentle: bool,
    make: Box<dyn FnOnce() -> Result<Start> + Send>,
}

/// The command of a step, or the reason to leave the step out.
enum Start {
    Run(Box<Command>),
    LeaveOut(String),
}

impl Step {
    /// Makes a step of a command.
    pub(crate) fn new(name: &'static str, command: Command) -> Self {
        Self::made(name, || Ok(command))
    }

    /// Makes a step whose command is made when the step starts. The step fails if that fails.
    pub(crate) fn made(
        name: &'static str,
        make: impl FnOnce() -> Result<Command> + Send + 'static,
    ) -> Self {
        let make = move || Ok(Start::Run(Box::new(make()?)));
        Self { name, needs: None, is_gentle: false, make: Box::new(make) }
    }

    /// Makes a step that is left out, with the reason, if its command cannot be made.
    pub(crate) fn optional(
        name: &'static str,
        make: impl FnOnce() -> Result<Command> + Send + 'static,
    ) -> Self {
        let make = move || match make() {
            Ok(command) => Ok(Start::Run(Box::new(command))),
            Err(reason) => Ok(Start::LeaveOut(reason.to_string())),
        };
        Self { name, needs: None, is_gentle: false, make: Box::new(make) }
    }

    /// Skips this step if the one of that name does not pass.
    pub(crate) fn needs(mut self, name: &'static str) -> Self {
        self.needs = Some(name);
        self
    }

    /// Lets other work on the machine go first.
    pub(crate) fn gently(mut self) -> Self {
        self.is_gentle = true;
        self
    }
}

/// Steps in stages, one stage after the other. A stage has lanes, which run beside each other; the
/// steps of a lane run one after the other. A step that fails does not stop the others.
#[derive(Default)]
pub(crate) struct Plan {
    stages: Vec<Vec<Vec<Step>>>,
}

/// The end of a step.
enum Outcome {
    Passed,
    /// The reason, and the part of the output that says more.
    Failed(String),
    LeftOut(String),
}

/// The state that all lanes share.
struct Run {
    screen: Screen,
    times: Mutex<Times>,
    outcomes: Mutex<Vec<(&'static str, Outcome)>>,
    tally: Mutex<Tally>,
}

impl Plan {
    /// Adds a stage with these lanes.
    pub(crate) fn stage(&mut self, lanes: Vec<Vec<Step>>) {
        self.stages.push(lanes);
    }

    /// Prints the steps with their expected time, runs all, and prints the failures at the end.
    ///
    /// # Errors
    /// Names the steps that failed.
    pub(crate) fn run(self) -> Result<()> {
        let times = Times::read();
        eprint!("{}", self.announce(&times));
        let steps = self.stages.iter().flatten().map(Vec::len).sum();
        let run = Run {
            screen: Screen::new(steps),
            times: Mutex::new(times),
            outcomes: Mutex::default(),
            tally: Mutex::default(),
        };
        let started = Instant::now();
        for lanes in self.stages {
            thread::scope(|scope| {
                for lane in lanes {
                    scope.spawn(|| lane.into_iter().for_each(|step| run.step(step)));
                }
            });
        }
        let seconds = started.elapsed().as_secs();
        let outcomes = run.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tally = run.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        report(&outcomes, tally, steps, seconds)
    }

    /// `14 steps, about 19 min:` and their names; a stage with several lanes on a line for each.
    fn announce(&self, times: &Times) -> String {
        let mut total = 0.0;
        let mut lines = String::new();
        let mut count = 0;
        for lanes in &self.stages {
            let mut longest: f32 = 0.0;
            for (place, lane) in lanes.iter().enumerate() {
                let expected = |step: &Step| times.expected(step.name);
                let seconds: f32 = lane.iter().filter_map(expected).sum();
                longest = longest.max(seconds);
                count += lane.len();
                let about = |step: &Step| match expected(step) {
                    Some(seconds) => format!("{} {seconds:.0} s", step.name),
                    None => step.name.to_owned(),
                };
                let names: Vec<String> = lane.iter().map(about).collect();
                let beside = if place > 0 { "beside that: " } else { "" };
                lines += &format!("    {beside}{}\n", names.join(", "));
            }
            total += longest;
        }
        format!("{count} steps, about {:.0} min in all:\n{lines}", (total / 60.0).max(1.0))
    }
}

impl Run {
    fn step(&self, step: Step) {
        let name = step.name;
        let expected = lock(&self.times).expected(name);
        self.screen.begin(name, expected);
        let outcome = self.outcome(step);
        lock(&self.outcomes).push((name, outcome));
    }

    /// Runs a step, and shows how it ends.
    fn outcome(&self, step: Step) -> Outcome {
        let name = step.name;
        if let Some(needed) = step.needs.filter(|needed| self.has_failed(needed)) {
            let reason = format!("the step {needed} did not pass");
            self.screen.end(name, &format!("skipped: {reason}"));
            return Outcome::Failed(reason);
        }
        let ended = (step.make)().and_then(|start| match start {
            Start::Run(command) if step.is_gentle => {
                let nice = Command::new("nice");
                execute(name, &mut process::wrap(&nice, &command), &self.screen).map(Ok)
            }
            Start::Run(mut command) => execute(name, &mut command, &self.screen).map(Ok),
            Start::LeaveOut(reason) => Ok(Err(reason)),
        });
        match ended {
            Ok(Ok(ended)) => {
                self.screen.end(name, &ended.to_string());
                lock(&self.tally).add(ended.tally);
                if ended.status.success() {
                    lock(&self.times).keep(name, ended.seconds);
                    return Outcome::Passed;
                }
                Outcome::Failed(story(&ended))
            }
            Ok(Err(reason)) => {
                self.screen.end(name, &format!("left out: {reason}"));
                Outcome::LeftOut(reason)
            }
            Err(error) => {
                self.screen.end(name, "FAILED");
                Outcome::Failed(error.to_string())
            }
        }
    }

    fn has_failed(&self, name: &str) -> bool {
        let outcomes = lock(&self.outcomes);
        let mut of_name = outcomes.iter().filter(|(other, _)| *other == name);
        of_name.any(|(_, outcome)| !matches!(outcome, Outcome::Passed))
    }
}

/// The reason of a failure: how the command ended, and what failed in its output.
fn story(ended: &Ended) -> String {
    let output = fs::read(&ended.log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let (status, log) = (ended.status, ended.log.display());
    format!("{status}; the whole output: {log}\n{}", failures(&output))
}

/// Prints what failed and the sums.
fn report(
    outcomes: &[(&'static str, Outcome)],
    tally: Tally,
    steps: usize,
    seconds: u64,
) -> Result<()> {
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        if let Outcome::Failed(story) = outcome {
            eprintln!("\n==== {name} failed: {story}");
            failed.push(*name);
        }
    }
    eprintln!();
    for (name, outcome) in outcomes {
        if let Outcome::LeftOut(reason) = outcome {
            eprintln!("left out: {name}: {reason}");
        }
    }
    eprintln!("tests: {tally}, in {} test programs", tally.programs);
    let good = steps - failed.len();
    eprintln!("steps: {good} passed or left out, {} failed, in {seconds} s", failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}", failed.join(", ")).into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
