//! Instant captures of containers.

use std::fs;
use std::path::PathBuf;

use criu_lab::containers::Bundle;
use criu_rs::instant::{InstantOptions, Way};
use criu_rs::oci::{Container, Descriptors};
use criu_rs::{AfterDump, HookResult, Hooks, LogLevel, Pid};

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case { name: "instant_captures", test: captures, runtimes: BOTH, newest_only: false },
    Case {
        name: "an_instant_capture_that_fails_keeps_what_was_there",
        test: fails,
        runtimes: &["runc"],
        newest_only: true,
    },
];

/// A container that runs on is captured three times. The last checkpoint is restored by this crate,
/// and by the runtime.
fn captures(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]);
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let trip = Trip::new(bed, &bundle);
    let checkpoint = trip.container().checkpoint(pid).unwrap();
    let images = [bed.dir("images-0"), bed.dir("images-1"), bed.dir("images-2")];
    for images in &images {
        let dump = checkpoint.dump(images).after_dump(AfterDump::LeaveRunning);
        let dump = dump.log_level(LogLevel::Debug);
        let options = InstantOptions::new().least(1).least_per_mapping(1).verify(true);
        let capture = dump.instant(&bed.criu, &options, &mut ()).unwrap();
        for task in &capture.tasks {
            println!("{}: {}", task.pid, task.way);
            assert!(matches!(task.way, Way::Held { pages: 1.., .. }), "{}", task.way);
        }
        let read = capture.reading.wait().unwrap();
        println!("{read:?}");
        assert!(read.held > 0 && read.unreaped.is_empty(), "{read:?}");
        bundle.goes_on();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        assert_eq!(children, "", "a holder is left");
    }
    bed.runtime.kill("c", "KILL");
    assert!(criu_lab::soon(|| bed.runtime.state("c").unwrap()["status"] == "stopped"));
    bed.runtime.delete("c");
    bundle.stands_still();
    // It goes on from the moment of the capture, and checks its memory.
    let restored = trip.bring_back(WeDoBoth, &images[2]);
    bundle.goes_on();
    end(restored);
    let restored: Pid = bed.runtime.restore(&bundle, "c", &images[1], &[]);
    assert!(restored.as_raw() > 1);
    bundle.goes_on();
    bed.runtime.kill("c", "KILL");
    assert!(criu_lab::soon(|| bed.runtime.state("c").unwrap()["status"] == "stopped"));
    bed.runtime.delete("c");
}

/// Takes the name of an image.
struct Taken(PathBuf);

impl Hooks for Taken {
    fn post_dump(&mut self) -> HookResult {
        Ok(fs::write(&self.0, "")?)
    }
}

/// A capture into the directory of an earlier checkpoint, whose pages cannot be written.
fn fails(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    let checkpoint = container.checkpoint(pid).unwrap();
    let dump = checkpoint.dump(&images).after_dump(AfterDump::LeaveRunning);
    dump.run(&bed.criu).unwrap();
    let path = images.join(Descriptors::FILE);
    fs::write(&path, "[\"earlier\"]").unwrap();
    let before = criu_lab::names(&images);
    let dump = dump.overwrite(true);
    let options = InstantOptions::new().least(1).least_per_mapping(1);
    let mut taken = Taken(images.join("pagemap-1.img"));
    let capture = dump.instant(&bed.criu, &options, &mut taken).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), "[\"earlier\"]");
    let error = capture.reading.wait().unwrap_err().to_string();
    assert!(error.contains("pagemap-1.img"), "{error}");
    assert_eq!(criu_lab::names(&images), before);
    assert_eq!(fs::read_to_string(&path).unwrap(), "[\"earlier\"]");
    bundle.goes_on();
    bed.runtime.kill("c", "KILL");
    assert!(criu_lab::soon(|| bed.runtime.state("c").unwrap()["status"] == "stopped"));
    bed.runtime.delete("c");
}
