//! Many steps, some beside each other, with a report at the end.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::failures::failures;
use super::screen::Screen;
use super::times::Times;
use super::watch::Tally;
use super::{AGAIN, Ended, execute};
use crate::misunderstood::Misunderstood;
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
pub(crate) enum Start {
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
        Self::decided(name, move || Ok(Start::Run(Box::new(make()?))))
    }

    /// Makes a step that is left out, with the reason, if its command cannot be made.
    pub(crate) fn optional(
        name: &'static str,
        make: impl FnOnce() -> Result<Command> + Send + 'static,
    ) -> Self {
        Self::decided(name, move || match make() {
            Ok(command) => Ok(Start::Run(Box::new(command))),
            Err(reason) => Ok(Start::LeaveOut(reason.to_string())),
        })
    }

    /// Makes a step that decides at its start if it is left out. The step fails if that fails.
    pub(crate) fn decided(
        name: &'static str,
        make: impl FnOnce() -> Result<Start> + Send + 'static,
    ) -> Self {
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
    /// The lines about what was tried again.
    Passed(Vec<String>),
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

    /// Keeps only the steps of these names; all of them if there are none.
    ///
    /// # Errors
    /// [`Misunderstood`] if no step has one of the names.
    pub(crate) fn only(mut self, names: &[&str]) -> Result<Self> {
        let known: Vec<&str> = self.stages.iter().flatten().flatten().map(|s| s.name).collect();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            let known = known.join(", ");
            let error = format!("unknown step `{name}`; the steps are: {known}");
            return Err(Misunderstood(error).into());
        }
        for lane in self.stages.iter_mut().flatten() {
            lane.retain(|step| names.is_empty() || names.contains(&step.name));
        }
        self.stages.iter_mut().for_each(|lanes| lanes.retain(|lane| !lane.is_empty()));
        self.stages.retain(|lanes| !lanes.is_empty());
        Ok(self)
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
        report(&outcomes, tally, seconds)
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
        let about = if total < 100.0 {
            format!("{total:.0} s")
        } else {
            format!("{:.0} min", total / 60.0)
        };
        format!("{count} steps, about {about} in all:\n{lines}")
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
                    return Outcome::Passed(repeated(&ended));
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
        of_name.any(|(_, outcome)| !matches!(outcome, Outcome::Passed(_)))
    }
}

/// The reason of a failure: how the command ended, and what failed in its output.
fn story(ended: &Ended) -> String {
    let output = fs::read(&ended.log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let (status, log) = (ended.status, ended.log.display());
    format!("{status}; the whole output: {log}\n{}", failures(&output))
}

/// The lines of an output that the report repeats.
fn repeated(ended: &Ended) -> Vec<String> {
    let output = fs::read(&ended.log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    output.lines().filter(|line| line.starts_with(AGAIN)).map(str::to_owned).collect()
}

/// Prints what failed, was tried again or left out, and the sums.
fn report(outcomes: &[(&'static str, Outcome)], tally: Tally, seconds: u64) -> Result<()> {
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        if let Outcome::Failed(story) = outcome {
            eprintln!("\n==== {name} failed: {story}");
            failed.push(*name);
        }
    }
    eprintln!();
    let mut left_out = 0;
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::LeftOut(reason) => {
                eprintln!("left out: {name}: {reason}");
                left_out += 1;
            }
            Outcome::Passed(lines) => lines.iter().for_each(|line| eprintln!("{name}: {line}")),
            Outcome::Failed(_) => {}
        }
    }
    eprintln!("tests: {tally}, in {} test programs", tally.programs);
    let passed = outcomes.len() - failed.len() - left_out;
    let failures = failed.len();
    eprintln!("steps: {passed} passed, {failures} failed, {left_out} left out, in {seconds} s");
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}", failed.join(", ")).into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn shell(name: &'static str, script: &str) -> Step {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        Step::new(name, shell)
    }

    #[test]
    fn steps_after_a_failure_run_but_those_that_need_it() {
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = |name| {
            let ran = Arc::clone(&ran);
            Step::made(name, move || {
                ran.fetch_add(1, Ordering::Relaxed);
                Ok(Command::new("true"))
            })
        };
        let mut plan = Plan::default();
        plan.stage(vec![vec![
            shell("bad", "echo test result: FAILED. 1 passed; 2 failed; 0 ignored; exit 1"),
            counted("needs bad").needs("bad"),
            counted("after bad"),
        ]]);
        let lost = Step::optional("lost", || Err("not here".into()));
        plan.stage(vec![vec![counted("beside")], vec![lost, counted("gentle").gently()]]);
        let error = plan.run().unwrap_err().to_string();
        assert_eq!(error, "failed: bad, needs bad");
        assert_eq!(ran.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn steps_are_chosen_by_name() {
        let plan = || {
            let mut plan = Plan::default();
            plan.stage(vec![vec![shell("one", "true"), shell("two", "true")]]);
            plan.stage(vec![vec![shell("three", "true")]]);
            plan
        };
        let names = |plan: Plan| -> Vec<&str> {
            plan.stages.iter().flatten().flatten().map(|step| step.name).collect()
        };
        assert_eq!(names(plan().only(&[]).unwrap()), ["one", "two", "three"]);
        assert_eq!(names(plan().only(&["two"]).unwrap()), ["two"]);
        let error = plan().only(&["four"]).err().unwrap();
        assert!(error.is::<Misunderstood>());
        assert_eq!(error.to_string(), "unknown step `four`; the steps are: one, two, three");
    }

    #[test]
    fn the_expected_time_of_lanes_is_that_of_the_longest() {
        let mut plan = Plan::default();
        plan.stage(vec![vec![shell("vm", "true")], vec![shell("fmt", "true")]]);
        let times = Times::default();
        let (vm, fmt) = (times.expected("vm").unwrap(), times.expected("fmt").unwrap());
        let minutes = vm.max(fmt) / 60.0;
        let announced = plan.announce(&times);
        let head = format!("2 steps, about {minutes:.0} min in all:\n    vm {vm:.0} s\n");
        assert!(announced.starts_with(&head), "{announced}");
        assert!(announced.contains("    beside that: fmt "), "{announced}");
    }
}
