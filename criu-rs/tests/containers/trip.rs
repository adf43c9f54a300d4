//! Containers that are saved and restored, by this crate or by their runtime.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use criu_lab::containers::Bundle;
use criu_lab::raw::receive_fd;
use criu_lab::soon;
use criu_rs::oci::{ConsoleSocket, Container, ContainerDump, ContainerRestore, Keys, RestoreHooks};
use criu_rs::{LogLevel, Pid};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

use crate::Bed;
use crate::baseline::{Status, answers, threads};

pub const BOTH: &[&str] = &["runc", "crun"];

pub const ALL: &[Way] = &[WeDoBoth, WeSave, WeRestore];

/// The parts of the runtime and of this crate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// The runtime does everything.
    Alone,
    /// The runtime makes it, this crate saves it, the runtime restores it.
    WeSave,
    /// The runtime makes and saves it, this crate restores it.
    WeRestore,
    /// The runtime makes it, this crate does the rest.
    WeDoBoth,
}

pub use Way::{Alone, WeDoBoth, WeRestore, WeSave};

/// A container to be saved and restored.
pub struct Trip<'a> {
    pub bed: &'a Bed,
    pub bundle: &'a Bundle,
    /// Further options of this crate's operations, and of the runtime.
    pub dump: fn(ContainerDump<'_>) -> ContainerDump<'_>,
    pub restore: fn(ContainerRestore<'_>) -> ContainerRestore<'_>,
    pub options: &'a [&'a str],
    /// The console socket, for a container with a terminal.
    pub console: Option<PathBuf>,
    /// Assertions about the first process, before and after.
    pub look: &'a dyn Fn(Pid),
}

impl<'a> Trip<'a> {
    pub fn new(bed: &'a Bed, bundle: &'a Bundle) -> Self {
        let (console, options, look) = (None, &[], &|_| ());
        Self { bed, bundle, dump: |dump| dump, restore: |restore| restore, options, console, look }
    }

    /// Sets the assertions about the container's first process.
    pub fn look(mut self, look: &'a dyn Fn(Pid)) -> Self {
        self.look = look;
        self
    }

    /// Saves and restores a new container in each of these ways. Returns the rights of its threads.
    #[track_caller]
    pub fn go(&self, ways: &[Way]) -> BTreeMap<i32, Status> {
        let mut rights = BTreeMap::new();
        for &way in ways {
            println!("{way:?}");
            rights = self.go_once(way);
        }
        rights
    }

    #[track_caller]
    pub fn go_once(&self, way: Way) -> BTreeMap<i32, Status> {
        let (runtime, bundle) = (&self.bed.runtime, self.bundle);
        let images = self.bed.dir(&format!("images-{way:?}"));
        let id = format!("c-{way:?}");
        let console = self.console.as_ref().map(|path| {
            let _ = fs::remove_file(path);
            UnixListener::bind(path).unwrap()
        });
        let option =
            self.console.as_ref().map(|path| format!("--console-socket={}", path.display()));
        let option: Vec<&str> = option.iter().map(String::as_str).collect();
        let terminal =
            || console.as_ref().map(|listener| receive_fd(&listener.accept().unwrap().0));

        let pid = runtime.run(bundle, &id, &option);
        let master = terminal();
        (self.look)(pid);
        let before = threads(pid);
        match way {
            WeRestore | Alone => runtime.checkpoint(&id, &images, self.options),
            WeSave | WeDoBoth => {
                self.save(pid, &images);
                runtime.delete(&id);
            }
        }
        drop(master);
        let counted = bundle.stands_still();
        let restored = match way {
            WeSave | Alone => {
                let options = [self.options, &option].concat();
                runtime.restore(bundle, &id, &images, &options)
            }
            WeRestore | WeDoBoth => self.bring_back(way, &images),
        };
        assert!(bundle.goes_on() > counted);
        let master = terminal();
        (self.look)(restored);
        let after = threads(restored);
        assert_eq!(before, after, "{way:?}");
        if let Some(master) = master {
            answers(master);
        }
        match way {
            WeSave | Alone => runtime.delete(&id),
            WeRestore | WeDoBoth => end(restored),
        }
        let path = format!("/proc/{restored}/root");
        assert!(soon(|| fs::read_link(&path).is_err()), "process {restored} still exists");
        after
    }

    /// Asserts that the runtime alone fails, and that `why` is in its output or in the logs.
    #[track_caller]
    pub fn fails_alone(&self, why: &str) {
        let done = catch_unwind(AssertUnwindSafe(|| self.go_once(Alone)));
        let error = done.expect_err("the runtime alone now succeeds: test all ways");
        let said = error.downcast_ref::<String>().cloned().unwrap_or_default();
        let logs = self.bed.runtime.logs();
        assert!(said.contains(why) || logs.contains(why), "{said}\n{logs}");
        let runtime = &self.bed.runtime;
        let _ = runtime.finish(runtime.command("delete").args(["--force", "c-Alone"]));
    }

    #[track_caller]
    pub fn save(&self, pid: Pid, images: &Path) {
        let checkpoint = self.container().checkpoint(pid).unwrap();
        let dump = (self.dump)(checkpoint.dump(images)).log_level(LogLevel::Debug);
        dump.run(&self.bed.criu).unwrap();
    }

    #[track_caller]
    pub fn bring_back(&self, way: Way, images: &Path) -> Pid {
        let container = self.container();
        let state = self.bed.dir.join(format!("our-state-{way:?}"));
        fs::create_dir_all(&state).unwrap();
        let restore = container.restore(images).unwrap().prepare(&state).unwrap();
        let (input, output) = (pipe(), pipe());
        let stdio = [input.0.as_fd(), output.1.as_fd(), output.1.as_fd()];
        let restore = restore.stdio(stdio).log_level(LogLevel::Debug);
        let mut inner = ();
        let mut hooks = RestoreHooks::new(&container, "c", &mut inner);
        if let Some(console) = &self.console {
            hooks = hooks.console(ConsoleSocket::new(console));
        }
        let restore = (self.restore)(restore);
        let restored = restore.run_with(&self.bed.criu, &mut hooks).unwrap();
        drop(restore);
        assert_eq!(
            fs::read_dir(&state).unwrap().count(),
            0,
            "files are left in {}",
            state.display()
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for part in ["criu-root", "criu-empty", "criu-mount", "cgyard", " /proc/driver"] {
            assert!(!mounts.contains(part), "{mounts}");
        }
        // Somebody outside holds them as long as the container lives.
        std::mem::forget((input, output.0));
        restored.pid
    }

    pub fn container(&self) -> Container {
        let keys = if self.bed.runtime.name == "crun" { Keys::Crun } else { Keys::Runc };
        Container::open(&self.bundle.dir).unwrap().keys(keys)
    }
}

/// Ends a restored container, which is a child of this process.
#[track_caller]
pub fn end(pid: Pid) {
    let pid = nix::unistd::Pid::from_raw(pid.as_raw());
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}
