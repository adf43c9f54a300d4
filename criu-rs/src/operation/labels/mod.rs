//! Security labels held through an operation: asked for, compared, guarded.

mod guard;
mod saved;
mod support;

pub(crate) use guard::{DumpGuard, RestoreGuard, foresee};
pub use support::LabelSupport;
pub(crate) use support::ask;
