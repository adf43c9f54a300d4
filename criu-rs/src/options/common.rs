//! The part that all operations share.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::RunLimits;
use super::opts::Opts;
use crate::value::{Cancel, Dir};

/// The options and limits that every operation has.
#[derive(Clone, Debug)]
pub(crate) struct Common<'a> {
    pub(crate) opts: Opts<'a>,
    pub(crate) limits: RunLimits,
    /// The path of the log, if it is not where `opts` says.
    pub(crate) log_elsewhere: Option<PathBuf>,
    pub(crate) by_file: ByFile,
    /// The caller vouches for the directories: they are not looked at.
    pub(crate) trust_directory: bool,
}

/// The directories that the configuration file of a request names. CRIU opens these by their paths,
/// whatever the request says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ByFile {
    pub(crate) images: bool,
    pub(crate) work: bool,
}

impl<'a> Common<'a> {
    pub(crate) fn new(images: Dir<'a>, log_file: &str) -> Self {
        Self {
            opts: Opts::new(images, log_file),
            limits: Default::default(),
            log_elsewhere: None,
            by_file: ByFile::default(),
            trust_directory: false,
        }
    }

    /// Makes options that let CRIU stop at its actions: for the hooks, and so that the operation
    /// can be ended where CRIU itself can undo it.
    pub(crate) fn with_actions(images: Dir<'a>, log_file: &str) -> Self {
        let mut common = Self::new(images, log_file);
        common.opts.raw(|opts| opts.notify_scripts = Some(true));
        common
    }

    pub(crate) fn deadline(&mut self, limit: Duration) {
        self.limits.deadline = Some(limit);
    }

    pub(crate) fn cancel(&mut self, cancel: &Cancel) {
        self.limits.cancel = Some(cancel.clone());
    }
}
