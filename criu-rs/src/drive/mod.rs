//! One conversation with a criu: its actions, its deadline, its end.

mod driver;
mod job;
mod stop;

pub(crate) use driver::{Driver, Finished};
pub(crate) use job::{Guard, Job};
