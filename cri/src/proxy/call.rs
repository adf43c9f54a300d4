//! Calls that are read whole, and the engine's answers to them.

use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Code, Status};

use super::answer::MAX_MESSAGE;
use super::body::{Back, message_of};
use super::fault::{self, Fault};

/// An engine's whole answer, as it came.
#[derive(Clone, Debug)]
pub struct Passed(Box<Answer>);

#[derive(Clone, Debug)]
struct Answer {
    head: Response<()>,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Passed {
    /// Reads an answer to its end.
    pub(super) async fn read_from(response: Response<Incoming>) -> Result<Self, Fault> {
        let (head, body) = response.into_parts();
        let (body, trailers) = read(body).await?;
        let head = Response::from_parts(head, ());
        Ok(Self(Box::new(Answer { head, body, trailers })))
    }

    /// The engine's refusal. `None` if the call succeeded.
    pub fn refusal(&self) -> Option<Status> {
        let trailers = self.0.trailers.as_ref().unwrap_or(self.0.head.headers());
        match Status::from_header_map(trailers) {
            Some(status) if status.code() == Code::Ok => None,
            Some(status) => Some(status),
            None => Some(Status::unknown("the engine's answer has no status")),
        }
    }

    /// Reads the answer's message.
    ///
    /// # Errors
    /// The engine's refusal, and `INTERNAL` for an answer that has no such message.
    pub fn read<M: Message + Default>(&self) -> Result<M, Status> {
        match self.refusal() {
            Some(status) => Err(status),
            None => M::decode(message_of(&self.0.body)?)
                .map_err(|error| Status::internal(format!("the engine's answer: {error}"))),
        }
    }

    pub(super) fn into_response(self) -> Response<Back> {
        let Answer { head, body, trailers } = *self.0;
        let body = match (body, trailers) {
            (body, None) if body.is_empty() => Back::Empty,
            (body, trailers) if body.is_empty() => Back::Whole(None, trailers),
            (body, trailers) => Back::Whole(Some(body), trailers),
        };
        head.map(|()| body)
    }
}

/// Reads a request's body, which has one message. Returns the message.
pub(super) async fn message(body: Incoming) -> Result<Bytes, Fault> {
    let (body, _) = read(body).await?;
    Ok(message_of(&body)?)
}

async fn read(body: Incoming) -> Result<(Bytes, Option<HeaderMap>), Fault> {
    let collected = Limited::new(body, MAX_MESSAGE).collect().await;
    let collected = collected.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => fault::of_engine(*error),
        Err(_) => Status::resource_exhausted(format!(
            "the message is larger than {MAX_MESSAGE} bytes, which is the limit of a method that \
             the proxy takes part in"
        ))
        .into(),
    })?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}
