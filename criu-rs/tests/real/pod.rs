//! Several containers of one sandbox, dumped as one and restored into another sandbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::ImageSet;
use criu_images::memory::PageSource;
use criu_lab::{names, soon};
use criu_rs::{
    Action, AfterDump, Cancel, Cause, Criu, Dump, External, HookResult, Hooks, Pid, Pod, PodError,
    PodHooks, PodRestore, Restore, Sandbox, Tcp, Version,
};

use crate::container::{Container, Plan};
use crate::freezer::{Cgroup, Hierarchy, NAMES, hierarchies};
use crate::lab::{Lab, Target, TestFn};
use crate::service::Service;

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_pod_is_saved_at_one_moment", one_moment),
    ("what_is_saved_one_by_one_is_not_of_one_moment", one_by_one),
    #[cfg(feature = "instant")]
    ("an_instant_pod_is_saved_at_one_moment", instant),
    #[cfg(feature = "instant")]
    ("an_instant_pod_that_ends_is_saved_by_a_plain_dump", instant_end),
    #[cfg(feature = "instant")]
    ("an_instant_pod_whose_pages_cannot_be_written_leaves_nothing", instant_all_or_none),
    ("a_pod_with_a_container_that_cannot_be_saved_runs_on", all_or_none),
    ("a_pod_is_restored_into_another_sandbox", another_sandbox),
    ("containers_of_a_shared_pid_namespace_enter_another", shared_pids),
    ("a_pods_hooks_see_it_frozen_and_may_refuse", hooks),
    ("a_pod_that_was_frozen_stays_frozen", stays_frozen),
    ("a_pod_that_was_frozen_from_above_stays_so", frozen_above),
    ("a_cancelled_pod_runs_on", cancelled),
    ("a_service_dumps_a_pod_as_well", over_service),
    ("containers_restored_as_a_pod_stay_connected", stay_connected),
    ("containers_restored_one_by_one_lose_their_connection", lose_connection),
    ("a_panic_in_a_hook_leaves_the_pod_running", panic),
    ("a_pod_that_is_torn_says_what_is_complete", torn),
    ("a_pod_that_makes_no_sense_is_refused", nonsense),
];

/// A sandbox with two containers that watch each other.
struct Pair {
    sandbox: Target,
    containers: Vec<Container>,
    images: Vec<PathBuf>,
    cgroup: Cgroup,
}

impl Pair {
    fn start(lab: &Lab, hierarchy: &Hierarchy) -> Self {
        Self::start_with(lab, hierarchy, |_| Plan::default())
    }

