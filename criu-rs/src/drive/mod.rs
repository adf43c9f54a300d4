//! One conversation with a criu: its actions, its deadline, its end.

mod driver;
mod stop;

pub(crate) use driver::{Driver, Finished, Guard, Job, Limits};
pub(crate) use stop::{Ending, Subject};
