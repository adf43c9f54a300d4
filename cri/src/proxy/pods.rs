//! Checkpoints and restores of pods, as the part of a proxy.

use std::fmt;

use criu_rs::Cancel;
use tokio::task::AbortHandle;
use tonic::{Code, Status};

use super::answer::{Answer, Answering, Call, Part, Reply};
use crate::pod::{Pods, Refusal};
use crate::proto::{
    CheckpointPodRequest, CheckpointPodResponse, RemoveContainerRequest, RemovePodSandboxRequest,
    RestorePodRequest, StartContainerRequest, StopPodSandboxRequest,
};

/// Answers `CheckpointPod` and `RestorePod` in place of an engine that does not have them, and
/// takes part in the start of restored containers.
pub struct PodAnswer {
    pods: Pods,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl PodAnswer {
    /// An answer by `pods`. `tell` gets lines for a log: what was saved, restored or refused.
    pub fn new(pods: Pods, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { pods, tell: Box::new(tell) }
    }

    async fn checkpoint(&self, call: Call) -> Result<Reply, Status> {
        let request: CheckpointPodRequest = call.read()?;
        let (id, to) = (request.pod_sandbox_id.clone(), request.output_path.clone());
        let cancel = cancel()?;
        let watched = watch(&call, &cancel);
        let saved = self.pods.checkpoint(request, call.deadline(), &cancel).await;
        watched.abort();
        match saved {
            Ok(notes) => {
                (self.tell)(&format!("saved the pod of the sandbox {id} in {to}"));
                notes.iter().for_each(|note| (self.tell)(note));
                Ok(Reply::of(&CheckpointPodResponse {}))
            }
            Err(refusal) => {
                (self.tell)(&format!("the pod of the sandbox {id} was not saved: {refusal}"));
                Err(status(&refusal))
            }
        }
    }

    async fn restore(&self, call: Call) -> Result<Reply, Status> {
        let request: RestorePodRequest = call.read()?;
        let from = request.checkpoint_path.clone();
        let cancel = cancel()?;
        let watched = watch(&call, &cancel);
        let restored = self.pods.restore(request, call.deadline(), &cancel).await;
        watched.abort();
        match restored {
            Ok(restored) => {
                let id = &restored.response.pod_sandbox_id;
                (self.tell)(&format!("made the pod of {from} in the sandbox {id}"));
                restored.notes.iter().for_each(|note| (self.tell)(note));
                Ok(Reply::of(&restored.response))
            }
            Err(refusal) => {
                (self.tell)(&format!("the pod of {from} was not made: {refusal}"));
                Err(status(&refusal))
            }
        }
    }

    async fn start(&self, call: Call) -> Result<Reply, Status> {
        let StartContainerRequest { container_id: word } = call.read()?;
        let id = self.pods.container(&word).await;
        let container = id.clone();
        let begun = self.blocking(move |pods| pods.starting(&container)).await?;
        let log = match begun {
            Ok(log) => log,
            Err(refusal) => {
                (self.tell)(&format!("the container {id} was not started: {refusal}"));
                return Err(status(&refusal));
            }
        };
        // An engine that is not there has started nothing, and may be asked again.
        let passed = if id == word {
            call.pass().await?
        } else {
            // containerd restores no container whose id is cut short.
            call.pass_with(&StartContainerRequest { container_id: id.clone() }).await?
        };
        let container = id.clone();
        let is_refused = passed.refusal().is_some();
        let news = if is_refused { Pods::not_started } else { Pods::started };
        self.blocking(move |pods| news(pods, &container)).await?;
        let (Some(refused), Some(log)) = (passed.refusal(), log) else {
            return Ok(Reply::Passed(passed));
        };
        let Some(cause) = self.blocking(move |_| log.cause()).await? else {
            return Ok(Reply::Passed(passed));
        };
        (self.tell)(&format!("the container {id} was not restored: {cause}"));
        let text = format!("{}: {cause}", refused.message());
        Err(Status::new(refused.code(), text.chars().take(MAX_TEXT).collect::<String>()))
    }

    /// Passes a call on, and then looks at what it has ended.
    async fn end(
        &self,
        call: Call,
        look: impl FnOnce(&Pods) + Send + 'static,
    ) -> Result<Reply, Status> {
        let passed = call.pass().await?;
        if passed.refusal().is_none() {
            self.blocking(look).await?;
        }
        Ok(Reply::Passed(passed))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pods) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let pods = self.pods.clone();
        let done = tokio::task::spawn_blocking(move || work(&pods));
        done.await.map_err(|_| Status::internal("the work has panicked"))
    }
}

impl Answer for PodAnswer {
    fn part(&self, method: &str) -> Option<Part> {
        match method.strip_prefix(SERVICE)? {
            "CheckpointPod" | "RestorePod" => Some(Part::Instead),
            name if STARTS.contains(&name) && self.pods.is_starting() => Some(Part::Around),
            _ => None,
        }
    }

    fn answer(&self, call: Call) -> Answering<'_> {
        let name = call.method().strip_prefix(SERVICE).unwrap_or_default().to_owned();
        Box::pin(async move {
            match &*name {
                "CheckpointPod" => self.checkpoint(call).await,
                "RestorePod" => self.restore(call).await,
                "StartContainer" => self.start(call).await,
                "RemoveContainer" => {
                    let RemoveContainerRequest { container_id: id } = call.read()?;
                    self.end(call, move |pods| pods.started(&id)).await
                }
                "StopPodSandbox" => {
                    let StopPodSandboxRequest { pod_sandbox_id: id } = call.read()?;
                    self.end(call, move |pods| pods.ended(&id)).await
                }
                "RemovePodSandbox" => {
                    let RemovePodSandboxRequest { pod_sandbox_id: id } = call.read()?;
                    self.end(call, move |pods| pods.ended(&id)).await
                }
                _ => Ok(Reply::Passed(call.pass().await?)),
            }
        })
    }
}

impl fmt::Debug for PodAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodAnswer").field("pods", &self.pods).finish_non_exhaustive()
    }
}

fn cancel() -> Result<Cancel, Status> {
    Cancel::new().map_err(|error| Status::internal(error.to_string()))
}

/// Cancels an operation when nobody waits for the answer any more.
fn watch(call: &Call, cancel: &Cancel) -> AbortHandle {
    let (gone, cancel) = (call.stop().wait(), cancel.clone());
    let task = tokio::spawn(async move {
        gone.await;
        cancel.cancel();
    });
    task.abort_handle()
}

/// Returns the status of a refusal.
fn status(refusal: &Refusal) -> Status {
    let text: String = refusal.text().chars().take(MAX_TEXT).collect();
    Status::new(Code::from_i32(refusal.code().number()), text)
}

/// Begins the names of methods.
const SERVICE: &str = "/runtime.v1.RuntimeService/";

/// Methods that matter while restored containers wait for their start.
const STARTS: [&str; 4] =
    ["StartContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox"];

/// Longest text of a status, in characters: it travels in a header.
const MAX_TEXT: usize = 4000;
