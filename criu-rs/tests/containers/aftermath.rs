//! The traces of containers and of failed attempts.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use criu_lab::containers::Bundle;
use criu_lab::{Service, soon};
use criu_rs::oci::{Container, Descriptors, Error, RestoreHooks};
use criu_rs::{AfterDump, CgroupMode, Criu, HookResult, Hooks, LogLevel, Pid};
use nix::sys::signal::{Signal, kill};

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case {
        name: "a_failed_restore_leaves_nothing",
        test: failed,
        runtimes: BOTH,
        newest_only: true,
    },
    Case {
        name: "a_criu_that_cannot_be_moved_restores_nothing",
        test: not_moved,
        runtimes: BOTH,
        newest_only: true,
    },
    Case {
        name: "an_earlier_checkpoint_stays",
        test: earlier,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case { name: "checkpoints_while_it_runs", test: running, runtimes: BOTH, newest_only: false },
    Case { name: "a_process_that_moved_down", test: moved_down, runtimes: BOTH, newest_only: true },
    Case { name: "a_process_beside_the_first", test: beside, runtimes: BOTH, newest_only: true },
];

/// Everything of the kinds that a restore makes: what exists at one moment.
#[derive(Debug, PartialEq)]
struct Leftovers {
    state: Vec<PathBuf>,
    mounts: usize,
    descriptors: usize,
    cgroups: Vec<PathBuf>,
    processes: usize,
}

impl Leftovers {
    fn now(state: &Path) -> Self {
        let list = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let mut cgroups = Vec::new();
        let mut all: Vec<PathBuf> = vec!["/sys/fs/cgroup".into()];
        while let Some(dir) = all.pop() {
            let below = list(&dir).into_iter().filter(|path| path.is_dir() && !path.is_symlink());
            all.extend(below);
            if dir.to_string_lossy().contains("/bed") {
                cgroups.push(dir);
            }
        }
        let is_process = |path: &PathBuf| path.join("exe").read_link().is_ok();
        Self {
            state: list(state),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            descriptors: list(Path::new("/proc/self/fd")).len(),
            cgroups,
            processes: list(Path::new("/proc")).iter().filter(|path| is_process(path)).count(),
        }
    }
}

struct RefuseAt(&'static str);

impl Hooks for RefuseAt {
    fn post_restore(&mut self, _: Pid) -> HookResult {
        if self.0 == "post-restore" { Err("no".into()) } else { Ok(()) }
    }
    fn pre_resume(&mut self) -> HookResult {
        if self.0 == "pre-resume" { Err("no".into()) } else { Ok(()) }
    }
}

fn failed(bed: &Bed) {
    let outside = bed.dir("outside");
    let mut bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&outside, "/data", &[]);
        b.mask(&["/sys/firmware", "/proc/keys"]);
        b.cgroups_path("/bed/old");
    });
    let (images, without) = (bed.dir("images"), bed.dir("images-without-cgroups"));
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let checkpoint = Container::open(&bundle.dir).unwrap().checkpoint(pid).unwrap();
    let dump = checkpoint.dump(&without).after_dump(AfterDump::LeaveRunning);
    dump.manage_cgroups(CgroupMode::Ignore).run(&bed.criu).unwrap();
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    bundle.cgroups_path("/bed/not/yet/there");
    bundle.write();
    let state = bed.dir("state-of-it");
    let before = Leftovers::now(&state);
    assert_eq!(before.state, [] as [PathBuf; 0]);

    let attempt = |images: &Path, refused: &'static str| {
        let container = Container::open(&bundle.dir).unwrap();
        let restore = container.restore(images).unwrap().prepare(&state).unwrap();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let restore = restore.stdio([null.as_fd(); 3]).log_level(LogLevel::Debug);
        let mut inner = RefuseAt(refused);
        let mut hooks = RestoreHooks::new(&container, "c", &mut inner);
        restore.run_with(&bed.criu, &mut hooks).map(|restored| restored.pid)
    };
    for images in [&images, &without] {
        for refused in ["post-restore", "pre-resume"] {
            attempt(images, refused).unwrap_err();
            assert_eq!(Leftovers::now(&state), before, "{refused} of {}", images.display());
        }
        bundle.stands_still();
    }
    // A failure of CRIU's own.
    let (payload, away) = (bundle.root.join("payload"), bundle.root.join("away"));
    fs::rename(&payload, &away).unwrap();
    for images in [&images, &without] {
        attempt(images, "").unwrap_err();
        assert_eq!(Leftovers::now(&state), before, "{}", images.display());
    }
    fs::rename(&away, &payload).unwrap();
    // A failure half-way through the preparation.
    fs::rename(&outside, bed.dir.join("gone")).unwrap();
    let container = Container::open(&bundle.dir).unwrap();
    container.restore(&images).unwrap().prepare(&state).unwrap_err();
    assert_eq!(Leftovers::now(&state), before);
    container.restore(&images).unwrap().prepare(bed.dir.join("no-state")).unwrap_err();
    fs::rename(bed.dir.join("gone"), &outside).unwrap();
    // A preparation leaves the state alone.
    let prepared = container.restore(&images).unwrap().prepare(&state).unwrap();
    assert_eq!(Leftovers::now(&state).state, before.state);
    drop(prepared);
    assert_eq!(Leftovers::now(&state), before);
    // A runtime of another kind was killed after it prepared: the next one clears up.
    let old = state.join("criu-root");
    fs::create_dir(&old).unwrap();
    let (bind, none) = (nix::mount::MsFlags::MS_BIND, None::<&str>);
    nix::mount::mount(Some(&bundle.root), &old, none, bind, none).unwrap();
    assert_ne!(Leftovers::now(&state), before);

    for images in [&images, &without] {
        let pid = attempt(images, "").unwrap();
        bundle.goes_on();
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroups.contains(":/bed/not/yet/there"), "{cgroups}");
        assert_eq!(Leftovers::now(&state).state, before.state);
        assert_eq!(Leftovers::now(&state).mounts, before.mounts);
        end(pid);
    }
}

