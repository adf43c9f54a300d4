//! Directories that others can write, for all operations and ways to reach criu.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use criu_lab::process::{reap, state};
use criu_lab::{names, soon};
use criu_rs::{AfterDump, CpuInfo, Dir, Dump, Error, PageServer, PlaceProblem, Restore, Writers};

use crate::lab::{Lab, TestFn};
use crate::service::Service;

pub const TESTS: &[(&str, TestFn)] = &[
    ("every_way_to_criu_is_safe_where_others_write", ways),
    ("criu_executes_nothing_where_others_write", exec_cmd),
    ("other_requests_are_safe_where_others_write", requests),
    ("directories_of_configuration_files_are_not_moved", by_file),
    ("a_trusted_directory_may_belong_to_another_user", trusted),
];

fn share(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Dir::from(directory).writers().unwrap(), Some(Writers::Everyone));
}

/// The problem of an operation that was refused because of a directory.
#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> PlaceProblem {
    match result.unwrap_err() {
        Error::Place(error) => error.problem,
        error => panic!("{error}"),
    }
}

/// A dump and a restore, with this suite's way to criu, and with a service.
fn ways(lab: &Lab) {
    let service = Service::start(lab);
    let mut target = lab.start(&["count"]);
    // A service would look for the parent from a directory that others can move.
    let next = lab.dir("next");
    share(&next);
    let dump = Dump::new(target.pid, &next).parent_img("../own");
    let PlaceProblem::Shared { purpose, .. } = problem(dump.run(&service.criu())) else {
        panic!("refused for something else");
    };
    assert!(purpose.contains("parent images"), "{purpose}");
    assert!(names(&next).is_empty());
    for (criu, name) in [(&lab.criu, "own"), (&service.criu(), "service")] {
        let (images, work) = (lab.dir(name), lab.dir(&format!("{name}-work")));
        share(&images);
        share(&work);
        let dump = Dump::new(target.pid, &images);
        let dumped = dump.run(criu).unwrap();
        assert!(dumped.stats.is_ok(), "the statistics are read: {dumped:?}");
        target.is_gone();
        let left = names(&images);
        for name in ["dump.log", "inventory.img", "stats-dump"] {
            assert!(left.contains(&name.to_owned()), "no {name}: {left:?}");
        }
        let restored = Restore::new(&images).work_dir(&work).run(criu).unwrap();
        assert!(restored.stats.is_ok(), "the statistics are read: {restored:?}");
        assert_eq!(names(&work), ["restore.log", "stats-restore"]);
        assert_eq!(names(&images), left);
        target.restored_as(restored.pid);
        target.goes_on();
        // A failure cites the log, which then is at its name.
        let error = Restore::new(&images).run(criu).unwrap_err();
        let excerpt = error.failure().and_then(|failure| failure.excerpt()).unwrap();
        assert_eq!(excerpt.file, "restore.log");
        assert!(images.join("restore.log").exists());
        assert!(names(&images).iter().all(|name| !name.starts_with('.')));
        target.goes_on();
    }
}

fn exec_cmd(lab: &Lab) {
    let images = lab.dir("images");
    share(&images);
    let restore = Restore::new(&images).exec_cmd(["true"]);
    let PlaceProblem::Shared { writers, purpose } = problem(restore.run(&lab.criu)) else {
        panic!("refused for something else");
    };
    assert_eq!(writers, Writers::Everyone);
    assert!(purpose.contains("a command"), "{purpose}");
    assert!(names(&images).is_empty());
}

fn requests(lab: &Lab) {
    let images = lab.dir("images");
    let secret = lab.dir.join("secret");
    fs::write(&secret, "secret").unwrap();
    let info = CpuInfo::new(&images);
    symlink(&secret, images.join("cpuinfo.img")).unwrap();
    assert!(matches!(problem(info.dump(&lab.criu)), PlaceProblem::Link(_)));
    fs::remove_file(images.join("cpuinfo.img")).unwrap();
    share(&images);
    let server = PageServer::new(&images, "127.0.0.1:0".parse().unwrap());
    assert!(matches!(problem(server.start(&lab.criu)), PlaceProblem::Shared { .. }));
    info.dump(&lab.criu).unwrap();
    info.check(&lab.criu).unwrap();
    assert_eq!(names(&images), ["cpuinfo.img", "cpuinfo.log"]);
    criu_rs::Check::new().work_dir(&images).run(&lab.criu).unwrap();
    assert_eq!(names(&images), ["check.log", "cpuinfo.img", "cpuinfo.log"]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

/// CRIU opens the directories that a request's file names by their paths.
fn by_file(lab: &Lab) {
    let (images, work) = (lab.dir("images"), lab.dir("work"));
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let file = lab.dir.join("criu.conf");
    fs::write(&file, format!("work-dir {}\n", work.display())).unwrap();
    let dump = dump.config_file(&file);
    share(&work);
    let PlaceProblem::Shared { purpose, .. } = problem(dump.run(&lab.criu)) else {
        panic!("refused for something else");
    };
    assert!(purpose.contains("configuration file"), "{purpose}");
    assert!(names(&images).is_empty() && names(&work).is_empty());
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).unwrap();
    dump.run(&lab.criu).unwrap();
    target.goes_on();
}

/// A directory as a file system shows it that gives all files to one user. A test has no such file
/// system: the files are given to that user by hand.
fn trusted(lab: &Lab) {
    let images = lab.dir("images");
    let log = |name: &str| {
        fs::write(images.join(name), "").unwrap();
        chown(images.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    };
    log("dump.log");
    log("restore.log");
    share(&images);
    chown(&images, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images);
    let error = dump.run(&lab.criu).unwrap_err();
    assert!(error.to_string().contains("trust_directory"), "{error}");
    assert!(matches!(problem::<()>(Err(error)), PlaceProblem::Foreign(NOBODY)));
    dump.trust_directory(true).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    assert!(matches!(problem(restore.run(&lab.criu)), PlaceProblem::Foreign(NOBODY)));
    let restored = restore.trust_directory(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    // Written where they are, and not moved into place.
    for name in ["dump.log", "restore.log"] {
        assert_eq!(fs::metadata(images.join(name)).unwrap().uid(), NOBODY, "{name}");
    }
    let server = PageServer::new(&images, "127.0.0.1:0".parse().unwrap());
    assert!(matches!(problem(server.spawn(&lab.criu)), PlaceProblem::Shared { .. }));
    let server = server.trust_directory(true).spawn(&lab.criu).unwrap();
    let pid = server.pid();
    drop(server);
    assert!(soon(|| {
        reap();
        state(pid).is_none()
    }));
}

const NOBODY: u32 = 65534;
