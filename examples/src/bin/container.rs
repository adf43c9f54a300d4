//! `container`: saves and brings back a container of runc, crun or another OCI runtime.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use criu_examples::{Exit, Fault, Output, criu_program, dump_stats, micros, restore_stats};
use criu_rs::oci::oci_spec::runtime::State;
use criu_rs::oci::{
    ConsoleSocket, Container, ContainerDump, ContainerRestore, Error, Keys, RestoreHooks,
};
use criu_rs::{AfterDump, Criu, HookResult, Hooks, LogLevel, Pid, Tcp};
use serde_json::{Value, json};

#[derive(Parser)]
#[command(
    name = "container",
    about = "Save and bring back a container of an OCI runtime",
    after_help = MORE
)]
struct Options {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Save a running container, by the id its runtime knows it by
    Checkpoint(Save),
    /// Bring a container back from images, as its bundle describes it
    Restore(BringBack),
}

#[derive(Args)]
struct Save {
    /// The container's id.
    id: String,
    /// The runtime that made it: it is asked for the container's state.
    #[arg(long, default_value = "runc")]
    runtime: PathBuf,
    /// Where that runtime keeps its state.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Let it run on afterwards.
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Save its network namespace empty, for whoever restores to fill.
    #[arg(long)]
    empty_network: bool,
    /// Largest unlinked file that is saved, in bytes.
    #[arg(long)]
    ghost_limit: Option<u32>,
    #[command(flatten)]
    both: Both,
}

#[derive(Args)]
struct BringBack {
    /// The id to tell the bundle's hooks.
    id: String,
    /// The directory with config.json.
    #[arg(short, long)]
    bundle: PathBuf,
    /// A socket where somebody waits for the container's terminal.
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// Write the process id of the container into this file.
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// Where the container's root is mounted for CRIU meanwhile; a temporary directory unless given.
    #[arg(long)]
    state: Option<PathBuf>,
    /// KEY=PATH: mount PATH in place of the external mount KEY, which config.json does not describe.
    #[arg(long, value_parser = source)]
    source: Vec<(String, PathBuf)>,
    /// Mount whatever the images say, also what config.json does not describe.
    #[arg(long)]
    trust_images: bool,
    /// Stay until the container ends, and end as it does.
    #[arg(long)]
    wait: bool,
    /// The dump left its network namespace empty.
    #[arg(long)]
    empty_network: bool,
    #[command(flatten)]
    both: Both,
}

