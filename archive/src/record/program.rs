//! Programs that are installed here, and what they say of themselves.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use super::Record;
use super::host::{Host, Program};
use super::tool::ToolKind;

impl Program {
    /// Finds the program of a tool in `PATH`, and asks for its version. `None` if there is no such
    /// program, or none that answers.
    pub fn installed(kind: &ToolKind) -> Option<Self> {
        let names: &[&str] = match kind {
            ToolKind::Criu => &["criu"],
            ToolKind::Runsc => &["runsc"],
            ToolKind::Qemu => &[QEMU, "qemu-kvm"],
            ToolKind::Firecracker => &["firecracker"],
            ToolKind::Other(_) => &[],
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = env::split_paths(&path).collect();
        let files = names.iter().flat_map(|name| folders.iter().map(move |at| at.join(name)));
        files.filter(|file| file.is_file()).find_map(|file| Self::ask(kind, &file).ok())
    }

    /// Starts a program with `--version`, and reads its answer.
    ///
    /// # Errors
    /// The errors of starting the program; `InvalidData` for an answer without a version;
    /// `TimedOut` after ten seconds.
    pub fn ask(kind: &ToolKind, program: &Path) -> io::Result<Self> {
        let answer = answer(program)?;
        let version = version(kind, &answer).ok_or_else(|| {
            let what = format!("{} tells no version of {kind}", program.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(Self::new(kind.clone(), version, program.to_string_lossy()))
    }
}

impl Host {
    /// Looks for the programs that the containers of a record need, in `PATH`. Programs that are
    /// known already stay.
    #[must_use]
    pub fn with_programs(mut self, record: &Record) -> Self {
        let mut programs = self.programs.take().unwrap_or_default();
        for container in &record.containers {
            let kind = &container.tool.kind;
            if !programs.iter().any(|known| known.kind == *kind) {
                programs.extend(Program::installed(kind));
            }
        }
        self.programs = Some(programs);
        self
    }
}

/// Returns what a program prints with `--version`.
fn answer(program: &Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + PATIENCE;
    let stdout = child.stdout.take();
    let (sender, pieces) = mpsc::channel();
    thread::spawn(move || {
        let Some(stdout) = stdout else { return };
        let mut stdout = stdout.take(LONGEST);
        let mut piece = [0; 4096];
        loop {
            match stdout.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(len) if len > 0 => {
                    let piece = piece.get(..len).unwrap_or_default().to_vec();
                    if sender.send(piece).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
    });
    if let Err(error) = wait(&mut child, end) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    // A wrapper can leave a child that holds the pipe: its end may never come.
    let end = Instant::now() + AFTER_END;
    let mut bytes = Vec::new();
    while let Ok(piece) = pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
        bytes.extend(piece);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn wait(child: &mut Child, end: Instant) -> io::Result<()> {
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Finds the version in the answer of a program.
pub(super) fn version(kind: &ToolKind, answer: &str) -> Option<String> {
    let before = match kind {
        ToolKind::Criu => "Version: ",
        ToolKind::Runsc => "runsc version ",
        ToolKind::Qemu => "QEMU emulator version ",
        ToolKind::Firecracker => "Firecracker v",
        ToolKind::Other(_) => return None,
    };
    let said = answer.lines().find_map(|line| line.trim().strip_prefix(before))?;
    let version = said.split_whitespace().next()?;
    let is_version = version.len() <= 128 && version.bytes().any(|byte| byte.is_ascii_digit());
    is_version.then(|| version.to_owned())
}

/// Time that a program has for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for the rest of an answer after the program has ended.
const AFTER_END: Duration = Duration::from_secs(1);

/// Most bytes that are read of an answer.
const LONGEST: u64 = 64 << 10;

/// QEMU's name for this machine is that of Rust on the machines where others checkpoint with it.
const QEMU: &str =
    if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
