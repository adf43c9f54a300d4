//! A small dump, which shows that a CRIU works on this kernel.
//!
//! `criu check` looks at single features, and passes CRIU 4.1.1 on Linux 6.18, where it dumps no
//! internet socket. So a process that holds one is dumped, and goes on running.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, setsid};

use crate::{Result, process, session, workspace};

/// The word that makes `xtask` the process to dump.
pub(crate) const WORD: &str = "--hold-a-socket";

/// Dumps a process with a listening socket, as root.
///
/// # Errors
/// The errors in CRIU's log, if the dump fails or does not end in [`LIMIT`]; the output of the
/// process to dump, if it ends.
pub(crate) fn dump(criu: &Path) -> Result<()> {
    let folder = Scratch::make()?;
    // A copy: a build may replace our file, and CRIU dumps no large program that is deleted.
    let program = folder.0.join("holder");
    fs::copy(workspace::ourselves(), &program)?;
    let (ready, complaint) = (folder.0.join("ready"), folder.0.join("complaint"));
    let mut holder = Command::new(&program);
    holder.arg(WORD).arg(&ready).current_dir("/");
    holder.stdin(Stdio::null()).stdout(Stdio::null());
    holder.stderr(File::create(&complaint)?);
    let mut holder = Holder(holder.spawn()?);
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        if let Some(status) = holder.0.try_wait()? {
            let said = fs::read_to_string(&complaint).unwrap_or_default();
            let said = process::indent(said.trim());
            return Err(format!("    the process to dump has ended ({status}):\n{said}").into());
        }
        if Instant::now() > deadline {
            return Err("    the process to dump does not start".into());
        }
        thread::sleep(PAUSE);
    }
    let mut dump = Command::new(criu);
    dump.args(["dump", "--leave-running", "-v1", "--log-file", LOG, "--tree"]);
    dump.arg(holder.0.id().to_string()).arg("--images-dir").arg(&folder.0);
    let output = folder.0.join("output");
    let status = finish(&mut dump, &output)?;
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let read = |file: &Path| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into();
    let log: String = read(&folder.0.join(LOG));
    let said = if log.trim().is_empty() { read(&output) } else { log };
    let said = process::indent(said.trim());
    Err(match status {
        Some(_) => said,
        None => format!("    the dump has not ended after {} s\n{said}", LIMIT.as_secs()),
    }
    .into())
}

/// Runs the dump with its output in a file. Returns `None` if the dump did not end in [`LIMIT`].
fn finish(dump: &mut Command, output: &Path) -> Result<Option<ExitStatus>> {
    let file = File::create(output)?;
    dump.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut dump = dump.spawn()?;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = dump.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            // Also what criu has started.
            killpg(Pid::from_raw(i32::try_from(dump.id())?), Signal::SIGKILL)?;
            dump.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// The process to dump: holds a socket, and says so with a file.
pub(crate) fn main(words: &[OsString]) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    session::close_strays()?;
    setsid()?;
    let _socket = TcpListener::bind("127.0.0.1:0")?;
    let ready = words.first().ok_or("no file is named")?;
    // The file for complaints is not dumped.
    dup2_stderr(File::options().write(true).open("/dev/null")?)?;
    fs::write(ready, "")?;
    loop {
        thread::park();
    }
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self> {
        let name = format!("evidence-{}", std::process::id());
        let folder = Self(workspace::target_dir().join("xtask").join(name));
        fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The process, which ends with this value.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

const LOG: &str = "dump.log";

/// The time limit of the dump, which usually takes a tenth of a second.
const LIMIT: Duration = Duration::from_secs(60);

/// The time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(5);

/// A process that takes longer to start does not start.
const PATIENCE: Duration = Duration::from_secs(10);
