//! Restored containers on their way from created to running.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use criu_rs::Pid;
use serde::{Deserialize, Serialize};

use super::criu_options::OptionsFile;
use super::keeper::Keeper;
use super::network::Network;
use super::now;
use super::refusal::Refusal;
use super::state_dir::{StateDir, is_clean, is_id, note};
use crate::error::Code;
use crate::hold;

/// The pods whose containers do not all run yet.
#[derive(Debug)]
pub(super) struct Starts {
    held: Arc<Held>,
    limit: Duration,
    /// Opens networks when their time is over.
    keeper: Keeper,
}

/// The part of [`Starts`] that the keeper shares.
#[derive(Debug)]
struct Held {
    state: Arc<StateDir>,
    /// The directory of CRIU's options.
    options: PathBuf,
    pods: Mutex<HashMap<String, Starting>>,
    /// The number of the pods. The lock may be held while a note is written.
    count: AtomicUsize,
}

/// A restored pod whose containers do not all run yet.
#[derive(Debug)]
struct Starting {
    note: Note,
    /// The network, if it is to be shut.
    network: Option<File>,
    /// The time from which on the network is open, once it was shut.
    opens: Option<Instant>,
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
    /// Starts the keeper. A network is shut for a time of `limit` at the most.
    ///
    /// # Errors
    /// If there can be no thread for the keeper.
    pub(super) fn new(state: Arc<StateDir>, options: PathBuf, limit: Duration) -> io::Result<Self> {
        let (pods, count) = (Mutex::default(), AtomicUsize::new(0));
        let held = Arc::new(Held { state, options, pods, count });
        let kept = Arc::clone(&held);
        let keeper = Keeper::start(move || kept.open_due())?;
        Ok(Self { held, limit, keeper })
    }

    /// Waits for the containers of a restored pod. Blocks.
    pub(super) fn add(&self, pod: NewPod) -> Result<(), Refusal> {
        let (network, file) = match pod.network {
            None => (None, None),
            Some(process) => {
                let (network, file) = Network::of(process)
                    .map_err(|error| Refusal::state(format!("the pod's network: {error}")))?;
                // Found out now, and not when the first container is started.
                let tried = hold::shut(&file, TABLE).and_then(|()| hold::open(&file, TABLE));
                tried.map_err(cannot_shut)?;
                (Some(network), Some(file))
            }
        };
        let note = Note {
            version: VERSION,
            sandbox: pod.sandbox,
            waiting: pod.containers,
            network,
            until: None,
            options: pod.options,
            bundles: pod.bundles,
        };
        self.held.write(&note)?;
        self.insert(Starting { note, network: file, opens: None });
        Ok(())
    }

    /// Shuts the network before a container is started, and sees to it that CRIU's options are
    /// there. Returns the bundle of the container, if it is a restored one.
    pub(super) fn starting(&self, word: &str) -> Result<Option<PathBuf>, Refusal> {
        let mut pods = self.held.lock();
        let waiting = pods.values().flat_map(|pod| &pod.note.waiting);
        let Some(container) = meant(waiting, word).cloned() else { return Ok(None) };
        let Some(pod) = pods.values_mut().find(|pod| pod.note.waiting.contains(&container)) else {
            return Ok(None);
        };
        if let Some(file) = &pod.note.options {
            // Another pod of the same checkpoint, which has started, has removed it.
            file.write(&self.held.options)?;
        }
        if let (Some(network), None) = (&pod.network, pod.note.until) {
            let until = now().as_secs().saturating_add(self.limit.as_secs());
            let note = Note { until: Some(until), ..pod.note.clone() };
            self.held.write(&note)?;
            if let Err(error) = hold::shut(network, TABLE) {
                // The kernel may have done it, without an answer.
                let _ = hold::open(network, TABLE);
                let _ = self.held.write(&pod.note);
                return Err(cannot_shut(error));
            }
            pod.note = note;
            pod.opens = Some(Instant::now() + self.limit);
            self.keeper.wake();
        }
        Ok(Some(pod.note.bundles.join(&container)))
    }

    /// Says whether a word is the beginning of a container's id, and not the whole id.
    pub(super) fn begins(&self, word: &str) -> bool {
        let pods = self.held.lock();
        let mut waiting = pods.values().flat_map(|pod| &pod.note.waiting);
        waiting.any(|id| !word.is_empty() && id.starts_with(word) && id != word)
    }

    /// Takes the container off the list that a word means. Only the whole id means one if
    /// `is_whole` is set.
    pub(super) fn started(&self, word: &str, is_whole: bool) {
        let mut pods = self.held.lock();
        let waiting = pods.values().flat_map(|pod| &pod.note.waiting);
        let found = meant(waiting, word).filter(|id| !is_whole || *id == word).cloned();
        if let Some(container) = found {
            self.held.done(&mut pods, |_, waiting| waiting == container);
            self.keeper.wake();
        }
    }

    /// Takes the containers of the sandbox off the list that a word means.
    pub(super) fn ended(&self, word: &str) {
        let mut pods = self.held.lock();
        if let Some(sandbox) = meant(pods.keys(), word).cloned() {
            self.held.done(&mut pods, |note, _| note.sandbox == sandbox);
            self.keeper.wake();
        }
    }

    /// Opens all networks, and keeps the notes. Returns the sandboxes whose network was shut, each
    /// with the reason if it still is.
    pub(super) fn leave(&self) -> Vec<(String, Option<io::Error>)> {
        let mut pods = self.held.lock();
        let mut left = Vec::new();
        for (sandbox, pod) in &mut *pods {
            if pod.opens.is_some() {
                let opened = pod.open();
                if opened.is_ok() {
                    pod.opens = None;
                }
                left.push((sandbox.clone(), opened.err()));
            }
        }
        left
    }

