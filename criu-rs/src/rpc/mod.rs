//! CRIU's RPC: its messages, and the course of one request as a state machine over bytes.
//!
//! Most programs do not need this module: the operations build the messages. [`CriuOpts`] is the
//! type that the `raw` method of an operation hands out. Text is bytes throughout: CRIU's strings
//! are C strings, and paths need not be UTF-8.

mod conversation;
mod convert;
#[rustfmt::skip]
mod proto;

pub use crate::hooks::Call;
pub use conversation::{Conversation, ProtocolError, Step, Verdict};
pub use proto::*;
