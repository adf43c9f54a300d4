//! A call: passed on, or answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::bytes::Bytes;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::answer::{Answer, Call, Part, Reply};
use super::body::{self, Back, PassingBack, Sent};
use super::bounds::CALLS;
use super::call;
use super::clients::Running;
use super::fault::Fault;
use super::phase::{Count, Counted, Phase, Phases};
use super::ready;
use super::stop::{Sender, Stop, Why};
use super::timeout;
use super::upstream::Upstream;

/// The parts of a proxy that all calls share.
pub(super) struct Desk {
    pub(super) upstream: Upstream,
    pub(super) answer: Option<Arc<dyn Answer>>,
    pub(super) phases: Phases,
    pub(super) calls: Count,
    /// Time that calls have to end when the proxy ends.
    pub(super) grace: Duration,
    /// Answers that go on, also without a client.
    pub(super) answers: Count,
}

impl Desk {
    /// Answers a request of a client.
    pub(super) async fn take(
        &self,
        request: Request<Incoming>,
        running: Running,
    ) -> Result<Response<Back>, Fault> {
        match self.try_take(request, running).await {
            Err(Fault::Refused(status)) => Ok(status.into_http()),
            other => other,
        }
    }

    async fn try_take(
        &self,
        request: Request<Incoming>,
        running: Running,
    ) -> Result<Response<Back>, Fault> {
        if request.uri().path() == ready::PATH {
            return Ok(ready::answer(&self.upstream).await);
        }
        if request.method() != Method::POST {
            return Ok(no_call());
        }
        let Some(counted) = self.calls.one_below(CALLS) else {
            let text = format!("{CALLS} calls are running, which is the proxy's limit");
            return Err(Status::resource_exhausted(text).into());
        };
        let counted = (counted, running);
        let part = self.answer.as_ref().map(|answer| (answer, answer.part(request.uri().path())));
        match part {
            Some((answer, Some(part))) => self.answer(answer, part, request, counted).await,
            _ => self.pass(request.map(Sent::Passing), counted).await,
        }
    }

    /// Passes a call on.
    async fn pass(
        &self,
        request: Request<Sent>,
        counted: (Counted, Running),
    ) -> Result<Response<Back>, Fault> {
        // Calls without an end are told from others by name.
        let cut_in = if request.uri().path() == EVENTS { Phase::Ending } else { Phase::Cutting };
        let response = tokio::select! {
            biased;
            response = self.upstream.send(request) => response?,
            () = self.phases.reaches(cut_in) => return Err(ended().into()),
        };
        Ok(self.passing(response, cut_in, counted))
    }

    fn passing(
        &self,
        response: Response<Incoming>,
        cut_in: Phase,
        counted: impl Send + 'static,
    ) -> Response<Back> {
        let reaches = self.phases.reaches(cut_in);
        let cut = Box::pin(async move {
            reaches.await;
            ended()
        });
        let counted = Box::new(counted);
        response.map(|body| Back::Passing(Box::new(PassingBack::new(body, cut, counted))))
    }

    /// Lets an answer have its part.
    async fn answer(
        &self,
        answer: &Arc<dyn Answer>,
        part: Part,
        request: Request<Incoming>,
        counted: (Counted, Running),
    ) -> Result<Response<Back>, Fault> {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let deadline = timeout::read(&head.headers).and_then(|time| begun.checked_add(time));
        let message = call::message(body).await?;
        let method = head.uri.path().to_owned();
        if part == Part::Instead {
            let request = self.upstream.whole(&method, &head.headers, &message)?;
            let response = self.upstream.send(request).await?;
            if !lacks(response.headers()) {
                return Ok(self.passing(response, Phase::Cutting, counted));
            }
        }
        let (sender, stop) = Stop::pair();
        let upstream = self.upstream.clone();
        let (metadata, grace) = (head.headers, self.grace);
        let call = Call { method, metadata, message, deadline, stop, grace, upstream };
        let (answer, goes_on) = (Arc::clone(answer), self.answers.one());
        // A task of its own: a client that goes away does not stop it in the middle.
        let answered = tokio::spawn(async move {
            let _goes_on = goes_on;
            answer.answer(call).await
        });
        let reply = self.wait(answered, &sender, deadline).await?;
        drop(counted);
        Ok(match reply {
            Reply::Passed(passed) => passed.into_response(),
            Reply::Message(message) => with_message(&message),
        })
    }

    /// Waits for an answer, and tells it when to come to an end.
    async fn wait(
        &self,
        mut answered: JoinHandle<Result<Reply, Status>>,
        sender: &Sender,
        deadline: Option<Instant>,
    ) -> Result<Reply, Status> {
        let finished = |result: Result<_, tokio::task::JoinError>| {
            result.unwrap_or_else(|error| Err(Status::internal(format!("the proxy: {error}"))))
        };
        tokio::select! {
            result = &mut answered => return finished(result),
            () = sender.tell_at(deadline) => {}
            () = self.phases.reaches(Phase::Ending) => sender.tell(Why::Ending),
        }
        finished(answered.await)
    }
}

/// Returns true for the answer of an engine that does not have a method. It has no body.
fn lacks(headers: &HeaderMap) -> bool {
    headers
        .get(Status::GRPC_STATUS)
        .is_some_and(|status| Code::from_bytes(status.as_bytes()) == Code::Unimplemented)
}

fn with_message(message: &Bytes) -> Response<Back> {
    let mut response = Response::new(body::of_message(message));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn no_call() -> Response<Back> {
    let text = Bytes::from_static(b"this socket takes gRPC calls\n");
    let mut response = Response::new(Back::Whole(Some(text), None));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

fn ended() -> Status {
    Status::unavailable("the proxy ends; the engine may have executed the call")
}

/// The call of events, which has no end.
const EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";
