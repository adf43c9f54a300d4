//! The options of an operation together with the settings of configuration files.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use prost::Message;

use super::common::{ByFile, Common};
use super::configured::{Configured, path};
use super::opts::Opts;
use crate::config::{ConfigError, Setting};
use crate::error::{Error, Result};
use crate::rpc::CriuOpts;
use crate::value::{AfterDump, Dir};

impl<'a> Common<'a> {
    /// Returns the options as they hold once CRIU has read its files. A criu reads the settings
    /// `started` when it starts, and the settings `named` from the file that the request names.
    ///
    /// Options of which there can be several are not added, because CRIU adds them itself:
    /// [`Self::with_lists`] does.
    ///
    /// # Errors
    /// [`Error::Config`], if a setting cannot be true for this operation.
    pub(crate) fn configured(
        &self,
        started: &[Setting],
        named: &[Setting],
    ) -> Result<Cow<'_, Self>> {
        if started.is_empty() && named.is_empty() {
            return Ok(Cow::Borrowed(self));
        }
        let (started, named) = (Configured::of(started)?, Configured::of(named)?);
        let mut common = self.clone();
        let opts = &mut common.opts;
        opts.message = merged(&self.opts, &started, &named)?;
        same_images(&self.opts, named.images.as_ref())?;
        if let Some((after, setting)) = fate(&self.opts, &started, &named)? {
            // A restore knows only `leave_stopped`.
            if after == AfterDump::LeaveStopped && self.opts.message.leave_stopped == Some(false) {
                let reason = "the tasks are to run after this operation";
                return Err(setting.refused(reason).into());
            }
            opts.message.leave_running = (after == AfterDump::LeaveRunning).then_some(true);
            opts.message.leave_stopped = (after == AfterDump::LeaveStopped).then_some(true);
        }
        let own_work = self.opts.work.is_some();
        if let Some(work) = named.work.as_ref().or(started.work.as_ref().filter(|_| !own_work)) {
            let directory = path(work);
            look_at(work, &directory)?;
            opts.work = Some(Dir::from(directory));
        }
        let own_log = self.opts.message.log_file.is_some() || self.opts.message.log_to_stderr();
        match (&named.log, &started.log) {
            (Some(log), _) => common.log_elsewhere = Some(path(log)),
            (None, Some(log)) if !own_log => {
                opts.default_log = None;
                common.log_elsewhere = Some(path(log));
            }
            _ => {}
        }
        common.by_file = ByFile { images: named.images.is_some(), work: named.work.is_some() };
        opts.lists = started.lists;
        append(&mut opts.lists, &named.lists)?;
        Ok(Cow::Owned(common))
    }

    /// Adds the options of files of which there can be several, for a look ahead. A request made of
    /// the result would have these options twice.
    pub(crate) fn with_lists(mut self) -> Result<Self> {
        let lists = std::mem::take(&mut self.opts.lists);
        append(&mut self.opts.message, &lists)?;
        Ok(self)
    }
}

/// Merges the message with the options of files. The message overrides the options that criu reads
/// when it starts. The options of the file that the request names override the message.
fn merged(opts: &Opts<'_>, started: &Configured, named: &Configured) -> Result<CriuOpts> {
    let asked = &opts.message;
    let mut message = started.message.clone();
    if asked.ps.is_some() || opts.page_server_socket.is_some() {
        message.ps = None;
    }
    append(&mut message, asked)?;
    message.images_dir_fd = asked.images_dir_fd;
    let mut above = named.message.clone();
    // CRIU takes the parent images from the request in any case.
    if asked.parent_img.is_some() {
        above.parent_img = None;
    }
    append(&mut message, &above)?;
    if named.page_server == Some(false) && !message.lazy_pages() {
        message.ps = None;
    }
    message.images_dir_fd = asked.images_dir_fd;
    Ok(message)
}

/// Adds the fields of one message to another. Single values win, lists grow.
fn append(message: &mut CriuOpts, more: &CriuOpts) -> Result<()> {
    let images_dir_fd = message.images_dir_fd;
    let merged = message.merge(more.encode_to_vec().as_slice());
    message.images_dir_fd = images_dir_fd;
    merged.map_err(|error| Error::system("merge options", std::io::Error::other(error)))
}

/// Returns the fate of the tasks that a file decides on.
///
/// # Errors
/// If the caller has asked for another.
fn fate<'s>(
    opts: &Opts<'_>,
    started: &'s Configured,
    named: &'s Configured,
) -> Result<Option<(AfterDump, &'s Setting)>> {
    let of = |configured: &'s Configured| {
        configured.after.as_ref().map(|(after, setting)| (*after, setting))
    };
    match (of(named), opts.after, of(started)) {
        (Some((after, setting)), Some(asked), _) if after != asked => {
            Err(setting.refused(contradiction(asked)).into())
        }
        // A request can say which of the two, but not neither.
        (None, Some(AfterDump::Kill), Some((_, setting))) => {
            Err(setting.refused(contradiction(AfterDump::Kill)).into())
        }
        (Some(fate), ..) | (None, None, Some(fate)) => Ok(Some(fate)),
        (None, ..) => Ok(None),
    }
}

fn contradiction(asked: AfterDump) -> &'static str {
    match asked {
        AfterDump::Kill => "the tasks are to end with this dump, which CRIU then would not do",
        AfterDump::LeaveRunning => "the tasks are to run after this dump",
        AfterDump::LeaveStopped => "the tasks are to be stopped after this dump",
    }
}

/// Refuses a setting that moves the images away from the directory of the operation.
fn same_images(opts: &Opts<'_>, setting: Option<&Setting>) -> Result<()> {
    let Some(setting) = setting else { return Ok(()) };
    let there = path(setting);
    let wanted = opts.images.path();
    let is_same = match opts.images.open()? {
        None => there == wanted,
        Some(images) => {
            let own = std::fs::File::from(images).metadata();
            let own =
                own.map_err(|source| Error::system("look at the images directory", source))?;
            let other = look_at(setting, &there)?;
            (own.dev(), own.ino()) == (other.dev(), other.ino())
        }
    };
    if is_same {
        return Ok(());
    }
    let (there, wanted) = (there.display(), wanted.display());
    let reason = format!("CRIU would use the images in {there}, and not those in {wanted}");
    Err(setting.refused(reason).into())
}

fn look_at(setting: &Setting, directory: &Path) -> Result<std::fs::Metadata, ConfigError> {
    let refuse = |why: String| setting.refused(format!("{}: {why}", directory.display()));
    if directory.as_os_str().as_bytes().is_empty() {
        return Err(setting.refused("a directory is missing"));
    }
    match std::fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(meta),
        Ok(_) => Err(refuse("not a directory".into())),
        Err(error) => Err(refuse(error.to_string())),
    }
}