/// What both take.
#[derive(Args)]
struct Both {
    /// The directory of the images.
    #[arg(short = 'D', long)]
    images_dir: PathBuf,
    /// The directory for logs and statistics; that of the images unless given.
    #[arg(short = 'W', long)]
    work_dir: Option<PathBuf>,
    /// Keep TCP connections.
    #[arg(long, conflicts_with = "tcp_close")]
    tcp_established: bool,
    /// Drop TCP connections.
    #[arg(long)]
    tcp_close: bool,
    /// Keep file locks.
    #[arg(long)]
    file_locks: bool,
    /// Accept unix sockets whose peer is outside.
    #[arg(long)]
    ext_unix_sk: bool,
    /// The container is a job of this terminal.
    #[arg(long)]
    shell_job: bool,
    /// The criu program; that of $CRIU or PATH unless given.
    #[arg(long)]
    criu: Option<PathBuf>,
    /// What happened as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

const MORE: &str = "\
checkpoint leaves images and descriptors.json as the runtimes themselves do: what
it saves, `runc restore` and `crun restore` bring back, and restore brings back
what they save. After a checkpoint that ends the container its runtime still knows
it as stopped, until it is told to delete it. What restore brings back belongs to
no runtime. CRIU reads the configuration file in the annotation org.criu.config,
or else /etc/criu/runc.conf, or before that /etc/criu/crun.conf for --runtime crun.

Examples:
  container checkpoint web -D img                     save and end the container `web` of runc
  container checkpoint web -D img --runtime crun -R   save one of crun's, and let it run on
  container restore web -b bundle -D img              bring it back
  container restore web -b bundle -D img --tcp-established --wait

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no criu, 4 stopped.
With --wait that of the container.";

fn source(text: &str) -> Result<(String, PathBuf), String> {
    let (key, path) = text.split_once('=').ok_or("wanted KEY=PATH")?;
    Ok((key.to_owned(), path.into()))
}

fn main() -> ExitCode {
    let (name, json, result) = match Options::parse().word {
        Word::Checkpoint(save) => ("checkpoint", save.both.json, save.run()),
        Word::Restore(back) => ("restore", back.both.json, back.run()),
    };
    match result {
        Ok(code) => code,
        Err(fault) => Output::new("container", name, json).fault(&fault).into(),
    }
}

impl Save {
    fn run(self) -> Result<ExitCode, Fault> {
        let output = Output::new("container", "checkpoint", self.both.json);
        let criu = self.both.criu()?;
        let (pid, bundle) = self.find()?;
        let crun = self.runtime.file_name().is_some_and(|name| name == "crun");
        let keys = if crun { Keys::Crun } else { Keys::Runc };
        let container = Container::open(bundle).map_err(|error| self.both.fault(error))?.keys(keys);
        // As the runtimes do.
        let container = match crun {
            true => container.default_config_file("/etc/criu/crun.conf"),
            false => container,
        };
        let container = container.default_config_file("/etc/criu/runc.conf");
        let checkpoint = container.checkpoint(pid).map_err(|error| self.both.fault(error))?;
        make_directory(&self.both.images_dir)?;
        let after = if self.leave_running { AfterDump::LeaveRunning } else { AfterDump::Kill };
        let dump = checkpoint.dump(&self.both.images_dir).after_dump(after);
        let mut dump = self.both.dump(dump)?.empty_net_ns(self.empty_network);
        if let Some(bytes) = self.ghost_limit {
            dump = dump.ghost_limit(bytes);
        }
        let begun = Instant::now();
        let dumped = dump.run(&criu);
        let dumped = dumped.map_err(|error| self.both.logged(error, "dump.log"))?;
        let ended = if self.leave_running { "it runs on" } else { "it has been ended" };
        let images = self.both.images_dir.display();
        output.done(
            format!("container {} (process {pid}) is saved in {images}; {ended}", self.id),
            json!({
                "id": self.id, "pid": pid.as_raw(), "images": images.to_string(),
                "external": checkpoint.external().iter().map(ToString::to_string).collect::<Vec<_>>(),
                "elapsed_us": micros(begun.elapsed()),
                "statistics": dumped.stats.as_ref().map_or(Value::Null, dump_stats),
            }),
        );
        Ok(Exit::Done.into())
    }

    /// The container's first process and its bundle, as the runtime tells them.
    fn find(&self) -> Result<(Pid, PathBuf), Fault> {
        let runtime = self.runtime.display();
        let mut command = Command::new(&self.runtime);
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        let said = command.arg("state").arg(&self.id).output();
        let said = said.map_err(|error| Fault::system(format!("start {runtime}"), error))?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            let why = if why.trim().is_empty() { said.status.to_string() } else { why.into() };
            return Err(Fault::usage(format!("{runtime} state {}: {}", self.id, why.trim())));
        }
        let state: State = serde_json::from_slice(&said.stdout).map_err(|error| {
            Fault::system(format!("read what {runtime} says of {}", self.id), error)
        })?;
        let pid = (*state.pid()).filter(|pid| *pid > 0).and_then(|pid| Pid::try_from(pid).ok());
        let pid = pid.ok_or_else(|| {
            Fault::usage(format!(
                "container {} does not run: {runtime} says {}",
                self.id,
                state.status()
            ))
        })?;
        Ok((pid, state.bundle().clone()))
    }
}

