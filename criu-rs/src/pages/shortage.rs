//! The wait for descriptors that others hold.

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use criu_images::ErrorKind;
use nix::errno::Errno;

use super::error::PagesError;
use super::limits::ServerLimits;

/// The patience of a session with a process or a system that has no descriptor left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shortage {
    patience: Duration,
    /// The end of the session's time, if the clock can name it.
    until: Option<Instant>,
}

impl Shortage {
    /// The patience of a session that begins now, within limits: for each call that of a message
    /// and 60 seconds at most, and the session's time for all calls together.
    pub(super) fn within(limits: &ServerLimits) -> Self {
        let patience = limits.idle.unwrap_or(LONGEST).min(LONGEST);
        Self { patience, until: Instant::now().checked_add(limits.total) }
    }

    /// Makes a call again while no descriptor is left, until the patience is over. Calls `free`
    /// before, which closes descriptors that can be missed.
    ///
    /// # Errors
    /// The errors of the calls.
    pub(super) fn wait_out<S, T>(
        self,
        state: &mut S,
        mut call: impl FnMut(&mut S) -> Result<T, PagesError>,
        mut free: impl FnMut(&mut S) -> Result<(), PagesError>,
    ) -> Result<T, PagesError> {
        let begun = Instant::now();
        let in_time = || self.until.is_none_or(|until| Instant::now() < until);
        loop {
            match call(state) {
                Err(error)
                    if is_shortage(&error) && begun.elapsed() < self.patience && in_time() =>
                {
                    free(state)?;
                }
                result => return result,
            }
            thread::sleep(PAUSE);
        }
    }

    /// Makes a call again as [`wait_out`](Self::wait_out) does, with no descriptor to close.
    pub(super) fn repeat<T>(
        self,
        mut call: impl FnMut() -> Result<T, PagesError>,
    ) -> Result<T, PagesError> {
        self.wait_out(&mut (), |()| call(), |()| Ok(()))
    }
}

/// Returns `true` for an error whose cause is that no descriptor is left.
fn is_shortage(error: &PagesError) -> bool {
    // The kind of an image's error holds the error of the system, which is no source of it.
    if let PagesError::Image(image) = error {
        return matches!(image.kind(), ErrorKind::Io(source) if is_out_of_descriptors(source));
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_out_of_descriptors) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// The time between two calls.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest patience.
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> PagesError {
        PagesError::file("images")(errno.into())
    }

    #[test]
    fn a_shortage_is_waited_out_and_another_error_is_not() {
        let patience = Shortage { patience: Duration::from_secs(20), until: None };
        let (mut calls, mut freed) = (0, 0);
        let mut state = (&mut calls, &mut freed);
        let call = |(calls, _): &mut (&mut i32, &mut i32)| {
            **calls += 1;
            if **calls < 3 { Err(error(Errno::EMFILE)) } else { Ok(()) }
        };
        let free = |(_, freed): &mut (&mut i32, &mut i32)| {
            **freed += 1;
            Ok(())
        };
        patience.wait_out(&mut state, call, free).unwrap();
        assert_eq!((calls, freed), (3, 2));
        let mut calls = 0;
        let mut full = || {
            calls += 1;
            Err::<(), _>(error(Errno::ENOSPC))
        };
        patience.repeat(&mut full).unwrap_err();
        Shortage::default().repeat(|| Err::<(), _>(error(Errno::ENFILE))).unwrap_err();
        let over = Shortage { until: Some(Instant::now()), ..patience };
        over.repeat(|| Err::<(), _>(error(Errno::ENFILE))).unwrap_err();
        assert_eq!(calls, 1);
    }
}
