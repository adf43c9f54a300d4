//! Calls that the proxy answers itself, or takes part in.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use http::HeaderMap;
use prost::Message;
use prost::bytes::Bytes;
use tokio::time::sleep;
use tonic::Status;

use super::call::Passed;
use super::stop::Stop;
use super::upstream::Upstream;

/// Methods that a proxy does not only pass on.
///
/// The methods have one message each way. Their messages are read whole, up to [`MAX_MESSAGE`].
/// Every other method is passed on unread.
pub trait Answer: Send + Sync + 'static {
    /// The part in a method, such as `/runtime.v1.RuntimeService/CheckpointPod`. `None` for a
    /// method that is passed on.
    fn part(&self, method: &str) -> Option<Part>;

    /// Answers a call.
    ///
    /// The future runs to its end even if nobody waits for the answer any more. [`Call::stop`]
    /// tells when it should come to an end: the client is gone, its deadline has passed, or the
    /// proxy ends. The proxy waits for the future before it ends. The future must not block its
    /// thread: work that blocks goes to `tokio::task::spawn_blocking`.
    fn answer(&self, call: Call) -> Answering<'_>;
}

/// The future of an answer.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Status>> + Send + 'a>>;

/// The part that an [`Answer`] has in a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Answers in place of an engine that does not have the method. Each call goes to the engine
    /// first. An engine that says `UNIMPLEMENTED` has not begun anything.
    Instead,
    /// Answers each call. [`Call::pass`] asks the engine.
    Around,
}

/// A call that an [`Answer`] has a part in.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) method: String,
    pub(super) metadata: HeaderMap,
    pub(super) message: Bytes,
    pub(super) deadline: Option<Instant>,
    pub(super) stop: Stop,
    /// Time that the engine has after the reason to stop.
    pub(super) grace: Duration,
    pub(super) upstream: Upstream,
}

impl Call {
    /// The path of the method: `/runtime.v1.RuntimeService/StartContainer`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The bytes of the request's message.
    pub fn message(&self) -> &Bytes {
        &self.message
    }

    /// Reads the request's message.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for bytes that are no such message.
    pub fn read<M: Message + Default>(&self) -> Result<M, Status> {
        let failed = |error| Status::invalid_argument(format!("{}: {error}", self.method));
        M::decode(self.message.clone()).map_err(failed)
    }

    /// The headers of the request, which are the client's metadata.
    pub fn metadata(&self) -> &HeaderMap {
        &self.metadata
    }

    /// The end of the time that the client gives (`grpc-timeout`), if it gives one.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tells when nobody waits for the answer any more.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Passes the call on to the engine, with its headers and its message as they came. Returns the
    /// engine's whole answer, which may be a refusal. The call is reset if the engine has not
    /// answered when [`stop`](Self::stop) has told a reason and the proxy's grace is over.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the engine cannot be reached, its connection ends or the call was reset,
    /// and `RESOURCE_EXHAUSTED` for an answer above [`MAX_MESSAGE`].
    pub async fn pass(&self) -> Result<Passed, Status> {
        self.pass_bytes(&self.message).await
    }

    /// Passes the call on with another message in place of the client's, as [`pass`](Self::pass)
    /// does.
    ///
    /// # Errors
    /// The errors of [`pass`](Self::pass).
    pub async fn pass_with(&self, message: &impl Message) -> Result<Passed, Status> {
        self.pass_bytes(&message.encode_to_vec()).await
    }

    async fn pass_bytes(&self, message: &[u8]) -> Result<Passed, Status> {
        let asked = self.upstream.ask(&self.method, &self.metadata, message);
        let over = async {
            let why = self.stop.wait().await;
            sleep(self.grace).await;
            why
        };
        tokio::select! {
            biased;
            passed = asked => passed,
            why = over => {
                let text = format!("{why}; the engine may have executed the call");
                Err(Status::unavailable(text))
            }
        }
    }
}

/// The answer to a call.
#[derive(Debug)]
pub enum Reply {
    /// The bytes of the answer's message.
    Message(Bytes),
    /// The engine's answer, as it came.
    Passed(Passed),
}

impl Reply {
    /// An answer with a message.
    pub fn of(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec().into())
    }
}

/// The largest message, in bytes, that is read of a method in which an [`Answer`] has a part: 16
/// MiB. The engines' own limit for requests is the same. Messages that are passed on have no limit.
pub const MAX_MESSAGE: usize = 16 << 20;
