//! The directory that a checkpoint is written into.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::state_dir::is_clean;
use crate::error::Code;

/// The directory of a caller, and the names that a checkpoint gives to files there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
    /// Names of files and folders, each below the directory itself.
    names: Vec<String>,
}

impl Output {
    /// Checks that the directory is empty. `names` are those of the files to come.
    pub(super) fn check(path: &str, names: Vec<String>) -> Result<Self, Refusal> {
        let path = PathBuf::from(path);
        let wrong = |why: &str| {
            let shown = path.display().to_string().escape_debug().to_string();
            Refusal::invalid(format!("the output path `{shown}`: {why}"))
        };
        if !is_clean(&path) {
            return Err(wrong("wanted an absolute path without `..`"));
        }
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(wrong("does not exist, wanted an empty directory"));
            }
            Err(error) => return Err(Refusal::file("look at", &path)(error)),
        };
        if !found.is_dir() {
            return Err(wrong("is no directory, wanted an empty one"));
        }
        let mut entries = fs::read_dir(&path).map_err(Refusal::file("read", &path))?;
        if entries.next().is_some() {
            return Err(wrong("is not empty"));
        }
        Ok(Self { path, device: found.dev(), inode: found.ino(), names })
    }

    /// Makes the folder for files in the making.
    pub(super) fn begin(&self) -> Result<PathBuf, Refusal> {
        let work = self.path.join(WORK);
        let made = DirBuilder::new().mode(0o700).create(&work);
        made.map_err(Refusal::file("make the directory", &work))?;
        Ok(work)
    }

    /// Removes the folder for files in the making.
    pub(super) fn end(&self) -> Result<(), Refusal> {
        let work = self.path.join(WORK);
        fs::remove_dir_all(&work).map_err(Refusal::file("remove the directory", &work))
    }

    /// Removes everything that the checkpoint may have written. The directory stays. Does nothing
    /// if another directory has its name by now.
    pub(super) fn clear(&self) -> io::Result<()> {
        let found = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if (found.dev(), found.ino()) != (self.device, self.inode) {
            return Err(io::Error::other("another directory has its name by now"));
        }
        for name in self.names.iter().map(String::as_str).chain([WORK]) {
            if !is_name(name) {
                return Err(io::Error::other("the name of a file in it leads elsewhere"));
            }
            let path = self.path.join(name);
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

    /// Says whether the value makes sense: a value of a file may not.
    pub(super) fn is_sound(&self) -> bool {
        is_clean(&self.path) && self.names.iter().all(|name| is_name(name))
    }
}

/// Returns the name of a container's archive.
pub(super) fn archive_name(container: &str) -> Result<String, Refusal> {
    if !is_name(container) || container.starts_with('.') || container.len() > MAX_CONTAINER {
        let shown: String = container.chars().take(MAX_CONTAINER).collect();
        let text = format!("the container `{}` has no name for a file", shown.escape_debug());
        return Err(Refusal::new(Code::FailedPrecondition, text));
    }
    Ok(format!("{container}.tar"))
}

/// Says whether a text is the name of one file.
fn is_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_normal = matches!(parts.next(), Some(std::path::Component::Normal(_)));
    is_normal && parts.next().is_none() && !name.contains(['/', '\0'])
}

/// Folder for files in the making.
const WORK: &str = ".criu-cri";

/// Longest name of a container, in bytes. Kubernetes allows 63.
const MAX_CONTAINER: usize = 200;

#[cfg(test)]
mod tests {
    use criu_lab::scratch;

    use super::*;

    #[test]
    fn only_an_empty_directory_is_written_into() {
        let dir = scratch("pod-output");
        let text = |path: &Path| path.to_str().map(str::to_owned).unwrap_or_default();
        let check = |path: &str| Output::check(path, Vec::new());
        assert!(check(&text(&dir)).is_ok());
        let link = dir.with_extension("link");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&dir, &link).expect("a link");
        for path in ["", "relative", "/nonexistent-path", "/tmp/..", &text(&link)] {
            let refusal = check(path).expect_err(path);
            assert_eq!(refusal.code(), Code::InvalidArgument, "{path}: {refusal}");
        }
        fs::write(dir.join("theirs"), "").expect("a file");
        assert!(check(&text(&dir)).expect_err("a file").text().ends_with("is not empty"));
        fs::remove_file(link).expect("a link");
        fs::remove_dir_all(dir).expect("a directory");
    }

    #[test]
    fn nothing_but_our_files_is_removed() {
        let dir = scratch("pod-clear");
        let path = dir.to_str().expect("text").to_owned();
        let output = Output::check(&path, vec!["a.tar".into(), "folder".into()]).expect("empty");
        output.begin().expect("a folder");
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
        let other = Output { inode: output.inode + 1, ..output };
        assert!(other.clear().is_err());
        assert!(dir.join("a.tar").exists());
        fs::remove_dir_all(&dir).expect("a directory");
    }

    #[test]
    fn archives_are_named_after_containers() {
        assert_eq!(archive_name("web").expect("a name"), "web.tar");
        for name in ["", ".", "..", ".hidden", "a/b", "../a", &"a".repeat(201)] {
            assert!(archive_name(name).is_err(), "{name}");
        }
    }
}