/// A service is in cgroups of its own, and so would be tasks from images without cgroups.
fn not_moved(bed: &Bed) {
    let mut bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.cgroups_path("/bed/old"));
    let (images, without) = (bed.dir("images"), bed.dir("images-without-cgroups"));
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let checkpoint = Container::open(&bundle.dir).unwrap().checkpoint(pid).unwrap();
    let dump = checkpoint.dump(&without).after_dump(AfterDump::LeaveRunning);
    dump.manage_cgroups(CgroupMode::Ignore).run(&bed.criu).unwrap();
    checkpoint.dump(&images).run(&bed.criu).unwrap();
    bed.runtime.delete("c");
    let counted = bundle.stands_still();
    bundle.cgroups_path("/bed/new");
    bundle.write();

    let state = bed.dir("state-of-it");
    let mut before = Leftovers::now(&state);
    let service = service(bed);
    before.processes += 1;
    let container = Container::open(&bundle.dir).unwrap();
    let prepare = |images: &Path| {
        let restore = container.restore(images).unwrap().prepare(&state).unwrap();
        // A service refuses to make its tasks children of another process.
        restore.raw(|options| options.rst_sibling = None).log_level(LogLevel::Debug)
    };
    for criu in [Criu::service(service.socket()), Criu::connected(service.connect())] {
        let error = prepare(&without).run(&criu).unwrap_err();
        assert!(matches!(error, Error::OutsideCgroups { .. }), "{error}");
        let said = error.to_string();
        for part in ["the container's cgroups", "use Criu::new or Criu::at", "CgroupMode"] {
            assert!(said.contains(part), "{said}");
        }
    }
    let error = prepare(&without).for_pod().unwrap_err();
    assert!(matches!(error, Error::OutsideCgroups { .. }), "{error}");
    assert_eq!(bundle.stands_still(), counted);
    let now = || Leftovers::now(&state);
    assert!(soon(|| now() == before), "{before:?}\n{:?}", now());

    // Where the images have cgroups, CRIU itself moves the tasks.
    let restore = prepare(&images);
    let _ = restore.for_pod().unwrap();
    let restored = restore.run(&Criu::service(service.socket())).unwrap();
    assert!(bundle.goes_on() > counted);
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", restored.pid)).unwrap();
    assert!(cgroups.contains(":/bed/new\n"), "{cgroups}");
    restored.signal(nix::libc::SIGKILL).unwrap();
    assert!(soon(|| !Path::new(&format!("/proc/{}/root/count", restored.pid)).exists()));

    // libcriu starts a criu that sees the mounts of the restore, but does not tell its process.
    #[cfg(feature = "libcriu")]
    {
        let library = criu_lab::place::target_dir().join("criu/experimental/link/libcriu.so.2");
        let criu = Criu::load_libcriu(library, bed.criu.program().unwrap().unwrap()).unwrap();
        let error = prepare(&without).run(&criu).unwrap_err();
        assert!(matches!(error, Error::OutsideCgroups { .. }), "{error}");
        let restore = container.restore(&images).unwrap().prepare(&state).unwrap();
        let restored = restore.log_level(LogLevel::Debug).run(&criu).unwrap();
        assert!(bundle.goes_on() > counted);
        end(restored.pid);
    }
}

