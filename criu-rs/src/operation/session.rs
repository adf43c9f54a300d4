//! An operation under way.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use crate::drive::{Driver, Finished};
use crate::error::{Error, Misuse, Result};
use crate::hooks::Hooks;
use crate::value::Pid;

/// An operation under way: a criu that has been started or reached.
///
/// [`Session::finish`] sends the request and waits. A program with an event loop calls
/// [`Session::advance`] instead, whenever the session's descriptor is readable.
///
/// Dropping a session that is not over ends criu at a safe point and undoes what criu has begun. A
/// dump whose tasks are already being killed is completed.
///
/// ```no_run
/// use criu_rs::{Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let session = Dump::new(pid, "/var/lib/ckpt").start(&Criu::new())?;
/// println!("criu is process {:?}: move it into a cgroup now", session.pid());
/// let dumped = session.finish(&mut ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing has been asked of criu yet: call finish"]
pub struct Session<T> {
    // Dropped before `conclude`: criu must be gone before its files are given back.
    driver: Option<Driver>,
    conclude: Option<Conclude<T>>,
    /// Looks at the error of a driver that has failed.
    judge: Option<Judge>,
}

type Judge = Box<dyn FnOnce(Error) -> Error + Send>;

type Conclude<T> = Box<dyn FnOnce(Finished, Driver) -> Result<T> + Send>;

impl<T> Session<T> {
    pub(crate) fn new(
        driver: Driver,
        conclude: impl FnOnce(Finished, Driver) -> Result<T> + Send + 'static,
    ) -> Self {
        Self { driver: Some(driver), conclude: Some(Box::new(conclude)), judge: None }
    }

    /// Lets a function replace the error of a session that fails.
    #[cfg(feature = "lazy")]
    pub(crate) fn judged(mut self, judge: impl FnOnce(Error) -> Error + Send + 'static) -> Self {
        self.judge = Some(Box::new(judge));
        self
    }

    /// Returns the criu process, if this crate has started it. The request is sent by
    /// [`Session::finish`] or the first [`Session::advance`].
    pub fn pid(&self) -> Option<Pid> {
        self.driver.as_ref().and_then(Driver::pid)
    }

    /// Sends the request, answers CRIU's actions with `hooks`, and waits for the end.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). Everything that was begun is undone.
    pub fn finish(mut self, hooks: &mut dyn Hooks) -> Result<T> {
        loop {
            if let Some(outcome) = self.advance(hooks)? {
                return Ok(outcome);
            }
            if let Some(driver) = &self.driver {
                driver.wait()?;
            }
        }
    }

    /// Does what can be done without waiting. The first call sends the request. After `None`, call
    /// again when the descriptor is readable. A deadline and a cancellation make the descriptor
    /// readable, too.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). Everything that was begun is undone, and the session is over.
    pub fn advance(&mut self, hooks: &mut dyn Hooks) -> Result<Option<T>> {
        let Some(driver) = &mut self.driver else {
            return Err(Misuse::SessionOver.into());
        };
        let result = driver.advance(hooks);
        if let Ok(None) = result {
            return Ok(None);
        }
        let (driver, conclude) = (self.driver.take(), self.conclude.take());
        match (result, driver, conclude) {
            (Ok(Some(finished)), Some(driver), Some(conclude)) => {
                conclude(finished, driver).map(Some)
            }
            (result, driver, _guards) => {
                drop(driver);
                let judge = self.judge.take().unwrap_or_else(|| Box::new(|error| error));
                result.map_err(judge).map(|_| None)
            }
        }
    }
}

impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        // A dump whose tasks are being killed is not undone.
        if !self.driver.as_mut().is_some_and(Driver::hurry_if_saved) {
            return;
        }
        while let Ok(None) = self.advance(&mut ()) {
            if self.driver.as_ref().is_none_or(|driver| driver.wait().is_err()) {
                return;
            }
        }
    }
}

impl<T> AsFd for Session<T> {
    /// Returns a descriptor that is readable when [`Session::advance`] has something to do.
    ///
    /// # Panics
    /// After the session is over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.driver.as_ref().expect("the session is over").as_fd()
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("driver", &self.driver).finish_non_exhaustive()
    }
}
