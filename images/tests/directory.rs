//! Directories of images as a source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{load, scratch, store};
use criu_images::source::{Blob, Directory, InMemory, Source};
use criu_images::view::{Fds, Ps, Summary};
use criu_images::{ErrorKind, ImageSet, Result, check};

fn pipeline() -> InMemory {
    load(Path::new("tests/data/pipeline"))
}

#[test]
fn a_parent_link_and_a_socket_are_no_images() {
    let directory = scratch("parent-and-socket");
    store(&pipeline(), &directory);
    let before = Summary::new(ImageSet::open(&directory).unwrap().checkpoint().unwrap()).unwrap();
    fs::create_dir(directory.join("older")).unwrap();
    symlink("older", directory.join("parent")).unwrap();
    // The name of a socket is short, whatever the path of the checkout.
    let held = fs::File::open(&directory).unwrap();
    let place = format!("/proc/self/fd/{}", held.as_raw_fd());
    let _socket = UnixListener::bind(format!("{place}/lazy-pages.socket")).unwrap();
    let set = ImageSet::open(&directory).unwrap();
    let after = Summary::new(set.checkpoint().unwrap()).unwrap();
    assert_eq!((after.images, after.image_bytes), (before.images, before.image_bytes));
    assert!(after.parent && !before.parent);
    let source = Directory::open(&directory).unwrap();
    for name in ["parent", "older", "lazy-pages.socket", "..", "older/x"] {
        for error in [source.size(name).unwrap_err(), source.open(name).unwrap_err()] {
            assert!(matches!(error.kind(), ErrorKind::NotAFile), "{name}: {error}");
        }
    }
    assert_eq!(source.size("absent").unwrap(), None);
}

#[test]
fn a_parent_that_leads_nowhere_is_no_absent_one() {
    let directory = scratch("dangling-parent");
    store(&pipeline(), &directory);
    assert!(Directory::open(&directory).unwrap().parent().unwrap().is_none());
    symlink("gone", directory.join("parent")).unwrap();
    let error = Directory::open(&directory).unwrap().parent().unwrap_err();
    assert!(error.to_string().starts_with("parent: cannot be read: "), "{error}");
}

#[test]
fn a_directory_is_held_when_its_path_comes_to_lead_elsewhere() {
    let directory = scratch("held");
    let (path, moved) = (directory.join("img"), directory.join("moved"));
    fs::create_dir(&path).unwrap();
    store(&pipeline(), &path);
    let set = ImageSet::open(&path).unwrap();
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("pstree.img"), "another set").unwrap();
    assert_eq!(set.checkpoint().unwrap().tasks().count(), 3);
}

/// Counts how often each file is opened.
#[derive(Clone, Debug)]
struct Counted(InMemory, Arc<Mutex<BTreeMap<String, usize>>>);

impl Source for Counted {
    fn names(&self) -> Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        *self.1.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        self.0.open(name)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        self.0.size(name)
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        self.0.parent()
    }
}

#[test]
fn an_image_is_opened_once_for_all_questions() {
    let opened = Arc::default();
    let set = ImageSet::new(Counted(pipeline(), Arc::clone(&opened))).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    Summary::new(checkpoint).unwrap();
    Ps::with_arguments(checkpoint.tasks(), true).unwrap();
    Fds::new(checkpoint.tasks()).unwrap();
    assert!(check(&set).iter().all(|one| one.error.image().starts_with("pages-")));
    let opened = opened.lock().unwrap();
    let often = |(name, count): &(&String, &usize)| !name.starts_with("pages-") && **count > 1;
    assert_eq!(opened.iter().find(often), None);
    assert!(opened.len() > 20, "{opened:?}");
}
