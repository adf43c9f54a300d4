//! Saves a process with all its descendants, and lets it run on.
//!
//! `dump PID DIRECTORY`; the variable CRIU names the criu to use.

use std::error::Error;
use std::process::ExitCode;

use criu_rs::{AfterDump, Criu, Dump, LogLevel, Pid, Tcp};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, pid, directory] = args.as_slice() else {
        eprintln!("Usage: dump PID DIRECTORY");
        return ExitCode::from(2);
    };
    match dump(pid, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // CRIU's first error and the known cause are part of the message.
            eprintln!("dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dump(pid: &str, directory: &str) -> Result<(), Box<dyn Error>> {
    let pid: Pid = pid.parse()?;
    let criu = Criu::at(std::env::var_os("CRIU").unwrap_or_else(|| "criu".into()));
    let dump = Dump::new(pid, directory)
        .after_dump(AfterDump::LeaveRunning)
        .tcp(Tcp::Established)
        .log_level(LogLevel::Debug);

    // A look ahead freezes nothing, and knows which options are missing.
    let report = dump.preflight(&criu)?;
    if !report.will_work() {
        return Err(report.to_string().into());
    }
    let dumped = dump.run(&criu)?;
    println!("process {pid} is saved in {directory}");
    if let Ok(stats) = dumped.stats {
        println!("{stats}");
    }
    Ok(())
}
