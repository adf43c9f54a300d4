//! Memory on demand.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::place::alone;
use criu_lab::{names, process, soon};
use criu_rs::lazy::{Fill, LazyEvent, LazyOptions, LazyPages};
use criu_rs::{Dump, Error, HookResult, Hooks, Pid, Restore};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_restore_fetches_memory_on_demand", restore),
    ("a_dump_serves_memory_on_demand", dump),
    ("memory_comes_from_this_process_after_the_restore", own),
    ("a_lazy_restore_that_fails_leaves_nothing", fails),
    ("a_daemon_serves_one_restore_after_another", daemon),
];

/// Saves a task with so many children, each with 4 MiB of memory that it checks.
pub fn patterned(lab: &Lab, children: usize) -> (Target, PathBuf) {
    let mut target = lab.start(&["patterned", "4", &children.to_string()]);
    assert!(soon(|| files(&target, children).iter().all(|file| count(file) > 0)));
    let images = lab.dump(&mut target);
    (target, images)
}

/// The files into which a task and its children count.
fn files(target: &Target, children: usize) -> Vec<PathBuf> {
    let others = (0..children).map(|number| target.file().with_extension(number.to_string()));
    [target.file().to_owned()].into_iter().chain(others).collect()
}

fn count(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    if text.is_empty() { 0 } else { text.trim().parse().unwrap_or_else(|_| panic!("{text}")) }
}

/// Waits until all tasks have looked at all their memory.
pub fn is_right(target: &Target, children: usize) {
    for file in files(target, children) {
        // 128 looks at 4096 words each are 4 MiB.
        let before = count(&file);
        assert!(soon(|| count(&file) > before + 130), "{}: {before}", file.display());
    }
}

fn own(lab: &Lab) {
    let (mut target, images) = patterned(lab, 2);
    let mut expected = names(&images);
    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap();
    let restore = Restore::new(&images).rst_sibling(true).lazy(&pages);
    let (restored, memory) = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    is_right(&target, 2);
    assert!(memory.wait(Some(Duration::from_secs(20))).unwrap());
    let (progress, numbers) = (memory.progress(), memory.statistics());
    assert_eq!((progress.missing, progress.tasks), (0, 0));
    // All pages of three times 4 MiB, at least.
    assert!(progress.pages >= 3072, "{progress:?}");
    assert!(numbers.bytes >= (3 * 4) << 20, "{numbers:?}");
    // The log and the statistics are at their places, and the socket is nowhere.
    expected.extend(["restore.log".to_owned(), "stats-restore".to_owned()]);
    expected.sort();
    assert_eq!(names(&images), expected);
}

fn fails(lab: &Lab) {
    /// Refuses when the tasks are there.
    struct Refuse(Vec<Pid>);
    impl Hooks for Refuse {
        fn post_restore(&mut self, root: Pid) -> HookResult {
            self.0 = process::descendants(root);
            Err("no".into())
        }
    }
    let (_target, images) = patterned(lab, 2);
    let before = names(&images);
    let threads = || names("/proc/self/task");
    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap();
    // Threads of the dump may still be on their way out, and those of a restore, too: a thread that
    // is waited for leaves `/proc` a moment later.
    let running = threads();
    let has_its_threads = || soon(|| threads().iter().all(|thread| running.contains(thread)));
    let restore = Restore::new(&images).rst_sibling(true).lazy(&pages);
    let mut hooks = Refuse(Vec::new());
    let error = restore.run_with(&lab.criu, &mut hooks).unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    assert_eq!(hooks.0.len(), 3);
    assert!(hooks.0.iter().all(|pid| process::has_ended(*pid)));
    assert!(has_its_threads(), "{:?} after {running:?}", threads());
    // CRIU writes both whatever the hook says.
    let left = names(&images).into_iter().filter(|name| !before.contains(name));
    assert_eq!(left.collect::<Vec<_>>(), ["restore.log", "stats-restore"]);

    // A restore that is dropped before it has begun.
    drop(restore.start(&lab.criu).unwrap());
    assert!(has_its_threads(), "{:?} after {running:?}", threads());

    // Images that lack a task of the restored ones.
    let other = lab.start(&["memory", "1"]);
    let foreign = lab.dir("foreign");
    Dump::new(other.pid, &foreign).run(&lab.criu).unwrap();
    let foreign = LazyPages::open(&foreign, LazyOptions::default()).unwrap();
    let error = Restore::new(&images).rst_sibling(true).lazy(&foreign).run(&lab.criu).unwrap_err();
    assert!(error.to_string().contains("which the images do not have"), "{error}");
    assert!(matches!(error, Error::Lazy(_)), "{error}");
}

