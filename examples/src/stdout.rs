//! Standard output, and the memory that it could not be written.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::exit::Exit;
use crate::shown::json;

/// Standard output, whose errors say so.
#[derive(Debug)]
pub(crate) struct Stdout(io::StdoutLock<'static>);

impl Stdout {
    pub(crate) fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Prints a text at once. A failure is told at the [end](finish) of the program, whose work goes on
/// until then.
pub(crate) fn print(text: &[u8]) {
    let mut out = Stdout::lock();
    note(out.write_all(text).and_then(|()| out.flush()));
}

/// Prints a value as JSON on one line, as [`print`] prints a text.
pub(crate) fn print_json(value: &serde_json::Value) {
    match json(value) {
        Ok(mut text) => {
            text.push(b'\n');
            print(&text);
        }
        Err(error) => note(Err(error)),
    }
}

/// Notes the failure of a text that somebody else has printed.
pub(crate) fn note(result: io::Result<()>) {
    match result {
        // The reader of the output has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = FAILED.set(error.to_string());
        }
        _ => {}
    }
}

/// Says whether standard output can fill up, as a file does and `/dev/full` is.
pub(crate) fn can_fill_up() -> bool {
    let is_null = |meta: &Metadata| {
        std::fs::metadata("/dev/null").is_ok_and(|null| meta.rdev() == null.rdev())
    };
    let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|meta| {
        let kind = meta.file_type();
        let is_device = kind.is_char_device() && !io::stdout().is_terminal() && !is_null(&meta);
        kind.is_file() || is_device
    })
}

/// Ends a program: with this code, or with an error if some of its output is lost.
pub(crate) fn finish(name: &str, code: ExitCode) -> ExitCode {
    note(Stdout::lock().flush());
    let Some(error) = FAILED.get() else { return code };
    let text = "cannot write to standard output";
    let _ = match error.strip_prefix(text) {
        Some(_) => writeln!(io::stderr(), "{name}: {error}"),
        None => writeln!(io::stderr(), "{name}: {text}: {error}"),
    };
    Exit::Failed.into()
}

/// Says whether some output is lost.
pub(crate) fn has_failed() -> bool {
    note(Stdout::lock().flush());
    FAILED.get().is_some()
}

/// The first failure.
static FAILED: OnceLock<String> = OnceLock::new();
