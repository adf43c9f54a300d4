//! Instant captures of containers and pods whose processes write at full speed, and know what each
//! page of theirs has to hold.

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::ImageSet;
use criu_images::memory::PageSource;
use criu_lab::containers::Bundle;
use criu_lab::generations::{Shape, Watch, judge};
use criu_rs::instant::{InstantCapture, InstantOptions, ReadOut, Way, WhyNot};
use criu_rs::oci::{Cgroups, Container};
use criu_rs::{AfterDump, Pid, Pod, PodRestore};

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case {
        name: "a_container_that_writes_at_full_speed_is_captured_and_restored",
        test: container,
        runtimes: BOTH,
        newest_only: false,
    },
    Case {
        name: "a_pod_that_writes_at_full_speed_is_captured_and_restored",
        test: pod,
        runtimes: &["runc"],
        newest_only: false,
    },
];

/// The variable with the number of captures of each test, all of which are restored.
const ROUNDS: &str = "CRIU_RS_TEST_INSTANT_ROUNDS";

/// The first process of a pid namespace, and its children. Every other checkpoint is restored by
/// the runtime.
fn container(bed: &Bed) {
    let shape = Shape { mib: 16, writers: 2, churn: 1, children: 2, ..Shape::default() };
    let bundle = bundle(bed, "bundle", &shape);
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let oracle = Oracle::of(&bundle, &shape);
    let trip = Trip::new(bed, &bundle);
    let checkpoint = trip.container().checkpoint(pid).unwrap();
    let mut tally = Tally::default();
    let images: Vec<PathBuf> = (0..rounds()).map(|n| bed.dir(&format!("images-{n}"))).collect();
    for images in &images {
        let dump = checkpoint.dump(images).after_dump(AfterDump::LeaveRunning);
        let capture = dump.instant(&bed.criu, &options(), &mut ()).unwrap();
        tally.captured(&capture);
        tally.read(&capture.reading.wait().unwrap());
        oracle.goes_on();
        tally.judged(&oracle, images);
    }
    remove(bed, "c");
    for (n, images) in images.iter().enumerate() {
        oracle.forget();
        if n % 2 == 0 {
            let restored = trip.bring_back(WeDoBoth, images);
            oracle.goes_on();
            end(restored);
        } else {
            bed.runtime.restore(&bundle, "c", images, &[]);
            oracle.goes_on();
            remove(bed, "c");
        }
        tally.restores += 1;
    }
    println!("{tally}");
}

/// Two containers that share the namespaces of a sandbox, with small and with huge pages. Every
/// other capture freezes them by the cgroup of the pod.
fn pod(bed: &Bed) {
    let shapes = [
        Shape { mib: 16, writers: 2, churn: 1, children: 1, ..Shape::default() },
        Shape { mib: 16, huge: true, children: 1, ..Shape::default() },
    ];
    let sandbox = Bundle::new(bed, "sandbox", "count", &[]).with(|b| b.cgroups_path("/pod/s"));
    let sandbox = bed.runtime.run(&sandbox, "sandbox", &[]);
    let inside = |name: &str, shape| {
        bundle(bed, name, shape).with(|bundle| {
            bundle.cgroups_path(&format!("/pod/{name}"));
            for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
                let path = PathBuf::from(format!("/proc/{sandbox}/ns/{file}"));
                bundle.namespace(kind, Some(&path));
            }
        })
    };
    let bundles = [inside("web", &shapes[0]), inside("log", &shapes[1])];
    let pids = [bed.runtime.run(&bundles[0], "web", &[]), bed.runtime.run(&bundles[1], "log", &[])];
    let oracles = [Oracle::of(&bundles[0], &shapes[0]), Oracle::of(&bundles[1], &shapes[1])];
    let goes_on = || oracles.iter().for_each(Oracle::goes_on);
    let above = Cgroups::at("/pod").unwrap().freezer().unwrap().unwrap();
    let mut tally = Tally::default();
    let images: Vec<[PathBuf; 2]> =
        (0..rounds()).map(|n| NAMES.map(|name| bed.dir(&format!("{name}-{n}")))).collect();
    for (n, images) in images.iter().enumerate() {
        let above = (n % 2 == 0).then_some(above.as_path());
        tally.pod(bed, &bundles, pids, images, above);
        goes_on();
        for (oracle, images) in oracles.iter().zip(images) {
            tally.judged(oracle, images);
        }
    }
    NAMES.iter().for_each(|name| remove(bed, name));
    for images in &images {
        oracles.iter().for_each(Oracle::forget);
        let restored = bring_back(bed, &bundles, images);
        goes_on();
        restored.into_iter().for_each(end);
        tally.restores += 2;
    }
    println!("{tally}");
}

const NAMES: [&str; 2] = ["web", "log"];

/// Restores both containers, which run from one moment on.
fn bring_back(bed: &Bed, bundles: &[Bundle; 2], images: &[PathBuf; 2]) -> Vec<Pid> {
    let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let state = bed.dir.join("state");
    fs::create_dir_all(&state).unwrap();
    let prepared = [0, 1].map(|n| {
        let container = Container::open(&bundles[n].dir).unwrap();
        let restore = container.restore(&images[n]).unwrap().prepare(&state).unwrap();
        restore.stdio([null.as_fd(); 3])
    });
    let mut pod = PodRestore::new();
    for (name, restore) in NAMES.iter().zip(&prepared) {
        pod = pod.container(*name, restore.for_pod().unwrap());
    }
    let restored = pod.restore(&bed.criu, &mut ()).unwrap();
    restored.containers.into_iter().map(|(_, restored)| restored.pid).collect()
}

