//! The whole time of the program `criu-rs` beside `criu`, from the start to the end of the process.
//!
//! The two take turns, so that a change of the machine's speed meets both.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Result, crius, prepare, summary};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

fn main() -> Result<()> {
    // Restored tasks become children of this process, which reaps them.
    prepare();
    let program = program()?;
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let folder = std::env::temp_dir().join(format!("criu-start-{}", std::process::id()));
    println!("| CRIU | command | times | criu | criu-rs | difference of the medians |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (version, criu) in crius()? {
        for word in [Word::Version, Word::Check, Word::Dump, Word::Restore] {
            let mut times = [Vec::new(), Vec::new()];
            for turn in 0..rounds * 2 {
                // The first of each pair changes as well.
                let which = (turn + turn / 2) % 2;
                let path = if which == 0 { &criu } else { &program };
                times[which].push(word.measure(path, &criu, &folder)?);
            }
            let [mut theirs, mut ours] = times;
            let columns = format!("{} | {}", summary(&mut theirs), summary(&mut ours));
            let difference = middle(&ours) - middle(&theirs);
            println!("| {version} | `{}` | {rounds} | {columns} | {difference:+.2} |", word.name());
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The program of a release build, which lies above the folder of this program.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).ok_or("this program lies in no folder")?;
    let program = folder.join("criu-rs");
    if program.exists() {
        return Ok(program);
    }
    Err("build the program first: cargo build --release -p criu-cli".into())
}

#[derive(Clone, Copy)]
enum Word {
    Version,
    Check,
    Dump,
    Restore,
}

impl Word {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "--version",
            Self::Check => "check",
            Self::Dump => "dump -R",
            Self::Restore => "restore -d",
        }
    }

    /// Runs a program once. What it needs is made before, and taken away after the measurement.
    fn measure(self, program: &Path, criu: &Path, folder: &Path) -> Result<Duration> {
        let mut command = Command::new(program);
        command.env("CRIU", criu);
        match self {
            Self::Version => timed(command.arg("--version")),
            Self::Check => timed(command.arg("check")),
            Self::Dump => {
                let mut sleeper = Sleeper::start(folder)?;
                command.args(["dump", "-R", "-t", &sleeper.pid(), "-D"]).arg(folder);
                let time = timed(&mut command)?;
                sleeper.child.kill()?;
                sleeper.child.wait()?;
                Ok(time)
            }
            Self::Restore => {
                let mut sleeper = Sleeper::start(folder)?;
                let pid = sleeper.pid();
                timed(Command::new(criu).args(["dump", "-t", &pid, "-D"]).arg(folder))?;
                sleeper.child.wait()?;
                command.args(["restore", "-d", "-D"]).arg(folder);
                let time = timed(&mut command)?;
                let pid = Pid::from_raw(pid.parse()?);
                kill(pid, Signal::SIGKILL)?;
                waitpid(pid, None)?;
                Ok(time)
            }
        }
    }
}

/// A process to dump.
struct Sleeper {
    child: Child,
}

impl Sleeper {
    /// Starts a process in a session of its own, and empties the folder for its images.
    fn start(folder: &Path) -> Result<Self> {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir(folder)?;
        let mut command = Command::new("setsid");
        command.args(["sleep", "1000"]);
        let child = silent(&mut command).spawn()?;
        let name = format!("/proc/{}/comm", child.id());
        let is_up = || std::fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n");
        if !criu_lab::soon(is_up) {
            return Err("sleep does not start".into());
        }
        // Until it sleeps.
        std::thread::sleep(Duration::from_millis(20));
        Ok(Self { child })
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

/// Runs a program to its end.
fn timed(command: &mut Command) -> Result<Duration> {
    let command = silent(command);
    let begun = Instant::now();
    let status = command.status()?;
    let time = begun.elapsed();
    if status.success() { Ok(time) } else { Err(format!("{command:?}: {status}").into()) }
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Returns the middle of sorted times, in milliseconds.
fn middle(sorted: &[Duration]) -> f64 {
    sorted.get(sorted.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
