//! News of restored containers on their way from created to running.

use std::io;
use std::sync::Arc;

use super::Pods;
use super::refusal::Refusal;
use super::restore_log::RestoreLog;

/// News of restored containers, told by whoever passes calls on to the engine. Containers and
/// sandboxes are named as in the calls: an engine also takes the beginning of an id.
impl Pods {
    /// Returns true if a restored container does not run yet. Otherwise the other methods have no
    /// work. Never blocks.
    pub fn is_starting(&self) -> bool {
        !self.starts.is_empty()
    }

    /// Returns the whole id of a restored container that waits for its start. Asks the engine if a
    /// word is the beginning of such an id, and returns any other word as it is.
    pub async fn container(&self, word: &str) -> String {
        let (starts, id) = (Arc::clone(&self.starts), word.to_owned());
        let begins = tokio::task::spawn_blocking(move || starts.begins(&id)).await;
        if !matches!(begins, Ok(true)) {
            return word.into();
        }
        let status = self.client.container(word, false).await.ok().and_then(|found| found.status);
        status.map_or_else(|| word.into(), |status| status.id)
    }

    /// Comes before a container is started. Shuts the network of its pod, if it is one of a pod
    /// whose containers have connections with each other. Returns the log that CRIU will write, if
    /// it is a restored container. Blocks.
    ///
    /// # Errors
    /// [`Refusal`], and the container must not be started.
    pub fn starting(&self, container: &str) -> Result<Option<RestoreLog>, Refusal> {
        let bundle = self.starts.starting(container)?;
        Ok(bundle.and_then(|bundle| RestoreLog::watch(bundle.join(LOG))))
    }

    /// Comes when a container was started, or was removed. Opens the network of its pod after the
    /// last one. Blocks.
    pub fn started(&self, container: &str) {
        self.starts.started(container, false);
    }

    /// Comes when the engine has refused to start a container. The container is not waited for any
    /// more. The beginning of an id may be that of several containers, and changes nothing. Blocks.
    pub fn not_started(&self, container: &str) {
        self.starts.started(container, true);
    }

    /// Comes when a sandbox was stopped or removed. Blocks.
    pub fn ended(&self, sandbox: &str) {
        self.starts.ended(sandbox);
    }

    /// Comes when the program ends, or has no part in starts. Opens the networks that are shut, so
    /// that none stays shut without a program that opens it. The notes stay: a program that is
    /// started soon shuts the networks again. Returns lines for a log. Blocks.
    pub fn leave(&self) -> Vec<String> {
        let line = |(sandbox, error): (String, Option<io::Error>)| match error {
            None => format!(
                "sandbox {sandbox}: its network is open now, and not all of its containers run: \
                 connections between them may be lost"
            ),
            Some(error) => {
                format!("sandbox {sandbox}: its network is shut, and cannot be opened: {error}")
            }
        };
        self.starts.leave().into_iter().map(line).collect()
    }
}

/// CRIU's log in a bundle of containerd's.
const LOG: &str = "work/restore.log";
