//! Checkpoints of whole pods on engines that do not have them: `CheckpointPod` and `RestorePod`.
//!
//! ```text
//!             ┌ engine's facts ─▶ subject ─▶ Engine ─┬▶ archive of each container
//! checkpoint ─┤                                      │  (in containerd's form)
//!             └ note ▶ frozen ▶ note removed         └▶ record
//!
//! restore ─ record, configurations ─▶ RunPodSandbox, CreateContainer of each archive
//!                                           │
//! StartContainer ─ network shut ─▶ engine ──┴▶ the last one runs ─▶ network open
//! ```
//!
//! A pod's containers are saved at one moment: all stand still before the first is captured. A note
//! on the disk says which cgroups are frozen and which files are in the making, so that a program
//! that is killed in the middle thaws the pod and removes the files when it is started again.
//!
//! A restored container is one that the engine restores itself when it is started, one after the
//! other. Until the last one runs the network of the pod is shut: a connection between two of them
//! would be reset by the first one, whose peer is not there yet.

mod begun;
mod cgroups;
mod checkpoint;
mod compare;
mod criu_options;
mod facts;
mod frozen;
mod keeper;
mod layer;
mod network;
mod news;
mod output;
mod parts;
mod recovery;
mod refusal;
mod restore;
mod restore_log;
mod save;
mod starts;
mod state_dir;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use state_dir::StateDir;

use crate::client::Client;
use crate::engine::Engine;
use crate::error::Code;

pub use recovery::Recovered;
pub use refusal::Refusal;
pub use restore::Restored;
pub use restore_log::RestoreLog;

/// Checkpoints and restores of pods, through the CRI of an engine and a tool such as CRIU.
///
/// A state directory serves one value at a time. Call [`recover`](Self::recover) before the first
/// checkpoint or restore.
#[derive(Clone)]
pub struct Pods {
    client: Client,
    tool: Arc<dyn Engine>,
    settings: Arc<Settings>,
    state: Arc<StateDir>,
    /// Sandboxes that are being saved.
    busy: Arc<Mutex<HashSet<String>>>,
    starts: Arc<starts::Starts>,
    /// Restores that were not undone.
    put_off: Arc<Mutex<Vec<begun::Begun>>>,
}

/// Settings of [`Pods`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The directory for notes, on a file system that ends with the machine's uptime.
    pub state: PathBuf,
    /// The directory for files of CRIU's options, which runc reads when it restores. Archives have
    /// this path in them: the saving and the restoring program need the same one.
    pub options: PathBuf,
    /// The file of CRIU's options that runc reads.
    pub runtime_config: PathBuf,
    /// The longest time for which the network of a restored pod is shut.
    pub shut: Duration,
    /// The time that a criu of a killed proxy is given to end by itself.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state: "/run/criu-cri-proxy/state".into(),
            options: "/run/criu-cri-proxy/options".into(),
            runtime_config: "/etc/criu/runc.conf".into(),
            shut: Duration::from_secs(60),
            patience: Duration::from_secs(30),
        }
    }
}

impl Pods {
    /// Takes the state directory, and makes it if it does not exist.
    ///
    /// # Errors
    /// If the state directory is not for this user alone, or another program uses it.
    pub fn new(client: Client, tool: Arc<dyn Engine>, settings: Settings) -> Result<Self, Refusal> {
        let state = StateDir::open(&settings.state)
            .map_err(Refusal::file("use the state directory", &settings.state))?;
        let state = Arc::new(state);
        let options = settings.options.clone();
        let starts = starts::Starts::new(Arc::clone(&state), options, settings.shut);
        let starts = starts.map_err(|error| {
            Refusal::new(Code::Internal, format!("cannot start a thread: {error}"))
        })?;
        let (starts, settings) = (Arc::new(starts), Arc::new(settings));
        let (busy, put_off) = (Arc::default(), Arc::default());
        Ok(Self { client, tool, settings, state, busy, starts, put_off })
    }

    /// Reserves a sandbox for an operation.
    fn reserve(&self, sandbox: &str) -> Result<Reserved, Refusal> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(sandbox.to_owned()) {
            let text = format!("the sandbox {sandbox} is being saved by another request");
            return Err(Refusal::new(Code::Aborted, text));
        }
        Ok(Reserved { busy: Arc::clone(&self.busy), sandbox: sandbox.to_owned() })
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods")
            .field("client", &self.client)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A sandbox that is reserved until this value is dropped.
#[derive(Debug)]
struct Reserved {
    busy: Arc<Mutex<HashSet<String>>>,
    sandbox: String,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.sandbox);
    }
}

/// Returns the time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The runtime whose containers are saved and restored.
const RUNC: &str = "io.containerd.runc.v2";
