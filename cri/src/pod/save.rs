//! The work of a checkpoint: everything after the questions.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use criu_archive::write::upper_layer;
use criu_rs::{Cancel, HookResult};

use super::criu_options::annotation;
use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::output::{Output, archive_name};
use super::recovery::Making;
use super::refusal::Refusal;
use super::state_dir::StateDir;
use super::{Pods, parts};
use crate::engine::{After, Control, Moments, Options, Subject};
use crate::error::Code;

/// A checkpoint to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) engine: EngineFacts,
    pub(super) sandbox: SandboxFacts,
    /// In the order in which they started.
    pub(super) containers: Vec<ContainerFacts>,
    /// Names of init containers that have ended.
    pub(super) completed: Vec<String>,
    pub(super) subject: Subject,
    pub(super) options: Options,
    pub(super) deadline: Instant,
}

impl Pods {
    /// Saves a pod. Blocks.
    pub(super) fn save(&self, job: &Job, output: Output, cancel: &Cancel) -> Result<(), Refusal> {
        let id = &job.sandbox.status.id;
        let unmade = Unmade { state: &self.state, making: Making::new(id, output), kept: false };
        unmade
            .making
            .write(&self.state)
            .map_err(Refusal::file("write into", &self.settings.state))?;
        let result = self.write(job, &unmade.making, cancel);
        match result {
            Ok(()) => unmade.keep(),
            Err(refusal) => match unmade.undo() {
                Ok(()) => Err(refusal),
                Err(error) => Err(refusal.and(&format!("its files could not be removed: {error}"))),
            },
        }
    }

    fn write(&self, job: &Job, making: &Making, cancel: &Cancel) -> Result<(), Refusal> {
        let work = making.output().begin()?;
        let moments = Told {
            state: &self.state,
            making,
            layers: job
                .subject
                .containers
                .iter()
                .map(|one| {
                    let layer = work.join(format!("{}.diff", one.name));
                    upper_directory(one.pid).map(|upper| (upper, layer))
                })
                .collect::<Result<_, _>>()?,
            problem: Mutex::new(None),
            deadline: job.deadline,
            cancel,
        };
        let specs = parts::specs(&job.subject)?;
        let control = Control {
            deadline: Some(job.deadline),
            cancel: Some(cancel),
            moments: &moments,
            after: After::Resume,
        };
        let saved = self.tool.checkpoint(&job.subject, &work, &job.options, &control);
        let own = moments.problem.into_inner().unwrap_or_default();
        let saved = match (saved, own) {
            (Ok(saved), None) => saved,
            (Err(_), Some(own)) | (Ok(_), Some(own)) => return Err(own),
            (Err(error), None) => return Err(error.into()),
        };
        // The pod runs again.
        making.write(&self.state).map_err(Refusal::file("write into", &self.settings.state))?;
        let watch = |_| match stopped(job.deadline, cancel) {
            None => std::ops::ControlFlow::Continue(()),
            Some(_) => std::ops::ControlFlow::Break(()),
        };
        let options = annotation(&self.options, &job.sandbox.status.id, &job.options);
        let to = &making.output().path;
        let result = parts::archives(job, &work, to, specs, options.as_deref(), &watch)
            .and_then(|()| making.output().end())
            .and_then(|()| self.record(job, &saved, to, &watch));
        result.map_err(|refusal| stopped(job.deadline, cancel).unwrap_or(refusal))
    }
}

/// Returns the refusal of an operation that is not to go on.
fn stopped(deadline: Instant, cancel: &Cancel) -> Option<Refusal> {
    if cancel.is_cancelled() {
        return Some(Refusal::new(Code::Cancelled, "the request was cancelled"));
    }
    let text = "the deadline has passed, and the checkpoint was undone";
    (Instant::now() >= deadline).then(|| Refusal::new(Code::DeadlineExceeded, text))
}

/// A checkpoint whose files are removed with this value.
struct Unmade<'a> {
    state: &'a StateDir,
    making: Making,
    kept: bool,
}

impl Unmade<'_> {
    /// Keeps the files.
    fn keep(mut self) -> Result<(), Refusal> {
        let removed = self.making.remove(self.state);
        // With the note, the next recovery would remove the files.
        removed.map_err(|error| {
            Refusal::new(Code::Internal, format!("the note of the checkpoint stays: {error}"))
        })?;
        self.kept = true;
        Ok(())
    }

    /// Removes the files now.
    fn undo(mut self) -> io::Result<()> {
        self.kept = true;
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        self.making.output().clear()?;
        self.making.remove(self.state)
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // A note that stays is followed at the next start.
            let _ = self.clear();
        }
    }
}

