//! Command line and environment of a task.

use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::memory::{Memory, PageSource};

impl Memory<'_> {
    /// Reads the words of the command line, as /proc/PID/cmdline has them: the words that the task
    /// was started with, unless it has written something else there. A kernel thread has no words.
    ///
    /// # Errors
    /// The errors of [`read_at`](PageSource::read_at); [`ErrorKind::TooLarge`] above 16 MiB;
    /// [`ErrorKind::TooMany`] for more words than a kernel takes.
    pub fn cmdline(&self) -> Result<Vec<Vec<u8>>> {
        let mm = &self.mm;
        let words = self.area("mm_arg_start", mm.mm_arg_start, mm.mm_arg_end)?;
        let overwritten = words.last().is_some_and(|last| *last != 0);
        if !overwritten {
            return self.split(&words);
        }
        // The task has written a title, which may reach into the environment. The first zero ends
        // the title.
        let end = if mm.mm_env_start == mm.mm_arg_end {
            mm.mm_env_end.max(mm.mm_arg_end)
        } else {
            mm.mm_arg_end
        };
        let mut title = self.area("mm_arg_start", mm.mm_arg_start, end)?;
        if let Some(end) = title.iter().position(|byte| *byte == 0) {
            title.truncate(end);
        }
        Ok(vec![title])
    }

    /// Reads the environment that the task was started with, one `NAME=value` each, as
    /// /proc/PID/environ has it. Changes by setenv(3) are not included.
    ///
    /// # Errors
    /// The errors of [`read_at`](PageSource::read_at); [`ErrorKind::TooLarge`] above 16 MiB;
    /// [`ErrorKind::TooMany`] for more words than a kernel takes.
    pub fn environ(&self) -> Result<Vec<Vec<u8>>> {
        let mm = &self.mm;
        self.split(&self.area("mm_env_start", mm.mm_env_start, mm.mm_env_end)?)
    }

    fn area(&self, field: &'static str, start: u64, end: u64) -> Result<Vec<u8>> {
        let size = end.saturating_sub(start);
        let limit = bounds::ARGUMENTS.get();
        if size > limit {
            let fault = Fault::from(ErrorKind::TooLarge { size, limit });
            return Err(Error::new(&self.name, fault.field("mm_entry", field)));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    fn split(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Some(bytes) = bytes.strip_suffix(b"\0").or((!bytes.is_empty()).then_some(bytes)) else {
            return Ok(Vec::new());
        };
        let limit = bounds::ARGUMENTS.get() / WORD;
        let words = bytes.split(|byte| *byte == 0);
        // Memory that was never written is zero, and would be as many words as it has bytes.
        if words.clone().count() as u64 > limit {
            return Err(Error::new(&self.name, ErrorKind::TooMany { what: "words", limit }));
        }
        Ok(words.map(<[u8]>::to_vec).collect())
    }
}

/// Bytes that the kernel counts for an empty word: a zero and a pointer.
const WORD: u64 = 9;