fn daemon(lab: &Lab) {
    let (mut target, images) = patterned(lab, 0);
    let work = lab.dir("work");
    let mut options = LazyOptions::default();
    options.fill = Fill::Nothing;
    let daemon = LazyPages::open(&images, options).unwrap().listen(&work).unwrap();
    let (events, told) = std::sync::mpsc::channel();
    let serve = std::thread::spawn(move || {
        daemon.run(NonZeroU64::new(2), |event| events.send(event).unwrap())
    });
    let restore = Restore::new(&images).work_dir(&work).rst_sibling(true).lazy_pages(true);
    for number in 1..=2 {
        let restored = restore.run(&lab.criu).unwrap();
        target.restored_as(restored.pid);
        is_right(&target, 0);
        match told.recv().unwrap() {
            LazyEvent::Restored { number: told, .. } => assert_eq!(told, number),
            other => panic!("{other:?}"),
        }
        restored.signal(9).unwrap();
        restored.wait().unwrap();
        // The tasks have ended, and with these the need for their pages.
        match told.recv().unwrap() {
            LazyEvent::Ended(report) => {
                report.result.unwrap();
                assert_eq!(report.number, number);
                assert!(report.statistics.faults > 0 && report.statistics.filled == 0);
            }
            other => panic!("{other:?}"),
        }
    }
    serve.join().unwrap().unwrap();
    assert!(!work.join("lazy-pages.socket").exists());
}

fn restore(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "32"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let before = target.count();
    let mut daemon = Command::new(&lab.program)
        .args(["lazy-pages", "-o", "lazy.log", "-D"])
        .arg(&images)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(soon(|| images.join("lazy-pages.socket").exists()));
    let restored = Restore::new(&images).lazy_pages(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert!(daemon.wait().unwrap().success());
    target.goes_on();
}

fn dump(lab: &Lab) {
    /// Connects when the dump listens, asks for nothing and goes.
    struct Fetch {
        port: u16,
        connected: bool,
    }
    impl Hooks for Fetch {
        fn status_ready(&mut self) -> HookResult {
            TcpStream::connect(("127.0.0.1", self.port))?;
            self.connected = true;
            Ok(())
        }
    }
    // CRIU wants pipes of 4 MiB, which without CAP_SYS_RESOURCE takes a higher limit.
    let _alone = alone("pipe-max-size");
    let limit = "/proc/sys/fs/pipe-max-size";
    let before = fs::read_to_string(limit).unwrap();
    fs::write(limit, "16777216").unwrap();
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "32"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut hooks = Fetch { port, connected: false };
    let dump = Dump::new(target.pid, &images).lazy_pages_at("127.0.0.1", port);
    let result = dump.run_with(&lab.criu, &mut hooks);
    fs::write(limit, before).unwrap();
    result.unwrap();
    assert!(hooks.connected);
    target.is_gone();
    let pages = names(&images).into_iter().filter(|name| name.starts_with("pages-"));
    let stored: u64 = pages.map(|name| fs::metadata(images.join(name)).unwrap().len()).sum();
    assert!(stored < 4 << 20, "{stored} bytes are in the images");
}
