//! Mounts that a test has for itself.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A mount namespace of this thread's own, which its children share and which ends with them.
/// Changes of mounts reach nobody else.
#[derive(Debug)]
pub struct OwnMounts(());

impl OwnMounts {
    /// Moves this thread into a new namespace.
    ///
    /// # Panics
    /// Panics without root.
    #[track_caller]
    pub fn enter() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        Self(())
    }

    /// Moves this thread into a new namespace where nobody else keeps anything in `/run` and
    /// `/dev/shm`.
    ///
    /// CRIU keeps its findings about the kernel in `/run/criu.kdat`, and removes those of another
    /// version: tests that depend on the file cannot share it. A `/run` that is a `ramfs` is one in
    /// which CRIU keeps none.
    #[track_caller]
    pub fn with_run(kind: &str) -> Self {
        let own = Self::enter();
        own.fresh(kind, "/run");
        own.fresh("tmpfs", "/dev/shm");
        own
    }

    /// Mounts an empty file system of a kind, such as `tmpfs`, over a directory.
    #[track_caller]
    pub fn fresh(&self, kind: &str, at: impl AsRef<Path>) {
        self.fresh_with(kind, at, "mode=0755");
    }

    /// Mounts an empty file system of a kind over a directory, with options.
    #[track_caller]
    pub fn fresh_with(&self, kind: &str, at: impl AsRef<Path>, options: &str) {
        let options = Some(options);
        mount(Some(kind), at.as_ref(), Some(kind), MsFlags::empty(), options).unwrap();
    }
}