    fn start_with<'p>(lab: &Lab, hierarchy: &Hierarchy, plan: impl Fn(&str) -> Plan<'p>) -> Self {
        let words = |name: &str| match name {
            "a" => ["pair", "/shared/a", "/shared/b"],
            _ => ["pair", "/shared/b", "/shared/a"],
        };
        Self::start_as(lab, hierarchy, words, plan)
    }

    fn start_as<'p, const N: usize>(
        lab: &Lab,
        hierarchy: &Hierarchy,
        words: impl Fn(&str) -> [&'static str; N],
        plan: impl Fn(&str) -> Plan<'p>,
    ) -> Self {
        let sandbox = lab.start(&["sandbox", "old"]);
        let shared = lab.dir(&format!("shared-{}", hierarchy.state));
        let cgroup = Cgroup::make(hierarchy, sandbox.pid);
        let binds: &[(&Path, &str)] = &[(&shared, "/shared")];
        let start = |name: &&str| {
            let words = words(name);
            let plan = Plan { binds, joins: Some(sandbox.pid), payload: &words, ..plan(name) };
            let container = Container::launch(lab, &plan);
            cgroup.below(name).take(container.target.pid);
            container
        };
        let containers = NAMES.iter().map(start).collect();
        let images = NAMES.map(|name| lab.dir(&format!("{name}-{}", hierarchy.state))).into();
        Self { sandbox, containers, images, cgroup }
    }

    fn dump(&self, index: usize, after: AfterDump) -> Dump<'static> {
        self.dump_into(&self.images[index], index, after)
    }

    fn dump_into(&self, images: &Path, index: usize, after: AfterDump) -> Dump<'static> {
        let sandbox = Sandbox::of_process(self.sandbox.pid).unwrap();
        let dump = Dump::new(self.containers[index].target.pid, images.to_owned())
            .after_dump(after)
            .external(External::mount("/shared", "shared"))
            .freeze_cgroup(self.cgroup.path.join(NAMES[index]));
        sandbox.leave_out(dump).unwrap()
    }

    fn pod(&self, after: AfterDump) -> Pod<'static> {
        Pod::new().container("a", self.dump(0, after)).container("b", self.dump(1, after))
    }

    /// Two numbers of each saved container: its own count, and the count of the other that it has
    /// seen.
    fn saved(&self) -> Vec<[u64; 2]> {
        let read = |(container, images): (&Container, &PathBuf)| {
            let place = fs::read_to_string(container.root.join("count.at")).unwrap();
            let set = ImageSet::open(images).unwrap();
            let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
            let mut bytes = [0; 16];
            memory.read_at(place.parse().unwrap(), &mut bytes).unwrap();
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            [number(0), number(8)]
        };
        self.containers.iter().zip(&self.images).map(read).collect()
    }

    #[track_caller]
    fn goes_on(&self) {
        for container in &self.containers {
            container.target.goes_on();
        }
    }

    #[track_caller]
    fn has_no_images(&self) {
        for images in &self.images {
            let left = names(images);
            assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
        }
    }

    fn counts(&self) -> Vec<u64> {
        self.containers.iter().map(|container| container.target.count()).collect()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Frozen tasks of version 1 do not even die.
        self.cgroup.thaw();
        self.containers.clear();
        self.sandbox.end();
    }
}

fn one_moment(lab: &Lab) {
    for hierarchy in hierarchies() {
        let pair = Pair::start(lab, &hierarchy);
        for (round, above) in [true, false, true, false].into_iter().enumerate() {
            let mut pod = pair.pod(AfterDump::LeaveRunning);
            if above {
                pod = pod.freeze_cgroup(&pair.cgroup.path);
            }
            let dumped = pod.dump(&lab.criu, &mut ()).unwrap();
            let saved = dumped.containers.iter().map(|(name, _)| name.as_str());
            assert_eq!(saved.collect::<Vec<_>>(), NAMES);
            assert!(dumped.frozen.as_micros() > 0);
            pair.goes_on();
            assert!(pair.cgroup.is_thawed());
            let [a, b] = pair.saved()[..] else { panic!() };
            assert!(a[0] > 1 && b[0] > 1, "{a:?} {b:?}");
            // No container has seen a count of the other that is not saved.
            assert!(b[1] <= a[0] && a[1] <= b[0], "round {round}: {a:?} {b:?}");
            for images in &pair.images {
                fs::remove_dir_all(images).unwrap();
                fs::create_dir(images).unwrap();
            }
        }
    }
}

