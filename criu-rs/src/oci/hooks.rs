//! The runtime's part in a container's restore.

use std::io::{Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState, Hook, State};

use super::console::ConsoleSocket;
use super::container::Container;
use super::error::{Error, Result};
use crate::hooks::{Action, Call, HookResult, Hooks, Wrap};
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

/// Runs a hook's program.
///
/// # Errors
/// The reason, as text that goes on after the name of the program.
fn run(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let args = hook.args().as_deref().unwrap_or_default();
    let env = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    let mut command = Command::new(hook.path());
    command.args(args.get(1..).unwrap_or_default()).env_clear().envs(env);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(name) = args.first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    // No wait for either thread: a hook need not read its input, and a process that it has started
    // may keep its standard error open for ever.
    let (stdin, stderr, state) = (child.stdin.take(), child.stderr.take(), state.to_vec());
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&state)));
    let said = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let said = Arc::clone(&said);
        thread::spawn(move || stderr.map(|stderr| listen(stderr, &said)))
    };
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    let ended = wait(&mut child, limit.map(Duration::from_secs));
    let begun = Instant::now();
    while !reader.is_finished() && begun.elapsed() < LAST_WORDS {
        thread::sleep(PAUSE);
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("failed ({status}){said}")),
        Ok(None) => Err(format!("did not end in {} s{said}", limit.unwrap_or_default())),
        Err(error) => Err(format!("cannot be watched: {error}")),
    }
}

/// Keeps the beginning of a hook's output, and reads the rest, so that the hook never waits.
fn listen(mut stderr: ChildStderr, said: &Mutex<Vec<u8>>) {
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut part) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SAID.saturating_sub(said.len()).min(count);
        said.extend(part.iter().take(room));
    }
}

/// Waits for the hook to end. `None` if it took too long and was killed.
fn wait(
    child: &mut Child,
    limit: Option<Duration>,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let Some(limit) = limit else { return child.wait().map(Some) };
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// Time between two looks at a hook that has a time limit.
const PAUSE: Duration = Duration::from_millis(5);

/// Time that the end of a hook's output may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Bytes of a hook's output that an error quotes.
const MAX_SAID: usize = 4 << 10;
