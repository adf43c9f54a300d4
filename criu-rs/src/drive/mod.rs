//! A conversation with a criu: its actions, its deadline, its end.

mod course;
mod driver;
mod job;
mod probes;
mod stop;
mod watch;

pub(crate) use driver::{Driver, Finished};
pub(crate) use job::{Guard, Job};
