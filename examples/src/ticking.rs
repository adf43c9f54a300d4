//! A line with the time that work takes, on a terminal only, for work that reports nothing itself.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that shows the time since it was made. Short work shows nothing. Dropping the value
/// clears the line.
#[derive(Debug)]
pub(crate) struct Ticking {
    bar: ProgressBar,
    /// The thread that shows the line, and the sender that ends the thread when it is dropped.
    shower: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Ticking {
    /// Shows what is done.
    pub(crate) fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(&format!("{{spinner}} {what} {{elapsed}}"))
        {
            bar.set_style(style);
        }
        let shower = io::stderr().is_terminal().then(|| {
            let (end, ended) = channel();
            let shown = bar.clone();
            let thread = thread::spawn(move || {
                while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    if shown.is_hidden() {
                        shown.set_draw_target(ProgressDrawTarget::stderr());
                    }
                    shown.tick();
                }
            });
            (end, thread)
        });
        Self { bar, shower }
    }

    /// Returns a writer to an output that may be the same terminal. The line is taken away while
    /// something is written.
    pub(crate) fn beside<W: Write>(&self, output: W) -> Beside<W> {
        Beside { bar: self.bar.clone(), output }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.shower.take() {
            drop(end);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

/// A writer to an output beside a line.
#[derive(Debug)]
pub(crate) struct Beside<W> {
    bar: ProgressBar,
    output: W,
}

impl<W: Write> Write for Beside<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| self.output.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bar.suspend(|| self.output.flush())
    }
}

/// The time before the line is shown, and between two looks of it.
const PAUSE: Duration = Duration::from_millis(150);
