//! The directory that a checkpoint is written into.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::state_dir::is_clean;
use crate::engine::is_folder;
use crate::error::Code;

/// The directory of a caller, and the names that a checkpoint gives to files there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Names of files and folders, each below the directory itself.
    names: Vec<String>,
}

/// An output whose directory is open. All work is done below the descriptor: whatever its path
/// means later, no file of another directory is made or removed.
#[derive(Clone, Debug)]
pub(super) struct OpenOutput {
    output: Output,
    directory: Arc<File>,
}

impl Output {
    /// Says whether the value makes sense: a value of a file may not.
    pub(super) fn is_sound(&self) -> bool {
        is_clean(&self.path) && self.names.iter().all(|name| is_folder(name))
    }

    /// Removes everything that the checkpoint may have written. The directory stays. A directory
    /// that is gone is no error.
    ///
    /// # Errors
    /// If another directory has its name by now. Nothing is removed then.
    pub(super) fn clear(&self) -> io::Result<()> {
        let directory = match open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => Arc::new(opened?),
        };
        let found = directory.metadata()?;
        if (found.dev(), found.ino()) != (self.device, self.inode) {
            return Err(io::Error::other(OTHER));
        }
        OpenOutput { output: self.clone(), directory }.clear()
    }
}

impl OpenOutput {
    /// Opens the directory, and checks that it is empty and nobody else may write into it. `names`
    /// are those of the files to come.
    pub(super) fn check(path: &str, names: Vec<String>) -> Result<Self, Refusal> {
        let path = PathBuf::from(path);
        let wrong = |why: &str| {
            let shown = path.display().to_string().escape_debug().to_string();
            Refusal::invalid(format!("the output path `{shown}`: {why}"))
        };
        if !is_clean(&path) {
            return Err(wrong("wanted an absolute path without `..`"));
        }
        let directory = match open(&path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(wrong("does not exist, wanted an empty directory"));
            }
            Err(error) if is_no_directory(&error) => {
                return Err(wrong("is no directory, wanted an empty one"));
            }
            Err(error) => return Err(Refusal::file("open", &path)(error)),
        };
        let found = directory.metadata().map_err(Refusal::file("look at", &path))?;
        if found.uid() != 0 && found.uid() != geteuid().as_raw() {
            let why = format!("belongs to user {}, wanted root or this program's", found.uid());
            return Err(wrong(&why));
        }
        if found.mode() & (OTHERS_WRITE | STICKY) == OTHERS_WRITE {
            return Err(wrong("everybody may write into it and rename files of others"));
        }
        let output = Output { device: found.dev(), inode: found.ino(), names, path };
        let open = Self { output, directory: Arc::new(directory) };
        let path = &open.output.path;
        let mut entries = fs::read_dir(open.below()).map_err(Refusal::file("read", path))?;
        if entries.next().is_some() {
            return Err(Refusal::invalid(format!(
                "the output path `{}`: is not empty",
                path.display().to_string().escape_debug()
            )));
        }
        Ok(open)
    }

    /// The value for a note.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Makes the folder for files in the making.
    pub(super) fn begin(&self) -> Result<Work, Refusal> {
        let work = self.below().join(WORK);
        let work = Work { done: work.join(DONE), path: work };
        for path in [&work.path, &work.done] {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(Refusal::file("make the directory", path))?;
        }
        Ok(work)
    }

    /// Moves the finished files into the directory, the record last, and removes the folder for
    /// files in the making.
    pub(super) fn end(&self, work: &Work) -> Result<(), Refusal> {
        let path = &self.output.path;
        // The caller looks for the files there.
        let found = fs::symlink_metadata(path).map_err(Refusal::file("look at", path))?;
        if (found.dev(), found.ino()) != (self.output.device, self.output.inode) {
            let text = format!("the output path {}: {OTHER}", path.display());
            return Err(Refusal::new(Code::Aborted, text));
        }
        for name in self.output.names.iter().rev() {
            let done = work.done.join(name);
            fs::rename(&done, self.below().join(name)).map_err(Refusal::file("move", &done))?;
        }
        self.directory.sync_all().map_err(Refusal::file("write", path))?;
        fs::remove_dir_all(&work.path).map_err(Refusal::file("remove the directory", &work.path))
    }

    /// Removes everything that the checkpoint may have written. The directory stays.
    pub(super) fn clear(&self) -> io::Result<()> {
        for name in self.output.names.iter().map(String::as_str).chain([WORK]) {
            if !is_folder(name) {
                return Err(io::Error::other("the name of a file in it leads elsewhere"));
            }
            let path = self.below().join(name);
            let removed = match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Names the directory in a refusal by the path that the caller knows.
    pub(super) fn named(&self, refusal: Refusal) -> Refusal {
        let (below, path) = (self.below(), &self.output.path);
        let text = refusal.text().replace(&*below.to_string_lossy(), &path.to_string_lossy());
        Refusal::new(refusal.code(), text)
    }

    /// The directory by its descriptor, also for processes that are started.
    fn below(&self) -> PathBuf {
        let (own, number) = (std::process::id(), self.directory.as_raw_fd());
        format!("/proc/{own}/fd/{number}").into()
    }
}

/// The folder for files in the making.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) path: PathBuf,
    /// A folder in it, for files that will be moved into the directory when all are finished.
    pub(super) done: PathBuf,
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Says whether an error is that of [`open`] for a file of another kind, or a symbolic link.
fn is_no_directory(error: &io::Error) -> bool {
    [Errno::ENOTDIR, Errno::ELOOP]
        .map(|one| one as i32)
        .contains(&error.raw_os_error().unwrap_or(0))
}

/// Returns the name of a container's archive.
pub(super) fn archive_name(container: &str) -> Result<String, Refusal> {
    if !is_folder(container) || container.starts_with('.') || container.len() > MAX_CONTAINER {
        let shown: String = container.chars().take(MAX_CONTAINER).collect();
        let text = format!("the container `{}` has no name for a file", shown.escape_debug());
        return Err(Refusal::new(Code::FailedPrecondition, text));
    }
    Ok(format!("{container}.tar"))
}

/// Folder for files in the making.
const WORK: &str = ".criu-cri";

/// Folder in that one for finished files. No container has a name that begins so.
const DONE: &str = ".done";

/// The reason to touch no file.
const OTHER: &str = "another directory has its name by now";

/// Mode bits of a directory.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Longest name of a container, in bytes. Kubernetes allows 63.
const MAX_CONTAINER: usize = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use criu_lab::scratch;

    use super::*;

    #[test]
    fn only_an_empty_directory_is_written_into() {
        let dir = scratch("pod-output");
        let text = |path: &Path| path.to_str().map(str::to_owned).unwrap_or_default();
        let check = |path: &str| OpenOutput::check(path, Vec::new());
        assert!(check(&text(&dir)).is_ok());
        let link = dir.with_extension("link");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&dir, &link).expect("a link");
        for path in ["", "relative", "/nonexistent-path", "/tmp/..", &text(&link)] {
            let refusal = check(path).expect_err(path);
            assert_eq!(refusal.code(), Code::InvalidArgument, "{path}: {refusal}");
        }
        let mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode));
        mode(0o777).expect("a mode");
        let refusal = check(&text(&dir)).expect_err("open to all");
        assert!(refusal.text().contains("everybody may write"), "{refusal}");
        mode(0o700).expect("a mode");
        fs::write(dir.join("theirs"), "").expect("a file");
        assert!(check(&text(&dir)).expect_err("a file").text().ends_with("is not empty"));
        fs::remove_file(link).expect("a link");
        fs::remove_dir_all(dir).expect("a directory");
    }

    #[test]
    fn nothing_but_our_files_is_removed() {
        let dir = scratch("pod-clear");
        let path = dir.to_str().expect("text").to_owned();
        let names = vec!["a.tar".into(), "folder".into()];
        let open = OpenOutput::check(&path, names).expect("empty");
        open.begin().expect("a folder");
        let output = open.output.clone();
        for name in ["a.tar", "theirs", ".criu-cri/image"] {
            fs::write(dir.join(name), "").expect("a file");
        }
        fs::create_dir(dir.join("folder")).expect("a folder");
        output.clear().expect("cleared");
        let left: Vec<_> = fs::read_dir(&dir).expect("a directory").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        output.clear().expect("cleared again");

        // Values of a hostile file.
        for name in ["../theirs", "/etc", "..", "", "a/b"] {
            let hostile = Output { names: vec![name.into()], ..output.clone() };
            assert!(!hostile.is_sound() && hostile.clear().is_err(), "{name}");
        }
        fs::remove_dir_all(&dir).expect("a directory");
        output.clear().expect("a directory that is gone");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("a.tar"), "").expect("a file");
        let other = Output { device: output.device + 1, ..output };
        assert!(other.clear().is_err());
        assert!(dir.join("a.tar").exists());
        fs::remove_dir_all(&dir).expect("a directory");
    }

    #[test]
    fn a_directory_that_takes_the_place_of_ours_gets_no_file() {
        let dir = scratch("pod-swapped");
        let (path, aside) = (dir.join("to"), dir.join("aside"));
        fs::create_dir(&path).expect("a directory");
        let names = vec!["criu-record.json".into(), "a.tar".into()];
        let open = OpenOutput::check(path.to_str().expect("text"), names.clone()).expect("empty");
        fs::rename(&path, &aside).expect("a directory");
        fs::create_dir(&path).expect("a directory");
        fs::write(path.join("a.tar"), "theirs").expect("a file");
        let work = open.begin().expect("a folder");
        assert!(aside.join(WORK).is_dir() && !path.join(WORK).exists());
        for name in &names {
            fs::write(work.done.join(name), "ours").expect("a file");
        }
        let refusal = open.named(open.end(&work).expect_err("another directory"));
        assert_eq!(refusal.code(), Code::Aborted, "{refusal}");
        open.clear().expect("cleared");
        assert_eq!(fs::read_dir(&aside).expect("a directory").count(), 0);
        assert_eq!(fs::read(path.join("a.tar")).expect("a file"), b"theirs");

        // The directory is back.
        fs::remove_dir_all(&path).expect("a directory");
        fs::rename(&aside, &path).expect("a directory");
        let work = open.begin().expect("a folder");
        fs::write(work.done.join("a.tar"), "ours").expect("a file");
        assert_eq!(fs::read_dir(&path).expect("a directory").count(), 1);
        let refusal = open.named(open.end(&work).expect_err("no record"));
        let wanted = format!("{}/.criu-cri/.done/criu-record.json", path.display());
        assert!(refusal.text().contains(&wanted), "{refusal}");
        fs::write(work.done.join("a.tar"), "ours").expect("a file");
        fs::write(work.done.join("criu-record.json"), "ours").expect("a file");
        open.end(&work).expect("both are there");
        let mut left: Vec<_> = fs::read_dir(&path)
            .expect("a directory")
            .map(|entry| entry.expect("a file").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a.tar", "criu-record.json"]);
        fs::remove_dir_all(dir).expect("a directory");
    }

    #[test]
    fn archives_are_named_after_containers() {
        assert_eq!(archive_name("web").expect("a name"), "web.tar");
        for name in ["", ".", "..", ".hidden", "a/b", "../a", &"a".repeat(201)] {
            assert!(archive_name(name).is_err(), "{name}");
        }
    }
}
