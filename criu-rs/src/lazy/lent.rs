//! A value that one thread at a time uses, with the priority of the most urgent that waits.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::turn::{Held, Turn};

/// A value that one thread at a time uses. The thread runs with the priority of the most urgent
/// thread that waits for the value.
#[derive(Debug, Default)]
pub(super) struct Lent<T> {
    turn: Turn,
    value: Mutex<T>,
}

/// The right to use a value.
pub(super) struct Guard<'l, T> {
    value: MutexGuard<'l, T>,
    _turn: Held<'l>,
}

impl<T> Lent<T> {
    pub(super) fn new(value: T) -> Self {
        Self { turn: Turn::default(), value: Mutex::new(value) }
    }

    /// Waits for the value. A thread must not take a value that this thread has.
    pub(super) fn take(&self) -> Guard<'_, T> {
        let turn = self.turn.take();
        // Nobody waits here: all have taken the turn first.
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { value, _turn: turn }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