    /// Says whether there are no such pods. Never blocks.
    pub(super) fn is_empty(&self) -> bool {
        self.held.count.load(Ordering::SeqCst) == 0
    }

    /// Returns the sandboxes whose containers do not all run yet.
    pub(super) fn sandboxes(&self) -> Vec<String> {
        self.held.lock().keys().cloned().collect()
    }

    /// Reads the notes of an earlier process. Returns the notes that cannot be followed, with the
    /// reasons.
    pub(super) fn recover(&self) -> Vec<(String, String)> {
        let notes = match self.held.state.notes(BEGIN) {
            Ok(notes) => notes,
            Err(error) => return vec![("the notes of restored pods".into(), error.to_string())],
        };
        let mut problems = Vec::new();
        for name in notes {
            if let Err(error) = self.recover_one(&name) {
                let place = self.held.state.place(&name).display().to_string();
                problems.push((place, error.to_string()));
            }
        }
        self.keeper.wake();
        problems
    }

    fn recover_one(&self, name: &str) -> io::Result<()> {
        let note: Note = self.held.state.read(name)?;
        let is_sound = note.version == VERSION
            && is_id(&note.sandbox)
            && note.waiting.iter().all(|id| is_id(id))
            && note.options.iter().all(OptionsFile::is_sound)
            && is_clean(&note.bundles);
        if !is_sound {
            return Err(io::Error::other("its values make no sense"));
        }
        let network = note.network.as_ref().and_then(Network::find);
        let is_gone = note.network.is_some() && network.is_none();
        if is_gone || network.is_none() && note.waiting.is_empty() {
            // The sandbox is gone, and its network with it; or nothing is left to do.
            self.held.forget(&note);
            return Ok(());
        }
        let (mut opens, mut shut) = (None, Ok(()));
        if let (Some(until), Some(network)) = (note.until, &network) {
            let left = until.saturating_sub(now().as_secs()).min(self.limit.as_secs());
            if left > 0 && !note.waiting.is_empty() {
                shut = hold::shut(network, TABLE);
            }
            opens = Some(Instant::now() + Duration::from_secs(left));
        }
        if note.waiting.is_empty() {
            opens = Some(Instant::now());
        }
        self.insert(Starting { note, network, opens });
        shut
    }

    fn insert(&self, pod: Starting) {
        let mut pods = self.held.lock();
        pods.insert(pod.note.sandbox.clone(), pod);
        self.held.count(&pods);
    }
}

impl Held {
    /// Takes containers off the list. After the last one the network is open.
    fn done(&self, pods: &mut HashMap<String, Starting>, is_done: impl Fn(&Note, &str) -> bool) {
        pods.retain(|_, pod| {
            let before = pod.note.clone();
            pod.note.waiting.retain(|container| !is_done(&before, container));
            if pod.note.waiting.is_empty() {
                return !self.end(pod);
            }
            if pod.note != before {
                // A note with a container too many is no harm: the time limit holds.
                let _ = self.write(&pod.note);
            }
            true
        });
        self.count(pods);
    }

    /// Opens the network of a pod, and forgets the pod. Returns false if that has to be tried
    /// again.
    fn end(&self, pod: &mut Starting) -> bool {
        if pod.open().is_err() {
            pod.opens = Some(Instant::now() + AGAIN);
            let _ = self.write(&pod.note);
            return false;
        }
        self.forget(&pod.note);
        true
    }

    /// Opens the networks whose time is over, whatever has become of the containers. Returns the
    /// time until the next one.
    fn open_due(&self) -> Option<Duration> {
        let mut pods = self.lock();
        let now = Instant::now();
        pods.retain(|_, pod| {
            if pod.opens.is_none_or(|opens| opens > now) {
                return true;
            }
            if pod.note.waiting.is_empty() {
                return !self.end(pod);
            }
            if pod.open().is_err() {
                pod.opens = Some(now + AGAIN);
                return true;
            }
            // Containers that are started later find the network open.
            (pod.network, pod.note.network, pod.opens) = (None, None, None);
            let _ = self.write(&pod.note);
            true
        });
        self.count(&pods);
        let next = pods.values().filter_map(|pod| pod.opens).min()?;
        Some(next.saturating_duration_since(Instant::now()))
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Starting>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, pods: &HashMap<String, Starting>) {
        self.count.store(pods.len(), Ordering::SeqCst);
    }
}

impl Starting {
    fn open(&self) -> io::Result<()> {
        self.network.as_ref().map_or(Ok(()), |network| hold::open(network, TABLE))
    }
}

/// Returns the id that a word means: the whole id, or the only one that begins with it.
fn meant<'a>(ids: impl Iterator<Item = &'a String>, word: &str) -> Option<&'a String> {
    let mut found = ids.filter(|id| !word.is_empty() && id.starts_with(word));
    let first = found.next()?;
    if first == word {
        return Some(first);
    }
    match found.next() {
        None => Some(first),
        Some(next) if next == word => Some(next),
        Some(_) => found.find(|id| *id == word),
    }
}

fn cannot_shut(error: io::Error) -> Refusal {
    Refusal::state(format!(
        "the network of the pod cannot be shut while its containers start, and their connections \
         would be lost: {error}"
    ))
}

fn name(sandbox: &str) -> String {
    note(BEGIN, sandbox)
}

/// Begins the names of these notes.
const BEGIN: &str = "restore-";

/// Table that shuts the network of a pod. A member of a coordinated job has one of another name.
const TABLE: &str = "criu_cri_shut";

/// Version of the form of these notes.
const VERSION: u32 = 1;

/// Time between two tries to open a network.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
