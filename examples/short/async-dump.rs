//! A dump in an event loop: the program does other things meanwhile, in one thread.
//!
//! `async-dump PID DIRECTORY` saves a process and lets it run on.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use criu_rs::{AfterDump, Criu, Dump, Dumped, Pid, Session};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let [_, pid, directory] = args.as_slice() else {
        eprintln!("Usage: async-dump PID DIRECTORY\n\nThe variable CRIU names the criu to use.");
        return ExitCode::from(2);
    };
    match dump(&pid.to_string_lossy(), Path::new(directory)).await {
        Ok(dumped) => {
            println!();
            if let Ok(stats) = dumped.stats {
                println!("{stats}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nasync-dump: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn dump(pid: &str, directory: &Path) -> Result<Dumped, Box<dyn Error>> {
    let pid: Pid = pid.parse()?;
    let criu = Criu::at(std::env::var_os("CRIU").unwrap_or_else(|| "criu".into()));
    let dump = Dump::new(pid, directory).after_dump(AfterDump::LeaveRunning);
    let mut finished = pin!(finish(dump.start(&criu)?));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            dumped = &mut finished => return dumped,
            _ = ticks.tick() => {
                print!(".");
                std::io::stdout().flush()?;
            }
        }
    }
}

/// Goes on with a session whenever its descriptor is ready.
async fn finish<T>(mut session: Session<T>) -> Result<T, Box<dyn Error>> {
    // A duplicate, because the session has to be borrowed to go on.
    let descriptor = session.as_fd().try_clone_to_owned()?;
    // Newer versions of tokio want `unsafe` here, for types whose descriptor may change. This one's
    // cannot.
    #[allow(deprecated)]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    loop {
        if let Some(outcome) = session.advance(&mut ())? {
            return Ok(outcome);
        }
        descriptor.readable().await?.clear_ready();
    }
}
