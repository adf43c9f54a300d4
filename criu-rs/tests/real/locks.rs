//! File locks: CRIU gives back all except some POSIX locks, and no loss is silent.

use std::fs;

use criu_images::ImageSet;
use criu_rs::preflight::{Finding, Report, Severity};
use criu_rs::{AfterDump, Dump, Error, LockKind, LockProblem, LockState, Restore};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_lock_that_a_restore_loses_is_foreseen_and_refused", lost),
    ("locks_of_all_other_kinds_come_back", kept),
    ("locks_of_sqlite_in_wal_mode_are_not_lost_in_silence", sqlite),
];

/// Opens a file with some content as `f`.
const FILE: &str = "\
f = open('FILE', 'w+b')
f.write(b'x' * 8192)
f.flush()
";

/// Takes a POSIX lock on bytes 3 to 9.
const POSIX: &str = "fcntl.lockf(f, fcntl.LOCK_EX, 7, 3)\n";

const OFD: &str = "fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 5, 10, 0))\n";

fn losses(report: &Report) -> Vec<&Finding> {
    let loses = |found: &&Finding| found.what == "a restore loses a file lock";
    let found: Vec<&Finding> = report.findings().iter().filter(loses).collect();
    assert!(found.iter().all(|found| found.severity == Severity::Loses));
    found
}

/// The locks that CRIU loses: the way to take one, and a part of the reason that a look gives.
const LOST: &[(&str, &str)] = &[
    ("POSIX m = mmap.mmap(f.fileno(), 4096)", "mapped"),
    ("POSIX m = mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE); os.unlink('FILE')", "mapped"),
    ("f = os.memfd_create('x'); os.ftruncate(f, 4096); POSIX m = mmap.mmap(f, 4096)", "mapped"),
    ("f = open('/proc/self/exe', 'rb'); fcntl.lockf(f, fcntl.LOCK_SH, 7, 3)", "mapped"),
    (
        "r, w = os.pipe()\n\
         if os.fork() == 0:\n  fcntl.lockf(f, fcntl.LOCK_EX, 7, 3)\n  os.write(w, b'x')\n  while True: time.sleep(1)\n\
         os.read(r, 1)",
        "of a child",
    ),
];

fn code(lab: &Lab, text: &str) -> String {
    let file = lab.fresh("locked").join("file");
    let text = text.replace("; ", "\n").replace("POSIX ", POSIX).replace("OFD ", OFD);
    format!("{FILE}{text}").replace("FILE", file.to_str().unwrap())
}

fn lost(lab: &Lab) {
    for (text, why) in LOST {
        let mut target = lab.python(&code(lab, text));
        let images = lab.fresh("images");
        let dump = Dump::new(target.pid, &images).file_locks(true);
        let report = dump.preflight(&lab.criu).unwrap();
        let found = losses(&report);
        assert_eq!(found.len(), 1, "{text}: {report}");
        assert!(found[0].detail.contains(why), "{text}: {report}");
        assert!(report.will_work(), "{text}: {report}");
        let before = LockState::of_tree(target.pid);
        dump.run(&lab.criu).unwrap();
        target.is_gone();
        let saved = LockState::of_images(&ImageSet::open(&images).unwrap()).unwrap();
        if saved.locks().is_empty() {
            // CRIU has not even saved it.
            assert_eq!(*why, "of a child", "{text}");
            assert_eq!(before.locks().len(), 1, "{text}");
            continue;
        }
        let restore = Restore::new(&images).file_locks(true);
        let Err(Error::Lock(error)) = restore.run(&lab.criu) else { panic!("{text}: restored") };
        assert_eq!(error.problem, LockProblem::NotRestored);
        assert_eq!(error.locks, saved.locks());
        // No task of the refused restore is left, and the loss can be accepted.
        let restored = restore.accept_lock_loss(true).run(&lab.criu).unwrap();
        target.restored_as(restored.pid);
        target.goes_on();
        let after = LockState::of_tree(target.pid);
        assert_eq!(saved.lost(&after), saved.locks(), "{text}");
        target.end();
    }
}

fn kept(lab: &Lab) {
    // One process holds all of them: each on a file of its own.
    let locks = [
        "fcntl.flock(f, fcntl.LOCK_EX); m = mmap.mmap(f.fileno(), 4096)",
        "POSIX ",
        "OFD m = mmap.mmap(f.fileno(), 4096)",
        // An empty file: CRIU opens others to look for a build id, which breaks the lease, and the
        // kernel gives its holder 45 s to let go.
        "f.truncate(0); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)",
        "POSIX g = open('FILE', 'r+b'); fcntl.lockf(g, fcntl.LOCK_SH, 7, 100)",
        // A child that has mapped the file takes no lock of its parent with it.
        "POSIX \nif os.fork() == 0:\n  m = mmap.mmap(f.fileno(), 4096)\n  while True: time.sleep(1)",
    ];
    let keep = |n| format!("\nkept.append((f, globals().get('g'), globals().get('m'), {n}))\n");
    let parts = locks.iter().enumerate().map(|(n, text)| code(lab, text) + &keep(n));
    let mut target = lab.python(&format!("kept = []\n{}", parts.collect::<String>()));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(losses(&report).len(), 0, "{report}");
    let before = LockState::of_tree(target.pid);
    let kinds: Vec<LockKind> = before.locks().iter().map(|lock| lock.kind).collect();
    for kind in [LockKind::Flock, LockKind::Posix, LockKind::Ofd, LockKind::Lease] {
        assert!(kinds.contains(&kind), "{before:?}");
    }
    dump.with_preflight(&report).run(&lab.criu).unwrap();
    target.is_gone();
    // Without the option CRIU would not take the locks again, and say nothing.
    let restore = Restore::new(&images);
    assert!(!restore.preflight(&lab.criu).unwrap().will_work());
    let Err(Error::Lock(error)) = restore.run(&lab.criu) else { panic!("restored without locks") };
    assert_eq!(error.problem, LockProblem::NotAsked);
    assert!(restore.clone().accept_lock_loss(true).preflight(&lab.criu).unwrap().will_work());
    let restored = restore.file_locks(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(before.lost(&LockState::of_tree(target.pid)), []);
}

/// Tests a database of SQLite that others may read and write at the same time (WAL mode). Its locks
/// are on a file that it maps.
fn sqlite(lab: &Lab) {
    let base = lab.dir.join("base");
    let code = format!(
        "import sqlite3\nc = sqlite3.connect('{}', isolation_level=None)\n\
         c.execute('pragma journal_mode=wal')\nc.execute('create table t(x)')\n\
         c.execute('begin immediate')\nc.execute('insert into t values(1)')",
        base.display()
    );
    let mut target = lab.python(&code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let found = losses(&report);
    assert!(!found.is_empty(), "{report}");
    let shm = format!("{}-shm", base.display());
    assert!(found.iter().all(|found| found.subject.path.as_deref() == Some(shm.as_ref())));
    dump.with_preflight(&report).after_dump(AfterDump::Kill).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images).file_locks(true);
    let Err(Error::Lock(error)) = restore.run(&lab.criu) else { panic!("no lock is missed") };
    assert_eq!(error.locks.len(), found.len(), "{error}");
    assert!(error.to_string().contains("accept_lock_loss"), "{error}");
    assert!(fs::metadata(&base).is_ok());
}
