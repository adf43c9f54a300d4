//! Progress of steps on standard error: one line that changes on a terminal, else a line for each
//! step and each test program.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The progress of all steps of a run.
#[derive(Debug)]
pub(super) struct Screen {
    state: Mutex<State>,
    is_terminal: bool,
    /// The number of steps; 0 for a step alone, which is not numbered.
    steps: usize,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Running>,
    begun: usize,
    /// The line that stands on the terminal now.
    shown: String,
}

#[derive(Debug)]
struct Running {
    number: usize,
    name: String,
    since: Instant,
    expected: Option<f32>,
    /// The test program that runs now, or nothing.
    program: String,
}

impl Screen {
    /// Makes a screen for a number of steps.
    pub(super) fn new(steps: usize) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { state: Mutex::default(), is_terminal, steps }
    }

    /// Shows that a step starts.
    pub(super) fn begin(&self, name: &str, expected: Option<f32>) {
        let mut state = self.lock();
        state.begun += 1;
        let (number, name) = (state.begun, name.to_owned());
        let running =
            Running { number, name, since: Instant::now(), expected, program: String::new() };
        if !self.is_terminal {
            let about = expected.map_or(String::new(), |s| format!(", about {s:.0} s"));
            self.line(&mut state, &format!("{} started{about}", self.head(&running)));
        }
        state.running.push(running);
    }

    /// Shows that a test program of a step starts.
    pub(super) fn program(&self, name: &str, program: &str) {
        let mut state = self.lock();
        let Some(running) = state.running.iter_mut().find(|running| running.name == name) else {
            return;
        };
        running.program = program.to_owned();
        if !self.is_terminal {
            let seconds = running.since.elapsed().as_secs_f32();
            let line = format!("{} {seconds:6.1} s {program}", self.head(running));
            self.line(&mut state, &line);
        }
    }

    /// Shows how a step ended.
    pub(super) fn end(&self, name: &str, how: &str) {
        let mut state = self.lock();
        let Some(place) = state.running.iter().position(|running| running.name == name) else {
            return;
        };
        let running = state.running.remove(place);
        self.line(&mut state, &format!("{} {how}", self.head(&running)));
    }

    /// Brings the line of a terminal up to date.
    pub(super) fn tick(&self) {
        if self.is_terminal {
            self.draw(&mut self.lock());
        }
    }

    fn draw(&self, state: &mut State) {
        let parts: Vec<String> = state.running.iter().map(|running| self.part(running)).collect();
        let mut line = parts.join(" | ");
        if let Some((end, _)) = line.char_indices().nth(WIDTH) {
            line.truncate(end);
        }
        if line != state.shown {
            let mut stderr = io::stderr().lock();
            _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
            state.shown = line;
        }
    }

    /// `[3/14] test 73 s of about 310 s: tests/real/main.rs`.
    fn part(&self, running: &Running) -> String {
        let Running { name, number, expected, program, .. } = running;
        let mut part = match self.steps {
            0 => String::new(),
            steps => format!("[{number}/{steps}] "),
        };
        part += &format!("{name} {} s", running.since.elapsed().as_secs());
        if let Some(expected) = expected {
            part += &format!(" of about {expected:.0} s");
        }
        if !program.is_empty() {
            part += &format!(": {program}");
        }
        part
    }

    /// `[ 3/14] test            `.
    fn head(&self, running: &Running) -> String {
        let Running { name, number, .. } = running;
        match self.steps {
            0 => format!("{name:10}"),
            steps => format!("[{number:2}/{steps}] {name:22}"),
        }
    }

    /// Prints a line that stays.
    fn line(&self, state: &mut State, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{line}");
        state.shown.clear();
        if self.is_terminal {
            self.draw(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Columns of the line on a terminal. A longer line would wrap on a narrow one.
const WIDTH: usize = 79;
