//! Copies of containers, and what a dump keeps for them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criu_lab::rootfs::everybody;
use criu_lab::soon;
use criu_rs::copies::{Arrival, Identity, Space};
use criu_rs::{CopyNotice, Dump, Error, HookResult, Hooks, Restore};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::sched::CloneFlags;

use crate::container::{Container, Plan};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_copy_in_a_container_learns_who_it_is", in_container),
    ("a_copy_in_a_user_namespace_owns_its_identity", in_user_namespace),
    ("a_copy_that_cannot_be_told_does_not_run", not_told),
    ("a_failed_dump_leaves_no_notice", failed_dump),
    ("only_the_first_process_of_a_namespace_enters_a_space", space),
    ("a_directory_that_is_swapped_puts_no_file_elsewhere", swapped),
    ("a_shared_mount_shows_no_identity_to_others", shared),
    ("images_of_strangers_choose_no_place_for_a_file", strangers),
    ("a_locked_file_holds_no_restore", locked),
];

/// A container that has been dumped, with the notice for its copies.
fn dumped(lab: &Lab, namespaces: CloneFlags) -> (Container, String) {
    let images = lab.dir("images");
    let payload = ["copy", "/old", "/dev/copy"];
    let plan = Plan { namespaces: Some(namespaces), payload: &payload, ..Plan::default() };
    let mut container = Container::launch(lab, &plan);
    let notice = CopyNotice::new().file("/dev/copy").unwrap().signal_named("USR2").unwrap();
    let dump = Dump::new(container.target.pid, &images).copy_notice(notice.clone());
    dump.run(&lab.criu).unwrap();
    container.is_gone();
    let images = images.to_string_lossy().into_owned();
    assert_eq!(CopyNotice::read(&(&images).into()).unwrap(), Some(notice));
    (container, images)
}

fn told(lab: &Lab, namespaces: CloneFlags) {
    let (mut container, images) = dumped(lab, namespaces);
    let count = container.target.count();
    everybody(&container.root.join("old"), 0o777);
    let notice = CopyNotice::read(&(&images).into()).unwrap().unwrap();
    let identity = Identity::new(7, 9, "box-7").unwrap().variable("PORT", "8007").unwrap();
    let text = identity.text();
    let mut arrival = Arrival::new(identity, notice);
    let restore = Restore::new(&images).root(&container.root);
    let restored = restore.run_with(&lab.criu, &mut arrival).unwrap();
    container.target.restored_as(restored.pid);
    let report = container.root.join("old/box-7");
    assert!(soon(|| report.exists()), "it has not reported");
    let said = fs::read_to_string(report).unwrap();
    let (facts, seen) = said.split_once('\n').unwrap();
    let counted = facts.split(' ').nth(3).unwrap().parse::<u64>().unwrap();
    assert!(counted <= count + 1, "{facts}, {count} at the dump");
    assert!(
        facts.starts_with("pid 1 ") && facts.ends_with("mode 600 uid 0 memory right"),
        "{facts}"
    );
    assert_eq!(seen, text);
    // Outside there is another file, which goes with the copy.
    let outside = container.root.join("dev/copy");
    assert!(fs::read_to_string(&outside).unwrap().contains("Not a copy"));
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o600);
    drop(arrival);
    assert!(!outside.exists(), "the file outside is left");
}

fn in_container(lab: &Lab) {
    told(lab, CloneFlags::CLONE_NEWUTS);
}

fn in_user_namespace(lab: &Lab) {
    told(lab, CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWUSER);
}

fn not_told(lab: &Lab) {
    let (container, images) = dumped(lab, CloneFlags::CLONE_NEWUTS);
    let count = container.target.count();
    // A link out of the container leads to a place inside.
    std::os::unix::fs::symlink("/tmp", container.root.join("out")).unwrap();
    for (file, why) in [
        ("/nowhere/copy", "its directory cannot be opened"),
        ("/out/copy", "its directory cannot be opened"),
        ("/proc/1/root/copy", "its directory cannot be opened"),
        ("/dev/null", "there is something else than a file"),
    ] {
        let notice = CopyNotice::new().file(file).unwrap();
        let mut arrival = Arrival::new(Identity::new(1, 1, "box").unwrap(), notice);
        let restore = Restore::new(&images).root(&container.root);
        let error = restore.run_with(&lab.criu, &mut arrival).unwrap_err();
        let Error::Hook { source, .. } = &error else { panic!("{file}: {error}") };
        assert!(source.to_string().contains(why), "{file}: {source}");
    }
    assert_eq!(container.target.count(), count, "a copy that is not told has run");
}

fn failed_dump(lab: &Lab) {
    let images = lab.dir("images");
    let notice = CopyNotice::new().signal(1).unwrap();
    let gone = "999999".parse().unwrap();
    Dump::new(gone, &images).copy_notice(notice).run(&lab.criu).unwrap_err();
    assert_eq!(CopyNotice::read(&(&images).into()).unwrap(), None);
}

