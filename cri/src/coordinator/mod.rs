//! A distributed job saved at one moment: members on several nodes that wait for each other.
//!
//! Each member is a dump or a restore that asks a coordinator at CRIU's actions. All members stand
//! still and have locked their networks before the first is saved, and no member runs on or ends
//! before the last is saved. If a member fails, dies or does not come in time, the coordinator lets
//! no other member go on: their dumps fail, all processes run on, and no checkpoint is left.
//!
//! ```text
//!  dump on node 1 ── Member ──┐  pre-dump, network-lock, post-dump
//!                             ├──▶ Server
//!  dump on node 2 ── Member ──┘
//! ```
//!
//! The protocol is that of criu-coordinator: a TCP connection for each action, a JSON object as the
//! request and a text as the answer. A [`Server`] serves clients of criu-coordinator, and a
//! [`Member`] asks a criu-coordinator. With TLS both ends show a certificate, and the names in a
//! client's certificate are the ids that it may use.
//!
//! This crate's coordinator differs from criu-coordinator in these ways:
//!
//! * Dependencies count in both directions: a member waits for members that name it, too, if they
//!   register before its operation is over. A member that comes first, and names nobody, goes on at
//!   once: each member names another one, or the coordinator has the dependencies of all.
//! * A member is refused if a member that it names has just gone through its operation without it.
//! * A failure of one member is the failure of all, and the answer has its name and the reason.
//! * A member keeps the connection of its registration open, so that its death is noticed at once.
//! * A restore waits at post-restore as well.
//! * Unknown actions and the streaming of images are refused.
//! * A member that cannot reach its coordinator fails. criu-coordinator's client succeeds.
//!
//! A coordinator that dies while it answers the members at post-dump leaves some with a checkpoint
//! and some without. Compare the outcomes of all members before a checkpoint counts as whole.

mod answer;
mod client;
mod connection;
mod dependencies;
mod error;
mod event;
mod files;
mod jobs;
mod joined;
mod limits;
mod line;
mod member;
mod message;
mod script;
mod server;
mod step;
mod ties;

pub use answer::Answer;
pub use client::Client;
pub use error::CoordinatorError;
pub use event::Event;
pub use files::graph_in;
pub use joined::Joined;
pub use limits::Limits;
pub use member::Member;
pub use message::{Graph, ids};
pub use script::Script;
pub use server::{Listening, Server};
pub use step::Step;