/// A bundle whose processes have this shape.
fn bundle(bed: &Bed, name: &str, shape: &Shape) -> Bundle {
    let words = shape.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Bundle::new(bed, name, words[0], &words[1..])
}

/// Ends a container that the runtime knows.
fn remove(bed: &Bed, id: &str) {
    bed.runtime.kill(id, "KILL");
    assert!(criu_lab::soon(|| bed.runtime.state(id).unwrap()["status"] == "stopped"));
    bed.runtime.delete(id);
}

fn options() -> InstantOptions {
    InstantOptions::new().least(1).least_per_mapping(1)
}

fn rounds() -> usize {
    std::env::var(ROUNDS).map_or(2, |rounds| rounds.parse().unwrap())
}

/// The generations that the processes of a container have written.
struct Oracle {
    /// The first process, and its children in the order of their start.
    watches: Vec<Watch>,
}

impl Oracle {
    /// Waits until the processes of a container write.
    fn of(bundle: &Bundle, shape: &Shape) -> Self {
        let count = bundle.root.join("count");
        let starts = |n: usize| count.with_extension(n.to_string()).exists();
        assert!(criu_lab::soon(|| (0..shape.children).all(starts)), "its children do not start");
        bundle.goes_on();
        Self { watches: Watch::of_all(&count, shape.children) }
    }

    /// Waits until each process has written all its pages, and checked all.
    #[track_caller]
    fn goes_on(&self) {
        self.watches.iter().try_for_each(|watch| watch.goes_on(2, SOON)).unwrap();
    }

    /// Forgets what was wrong: other processes come.
    fn forget(&self) {
        self.watches.iter().for_each(Watch::forget);
    }
}

/// The numbers of a test.
#[derive(Debug, Default)]
struct Tally {
    captures: usize,
    /// Tasks with a holder, and without.
    held: usize,
    unheld: usize,
    /// Pages that were read from holders.
    pages: u64,
    /// Pages that were judged, that were half written, and that were wrong.
    judged: u64,
    torn: u64,
    wrong: u64,
    restores: usize,
}

impl Tally {
    /// Counts a capture of a container.
    #[track_caller]
    fn captured(&mut self, capture: &InstantCapture) {
        self.captures += 1;
        for task in &capture.tasks {
            match &task.way {
                Way::Held { .. } => self.held += 1,
                // CRIU would mix up the numbers of a holder and of a child that has just ended.
                Way::Captured(WhyNot::GivenUp { why, .. }) if why.contains("child that has") => {
                    self.unheld += 1;
                }
                // A task that has just begun.
                Way::Captured(WhyNot::Small { .. }) => self.unheld += 1,
                other => panic!("{}: {other}", task.pid),
            }
        }
    }

    /// Captures a pod.
    fn pod(
        &mut self,
        bed: &Bed,
        bundles: &[Bundle; 2],
        pids: [Pid; 2],
        images: &[PathBuf; 2],
        above: Option<&Path>,
    ) {
        let dumps = [0, 1].map(|n| {
            let container = Container::open(&bundles[n].dir).unwrap();
            let dump = container.checkpoint(pids[n]).unwrap().dump(&images[n]);
            dump.after_dump(AfterDump::LeaveRunning)
        });
        let mut own = ((), ());
        let (web, mut web_hooks) = dumps[0].parts(&mut own.0).unwrap();
        let (log, mut log_hooks) = dumps[1].parts(&mut own.1).unwrap();
        let mut pod = Pod::new().container_with(NAMES[0], web, &mut web_hooks).container_with(
            NAMES[1],
            log,
            &mut log_hooks,
        );
        if let Some(above) = above {
            pod = pod.freeze_cgroup(above);
        }
        let captured = pod.instant(&bed.criu, &options(), &mut ()).unwrap();
        captured.containers.iter().for_each(|(_, capture)| self.captured(capture));
        captured.wait().unwrap().iter().for_each(|(_, read)| self.read(read));
    }

    /// Counts pages that have been read.
    fn read(&mut self, read: &ReadOut) {
        assert!(read.unreaped.is_empty(), "{read:?}");
        self.pages += read.held;
    }

    /// Judges the memory of all processes in images.
    #[track_caller]
    fn judged(&mut self, oracle: &Oracle, images: &Path) {
        let set = ImageSet::open(images).unwrap();
        let checkpoint = set.checkpoint().unwrap();
        let root = checkpoint.root();
        let mut tasks: Vec<_> = root.children().filter(|task| task.is_alive()).collect();
        // Those that churn have higher numbers.
        tasks.sort_by_key(criu_images::Task::pid);
        tasks.insert(0, root);
        for (watch, task) in oracle.watches.iter().zip(&tasks) {
            let memory = task.memory().unwrap().unwrap();
            let read = |address, buffer: &mut [u8]| memory.read_at(address, buffer).is_ok();
            let verdict = judge(&watch.regions(), read);
            assert!(verdict.wrong == 0 && verdict.pages == 16 << 8, "{}: {verdict:?}", task.pid());
            self.judged += verdict.pages;
            self.torn += verdict.torn;
            self.wrong += verdict.wrong;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { captures, held, unheld, pages, judged, torn, wrong, restores } = self;
        write!(
            f,
            "{captures} captures, {held} tasks with holders and {unheld} without, {pages} pages of \
             holders; {judged} pages judged, {torn} half written, {wrong} wrong; {restores} restores"
        )
    }
}

/// Time in which everything goes on, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
