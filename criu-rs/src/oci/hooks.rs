//! The runtime's part in a container's restore.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::pipe2;
use oci_spec::runtime::{ContainerState, Hook, State};

use super::console::ConsoleSocket;
use super::container::Container;
use super::error::{Error, Result};
use crate::hooks::{Action, Call, HookResult, Hooks, Wrap};
use crate::host::{Held, tree};
use crate::sys::spawn;
use crate::value::{External, Pid};

/// The hooks of a runtime that restores a container: they run the bundle's hooks and hand over the
/// container's terminal. Every other action goes to the caller's own hooks.
///
/// At setup-namespaces, when the namespaces exist, the `prestart` and then the `createRuntime`
/// hooks run one after another. Each reads the container's state from its standard input. The first
/// hook that fails makes the restore fail.
///
/// ```no_run
/// use criu_rs::Criu;
/// use criu_rs::oci::{ConsoleSocket, Container, RestoreHooks};
///
/// let container = Container::open("/run/bundles/web")?;
/// let restore = container.restore("/ckpt/web")?.prepare("/run/my-runtime/web")?;
/// let mut inner = ();
/// let mut hooks = RestoreHooks::new(&container, "web", &mut inner)
///     .console(ConsoleSocket::new("/run/console.sock"));
/// restore.run_with(&Criu::new(), &mut hooks)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a restore needs these hooks"]
pub struct RestoreHooks<'a> {
    container: &'a Container,
    id: String,
    console: Option<ConsoleSocket>,
    hooks: &'a mut dyn Hooks,
}

impl<'a> RestoreHooks<'a> {
    /// Hooks for the container with this id, and the caller's own.
    pub fn new(container: &'a Container, id: impl Into<String>, hooks: &'a mut dyn Hooks) -> Self {
        Self { container, id: id.into(), console: None, hooks }
    }

    /// Sets the socket that gets the terminal's master. By default the caller's hooks get it.
    pub fn console(mut self, socket: ConsoleSocket) -> Self {
        self.console = Some(socket);
        self
    }

