//! The program `criu-cri-proxy`: stands between the kubelet and an engine.

mod manager;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Command, FromArgMatches};
use criu_cri::client::{Client, socket_path};
use criu_cri::engine::Criu;
use criu_cri::pod::{Pods, Settings};
use criu_cri::proxy::{Listening, PodAnswer, Proxy, check};
use nix::sys::signal::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::confine::{self, Connects};
use crate::descriptors;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Output;
use crate::serving::raise_descriptors;
use crate::shown::one_line;
use crate::signals::Signals;
use crate::stdout;
use crate::tool::HELP;
use crate::usage;
use crate::word::VERSION;

/// Options of `criu-cri-proxy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CriProxy {
    /// The socket to listen on; a socket that systemd hands over takes its place
    #[arg(long, value_name = "SOCKET", default_value = "/run/criu-cri-proxy/cri.sock",
        value_parser = socket)]
    listen: PathBuf,
    /// The engine's socket
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock",
        value_parser = socket)]
    engine: PathBuf,
    /// The time that calls have to end after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u32,
    /// Ask the proxy at --listen if calls get through to its engine, and end
    #[arg(long)]
    check: bool,
    /// The criu program that saves pods; by default the one in PATH
    #[arg(long, value_name = "PROGRAM", conflicts_with = "forward_only")]
    criu: Option<PathBuf>,
    /// The directory for notes, by which a frozen pod is thawed after a kill
    #[arg(long, value_name = "DIR", default_value = "/run/criu-cri-proxy/state")]
    state: PathBuf,
    /// Only pass calls on, and answer none: the program then gives up its rights
    #[arg(long)]
    forward_only: bool,
    /// With --forward-only, keep all rights
    #[arg(long, requires = "forward_only")]
    no_confine: bool,
}

/// Runs the program `criu-cri-proxy`.
pub fn criu_cri_proxy() -> ExitCode {
    stdout::finish(NAME, run())
}

/// Makes its command line.
pub(crate) fn command() -> Command {
    let command = CriProxy::augment_args(Command::new(NAME)).version(VERSION);
    command.about(ABOUT).after_help(MORE).help_template(HELP)
}

fn run() -> ExitCode {
    descriptors::hold_back();
    let output = Output::new(NAME, NAME, false);
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args = [OsString::from(NAME)].into_iter().chain(args);
    let read = command().try_get_matches_from(args);
    let proxy = match read.and_then(|matches| CriProxy::from_arg_matches(&matches)) {
        Ok(proxy) => proxy,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            stdout::note(error.print());
            return Exit::Done.into();
        }
        Err(error) => return output.fault(&usage::fault(NAME, usage::text(&error))),
    };
    let done = if proxy.check { proxy.check() } else { proxy.serve(&output) };
    match done {
        Ok(()) => Exit::Done.into(),
        Err(fault) => output.fault(&fault),
    }
}

impl CriProxy {
    fn check(&self) -> Result<(), Fault> {
        let checked = runtime()?.block_on(check(&self.listen));
        checked.map_err(Fault::Failed)?;
        stdout::print(b"ready\n");
        Ok(())
    }

    fn serve(&self, output: &Output) -> Result<(), Fault> {
        raise_descriptors();
        let handed = manager::socket()?;
        let listening = match handed {
            Some(socket) => Listening::inherited(socket),
            None => Listening::bind(&self.listen),
        };
        let listening = listening.map_err(|error| Fault::Failed(error.to_string()))?;
        let path = listening.path().unwrap_or_else(|| self.listen.clone());
        if is_same(&path, &self.engine) {
            let path = path.display();
            return Err(Fault::usage(format!("--engine: {path} is the proxy's own socket")));
        }
        let runtime = runtime()?;
        let signals = Signals::hold(&[Signal::SIGINT, Signal::SIGTERM])?;
        if self.forward_only {
            let _inside = runtime.enter();
            self.leave_pods(output);
        }
        if self.forward_only && !self.no_confine {
            let confined = confine::confine(&[], Connects::ToUnix);
            output.say(confined.missing().unwrap_or_else(|| confined.to_string()));
        } else {
            confine::no_new_privileges();
        }
        let told = output.clone();
        let proxy = Proxy::new(&self.engine).grace(Duration::from_secs(self.grace.into()));
        let mut proxy = proxy.tell(move |notice| told.say(one_line(&notice.to_string())));
        let mut pods = None;
        if !self.forward_only {
            let _inside = runtime.enter();
            let own = self.pods(output)?;
            let told = output.clone();
            let answer = PodAnswer::new(own.clone(), move |line| told.say(one_line(line)));
            proxy = proxy.answer(Arc::new(answer));
            runtime.spawn(tidy(own.clone(), output.clone()));
            pods = Some(own);
        }
        output.say(one_line(&format!(
            "listens on {}, for the engine at {}",
            path.display(),
            self.engine.display()
        )));
        manager::tell("READY=1");
        let (come, stop) = oneshot::channel();
        let wait = move || come.send(signals.wait());
        let waiting = thread::Builder::new().spawn(wait);
        waiting.map_err(|source| Fault::system("start a thread", source))?;
        let end = async move {
            let _ = stop.await;
            manager::tell("STOPPING=1");
        };
        let served = runtime.block_on(proxy.run(listening, end));
        // Without this program nobody opens them.
        for line in pods.iter().flat_map(Pods::leave) {
            output.say(one_line(&line));
        }
        served.map_err(|source| Fault::system(format!("listen on {}", path.display()), source))
    }
}