/// A dump that is refused, because there is a checkpoint already, leaves that checkpoint whole.
fn earlier(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let checkpoint = Container::open(&bundle.dir).unwrap().checkpoint(pid).unwrap();
    let dump = checkpoint.dump(&images).after_dump(AfterDump::LeaveRunning);
    dump.run(&bed.criu).unwrap();
    let error = dump.run(&bed.criu).unwrap_err().to_string();
    assert!(error.contains("checkpoint"), "{error}");
    assert_eq!(&Descriptors::load(&images).unwrap(), checkpoint.descriptors());
    // So does a dump that fails after it has written its own descriptors.
    struct RefuseUnlock;
    impl Hooks for RefuseUnlock {
        fn network_unlock(&mut self) -> HookResult {
            Err("too late".into())
        }
    }
    dump.overwrite(true).run_with(&bed.criu, &mut RefuseUnlock).unwrap_err();
    assert_eq!(&Descriptors::load(&images).unwrap(), checkpoint.descriptors());
    bundle.goes_on();
    bed.runtime.delete("c");
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    end(restored);
}

fn running(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["2"]);
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    for n in 0..3 {
        let checkpoint = container.checkpoint(pid).unwrap();
        let images = bed.dir(&format!("images-{n}"));
        let dump = checkpoint.dump(&images).after_dump(AfterDump::LeaveRunning);
        match n {
            // This is how a pod or a series of pre-dumps runs it.
            2 => {
                let mut own = ();
                let (dump, mut hooks) = dump.parts(&mut own).unwrap();
                dump.run_with(&bed.criu, &mut hooks).unwrap();
            }
            _ => drop(dump.run(&bed.criu).unwrap()),
        }
        assert_eq!(&Descriptors::load(&images).unwrap(), checkpoint.descriptors());
        bundle.goes_on();
        assert_eq!(bed.runtime.state("c").unwrap()["status"], "running");
    }
    bed.runtime.delete("c");
    for n in [2, 0] {
        let images = bed.dir.join(format!("images-{n}"));
        let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
        bundle.goes_on();
        end(restored);
    }
}

/// The whole container is frozen, though its first process is in a cgroup further down.
fn moved_down(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.cgroups_path("/bed/it"));
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let places =
        ["/sys/fs/cgroup/bed/it", "/sys/fs/cgroup/unified/bed/it", "/sys/fs/cgroup/freezer/bed/it"];
    for place in places.iter().filter(|place| Path::new(place).exists()) {
        let below = Path::new(place).join("init");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let container = Container::open(&bundle.dir).unwrap();
    let checkpoint = container.checkpoint(pid).unwrap();
    assert!(checkpoint.freezer().unwrap().ends_with("bed/it"), "{:?}", checkpoint.freezer());
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    let counted = bundle.stands_still();
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    assert!(bundle.goes_on() > counted);
    let cgroups = fs::read_to_string(format!("/proc/{restored}/cgroup")).unwrap();
    // The cgroup of the container is the first process's now.
    assert!(cgroups.contains(":/bed/it\n"), "{cgroups}");
    end(restored);
}

/// Processes that `exec` has added are not descendants of the first process: CRIU cannot save them.
fn beside(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let mut command = bed.runtime.command("exec");
    command.args(["--detach", "c", "/bin/sleep", "1000"]);
    let (is_done, said) = bed.runtime.finish(&mut command);
    assert!(is_done, "{said}");
    let (images, running) = (bed.dir("images"), bed.dir("images-while-it-runs"));
    let checkpoint = Container::open(&bundle.dir).unwrap().checkpoint(pid).unwrap();
    assert!(soon(|| checkpoint.beside().len() == 1));
    let beside = checkpoint.beside()[0];
    let name = || fs::read_to_string(format!("/proc/{beside}/comm")).unwrap();
    assert!(soon(|| name().trim() == "sleep"), "{}", name());
    let dump = checkpoint.dump(&images);
    for error in [dump.run(&bed.criu).unwrap_err(), dump.parts(&mut ()).unwrap_err()] {
        assert!(matches!(&error, Error::Beside { processes } if *processes == [beside]), "{error}");
    }
    // A dump that leaves the container running is not refused.
    let and_runs_on = checkpoint.dump(&running).after_dump(AfterDump::LeaveRunning);
    and_runs_on.run(&bed.criu).unwrap();
    bundle.goes_on();
    kill(nix::unistd::Pid::from_raw(beside.as_raw()), Signal::SIGKILL).unwrap();
    // A zombie counts, too: the kernel keeps the container until somebody has waited for it.
    dump.run(&bed.criu).unwrap_err();
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(beside.as_raw()), None);
    assert!(soon(|| checkpoint.beside().is_empty()));
    dump.run(&bed.criu).unwrap();
    bed.runtime.delete("c");
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    end(restored);
}

/// Starts a service of the bed's criu.
fn service(bed: &Bed) -> Service {
    let program = bed.criu.program().unwrap().unwrap();
    Service::start(&program, &bed.dir, |socket| Criu::service(socket).version().is_ok())
}
