//! Notes about restores in the making, and what becomes of them after a kill.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::criu_options::OptionsFile;
use super::refusal::Refusal;
use super::state_dir::{is_id, note};
use super::{Pods, now};
use crate::client::Client;
use crate::error::{Code, Error};
use crate::proto::{Kept, PodSandboxConfig, PodSandboxState};

/// A note about a restore in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    version: u32,
    /// Value of the annotation [`MARK`] of the sandbox, and part of the note's name.
    mark: String,
    /// The second since 1970 from which on the engine makes no sandbox of the mark.
    until: u64,
    /// Set while it is known that the engine is not about to make the sandbox.
    #[serde(skip)]
    is_idle: bool,
    /// Id of the sandbox, as soon as it is known.
    sandbox: Option<String>,
    /// The file of CRIU's options that was made for the pod.
    options: Option<OptionsFile>,
}

impl Begun {
    /// A note about a sandbox that is made within a time, with a mark that no other one has.
    pub(super) fn new(time: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            version: VERSION,
            mark: format!("{}-{}-{number}", now().as_nanos(), std::process::id()),
            until: now().saturating_add(time).as_secs().saturating_add(1),
            is_idle: true,
            sandbox: None,
            options: None,
        }
    }

    /// Returns the configuration of the sandbox: the caller's with the mark.
    pub(super) fn marked(&self, config: &Kept<PodSandboxConfig>) -> Kept<PodSandboxConfig> {
        let annotations = [(MARK.to_owned(), self.mark.clone())].into();
        let mut config = config.clone();
        config.overlay(&PodSandboxConfig { annotations, ..PodSandboxConfig::default() });
        config
    }

    /// The engine is asked to make the sandbox.
    pub(super) fn asked(&mut self) {
        self.is_idle = false;
    }

    /// The engine has refused to make the sandbox.
    pub(super) fn refused(&mut self) {
        self.is_idle = true;
    }

    /// Sets the id of the sandbox.
    pub(super) fn made(&mut self, sandbox: &str) {
        self.sandbox = Some(sandbox.into());
    }

    /// Sets the file of CRIU's options.
    pub(super) fn options(&mut self, file: &OptionsFile) {
        self.options = Some(file.clone());
    }

    /// Removes the sandbox, with its containers. Returns its id, or `None` if there is none.
    pub(super) async fn remove(&self, client: &Client) -> Result<Option<String>, Error> {
        let found =
            match &self.sandbox {
                Some(sandbox) => Some(sandbox.clone()),
                None => client.sandboxes(None).await?.into_iter().find_map(|one| {
                    (one.annotations.get(MARK) == Some(&self.mark)).then_some(one.id)
                }),
            };
        if let Some(sandbox) = &found {
            client.stop_sandbox(sandbox).await?;
            client.remove_sandbox(sandbox).await?;
        }
        Ok(found)
    }

    /// Says whether the engine may still be about to make the sandbox.
    fn may_come(&self) -> bool {
        self.sandbox.is_none() && !self.is_idle && now().as_secs() < self.until
    }

    fn is_sound(&self) -> bool {
        self.version == VERSION
            && is_id(&self.mark)
            && self.sandbox.iter().all(|id| is_id(id))
            && self.options.iter().all(OptionsFile::is_sound)
    }

    fn file(&self) -> String {
        note(BEGIN, &self.mark)
    }
}

impl Pods {
    /// Writes a note. Blocks.
    pub(super) fn note(&self, begun: &Begun) -> Result<(), Refusal> {
        let (file, place) = (begun.file(), self.state.place(&begun.file()));
        self.state.write(&file, begun).map_err(Refusal::file("write", &place))
    }

    /// Removes a note, and the file of CRIU's options if the pod was not made. Blocks.
    pub(super) fn unnote(&self, begun: &Begun, is_made: bool) {
        if let Some(file) = begun.options.as_ref().filter(|_| !is_made) {
            file.remove(&self.settings.options);
        }
        let _ = self.state.remove(&begun.file());
    }

    /// Removes the note of a restore whose sandbox was removed. Leaves it to [`tidy`](Self::tidy)
    /// if that did not succeed, or the sandbox may still come. Blocks.
    pub(super) fn undone(
        &self,
        begun: Begun,
        removed: Result<Option<String>, Error>,
    ) -> Result<(), Error> {
        match removed {
            Ok(None) if begun.may_come() => self.put_off(begun),
            Ok(_) => self.unnote(&begun, false),
            Err(error) => {
                self.put_off(begun);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leaves a restore that was not undone to [`tidy`](Self::tidy).
    pub(super) fn put_off(&self, begun: Begun) {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
    }

    /// Reads the notes of an earlier process. Returns the notes that cannot be followed, with the
    /// reasons.
    pub(super) fn recover_begun(&self) -> Vec<(String, String)> {
        let notes = match self.state.notes(BEGIN) {
            Ok(notes) => notes,
            Err(error) => return vec![("the notes of restores".into(), error.to_string())],
        };
        let mut problems = Vec::new();
        for file in notes {
            let place = || self.state.place(&file).display().to_string();
            match self.state.read::<Begun>(&file) {
                Ok(begun) if begun.is_sound() && begun.file() == file => self.put_off(begun),
                Ok(_) => problems.push((place(), "its values make no sense".into())),
                Err(error) => problems.push((place(), error.to_string())),
            }
        }
        problems
    }

    /// Looks after what others have left: removes the sandboxes of restores that were not finished,
    /// and forgets restored pods whose sandbox was stopped or removed without this program. To be
    /// called from time to time. Returns lines for a log.
    pub async fn tidy(&self) -> Vec<String> {
        let client = self.client.within(TIME_TO_TIDY);
        let mut lines = self.remove_begun(&client).await;
        for id in self.starts.sandboxes() {
            let is_gone = match client.sandbox(&id, false).await {
                Ok(answer) => answer
                    .status
                    .is_some_and(|status| status.state() != PodSandboxState::SandboxReady),
                Err(error) => error.code() == Code::NotFound,
            };
            if is_gone {
                lines.push(format!("sandbox {id}: ended before all of its containers ran"));
                let (pods, id) = (self.clone(), id.clone());
                let _ = tokio::task::spawn_blocking(move || pods.ended(&id)).await;
            }
        }
        lines
    }

    /// Removes the sandboxes of restores that were not finished.
    pub(super) async fn remove_begun(&self, client: &Client) -> Vec<String> {
        let all = {
            let mut all = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *all)
        };
        let mut lines = Vec::new();
        for begun in all {
            let removed = begun.remove(client).await;
            match &removed {
                Ok(found) => lines.extend(found.as_ref().map(|id| {
                    format!("sandbox {id}: removed, because its restore was not finished")
                })),
                Err(error) if error.code() == Code::Unavailable => {}
                Err(error) => lines.push(format!("a restore that was not finished: {error}")),
            }
            let pods = self.clone();
            let _ = tokio::task::spawn_blocking(move || pods.undone(begun, removed)).await;
        }
        lines
    }
}

/// Annotation of a sandbox that is made for a restore. By it the sandbox is found after a kill.
const MARK: &str = "org.criu.cri.restore";

/// Begins the names of these notes.
const BEGIN: &str = "making-";

/// Version of the form of these notes.
const VERSION: u32 = 1;

/// Time for each question of [`Pods::tidy`]. A pod may take long to stop.
const TIME_TO_TIDY: Duration = Duration::from_secs(30);