impl CriProxy {
    /// Opens the state directory, and thaws a pod that an earlier proxy has left frozen.
    fn pods(&self, output: &Output) -> Result<Pods, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Failed(error.to_string());
        let criu = self.criu.as_ref().map_or_else(criu_rs::Criu::new, criu_rs::Criu::at);
        let client = Client::lazy(&self.engine).map_err(|error| failed(&error))?;
        let mut settings = Settings::default();
        settings.state.clone_from(&self.state);
        let pods = Pods::new(client, Arc::new(Criu::new(criu)), settings);
        let pods = pods.map_err(|refusal| failed(&refusal))?;
        for recovered in pods.recover() {
            output.say(one_line(&recovered.to_string()));
        }
        Ok(pods)
    }

    /// Thaws a pod that an earlier proxy has left frozen, and opens networks that it has left shut:
    /// this one has no part in their starts.
    fn leave_pods(&self, output: &Output) {
        if !self.state.exists() {
            return;
        }
        match self.pods(output) {
            Ok(pods) => pods.leave().iter().for_each(|line| output.say(one_line(line))),
            Err(fault) => output.say(one_line(&format!("pods of an earlier proxy: {fault}"))),
        }
        // A thread that has ended is listed for a moment more, and a confinement counts the
        // threads.
        let is_alone = || fs::read_dir("/proc/self/task").is_ok_and(|all| all.count() == 1);
        for _ in 0..100 {
            if is_alone() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Looks after what restores have left, from time to time.
async fn tidy(pods: Pods, output: Output) {
    loop {
        for line in pods.tidy().await {
            output.say(one_line(&line));
        }
        sleep(TIDY).await;
    }
}

/// Makes the runtime of all calls: one thread, which is the fastest for calls that are short.
fn runtime() -> Result<Runtime, Fault> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|source| Fault::system("start", source))
}

/// Returns true if two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    one == other || matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Reads the path of a socket, also as the kubelet writes it: `unix:///run/containerd.sock`.
fn socket(text: &str) -> Result<PathBuf, String> {
    socket_path(text).ok_or_else(|| "expected an absolute path".into())
}

/// Time between two looks at what restores have left.
const TIDY: Duration = Duration::from_secs(60);

/// The name of the program.
pub(crate) const NAME: &str = "criu-cri-proxy";

const ABOUT: &str =
    "Stands between the kubelet and its engine, and adds checkpoints of pods to the engine.";

const MORE: &str = "\
Every call goes to the engine as it is, and its answer comes back as it is. Only root and the user
of the proxy can connect. All calls share one connection to the engine, which is made again when the
engine has been restarted. A call that was on its way then fails with UNAVAILABLE and is not sent
again, because the engine may have executed it.

After SIGTERM the proxy takes no more calls. It waits --grace seconds for the calls that run, and
cuts off the others with UNAVAILABLE. A network that is shut while the containers of a restored pod
start is opened then. systemd can start the proxy by its socket, and is told when the proxy is
ready. The log goes to standard error.

CheckpointPod and RestorePod go to the engine first. The proxy answers them itself if the engine
does not have them and is containerd with runc. The pod that is frozen is noted in --state, and the
next start thaws it if the proxy was killed.

Examples:
  criu-cri-proxy                              in front of containerd
  criu-cri-proxy --engine /run/crio/crio.sock --listen /run/proxy.sock
  criu-cri-proxy --check                      say if calls get through, for a probe
  criu-cri-proxy --forward-only               pass calls on, and answer none
  kubelet --container-runtime-endpoint=unix:///run/criu-cri-proxy/cri.sock ...
  crictl --runtime-endpoint unix:///run/criu-cri-proxy/cri.sock pods

Exit status:
  0  ended by SIGTERM or Ctrl-C; with --check: calls get through
  1  the socket cannot be used; with --check: calls do not get through
  2  wrong usage; nothing was begun";