fn space(_: &Lab) {
    let error = Space::new("copy").enter().unwrap_err();
    assert!(error.to_string().contains("not the first of a pid namespace"), "{error}");
}

/// A process with mount and UTS namespaces of its own, in place of a restored root task.
struct Task(Child);

impl Task {
    fn start(propagation: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "--propagation", propagation, "sleep", "60"]);
        let task = Self(command.spawn().unwrap());
        let is_there = || task.read("comm").is_ok_and(|name| name == "sleep\n");
        assert!(soon(is_there), "there is no task");
        task
    }

    /// Tells the task who it is, as a restore would.
    fn tell(&self, notice: CopyNotice) -> Result<Arrival, String> {
        let mut arrival = Arrival::new(Identity::new(1, 1, "box").unwrap(), notice);
        let pid = self.0.id().to_string().parse().unwrap();
        let told: HookResult = arrival.post_restore(pid).and_then(|()| arrival.pre_resume());
        told.map(|()| arrival).map_err(|error| error.to_string())
    }

    /// Reads a file below the directory that the kernel has for the task.
    fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.0.id()))
    }

    /// Returns the file as the task sees it.
    fn sees(&self, file: &Path) -> io::Result<String> {
        self.read(&format!("root{}", file.display()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn swapped(lab: &Lab) {
    let [directory, elsewhere] = ["app", "elsewhere"].map(|name| lab.dir(name));
    let link = directory.with_file_name("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let task = Task::start("private");
    let file = directory.join("copy");
    let is_over = AtomicBool::new(false);
    let mut told = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &directory, AT_FDCWD, &link, exchange).unwrap();
            }
        });
        for _ in 0..300 {
            let arrival = task.tell(CopyNotice::new().file(&file).unwrap());
            told += usize::from(arrival.is_ok());
            if elsewhere.join("copy").exists() {
                told = 0;
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(told > 0, "there was a file elsewhere, or never one at all");
    let mounts = task.read("mountinfo").unwrap();
    assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
}

fn shared(lab: &Lab) {
    let directory = lab.dir("app");
    let file = directory.join("copy");
    let notice = CopyNotice::new().file(&file).unwrap();
    let error = Task::start("shared").tell(notice.clone()).unwrap_err();
    assert!(error.contains("is shared, and others would see"), "{error}");
    assert!(!file.exists(), "a file is left");
    // The mounts of a slave show themselves to nobody.
    let task = Task::start("slave");
    let arrival = task.tell(notice).unwrap();
    assert_eq!(task.sees(&file).unwrap(), arrival.identity().text());
    assert!(fs::read_to_string(&file).unwrap().contains("Not a copy"));
    drop(arrival);
    assert!(!file.exists() && task.sees(&file).is_err(), "a file is left");
}

fn strangers(lab: &Lab) {
    let [images, directory] = ["images", "app"].map(|name| lab.dir(name));
    let file = directory.join("copy");
    let kept = images.join(CopyNotice::FILE);
    fs::write(&kept, format!("criu-rs copy 1\nfile {}\n", file.display())).unwrap();
    let task = Task::start("private");
    let read = || CopyNotice::read(&(&images).into()).unwrap().unwrap();
    for (path, mode, before) in [(&kept, 0o666, 0o644), (&images, 0o775, 0o755)] {
        everybody(path, mode);
        let error = task.tell(read()).unwrap_err();
        assert!(error.contains("others can write them"), "{error}");
        assert!(!file.exists());
        // A file that is there may be covered, and the caller may choose.
        fs::write(&file, "here").unwrap();
        let arrival = task.tell(read()).unwrap();
        assert_eq!(task.sees(&file).unwrap(), arrival.identity().text());
        drop(arrival);
        assert_eq!(fs::read_to_string(&file).unwrap(), "here");
        fs::remove_file(&file).unwrap();
        task.tell(read().file(&file).unwrap()).unwrap();
        everybody(path, before);
    }
    task.tell(read()).unwrap();
    assert!(!file.exists(), "a file is left");
}

fn locked(lab: &Lab) {
    let file = lab.dir("app").join("copy");
    let task = Task::start("private");
    let notice = CopyNotice::new().file(&file).unwrap();
    let hold = |text: &str| {
        fs::write(&file, text).unwrap();
        let file = fs::File::open(&file).unwrap();
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
    };
    let mark = "# A place for the identity of a copy, made by criu-rs. Not a copy.\n";
    let lock = hold(mark);
    let error = task.tell(notice.clone()).unwrap_err();
    assert!(error.contains("another program has locked the file"), "{error}");
    drop(lock);
    // A file of the program's own is not locked.
    let lock = hold("mine");
    task.tell(notice).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    drop(lock);
}
