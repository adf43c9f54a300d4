//! Restored containers on their way from created to running.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use criu_rs::Pid;
use serde::{Deserialize, Serialize};

use super::Pods;
use super::criu_options::OptionsFile;
use super::refusal::Refusal;
use super::restore_log::RestoreLog;
use super::state_dir::{StateDir, is_clean, is_id, note};
use crate::error::Code;
use crate::hold;

/// The pods whose containers do not all run yet.
#[derive(Debug)]
pub(super) struct Starts {
    state: Arc<StateDir>,
    /// The directory of CRIU's options.
    options: PathBuf,
    limit: Duration,
    pods: Mutex<HashMap<String, Starting>>,
}

/// A restored pod whose containers do not all run yet.
#[derive(Debug)]
struct Starting {
    note: Note,
    /// The network, if it is to be shut.
    network: Option<File>,
    /// A number of the pod in this process, for its timer.
    number: u64,
}

/// A note about such a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: u32,
    sandbox: String,
    /// Ids of the containers that do not run yet.
    waiting: Vec<String>,
    /// The network to shut.
    network: Option<Network>,
    /// The second since 1970 from which on the network is open again, once it was shut.
    until: Option<u64>,
    /// The file of CRIU's options that was made for the pod.
    options: Option<OptionsFile>,
    /// The folder of the engine's bundles.
    bundles: PathBuf,
}

/// The network of a pod: that of a process, whatever the number of the process means later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Network {
    process: i32,
    device: u64,
    inode: u64,
}

/// A restored pod to wait for.
#[derive(Debug)]
pub(super) struct NewPod {
    pub(super) sandbox: String,
    pub(super) containers: Vec<String>,
    /// The process that holds the network, if the network is to be shut meanwhile.
    pub(super) network: Option<Pid>,
    /// The file of CRIU's options that was made for the pod.
    pub(super) options: Option<OptionsFile>,
    /// The folder of the engine's bundles.
    pub(super) bundles: PathBuf,
}

impl Starts {
    pub(super) fn new(state: Arc<StateDir>, options: PathBuf, limit: Duration) -> Self {
        Self { state, options, limit, pods: Mutex::default() }
    }

    /// Waits for the containers of a restored pod.
    pub(super) fn add(self: &Arc<Self>, pod: NewPod) -> Result<(), Refusal> {
        let (network, held) = match pod.network {
            None => (None, None),
            Some(process) => {
                let (network, held) = network_of(process)
                    .map_err(|error| Refusal::state(format!("the pod's network: {error}")))?;
                // Found out now, and not when the first container is started.
                let tried = hold::shut(&held).and_then(|()| hold::open(&held));
                tried.map_err(|error| Refusal::state(format!("{CANNOT_SHUT}: {error}")))?;
                (Some(network), Some(held))
            }
        };
        let note = Note {
            version: VERSION,
            sandbox: pod.sandbox.clone(),
            waiting: pod.containers,
            network,
            until: None,
            options: pod.options,
            bundles: pod.bundles,
        };
        self.write(&note)?;
        let starting = Starting { note, network: held, number: number() };
        self.pods().insert(pod.sandbox, starting);
        Ok(())
    }

    /// Shuts the network before a container is started, and sees to it that CRIU's options are
    /// there. Returns the bundle of the container, if it is a restored one.
    fn starting(self: &Arc<Self>, container: &str) -> Result<Option<PathBuf>, Refusal> {
        let mut pods = self.pods();
        let Some(pod) = pods.values_mut().find(|pod| pod.waits_for(container)) else {
            return Ok(None);
        };
        let bundle = Some(pod.note.bundles.join(container));
        if let Some(file) = &pod.note.options {
            // Another pod of the same checkpoint, which has started, has removed it.
            file.write(&self.options)?;
        }
        let Some(network) = pod.network.as_ref().filter(|_| pod.note.until.is_none()) else {
            return Ok(bundle);
        };
        pod.note.until = Some(now().as_secs().saturating_add(self.limit.as_secs()));
        self.write(&pod.note)?;
        hold::shut(network).map_err(|error| Refusal::state(format!("{CANNOT_SHUT}: {error}")))?;
        self.open_after(self.limit, pod.note.sandbox.clone(), pod.number);
        Ok(bundle)
    }

    /// Takes containers off the list. After the last one the network is open.
    fn done(&self, is_done: impl Fn(&Note, &str) -> bool) {
        let mut pods = self.pods();
        pods.retain(|_, pod| {
            let note = pod.note.clone();
            pod.note.waiting.retain(|container| !is_done(&note, container));
            let is_over = pod.note.waiting.is_empty();
            if is_over {
                pod.open();
                self.forget(&pod.note);
            } else if pod.note != note {
                // A note with a container too many is no harm: the time limit holds.
                let _ = self.write(&pod.note);
            }
            !is_over
        });
    }