impl BringBack {
    fn run(self) -> Result<ExitCode, Fault> {
        let output = Output::new("container", "restore", self.both.json);
        let criu = self.both.criu()?;
        let fault = |error| self.both.fault(error);
        let mut container = Container::open(&self.bundle)
            .map_err(fault)?
            .default_config_file("/etc/criu/runc.conf")
            .trust_images(self.trust_images);
        for (key, path) in &self.source {
            container = container.source(key, path);
        }
        let plan = container.restore(&self.both.images_dir).map_err(fault)?;
        let made = match &self.state {
            Some(_) => None,
            None => Some(temporary()?),
        };
        let state = self.state.as_ref().or(made.as_ref().map(|made| &made.0));
        let state = state.ok_or_else(|| Fault::usage("--state: which directory?"))?;
        make_directory(state)?;
        let restore = plan.prepare(state).map_err(fault)?;
        let (input, out, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = [input.as_fd(), out.as_fd(), error.as_fd()];
        let restore = self.both.restore(restore.stdio(stdio))?.empty_net_ns(self.empty_network);
        let mut own = Own { pid_file: self.pid_file.as_deref() };
        let mut hooks = RestoreHooks::new(&container, &self.id, &mut own);
        if let Some(socket) = &self.console_socket {
            hooks = hooks.console(ConsoleSocket::new(socket));
        }
        let begun = Instant::now();
        let restored = restore.run_with(&criu, &mut hooks);
        let restored = restored.map_err(|error| self.both.logged(error, "restore.log"))?;
        drop(restore);
        drop(made);
        output.done(
            format!("container {} runs again as process {}", self.id, restored.pid),
            json!({
                "id": self.id, "pid": restored.pid.as_raw(), "elapsed_us": micros(begun.elapsed()),
                "statistics": restored.stats.as_ref().map_or(Value::Null, restore_stats),
            }),
        );
        if !self.wait {
            return Ok(Exit::Done.into());
        }
        let status =
            restored.wait().map_err(|error| Fault::system("wait for the container", error))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// What is done while nothing runs yet: a restore whose process nobody would know is refused.
struct Own<'a> {
    pid_file: Option<&'a Path>,
}

impl Hooks for Own<'_> {
    fn post_restore(&mut self, root: Pid) -> HookResult {
        let Some(file) = self.pid_file else { return Ok(()) };
        fs::write(file, root.to_string())
            .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
    }
}

impl Both {
    fn criu(&self) -> Result<Criu, Fault> {
        criu_program(self.criu.as_deref()).map(Criu::at)
    }

    fn tcp(&self) -> Tcp {
        match (self.tcp_established, self.tcp_close) {
            (true, _) => Tcp::Established,
            (_, true) => Tcp::Close,
            _ => Tcp::Refuse,
        }
    }

    fn dump<'a>(&'a self, dump: ContainerDump<'a>) -> Result<ContainerDump<'a>, Fault> {
        let dump = dump.tcp(self.tcp()).file_locks(self.file_locks).ext_unix_sk(self.ext_unix_sk);
        let dump = dump.shell_job(self.shell_job).log_level(LogLevel::Debug);
        Ok(match &self.work_dir {
            Some(dir) => dump.work_dir(make_directory(dir)?),
            None => dump,
        })
    }

    fn restore<'a>(&'a self, restore: ContainerRestore<'a>) -> Result<ContainerRestore<'a>, Fault> {
        let restore = restore.tcp(self.tcp()).file_locks(self.file_locks);
        let restore = restore.ext_unix_sk(self.ext_unix_sk).shell_job(self.shell_job);
        let restore = restore.log_level(LogLevel::Debug);
        Ok(match &self.work_dir {
            Some(dir) => restore.work_dir(make_directory(dir)?),
            None => restore,
        })
    }

    fn fault(&self, error: Error) -> Fault {
        self.logged(error, "dump.log")
    }

    fn logged(&self, error: Error, log: &str) -> Fault {
        let dir = self.work_dir.as_ref().unwrap_or(&self.images_dir);
        match error {
            Error::Criu(error) => Fault::logged(error, &dir.join(log)),
            error => Fault::Bundle(error.to_string()),
        }
    }
}

/// Makes a directory that may be there already.
fn make_directory(path: &Path) -> Result<&Path, Fault> {
    let made = fs::create_dir_all(path);
    made.map_err(|error| Fault::system(format!("make the directory {}", path.display()), error))?;
    Ok(path)
}

/// A directory that goes with its value.
struct Temporary(PathBuf);

fn temporary() -> Result<Temporary, Fault> {
    let template = std::env::temp_dir().join("container-XXXXXX");
    let made = nix::unistd::mkdtemp(&template).map(Temporary);
    made.map_err(|error| Fault::system("make a temporary directory", error))
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