/// All holders are made before a container goes on, and the memory is read afterwards.
#[cfg(feature = "instant")]
fn instant(lab: &Lab) {
    use criu_rs::instant::Way;

    for hierarchy in hierarchies() {
        let mut pair = Pair::start(lab, &hierarchy);
        let mut round = 0;
        for above in [true, false, true, false] {
            round += 1;
            let mut pod = pair.pod(AfterDump::LeaveRunning);
            if above {
                pod = pod.freeze_cgroup(&pair.cgroup.path);
            }
            let capture = pod.instant(&lab.criu, &crate::instant::all(), &mut ()).unwrap();
            for (container, (name, of_it)) in pair.containers.iter().zip(&capture.containers) {
                let pid = container.target.pid;
                let task = of_it.tasks.iter().find(|task| task.pid == pid).unwrap();
                println!("{} {name}: {}", hierarchy.state, task.way);
                assert!(matches!(task.way, Way::Held { pages: 1.., .. }), "{name}: {}", task.way);
            }
            pair.goes_on();
            let read = capture.wait().unwrap();
            assert_eq!(read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), NAMES);
            assert!(read.iter().all(|(_, read)| read.unreaped.is_empty()), "{read:?}");
            pair.goes_on();
            assert!(pair.cgroup.is_thawed());
            let [a, b] = pair.saved()[..] else { panic!() };
            assert!(a[0] > 1 && b[0] > 1, "{a:?} {b:?}");
            assert!(b[1] <= a[0] && a[1] <= b[0], "round {round}: {a:?} {b:?}");
            if round < 4 {
                for images in &pair.images {
                    fs::remove_dir_all(images).unwrap();
                    fs::create_dir(images).unwrap();
                }
            }
        }
        pair.containers.iter_mut().for_each(|container| container.target.end());
        restored_in_a_new_sandbox(lab, &mut pair, &hierarchy);
    }
}

/// Restores containers that have ended from their images.
#[cfg(feature = "instant")]
fn restored_in_a_new_sandbox(lab: &Lab, pair: &mut Pair, hierarchy: &Hierarchy) {
    let counts = pair.saved().into_iter().map(|[own, _]| own).collect::<Vec<_>>();
    let holder = lab.start(&["sandbox", "new"]);
    let sandbox = Sandbox::of_process(holder.pid).unwrap();
    let shared = lab.dir.join(format!("shared-{}", hierarchy.state));
    for (container, images) in pair.containers.iter_mut().zip(&pair.images) {
        let restore =
            Restore::new(images).root(&container.root).external(External::mount("shared", &shared));
        let restored = sandbox.join(restore).run(&lab.criu).unwrap();
        container.target.restored_as(restored.pid);
    }
    pair.goes_on();
    assert!(pair.counts().iter().zip(counts).all(|(now, then)| *now > then));
}

/// A pod that ends with its dump is not forked. A pod of which a part runs on is refused.
#[cfg(feature = "instant")]
fn instant_end(lab: &Lab) {
    use criu_rs::instant::{Way, WhyNot};

    let hierarchy = &hierarchies()[0];
    let mut pair = Pair::start(lab, hierarchy);
    let mixed = Pod::new()
        .container("a", pair.dump(0, AfterDump::Kill))
        .container("b", pair.dump(1, AfterDump::LeaveRunning));
    let error = mixed.instant(&lab.criu, &crate::instant::all(), &mut ()).unwrap_err();
    let PodError::Container { name, source } = error else { panic!("{error}") };
    assert!(name == "a" && source.to_string().contains("ends the tasks"), "{name}: {source}");
    pair.goes_on();
    let pod = pair.pod(AfterDump::Kill);
    let capture = pod.instant(&lab.criu, &crate::instant::all(), &mut ()).unwrap();
    assert!(capture.is_finished() && capture.frozen.as_micros() > 0);
    for (container, (name, of_it)) in pair.containers.iter().zip(&capture.containers) {
        let [task] = &of_it.tasks[..] else { panic!("{name}: {:?}", of_it.tasks) };
        assert_eq!(task.pid, container.target.pid);
        assert!(matches!(task.way, Way::Captured(WhyNot::Ends)), "{name}: {}", task.way);
    }
    let read = capture.wait().unwrap();
    assert!(read.iter().all(|(_, read)| read.captured > 0 && read.held == 0), "{read:?}");
    pair.containers.iter_mut().for_each(|container| container.target.is_gone());
    restored_in_a_new_sandbox(lab, &mut pair, hierarchy);
}

