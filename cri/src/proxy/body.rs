//! Bodies of requests and answers: passed on frame by frame, or whole.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prost::bytes::{BufMut, Bytes, BytesMut};
use tonic::{Code, Status};

use super::fault::{self, Fault};

/// The body of a request to the engine.
#[derive(Debug)]
pub(super) enum Sent {
    /// The body of a client, as it comes.
    Passing(Incoming),
    /// Bytes.
    Whole(Option<Bytes>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Passing(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passing(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        // A length that is known would become a header that the client has not sent.
        SizeHint::default()
    }
}

/// The body of an answer to a client.
#[derive(Default)]
pub(super) enum Back {
    /// No body. The headers are all of the answer.
    #[default]
    Empty,
    /// Bytes, and the trailers behind them.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// The body of the engine's answer, as it comes.
    Passing(Box<PassingBack>),
}

/// The body of an engine's answer, while it comes.
pub(super) struct PassingBack {
    body: Incoming,
    /// Ends when the answer is to be cut off.
    cut: Cut,
    /// Ends the counting of the call when it is dropped.
    _counted: Box<dyn Send>,
    is_cut: bool,
}

/// A future that ends with the status of an answer that is cut off.
pub(super) type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

impl Body for Back {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes, trailers) => Poll::Ready(match bytes.take() {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Self::Passing(passing) => passing.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Self::Passing(passing) => passing.is_cut || passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl PassingBack {
    /// An answer that comes, until `cut`. `counted` lives as long.
    pub(super) fn new(body: Incoming, cut: Cut, counted: Box<dyn Send>) -> Self {
        Self { body, cut, _counted: counted, is_cut: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_cut {
            return Poll::Ready(None);
        }
        let status = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => match fault::of_engine(error) {
                // The client sees what the engine says.
                Fault::Refused(status) => *status,
                reset => return Poll::Ready(Some(Err(reset))),
            },
            Poll::Ready(frame) => return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => match self.cut.as_mut().poll(cx) {
                Poll::Ready(status) => status,
                Poll::Pending => return Poll::Pending,
            },
        };
        self.is_cut = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }
}

impl fmt::Debug for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Whole(..) => "Whole",
            Self::Passing(_) => "Passing",
        })
    }
}

/// Returns the body of an answer with one message.
pub(super) fn of_message(message: &[u8]) -> Back {
    Back::Whole(Some(framed(message)), Some(trailers(&Status::new(Code::Ok, ""))))
}

/// Puts a message into the form that it has in a body: a byte for compression, the length, the
/// message.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    // Messages of this program are far below 4 GiB.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// Takes the message out of a body that has one.
///
/// # Errors
/// `INTERNAL` for a body that does not have one message, and `UNIMPLEMENTED` for a message that is
/// compressed.
pub(super) fn message_of(body: &Bytes) -> Result<Bytes, Status> {
    let Some((&[compressed, length @ ..], message)) = body.split_first_chunk::<PREFIX>() else {
        let text = format!("expected a message, found a body of {} bytes", body.len());
        return Err(Status::internal(text));
    };
    if compressed != 0 {
        return Err(Status::unimplemented("the message is compressed, and must not be"));
    }
    let length = u32::from_be_bytes(length);
    if usize::try_from(length) != Ok(message.len()) {
        let found = message.len();
        let text = format!("expected one message of {length} bytes, found {found} bytes");
        return Err(Status::internal(text));
    }
    Ok(body.slice(PREFIX..))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A status whose details cannot be written is the status of that.
    if let Err(status) = status.add_header(&mut trailers) {
        let _ = status.add_header(&mut trailers);
    }
    trailers
}

/// Bytes before each message.
const PREFIX: usize = 5;
