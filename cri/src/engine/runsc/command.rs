//! Commands of `runsc`, with a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Runsc;
use crate::engine::control::Control;
use crate::engine::error::EngineError;

impl Runsc {
    /// Runs a command, and returns what it has written.
    pub(super) fn read(
        &self,
        words: &[impl AsRef<OsStr>],
        control: &Control<'_>,
    ) -> Result<String, EngineError> {
        let mut output = self.memory()?;
        let to = output.try_clone().map_err(self.failed("start"))?;
        self.run(words, Stdio::from(to), control)?;
        Ok(text(&mut output))
    }

    /// Runs a command. Processes that it starts have no input and no output.
    pub(super) fn call(
        &self,
        words: &[impl AsRef<OsStr>],
        control: &Control<'_>,
    ) -> Result<(), EngineError> {
        self.run(words, Stdio::null(), control)
    }

    fn run(
        &self,
        words: &[impl AsRef<OsStr>],
        output: Stdio,
        control: &Control<'_>,
    ) -> Result<(), EngineError> {
        control.left()?;
        // A pipe would stay open as long as a container that inherits it.
        let mut errors = self.memory()?;
        let to = errors.try_clone().map_err(self.failed("start"))?;
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command.args(&self.flags).args(words).stdin(Stdio::null()).stdout(output).stderr(to);
        let mut child = command.spawn().map_err(self.failed("start"))?;
        let status = wait(&mut child, control)?.map_err(self.failed("wait for"))?;
        if status.success() {
            return Ok(());
        }
        let what = words.first().map(|word| word.as_ref().to_string_lossy().into_owned());
        let said = text(&mut errors);
        Err(EngineError::Tool {
            command: format!("runsc {}", what.unwrap_or_default()),
            status,
            said: last_words(&said),
        })
    }

    /// A file in memory.
    fn memory(&self) -> Result<File, EngineError> {
        let made = memfd_create("runsc", MFdFlags::MFD_CLOEXEC);
        made.map(File::from).map_err(|errno| self.failed("make a file for")(errno.into()))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> EngineError + use<> {
        EngineError::io(doing, self.program.clone())
    }
}

/// Makes the words of a command.
pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a dyn AsRef<OsStr>>) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

/// Waits for the end of a command. Kills it when the operation is to end.
fn wait(
    child: &mut Child,
    control: &Control<'_>,
) -> Result<std::io::Result<ExitStatus>, EngineError> {
    let mut pause = SHORTEST;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Ok(Ok(status)),
            Err(error) => return Ok(Err(error)),
        }
        if let Err(end) = control.left() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(end);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Reads a file in memory from its beginning, up to a limit.
fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.take(MAX_SAID).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the first lines of an error, without control characters. gVisor adds the traces of its
/// threads.
fn last_words(said: &str) -> String {
    let lines = said.lines().take_while(|line| !line.starts_with("goroutine "));
    let lines: Vec<String> = lines
        .filter(|line| !line.trim().is_empty())
        .take(MOST_LINES)
        .map(|line| line.trim().escape_debug().to_string())
        .collect();
    let mut text = lines.join("; ");
    if let Some((at, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(at);
    }
    text
}

/// Bytes of output that are read. The list of a machine with 1,000 containers has some 500 KiB.
const MAX_SAID: u64 = 16 << 20;

/// Lines of an error that are shown.
const MOST_LINES: usize = 3;

/// Characters of an error that are shown.
const MAX_MESSAGE: usize = 1000;

/// Shortest pause between two looks at a command.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longest pause between two looks at a command.
const LONGEST: Duration = Duration::from_millis(16);
