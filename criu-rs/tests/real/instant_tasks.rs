//! Instant captures of special tasks: in a user namespace of their own, with asynchronous I/O, with
//! an io_uring.

use criu_lab::soon;
use criu_rs::instant::{InstantCapture, Way, WhyNot};
use criu_rs::{AfterDump, Cause, Dump, Error, Restore};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};

use crate::container::{Container, Plan};
use crate::instant::{all, children, is_held};
use crate::lab::{Lab, TestFn};
use crate::pages::{is_whole, restores};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_capture_of_a_user_namespace_is_restored", user_namespace),
    ("an_instant_capture_of_a_user_namespace_without_its_holder_fails", without_holder),
    ("a_task_with_asynchronous_io_has_no_holder_in_an_instant_capture", aio),
    ("a_task_with_an_io_uring_refuses_an_instant_capture_and_runs_on", io_uring),
];

/// A container in a user namespace of its own, with so many MiB of memory.
fn in_user_namespace(lab: &Lab, mebibytes: &str) -> Container {
    let namespaces = Some(CloneFlags::CLONE_NEWUSER);
    let payload = &["memory", mebibytes];
    Container::launch(lab, &Plan { namespaces, payload, ..Plan::default() })
}

fn instant(lab: &Lab, container: &Container, name: &str) -> Result<InstantCapture, Error> {
    let images = lab.dir(name);
    let dump = Dump::new(container.target.pid, images).after_dump(AfterDump::LeaveRunning);
    dump.instant(&lab.criu, &all(), &mut ())
}

/// The holder is in the user namespace, too. This process finds it, reads it, and has it reaped.
fn user_namespace(lab: &Lab) {
    let mut container = in_user_namespace(lab, "24");
    let pid = container.target.pid;
    for name in ["first", "images"] {
        let capture = instant(lab, &container, name).unwrap();
        assert!(is_held(&capture, pid), "{:?}", capture.tasks);
        let read = capture.reading.wait().unwrap();
        println!("{read:?}");
        assert!(read.held > 24 << 8 && read.unreaped.is_empty(), "{read:?}");
        assert_eq!(read.verified, Some(read.held + read.captured));
        assert!(children(pid).is_empty(), "a holder is left");
        container.target.goes_on();
        is_whole(&lab.dir.join(name));
    }
    kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGKILL).unwrap();
    container.is_gone();
    let images = lab.dir.join("images");
    let restored = Restore::new(&images).root(&container.root).run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
}

/// Somebody ends the holder. The process runs on, and the next capture works.
fn without_holder(lab: &Lab) {
    let container = in_user_namespace(lab, "96");
    let pid = container.target.pid;
    let capture = instant(lab, &container, "lost").unwrap();
    let holder = children(pid)[0];
    kill(nix::unistd::Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    let error = capture.reading.wait().unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::Instant(_)), "{error:?}");
    let left = criu_lab::names(lab.dir.join("lost"));
    assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
    assert!(soon(|| children(pid).is_empty()), "a holder is left");
    container.target.goes_on();
    let capture = instant(lab, &container, "images").unwrap();
    assert!(is_held(&capture, pid), "{:?}", capture.tasks);
    capture.reading.wait().unwrap();
    is_whole(&lab.dir.join("images"));
    container.target.goes_on();
}

/// CRIU saves which requests are done some time after the fork. So memory of the moment of the fork
/// would lack what these requests have read.
fn aio(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["aio", "24"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let capture = dump.instant(&lab.criu, &all(), &mut ()).unwrap();
    let way = &capture.tasks[0].way;
    assert!(matches!(way, Way::Captured(WhyNot::Aio)), "{way}");
    println!("{way}");
    let read = capture.reading.wait().unwrap();
    assert!(read.held == 0 && read.captured > 24 << 8, "{read:?}");
    target.goes_on();
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

/// CRIU saves no io_uring.
fn io_uring(lab: &Lab) {
    if let Err(error) = criu_lab::raw::io_uring() {
        println!("this machine has no io_uring: {error}");
        return;
    }
    let images = lab.dir("images");
    let target = lab.start(&["io-uring", "24"]);
    for _ in 0..2 {
        let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
        let error = dump.instant(&lab.criu, &all(), &mut ()).unwrap_err();
        println!("{error}");
        assert_eq!(error.cause(), Some(Cause::UnsupportedFile), "{error}");
        assert!(children(target.pid).is_empty(), "a holder is left");
        let left = criu_lab::names(&images);
        assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
        target.goes_on();
    }
}
