//! Containers whose memory comes after their restore.

use std::fs;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use criu_lab::containers::Bundle;
use criu_lab::soon;
use criu_rs::lazy::{LazyEvent, LazyOptions, LazyPages};
use criu_rs::oci::Container;

use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case { name: "runc_with_our_daemon", test: daemon, runtimes: &["runc"], newest_only: false },
    Case { name: "lazy_here", test: here, runtimes: &["runc", "crun"], newest_only: false },
];

/// `runc restore --lazy-pages`, with a daemon of this crate in place of `criu lazy-pages`.
fn daemon(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]);
    let (images, work) = (bed.dir("images"), bed.dir("work-restore"));
    bed.runtime.run(&bundle, "c", &[]);
    bed.runtime.checkpoint("c", &images, &[]);
    let counted = bundle.stands_still();
    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap();
    let daemon = pages.listen(&work).unwrap();
    let serving = thread::spawn(move || {
        let mut reports = Vec::new();
        let told = daemon.run(NonZeroU64::new(1), |event| {
            if let LazyEvent::Ended(report) = event {
                reports.push(report);
            }
        });
        told.map(|()| reports).unwrap()
    });
    bed.runtime.restore(&bundle, "c", &images, &["--lazy-pages"]);
    assert!(bundle.goes_on() > counted);
    assert_eq!(bed.runtime.state("c").unwrap()["status"], "running");
    let reports = serving.join().unwrap();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert!(report.result.is_ok(), "{report:?}");
    assert!(report.progress.pages > 100 && report.progress.missing == 0, "{report:?}");
    bundle.goes_on();
    bed.runtime.kill("c", "KILL");
    assert!(soon(|| bed.runtime.state("c").unwrap()["status"] == "stopped"));
    bed.runtime.delete("c");
}

/// A restore by this crate, which brings the memory from its own process.
fn here(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let (images, state) = (bed.dir("images"), bed.dir("state-of-it"));
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    container.checkpoint(pid).unwrap().dump(&images).run(&bed.criu).unwrap();
    let counted = bundle.stands_still();
    bed.runtime.delete("c");
    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap();
    let restore = container.restore(&images).unwrap().prepare(&state).unwrap();
    let (restored, memory) = restore.lazy(&pages).run(&bed.criu).unwrap();
    assert!(bundle.goes_on() > counted);
    assert!(memory.wait(Some(Duration::from_secs(20))).unwrap());
    assert_eq!(memory.progress().missing, 0);
    bundle.goes_on();
    restored.signal(nix::libc::SIGKILL).unwrap();
    restored.wait().unwrap();
    assert!(!fs::exists(images.join("lazy-pages.socket")).unwrap());
}
