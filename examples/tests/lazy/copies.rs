//! Copies of one snapshot, each in a pid namespace of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::wait::wait;

use criu_lab::soon;

/// A pid namespace in which a command has restored something. All that is in it ends with this
/// value.
#[derive(Debug)]
pub struct Copy {
    child: Child,
    status: PathBuf,
}

impl Copy {
    /// Starts a command in a new namespace. `status` is the file for its exit status.
    pub fn start(command: &Command, status: &Path) -> Self {
        Self::in_place_of(command, status, status, status)
    }

    /// Starts a command in a new namespace, in which the directory `own` lies over `shared`.
    pub fn in_place_of(command: &Command, status: &Path, own: &Path, shared: &Path) -> Self {
        let _ = std::fs::remove_file(status);
        let _ = std::fs::File::create(status);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        unshare.arg(std::env::current_exe().unwrap()).arg(INIT).args([status, own, shared]);
        unshare.arg(command.get_program()).args(command.get_args());
        unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: unshare.spawn().unwrap(), status: status.into() }
    }

    /// Waits until the command has ended.
    ///
    /// # Errors
    /// If it has not ended with success.
    pub fn is_restored(&self) -> Result<(), String> {
        let mut said = String::new();
        soon(|| {
            said = std::fs::read_to_string(&self.status).unwrap_or_default();
            said.ends_with('\n')
        });
        if said == "0\n" { Ok(()) } else { Err(format!("the restore ended with {said:?}")) }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `FILE OWN SHARED PROGRAM WORDS`: process 1 of a namespace. It mounts OWN over SHARED, runs a
/// program, writes the program's exit status into a file, and reaps.
pub fn init(words: &[String]) -> ExitCode {
    let (own, shared, none) = (words[1].as_str(), words[2].as_str(), None::<&str>);
    mount(Some(own), shared, none, MsFlags::MS_BIND, none).unwrap();
    let status = Command::new(&words[3]).args(&words[4..]).stdin(Stdio::null()).status().unwrap();
    let code = status.code().unwrap_or(-1);
    std::fs::write(&words[0], format!("{code}\n")).unwrap();
    while wait().is_ok() {}
    ExitCode::SUCCESS
}

/// The word that makes this program process 1 of a namespace.
pub const INIT: &str = "--init";
