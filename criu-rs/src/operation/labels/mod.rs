//! Security labels held through an operation: asked for, compared, guarded.

mod guard;
mod saved;
mod support;

pub(crate) use guard::{DumpGuard, RestoreGuard, foresee};