/// The disk of one container is full when the pages go there: after all have gone on.
#[cfg(feature = "instant")]
fn instant_all_or_none(lab: &Lab) {
    let pair = Pair::start(lab, &hierarchies()[0]);
    let small = &pair.images[1];
    let mount = ["-t", "tmpfs", "-o", "size=600k", "images"];
    let mounted = std::process::Command::new("mount").args(mount).arg(small).status().unwrap();
    assert!(mounted.success());
    let pod = pair.pod(AfterDump::LeaveRunning);
    let capture = pod.instant(&lab.criu, &crate::instant::all(), &mut ());
    let error = capture.and_then(|capture| capture.wait().map(drop)).unwrap_err();
    pair.has_no_images();
    assert!(std::process::Command::new("umount").arg(small).status().unwrap().success());
    let PodError::Container { name, source } = error else { panic!("{error}") };
    assert_eq!(name, "b");
    assert!(source.to_string().contains("No space left on device"), "{source}");
    pair.goes_on();
    for container in &pair.containers {
        assert_eq!(criu_lab::process::children(container.target.pid), [], "a holder is left");
    }
    assert!(pair.cgroup.is_thawed());
}

/// The counterpart that shows that the test above can fail.
fn one_by_one(lab: &Lab) {
    let pair = Pair::start(lab, &hierarchies()[0]);
    for index in [0, 1] {
        pair.dump(index, AfterDump::LeaveRunning).run(&lab.criu).unwrap();
        pair.goes_on();
    }
    let [a, b] = pair.saved()[..] else { panic!() };
    assert!(b[1] > a[0], "{a:?} {b:?}");
}

fn all_or_none(lab: &Lab) {
    let outside = lab.dir.join("outside");
    fs::write(&outside, "").unwrap();
    for hierarchy in hierarchies() {
        for broken in NAMES {
            let pair = Pair::start_with(lab, &hierarchy, |name| Plan {
                held: (name == broken).then_some(&outside),
                ..Plan::default()
            });
            let pod = pair.pod(AfterDump::Kill).freeze_cgroup(&pair.cgroup.path);
            let error = pod.dump(&lab.criu, &mut ()).unwrap_err();
            let PodError::Container { name, source } = error else { panic!("{error}") };
            assert_eq!(name, broken);
            assert_eq!(source.cause(), Some(Cause::FileOutsideMounts), "{source}");
            pair.goes_on();
            pair.has_no_images();
            assert!(pair.cgroup.is_thawed());
            drop(pair);
            for name in names(&lab.dir).into_iter().filter(|name| *name != "outside") {
                let path = lab.dir.join(name);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        }
    }
}

fn another_sandbox(lab: &Lab) {
    for hierarchy in hierarchies() {
        let mut pair = Pair::start(lab, &hierarchy);
        let pod = pair.pod(AfterDump::Kill).freeze_cgroup(&pair.cgroup.path);
        pod.dump(&lab.criu, &mut ()).unwrap();
        pair.containers.iter_mut().for_each(|container| container.target.is_gone());
        assert!(pair.cgroup.is_thawed());
        let counts = pair.counts();
        let [a, b] = pair.saved()[..] else { panic!() };
        assert!(b[1] <= a[0] && a[1] <= b[0], "{a:?} {b:?}");

        let holder = lab.start(&["sandbox", "new"]);
        let sandbox = Sandbox::of_process(holder.pid).unwrap();
        let shared = lab.dir.join(format!("shared-{}", hierarchy.state));
        for (container, images) in pair.containers.iter_mut().zip(&pair.images) {
            let restore = Restore::new(images)
                .root(&container.root)
                .external(External::mount("shared", &shared));
            let restored = sandbox.join(restore).run(&lab.criu).unwrap();
            container.target.restored_as(restored.pid);
            for kind in ["net", "ipc", "uts"] {
                let inode =
                    |pid: Pid| fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap().ino();
                assert_eq!(inode(restored.pid), inode(holder.pid), "{kind}");
                assert_ne!(inode(restored.pid), inode(pair.sandbox.pid), "{kind}");
            }
        }
        pair.goes_on();
        assert!(pair.counts().iter().zip(counts).all(|(now, then)| *now > then));
        drop(pair);
    }
}

fn shared_pids(lab: &Lab) {
    let images = lab.dir("images");
    let inside = |holder: &Target| {
        let children = criu_children(holder.pid);
        PathBuf::from(format!("/proc/{}/ns/pid", children[0]))
    };
    let old = lab.start(&["sandbox", "old"]);
    let plan = Plan { joins: Some(old.pid), pid_namespace: Some(old.pid), ..Plan::default() };
    let mut container = Container::launch(lab, &plan);
    let sandbox = Sandbox::of_process(old.pid).unwrap().pid(inside(&old)).unwrap();
    let dump = sandbox.leave_out(Dump::new(container.target.pid, &images)).unwrap();
    dump.run(&lab.criu).unwrap();
    container.is_gone();
    let count = container.target.count();

    let new = lab.start(&["sandbox", "new"]);
    let sandbox = Sandbox::of_process(new.pid).unwrap().pid(inside(&new)).unwrap();
    let restore = sandbox.join(Restore::new(&images).root(&container.root));
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    assert!(container.target.goes_on() > count);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let own = PathBuf::from(format!("/proc/{}/ns/pid", restored.pid));
    assert_eq!(inode(&own), inode(&inside(&new)));
    assert_ne!(inode(&own), inode(&inside(&old)));
    drop(container);
}

fn criu_children(pid: Pid) -> Vec<Pid> {
    criu_lab::process::descendants(pid)[1..].to_vec()
}

/// Hooks that record the counts of the pair at each moment, and refuse at one of them.
struct WatchPair<'p> {
    pair: &'p Pair,
    seen: Vec<(&'static str, Vec<u64>)>,
    refuse_at: &'static str,
}

impl WatchPair<'_> {
    fn at(&mut self, moment: &'static str) -> HookResult {
        self.seen.push((moment, self.pair.counts()));
        if moment == self.refuse_at { Err("the test says no".into()) } else { Ok(()) }
    }
}

