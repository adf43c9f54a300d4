//! Options of runtimes and their users.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use criu_lab::containers::Bundle;
use criu_rs::oci::{Container, Error, Freezer, RuntimeOptions};
use criu_rs::{AfterDump, Cancel, Cause, LogLevel};
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case {
        name: "words_of_runc_are_options",
        test: words_of_runc,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case { name: "a_task_inside_vfork", test: inside_vfork, runtimes: BOTH, newest_only: true },
];

/// The words that a user of runc types, on dumps and on the restore.
fn words_of_runc(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let (images, lazy, work) =
        (bed.dir.join("made/images"), bed.dir.join("lazy"), bed.dir.join("made/work"));
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    let checkpoint = container.checkpoint(pid).unwrap();
    let parse = |line: &str| {
        let line = line.replace("DIR", &bed.dir.display().to_string());
        RuntimeOptions::parse(line.split_whitespace().map(String::from)).unwrap()
    };
    let error = checkpoint.dump(&images).run(&bed.criu).unwrap_err();
    assert!(matches!(&error, Error::NoImages { directory } if *directory == images), "{error}");
    let error = container.restore(&images).unwrap_err();
    assert!(matches!(&error, Error::NoImages { directory } if *directory == images), "{error}");

    // A lazy dump tells by its descriptor that it serves the memory.
    let (status, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (options, _) = parse(&format!(
        "--image-path=DIR/lazy --lazy-pages --page-server=127.0.0.1:{port} --status-fd={}",
        write.as_raw_fd()
    ));
    drop(write);
    options.make_directories().unwrap();
    let cancel = Cancel::new().unwrap();
    let dump = checkpoint.dump(&lazy).log_level(LogLevel::Debug).cancel(&cancel);
    let dump = options.apply(dump).unwrap();
    let mut byte = [1];
    let criu = &bed.criu;
    thread::scope(|scope| {
        let dumping = scope.spawn(|| dump.run(criu));
        assert_eq!(read(&status, &mut byte), Ok(1));
        cancel.cancel();
        dumping.join().unwrap().unwrap_err();
    });
    assert_eq!(byte, [0]);
    bundle.goes_on();

    let (options, rest) = parse(
        "--image-path DIR/made/images --work-path DIR/made/work --file-locks --tcp-established \
         --manage-cgroups-mode=full --ext-unix-sk c",
    );
    assert_eq!(rest, ["c"]);
    options.make_directories().unwrap();
    options.apply(checkpoint.dump(options.images())).unwrap().run(&bed.criu).unwrap();
    assert!(work.join("dump.log").exists());
    bed.runtime.delete("c");
    let counted = bundle.stands_still();

    let (options, _) = parse("--work-path=DIR/made/work --file-locks --tcp-established");
    let state = bed.dir("state-of-it");
    let restore = container.restore(&images).unwrap().prepare(&state).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let restore = options.apply(restore.stdio([null.as_fd(); 3])).unwrap();
    let restored = restore.run(&bed.criu).unwrap();
    assert!(bundle.goes_on() > counted);
    assert!(work.join("restore.log").exists());
    end(restored.pid);
}

/// While the freezer holds the child of a vfork, its parent cannot be stopped.
fn inside_vfork(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "vfork", &[]).with(|b| b.cgroups_path("/bed/it"));
    let (images, plain) = (bed.dir("images"), bed.dir("images-of-one-try"));
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    let checkpoint = container.checkpoint(pid).unwrap();
    let freezer = checkpoint.freezer().unwrap().to_path_buf();
    let dump = checkpoint.dump(&plain).timeout(Duration::from_secs(2));
    let error = dump.retry_without_freezer(false).run(&bed.criu).unwrap_err();
    let Error::Criu(error) = error else { panic!("{error}") };
    assert_eq!(error.cause(), Some(Cause::Unseizable), "{error}");
    bundle.goes_on();
    // Given by hand, or left out.
    let by_hand = container.clone().freezer(Freezer::At(freezer.clone()));
    assert_eq!(by_hand.checkpoint(pid).unwrap().freezer(), Some(&*freezer));
    let without = container.freezer(Freezer::Off).checkpoint(pid).unwrap();
    assert_eq!(without.freezer(), None);
    let dump = without.dump(&plain).after_dump(AfterDump::LeaveRunning);
    assert!(!dump.run(&bed.criu).unwrap().freezer_left_out);

    let begun = Instant::now();
    let dumped = checkpoint.dump(&images).log_level(LogLevel::Debug).run(&bed.criu).unwrap();
    assert!(dumped.freezer_left_out);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    bed.runtime.delete("c");
    let counted = bundle.stands_still();
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    assert!(bundle.goes_on() > counted);
    end(restored);
}