/// The moments of a checkpoint: the note before the pod is frozen, and the changes in the root file
/// systems while it is.
struct Told<'a> {
    state: &'a StateDir,
    making: &'a Making,
    /// The upper directory of each container, and the file that gets the changes.
    layers: Vec<(PathBuf, PathBuf)>,
    /// The reason of a hook that refused.
    problem: Mutex<Option<Refusal>>,
    deadline: Instant,
    cancel: &'a Cancel,
}

impl Told<'_> {
    fn told(&self, result: Result<(), Refusal>) -> HookResult {
        result.map_err(|refusal| {
            let text = refusal.text().to_owned();
            if let Ok(mut problem) = self.problem.lock() {
                problem.get_or_insert(refusal);
            }
            text.into()
        })
    }

    /// Writes the changes of each root file system.
    fn layers(&self) -> Result<(), Refusal> {
        let watch = |_| match stopped(self.deadline, self.cancel) {
            None => std::ops::ControlFlow::Continue(()),
            Some(_) => std::ops::ControlFlow::Break(()),
        };
        for (upper, layer) in &self.layers {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(layer);
            let file = file.map_err(Refusal::file("make", layer))?;
            let written = upper_layer(upper, io::BufWriter::new(file), &watch);
            let file = written.map_err(|error| {
                stopped(self.deadline, self.cancel).unwrap_or_else(|| error.into())
            })?;
            let flushed = file.into_inner().map_err(io::IntoInnerError::into_error);
            flushed.map_err(Refusal::file("write", layer))?;
        }
        Ok(())
    }
}

impl Moments for Told<'_> {
    fn freezing(&self, cgroups: &[PathBuf]) -> HookResult {
        let written = self.making.write_with(self.state, cgroups);
        self.told(written.map_err(|error| {
            Refusal::new(Code::Internal, format!("the note of the checkpoint: {error}"))
        }))
    }

    fn saved(&self) -> HookResult {
        self.told(self.layers())
    }
}

/// Finds the directory in which overlayfs keeps the changes in the root of a process.
fn upper_directory(process: criu_rs::Pid) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(format!("/proc/{process}/mountinfo"));
    let text = fs::read(&path).map_err(Refusal::file("read", &path))?;
    let found = text.split(|byte| *byte == b'\n').filter_map(root_mount).next_back();
    let (kind, options) = found
        .ok_or_else(|| Refusal::state(format!("process {process} has no mount of its root")))?;
    let text = |why: &str| {
        let kind = kind.escape_ascii();
        format!("the root of process {process} is a file system of the kind {kind}: {why}")
    };
    if kind != b"overlay" {
        let why =
            "the changes of an overlay are saved alone, such as the snapshotter overlayfs has";
        return Err(Refusal::state(text(why)));
    }
    let upper = options.split(|byte| *byte == b',').find_map(|one| one.strip_prefix(b"upperdir="));
    let upper = upper.map(unescaped).filter(|upper| upper.is_absolute() && upper.is_dir());
    upper.ok_or_else(|| Refusal::state(text("it has no upper directory that is found from here")))
}

/// Returns the kind and the options of a line that is the mount of the root.
fn root_mount(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut words = line.split(|byte| *byte == b' ');
    if words.nth(4)? != b"/" {
        return None;
    }
    words.find(|word| *word == b"-")?;
    let kind = words.next()?;
    Some((kind, words.nth(1)?))
}

/// Returns a path of mountinfo, where four characters have octal numbers.
fn unescaped(text: &[u8]) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let mut path = Vec::new();
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| first == b'\\');
        let number = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (number, more.get(3..)) {
            (Some(number), Some(after)) => {
                path.push(number);
                rest = after;
            }
            _ => {
                path.push(first);
                rest = more;
            }
        }
    }
    OsString::from_vec(path).into()
}

/// Returns the path of a container's archive.
pub(super) fn archive_path(directory: &Path, container: &str) -> Result<PathBuf, Refusal> {
    Ok(directory.join(archive_name(container)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_is_read_from_the_mount_of_the_root() {
        let line = b"150 113 0:50 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l,\
                     upperdir=/a\\040b,workdir=/w";
        let (kind, options) = root_mount(line).expect("a root");
        assert_eq!(kind, b"overlay");
        assert!(options.starts_with(b"rw,lowerdir=/l"));
        assert_eq!(root_mount(b"150 113 0:50 / /proc rw - proc proc rw"), None);
        assert_eq!(root_mount(b"150 113"), None);
        assert_eq!(unescaped(b"/a\\040b\\\\134"), Path::new("/a b\\\\"));
        assert_eq!(unescaped(b"/a\\04"), Path::new("/a\\04"));
    }
}