impl PodHooks for WatchPair<'_> {
    fn frozen(&mut self) -> HookResult {
        self.pair.has_no_images();
        self.at("frozen")
    }

    fn saved(&mut self) -> HookResult {
        for images in &self.pair.images {
            ImageSet::open(images)?.checkpoint()?;
        }
        self.at("saved")
    }

    fn restored(&mut self) -> HookResult {
        self.at("restored")
    }
}

/// Hooks that count the dumps that have come to their end.
struct CountDumps(u32);

impl Hooks for CountDumps {
    fn post_dump(&mut self) -> HookResult {
        self.0 += 1;
        Ok(())
    }
}

fn hooks(lab: &Lab) {
    let hierarchy = &hierarchies()[0];
    let pair = Pair::start(lab, hierarchy);
    for refuse_at in ["frozen", "saved"] {
        let mut watch = WatchPair { pair: &pair, seen: Vec::new(), refuse_at };
        let error = pair.pod(AfterDump::Kill).dump(&lab.criu, &mut watch).unwrap_err();
        assert!(matches!(error, PodError::Hook(_)), "{error}");
        assert_eq!(error.to_string(), "the pod's hook refused: the test says no");
        pair.goes_on();
        pair.has_no_images();
        assert!(pair.cgroup.is_thawed());
    }
    let mut watch = WatchPair { pair: &pair, seen: Vec::new(), refuse_at: "never" };
    let (mut a, mut b) = (CountDumps(0), CountDumps(0));
    let pod = Pod::new()
        .container_with("a", pair.dump(0, AfterDump::LeaveRunning), &mut a)
        .container_with("b", pair.dump(1, AfterDump::LeaveRunning), &mut b);
    pod.dump(&lab.criu, &mut watch).unwrap();
    let [("frozen", before), ("saved", after)] = &watch.seen[..] else {
        panic!("{:?}", watch.seen)
    };
    assert_eq!(before, after, "they stood still");
    assert_eq!((a.0, b.0), (1, 1));
    pair.goes_on();
}

