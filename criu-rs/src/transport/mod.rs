//! Connections to a criu: a child of ours, a service, a socket of the caller.

mod endable;
mod ending;
mod handed;
#[cfg(feature = "libcriu")]
mod libcriu;
mod link;
mod safe_point;
#[cfg(test)]
mod scripted;
mod standstill;
mod subject;
mod way;
mod worker;

pub(crate) use endable::Endable;
pub(crate) use ending::{Ending, Next};
pub(crate) use handed::{Handed, Launch};
#[cfg(feature = "libcriu")]
pub(crate) use libcriu::Library;
pub(crate) use link::{Heard, Link};
#[cfg(test)]
pub(crate) use scripted::Scripted;
pub(crate) use subject::Subject;
pub(crate) use way::Transport;
pub(crate) use worker::Worker;
