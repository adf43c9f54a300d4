//! A small dump, which shows that a CRIU works on this kernel.
//!
//! `criu check` looks at single features, and passes CRIU 4.1.1 on Linux 6.18, where it dumps no
//! internet socket. So a process that holds one is dumped, and goes on running.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::{Result, process, session, workspace};

/// The word that makes `xtask` the process to dump.
pub(crate) const WORD: &str = "--hold-a-socket";

/// Dumps a process with a listening socket, as root.
///
/// # Errors
/// The errors in CRIU's log, if the dump fails.
pub(crate) fn dump(criu: &Path) -> Result<()> {
    let folder = Scratch::make()?;
    // A copy: a build may replace our file, and CRIU dumps no large program that is deleted.
    let program = folder.0.join("holder");
    fs::copy(workspace::ourselves(), &program)?;
    let ready = folder.0.join("ready");
    let mut holder = Command::new(&program);
    holder.arg(WORD).arg(&ready).current_dir("/");
    holder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let holder = Holder(holder.spawn()?);
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        if Instant::now() > deadline {
            return Err("the process to dump does not start".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut dump = Command::new(criu);
    dump.args(["dump", "--leave-running", "-v1", "--log-file", LOG, "--tree"]);
    dump.arg(holder.0.id().to_string()).arg("--images-dir").arg(&folder.0);
    let output = process::finish(&mut dump)?;
    if output.status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(folder.0.join(LOG)).unwrap_or_default();
    let said = if log.trim().is_empty() { process::said(&output) } else { log };
    Err(process::indent(said.trim()).into())
}

/// The process to dump: holds a socket, and says so with a file.
pub(crate) fn main(words: &[OsString]) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    session::close_strays()?;
    setsid()?;
    let _socket = TcpListener::bind("127.0.0.1:0")?;
    let ready = words.first().ok_or("no file is named")?;
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

/// A process that takes longer to start does not start.
const PATIENCE: Duration = Duration::from_secs(10);