fn stays_frozen(lab: &Lab) {
    for hierarchy in hierarchies() {
        let pair = Pair::start(lab, &hierarchy);
        pair.goes_on();
        for name in NAMES {
            pair.cgroup.below(name).freeze();
        }
        let before = pair.counts();
        pair.pod(AfterDump::LeaveRunning).dump(&lab.criu, &mut ()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(pair.counts(), before);
        for name in NAMES {
            assert!(!pair.cgroup.below(name).is_thawed(), "{name}");
            pair.cgroup.below(name).thaw();
        }
        pair.goes_on();
    }
}

fn frozen_above(lab: &Lab) {
    for hierarchy in hierarchies() {
        let pair = Pair::start(lab, &hierarchy);
        pair.cgroup.freeze();
        let before = pair.counts();
        // CRIU alone thaws only the container's own cgroup, in vain. With version 2 it would wait
        // for ever.
        if hierarchy.state == "freezer.state" {
            let images = lab.dir(&format!("alone-{}", hierarchy.state));
            let alone = pair.dump_into(&images, 0, AfterDump::LeaveRunning);
            alone.timeout(Duration::from_secs(1)).run(&lab.criu).unwrap_err();
            assert_eq!(pair.counts(), before);
        }

        let pod = || pair.pod(AfterDump::LeaveRunning);
        let error = pod().dump(&lab.criu, &mut ()).unwrap_err().to_string();
        assert!(error.contains("name it by Pod::freeze_cgroup"), "{error}");
        pod().freeze_cgroup(&pair.cgroup.path).dump(&lab.criu, &mut ()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(pair.counts(), before);
        pair.cgroup.thaw();
        pair.goes_on();
    }
}

fn over_service(lab: &Lab) {
    let service = Service::start(lab);
    for hierarchy in hierarchies() {
        let pair = Pair::start(lab, &hierarchy);
        let runs_on = || {
            pair.goes_on();
            pair.has_no_images();
            assert!(pair.cgroup.is_thawed());
        };
        // The service notices that nobody waits any more, and freezes again the tasks that it has
        // thawed.
        let mut failing = FailAt(Action::PostDump);
        let pod = Pod::new()
            .container_with("a", pair.dump(0, AfterDump::Kill), &mut failing)
            .container("b", pair.dump(1, AfterDump::Kill));
        pod.dump(&service.criu(), &mut ()).unwrap_err();
        runs_on();
        let mut watch = WatchPair { pair: &pair, seen: Vec::new(), refuse_at: "saved" };
        let error = pair.pod(AfterDump::Kill).dump(&service.criu(), &mut watch).unwrap_err();
        assert!(matches!(error, PodError::Hook(_)), "{error}");
        runs_on();
        pair.pod(AfterDump::LeaveRunning).dump(&service.criu(), &mut ()).unwrap();
        pair.goes_on();
        let [a, b] = pair.saved()[..] else { panic!() };
        assert!(b[1] <= a[0] && a[1] <= b[0], "{a:?} {b:?}");
    }
}

/// Hooks that fail at one action, after another dump may have come to its end.
struct FailAt(Action);

impl FailAt {
    fn at(&self, action: Action) -> HookResult {
        if action != self.0 {
            return Ok(());
        }
        assert!(action != Action::PostDump, "the test panics");
        Err("the test says no".into())
    }
}

impl Hooks for FailAt {
    fn post_dump(&mut self) -> HookResult {
        self.at(Action::PostDump)
    }

    fn network_unlock(&mut self) -> HookResult {
        self.at(Action::NetworkUnlock)
    }
}

fn panic(lab: &Lab) {
    let pair = Pair::start(lab, &hierarchies()[0]);
    let mut failing = FailAt(Action::PostDump);
    let pod = Pod::new()
        .container_with("a", pair.dump(0, AfterDump::Kill), &mut failing)
        .container("b", pair.dump(1, AfterDump::Kill));
    let error = pod.dump(&lab.criu, &mut ()).unwrap_err();
    assert!(error.to_string().contains("a hook panicked"), "{error}");
    pair.goes_on();
    pair.has_no_images();
    assert!(pair.cgroup.is_thawed());
}

fn torn(lab: &Lab) {
    let pair = Pair::start(lab, &hierarchies()[0]);
    let mut failing = FailAt(Action::NetworkUnlock);
    let pod = Pod::new().container("a", pair.dump(0, AfterDump::LeaveRunning)).container_with(
        "b",
        pair.dump(1, AfterDump::LeaveRunning),
        &mut failing,
    );
    let error = pod.dump(&lab.criu, &mut ()).unwrap_err();
    let PodError::Torn { name, source, complete } = error else { panic!("{error}") };
    assert_eq!((name.as_str(), &complete[..]), ("b", &["a".to_owned()][..]), "{source}");
    pair.goes_on();
    assert!(names(&pair.images[0]).contains(&"inventory.img".into()));
    assert!(!names(&pair.images[1]).contains(&"inventory.img".into()));
}

fn cancelled(lab: &Lab) {
    struct Cancelling(Cancel);
    impl PodHooks for Cancelling {
        fn frozen(&mut self) -> HookResult {
            self.0.cancel();
            Ok(())
        }
    }
    let pair = Pair::start(lab, &hierarchies()[0]);
    let cancel = Cancel::new().unwrap();
    let pod = pair.pod(AfterDump::Kill).cancel(&cancel);
    let error = pod.dump(&lab.criu, &mut Cancelling(cancel)).unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    pair.goes_on();
    pair.has_no_images();
    assert!(pair.cgroup.is_thawed());
}

fn nonsense(lab: &Lab) {
    let target = lab.start(&["count"]);
    let dump = || Dump::new(target.pid, lab.dir.join("images"));
    let frozen = |cgroup: &str| dump().freeze_cgroup(cgroup);
    let said = |pod: Pod<'_>| pod.dump(&lab.criu, &mut ()).unwrap_err().to_string();
    for (pod, want) in [
        (Pod::new(), "one container or more"),
        (Pod::new().container("a", dump()), "freeze_cgroup"),
        (
            Pod::new().container("a", frozen("/x")).container("a", frozen("/y")),
            "no other container",
        ),
        (Pod::new().container("a", frozen("/x")).container("b", frozen("/x/y")), "holds no other"),
        (Pod::new().freeze_cgroup("/x").container("a", frozen("/y/a")), "below the pod's"),
        (Pod::new().container("a", frozen("/nonexistent")), "not a freezer cgroup"),
    ] {
        let said = said(pod);
        assert!(said.contains(want), "{said}");
    }
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let one = Criu::connected(socket.into());
    let error = PodRestore::new().restore(&one, &mut ()).unwrap_err().to_string();
    assert!(error.contains("a connection of its own"), "{error}");
    let error = PodRestore::new().restore(&lab.criu, &mut ()).unwrap_err().to_string();
    assert!(error.contains("one container or more"), "{error}");
    let sandbox = lab.start(&["sandbox", "old"]);
    let error = Sandbox::of_process(sandbox.pid).unwrap().leave_out(dump()).unwrap_err();
    assert!(error.to_string().contains("in the sandbox's namespaces"), "{error}");
    target.goes_on();
}

/// Runs a test with two connected containers that were dumped and ended, a new sandbox, and their
/// restores.
fn with_connected(lab: &Lab, test: impl FnOnce(&mut Pair, &Target, Vec<Restore<'_>>)) {
    let hierarchy = &hierarchies()[0];
    let words = |name: &str| match name {
        "a" => ["tcp-answer", "/shared/port"],
        _ => ["tcp-ask", "/shared/port"],
    };
    let mut pair = Pair::start_as(lab, hierarchy, words, |_| Plan::default());
    let established = |index| pair.dump(index, AfterDump::Kill).tcp(Tcp::Established);
    let pod = Pod::new().container("a", established(0)).container("b", established(1));
    pod.dump(&lab.criu, &mut ()).unwrap();
    pair.containers.iter_mut().for_each(|container| container.target.is_gone());
    let holder = lab.start(&["sandbox", "new"]);
    let sandbox = Sandbox::of_process(holder.pid).unwrap();
    let shared = lab.dir.join(format!("shared-{}", hierarchy.state));
    let restore = |(container, images): (&Container, &PathBuf)| {
        let restore = Restore::new(images.clone())
            .root(&container.root)
            .tcp(Tcp::Established)
            .external(External::mount("shared", &shared));
        sandbox.join(restore)
    };
    let restores = pair.containers.iter().zip(&pair.images).map(restore).collect();
    test(&mut pair, &holder, restores);
    drop(pair);
}

fn stay_connected(lab: &Lab) {
    if lab.version < Version::new(4, 2, 0) {
        // This CRIU cannot dump sockets of today's kernels.
        return refuses_sockets(lab);
    }
    with_connected(lab, |pair, holder, restores| {
        let mut restores = restores.into_iter();
        let (a, b) = (restores.next().unwrap(), restores.next().unwrap());
        let broken = b.clone().root("/nonexistent");
        let pod = PodRestore::new().container("a", a.clone()).container("b", broken);
        let error = pod.restore(&lab.criu, &mut ()).unwrap_err();
        assert!(matches!(&error, PodError::Container { name, .. } if name == "b"), "{error}");
        pair.containers.iter_mut().for_each(|container| container.target.is_gone());

        let pod = || PodRestore::new().container("a", a.clone()).container("b", b.clone());
        let mut watch = WatchPair { pair, seen: Vec::new(), refuse_at: "restored" };
        let error = pod().restore(&lab.criu, &mut watch).unwrap_err();
        assert!(matches!(error, PodError::Hook(_)), "{error}");
        assert_eq!(watch.seen, [("restored", pair.counts())], "none has run");
        // CRIU leaves no mount in its work directory.
        for images in &pair.images {
            assert!(
                names(images).iter().all(|name| !name.starts_with(".criu")),
                "{:?}",
                names(images)
            );
        }
        pair.containers.iter_mut().for_each(|container| container.target.is_gone());

        let restored = pod().restore(&lab.criu, &mut ()).unwrap();
        for (container, (_, restored)) in pair.containers.iter_mut().zip(restored.containers) {
            container.target.restored_as(restored.pid);
            let inode = |pid: Pid| fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
            assert_eq!(inode(restored.pid), inode(holder.pid));
        }
        pair.goes_on();
    });
}

/// The counterpart that shows that the test above can fail.
fn lose_connection(lab: &Lab) {
    if lab.version < Version::new(4, 2, 0) {
        return refuses_sockets(lab);
    }
    with_connected(lab, |pair, _, restores| {
        for (container, restore) in pair.containers.iter_mut().zip(restores) {
            container.target.restored_as(restore.run(&lab.criu).unwrap().pid);
            std::thread::sleep(Duration::from_millis(300));
        }
        let file = pair.containers[1].root.join("count");
        let is_lost =
            || fs::read_to_string(&file).is_ok_and(|text| text.contains("Connection reset"));
        assert!(soon(is_lost), "{:?}", fs::read_to_string(&file));
    });
}

fn refuses_sockets(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    let images = lab.dir("images");
    Dump::new(target.pid, &images).tcp(Tcp::Established).run(&lab.criu).unwrap_err();
    target.goes_on();
}