    /// Opens the network of a pod after a time, whatever has become of its containers.
    fn open_after(self: &Arc<Self>, time: Duration, sandbox: String, number: u64) {
        let starts = Arc::downgrade(self);
        thread::spawn(move || {
            thread::sleep(time);
            let Some(starts) = starts.upgrade() else { return };
            let mut pods = starts.pods();
            if let Some(pod) = pods.get_mut(&sandbox).filter(|pod| pod.number == number) {
                pod.open();
                // Containers that are started later find the network open.
                pod.network = None;
                pod.note.network = None;
                let _ = starts.write(&pod.note);
            }
        });
    }

    /// Reads the notes of an earlier process. Returns the notes that cannot be followed, with the
    /// reasons.
    pub(super) fn recover(self: &Arc<Self>) -> Vec<(String, String)> {
        let notes = match self.state.notes(BEGIN) {
            Ok(notes) => notes,
            Err(error) => return vec![("the notes of restored pods".into(), error.to_string())],
        };
        let mut problems = Vec::new();
        for name in notes {
            if let Err(error) = self.recover_one(&name) {
                problems.push((self.state.place(&name).display().to_string(), error.to_string()));
            }
        }
        problems
    }

    fn recover_one(self: &Arc<Self>, name: &str) -> io::Result<()> {
        let note: Note = self.state.read(name)?;
        let is_sound = note.version == VERSION
            && is_id(&note.sandbox)
            && note.waiting.iter().all(|id| is_id(id))
            && note.options.iter().all(OptionsFile::is_sound)
            && is_clean(&note.bundles);
        if !is_sound {
            return Err(io::Error::other("its values make no sense"));
        }
        let network = note.network.as_ref().and_then(Network::find);
        if note.network.is_some() && network.is_none() {
            // The sandbox is gone, and its network with it.
            self.forget(&note);
            return Ok(());
        }
        let number = number();
        if let (Some(until), Some(network)) = (note.until, &network) {
            hold::shut(network)?;
            let left = until.saturating_sub(now().as_secs()).min(self.limit.as_secs());
            self.open_after(Duration::from_secs(left), note.sandbox.clone(), number);
        }
        self.pods().insert(note.sandbox.clone(), Starting { note, network, number });
        Ok(())
    }

    fn write(&self, note: &Note) -> Result<(), Refusal> {
        self.state.write(&name(&note.sandbox), note).map_err(|error| {
            Refusal::new(Code::Internal, format!("the note of the restored pod: {error}"))
        })
    }

    fn forget(&self, note: &Note) {
        if let Some(options) = &note.options {
            options.remove(&self.options);
        }
        let _ = self.state.remove(&name(&note.sandbox));
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Starting>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// News of restored containers, told by whoever passes calls on to the engine.
impl Pods {
    /// Says whether there are restored containers that do not run yet. Without any, the other
    /// methods have nothing to do.
    pub fn is_starting(&self) -> bool {
        !self.starts.pods().is_empty()
    }

    /// Comes before a container is started. Shuts the network of its pod, if it is one of a pod
    /// whose containers have connections with each other. Returns the log that CRIU will write, if
    /// it is a restored container.
    ///
    /// # Errors
    /// [`Refusal`], and the container must not be started.
    pub fn starting(&self, container: &str) -> Result<Option<RestoreLog>, Refusal> {
        let bundle = self.starts.starting(container)?;
        Ok(bundle.map(|bundle| RestoreLog::watch(bundle.join(LOG))))
    }

    /// Comes when a container was started, could not be started, or was removed. Opens the network
    /// of its pod after the last one.
    pub fn started(&self, container: &str) {
        self.starts.done(|_, waiting| waiting == container);
    }

    /// Comes when a sandbox was stopped or removed.
    pub fn ended(&self, sandbox: &str) {
        self.starts.done(|note, _| note.sandbox == sandbox);
    }
}

impl Starting {
    fn waits_for(&self, container: &str) -> bool {
        self.note.waiting.iter().any(|waiting| waiting == container)
    }

    fn open(&self) {
        if let Some(network) = &self.network {
            // It fails for a network that is gone.
            let _ = hold::open(network);
        }
    }
}

impl Network {
    /// Opens the network, if the process still has it.
    fn find(&self) -> Option<File> {
        let (found, file) = network_of(Pid::new(self.process)?).ok()?;
        (found == *self).then_some(file)
    }
}

fn network_of(process: Pid) -> io::Result<(Network, File)> {
    let file = File::open(format!("/proc/{process}/ns/net"))?;
    let found = file.metadata()?;
    if fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.ino() == found.ino()) {
        return Err(io::Error::other("it is the network of this process, which must stay open"));
    }
    let network = Network { process: process.as_raw(), device: found.dev(), inode: found.ino() };
    Ok((network, file))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns another number each time.
fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn name(sandbox: &str) -> String {
    note(BEGIN, sandbox)
}

/// Begins the names of these notes.
const BEGIN: &str = "restore-";

/// Version of the form of these notes.
const VERSION: u32 = 1;

/// CRIU's log in a bundle of containerd's.
const LOG: &str = "work/restore.log";

const CANNOT_SHUT: &str = "the network of the pod cannot be shut while its containers start, and \
                           their connections would be lost";
