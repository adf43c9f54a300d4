//! A proxy between a client of the CRI, such as the kubelet, and an engine.
//!
//! ```text
//! client --- unix socket ---> proxy --- unix socket ---> engine
//!                               |
//!                               Answer    methods that the engine does not have
//! ```
//!
//! Every call is passed on as it is: the path, headers, frames of the body, trailers, resets. The
//! proxy does not decode calls, and does not know their services. The exceptions are the methods
//! that an [`Answer`] has a part in, and `:authority` of clients that put a path there.
//!
//! All calls share one connection to the engine. It is made again when it has ended. A call that
//! was on its way fails with `UNAVAILABLE`, and is never sent twice: the engine may have executed
//! it.
//!
//! ```text
//! socket    the listening socket        clients   connections, of which idle ones give way
//! forward   one call                    upstream  the connection to the engine
//! answer    the hinge for own answers   stop      the end of such an answer
//! pods      checkpoints of pods
//! body      frames on their way         bounds    windows and numbers
//! authority host names of clients that send a path
//! ```

mod answer;
mod authority;
mod body;
mod bounds;
mod call;
mod clients;
mod fault;
mod forward;
mod notice;
mod phase;
mod pods;
mod ready;
mod serve;
mod socket;
mod stop;
mod timeout;
mod upstream;

pub use answer::{Answer, Answering, Call, MAX_MESSAGE, Part, Reply};
pub use bounds::{CALLS, CALLS_OF_CONNECTION, CONNECTIONS};
pub use call::Passed;
pub use notice::{Notice, Tell};
pub use pods::PodAnswer;
pub use ready::check;
pub use serve::Proxy;
pub use socket::{Listening, SocketError};
pub use stop::{Stop, Why};
pub use upstream::Upstream;

#[cfg(test)]
mod tests;
