//! Brings a saved process back, stays its parent, and ends with its exit status.
//!
//! `restore DIRECTORY`; the variable CRIU names the criu to use.

use std::error::Error;
use std::process::ExitCode;

use criu_rs::{Criu, HookResult, Hooks, Pid, Restore, Tcp};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, directory] = args.as_slice() else {
        eprintln!("Usage: restore DIRECTORY");
        return ExitCode::from(2);
    };
    match restore(directory) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("restore: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The answers to CRIU's notices while it restores.
struct Watch;

impl Hooks for Watch {
    /// Runs when all processes are there and none runs yet. An error here ends them again.
    fn post_restore(&mut self, root: Pid) -> HookResult {
        println!("process {root} is about to run again");
        Ok(())
    }
}

fn restore(directory: &str) -> Result<u8, Box<dyn Error>> {
    let criu = Criu::at(std::env::var_os("CRIU").unwrap_or_else(|| "criu".into()));
    let restore = Restore::new(directory).tcp(Tcp::Established).rst_sibling(true);
    let restored = restore.run_with(&criu, &mut Watch)?;
    // A sibling of criu is a child of this process, which can wait for it.
    let status = restored.wait()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