    fn run(&self, root: Pid) -> Result<()> {
        let Some(hooks) = self.container.spec().hooks() else { return Ok(()) };
        let mut state = State::default();
        let spec = self.container.spec();
        state
            .set_version(spec.version().clone())
            .set_id(self.id.clone())
            .set_status(ContainerState::Creating)
            .set_pid(Some(root.as_raw()))
            .set_bundle(self.container.bundle().to_path_buf())
            .set_annotations(spec.annotations().clone());
        let state = serde_json::to_vec(&state).unwrap_or_default();
        // Bundles still use this deprecated kind.
        #[allow(deprecated)]
        let prestart = hooks.prestart();
        for (kind, hooks) in [("prestart", prestart), ("createRuntime", hooks.create_runtime())] {
            for hook in hooks.iter().flatten() {
                run(hook, &state).map_err(|why| {
                    let path = hook.path().clone();
                    Error::Hook { kind, path, why }
                })?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for RestoreHooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoreHooks").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Wrap for RestoreHooks<'_> {
    fn wrap(&mut self, call: Call) -> HookResult<Vec<External>> {
        if let (Action::SetupNamespaces, Some(root)) = (call.action, call.root) {
            self.run(root)?;
        }
        match &self.console {
            Some(socket) if call.action == Action::OrphanPtsMaster => {
                call.fds.iter().try_for_each(|master| socket.send(master))?;
                Ok(Vec::new())
            }
            _ => call.answer(self.hooks),
        }
    }
}

/// Runs a hook's program. The three streams are its only descriptors, and no signal is blocked in
/// it.
///
/// # Errors
/// The reason, as text that goes on after the name of the program.
fn run(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let cannot_start = |error: io::Error| format!("cannot be started: {error}");
    let (mut child, stdin, stderr) = Child::start(hook).map_err(cannot_start)?;
    // No wait for either thread: a hook need not read its input, and a process that it has started
    // may keep its standard error open for ever.
    let state = state.to_vec();
    thread::spawn(move || File::from(stdin).write_all(&state));
    let said = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let said = Arc::clone(&said);
        thread::spawn(move || listen(stderr.into(), &said))
    };
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    let ended = child.wait(limit.map(Duration::from_secs));
    if ended.as_ref().is_ok_and(|status| status.is_some_and(|status| status.success())) {
        return Ok(());
    }
    let begun = Instant::now();
    while !reader.is_finished() && begun.elapsed() < LAST_WORDS {
        thread::sleep(PAUSE);
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match ended {
        Ok(Some(status)) => Err(format!("failed ({status}){said}")),
        Ok(None) => Err(format!("did not end in {} s{said}", limit.unwrap_or_default())),
        Err(error) => Err(format!("cannot be watched: {error}")),
    }
}

/// A hook's process, a child of this process.
struct Child(Pid);

impl Child {
    /// Starts the program. Returns the ends of its standard input and error, too.
    fn start(hook: &Hook) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let path = hook.path();
        if path.is_relative() {
            return Err(io::Error::other("its path is not absolute"));
        }
        let args = hook.args().as_deref().unwrap_or_default();
        let name = args.first().map_or(path.as_os_str(), AsRef::as_ref);
        let rest = args.iter().skip(1).map(AsRef::as_ref);
        let args: Vec<&OsStr> = std::iter::once(name).chain(rest).collect();
        let env = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
        let env: Vec<(OsString, OsString)> =
            env.map(|(name, value)| (name.into(), value.into())).collect();
        let program =
            spawn::Program { path, args: &args, env: &env, own_env: false, own_group: false };
        let (input, stdin) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, error) = pipe2(OFlag::O_CLOEXEC)?;
        let output = OwnedFd::from(File::options().write(true).open("/dev/null")?);
        let pid = program.spawn(&[input, output, error])?;
        let pid = Pid::new(pid.as_raw()).ok_or(Errno::ESRCH)?;
        Ok((Self(pid), stdin, stderr))
    }

    /// Waits for the hook to end. `None` if it took too long and was killed.
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let Some(limit) = limit else { return tree::wait(self.0).map(Some) };
        let begun = Instant::now();
        loop {
            let peek = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            if waitid(Id::Pid(self.0.nix()), peek)? != WaitStatus::StillAlive {
                return tree::wait(self.0).map(Some);
            }
            if begun.elapsed() >= limit {
                Held::child(self.0, Pid::this()).inspect(|hook| hook.signal(Signal::SIGKILL));
                tree::wait(self.0)?;
                return Ok(None);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Keeps the beginning of a hook's output, and reads the rest, so that the hook never waits.
fn listen(mut stderr: File, said: &Mutex<Vec<u8>>) {
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut part) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SAID.saturating_sub(said.len()).min(count);
        said.extend(part.iter().take(room));
    }
}

/// Time between two looks at a hook that has a time limit.
const PAUSE: Duration = Duration::from_millis(5);

/// Time that the end of a failed hook's output may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bytes of a hook's output that an error quotes.
const MAX_SAID: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(path: &str, words: &str) -> Hook {
        let hook = serde_json::json!({"path": path, "args": ["sh", "-c", words], "env": ["A=b"]});
        serde_json::from_value(hook).unwrap()
    }

    #[test]
    fn a_hook_gets_three_descriptors_and_no_blocked_signal() {
        use nix::sys::signal::{SigSet, Signal};

        let _left_open = nix::unistd::pipe().unwrap();
        let told = std::thread::spawn(|| {
            let mut held = SigSet::empty();
            held.add(Signal::SIGTERM);
            held.thread_block().unwrap();
            let words = "echo $A $(ls /proc/self/fd) $(grep SigBlk /proc/self/status) >&2; exit 1";
            run(&hook("/bin/sh", words), b"{}").unwrap_err()
        });
        // The last number is that of the folder which `ls` reads.
        let said = "failed (exit status: 1): b 0 1 2 3 SigBlk: 0000000000000000";
        assert_eq!(told.join().unwrap(), said);
    }

    #[test]
    fn a_hook_without_a_place_is_not_looked_for() {
        let said = run(&hook("sh", "true"), b"{}").unwrap_err();
        assert_eq!(said, "cannot be started: its path is not absolute");
    }
}
