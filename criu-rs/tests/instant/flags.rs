//! Flags of mappings that are read before the freeze, while the process changes them.

use std::fs;
use std::path::Path;

use criu_images::ImageSet;
use criu_images::memory::PageSource;
use criu_lab::advice::{KINDS, NOT_INHERITED, possible};
use criu_lab::soon;
use criu_rs::instant::{InstantOptions, ReadOut};
use criu_rs::{Restore, Version};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Target, TestFn, all_held, dump, eager, is_whole};

pub const TESTS: &[(&str, TestFn)] = &[
    ("flags_that_change_before_the_freeze_are_corrected", changing),
    ("flags_that_a_fork_does_not_have_are_read_in_the_freeze", not_inherited),
    ("flags_of_a_process_that_stands_still_are_those_of_a_dump", still),
    ("flags_are_read_in_the_freeze_on_request", late),
];

/// A process that changes the flags of its mappings.
struct Scene {
    target: Target,
    kinds: usize,
    /// The address of the two words, and those of the mappings.
    addresses: Vec<u64>,
}

impl Scene {
    fn start(lab: &Lab, kinds: usize) -> Self {
        let file = lab.dir("home").join("count");
        let target = Target::start(&["advice", &kinds.to_string(), "8"], &file, |it| it);
        let text = fs::read_to_string(file.with_extension("advice")).unwrap();
        let address = |line: &str| u64::from_str_radix(line, 16).unwrap();
        Self { target, kinds, addresses: text.lines().map(address).collect() }
    }

    fn capture(&self, lab: &Lab, images: &Path, options: &InstantOptions) -> ReadOut {
        let capture = dump(self.target.pid, images).instant(&lab.criu, options, &mut ()).unwrap();
        all_held(&capture, &[self.target.pid]).unwrap();
        capture.reading.wait().unwrap()
    }

    /// Compares the flags in images with what the memory there says. Returns the number of flags
    /// that are wrong.
    fn wrong(&self, lab: &Lab, images: &Path) -> Vec<String> {
        is_whole(images).unwrap();
        let set = ImageSet::open(images).unwrap();
        let checkpoint = set.checkpoint().unwrap();
        let task = checkpoint.tasks().next().unwrap();
        let mut words = [0; 16];
        task.memory().unwrap().unwrap().read_at(self.addresses[0], &mut words).unwrap();
        let [begun, done] =
            [0, 8].map(|at| u64::from_le_bytes(words[at..at + 8].try_into().unwrap()));
        assert!(begun > 100 && begun - done <= 1, "{begun} {done}");
        // CRIU saves MADV_WIPEONFORK from 4.2 on.
        let known = if lab.version < Version::new(4, 2, 0) { !(1 << 18) } else { !0 };
        let mut wrong = Vec::new();
        let mut seen = 0;
        task.each_vma(|vma| {
            let Some(number) = self.addresses[1..].iter().position(|at| *at == vma.start()) else {
                return;
            };
            seen += 1;
            let found = (vma.entry().madv.unwrap_or(0) & known, vma.entry().flags & 0x2000 != 0);
            let steps = possible(number, self.kinds, begun, done);
            let bits = steps
                .iter()
                .map(|step| step.map_or((0, false), |step| (step.advice & known, step.is_locked)));
            if !bits.clone().any(|bits| bits == found) {
                let bits: Vec<_> = bits.collect();
                wrong.push(format!("{number}: {found:x?}, not {bits:x?}, at step {begun}"));
            }
        })
        .unwrap();
        assert_eq!(seen, self.kinds);
        wrong
    }
}

/// Returns the number of captures, which `FLAGS` may set.
fn rounds(usual: usize) -> usize {
    std::env::var("FLAGS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn changing(lab: &Lab) {
    let mut scene = Scene::start(lab, KINDS.len() - NOT_INHERITED);
    let (mut early, mut corrected) = (0, 0);
    for round in 0..rounds(8) {
        let images = lab.dir("images");
        let read = scene.capture(lab, &images, &eager());
        early += read.early_flags;
        corrected += read.corrected;
        let wrong = scene.wrong(lab, &images);
        assert!(wrong.is_empty(), "round {round}, {read:?}: {wrong:?}");
    }
    println!("{early} tasks, {corrected} flags corrected");
    assert!(early > 0 && corrected > 0, "{early} {corrected}");
    scene.target.end();
    let restored = Restore::new(lab.dir.join("images")).run(&lab.criu).unwrap();
    scene.target.restored_as(restored.pid);
    scene.target.goes_on();
    scene.target.end();
}

fn not_inherited(lab: &Lab) {
    let mut scene = Scene::start(lab, KINDS.len());
    let mut early = 0;
    for round in 0..rounds(6) {
        let images = lab.dir("images");
        let read = scene.capture(lab, &images, &eager());
        early += read.early_flags;
        let wrong = scene.wrong(lab, &images);
        assert!(wrong.is_empty(), "round {round}, {read:?}: {wrong:?}");
    }
    println!("{early} tasks");
    scene.target.end();
}

fn still(lab: &Lab) {
    let mut scene = Scene::start(lab, KINDS.len() - NOT_INHERITED);
    scene.target.signal(Signal::SIGSTOP);
    assert!(soon(|| criu_lab::process::is_stopped(scene.target.pid)));
    let (plain, instant) = (lab.dir("plain"), lab.dir("instant"));
    dump(scene.target.pid, &plain).run(&lab.criu).unwrap();
    let read = scene.capture(lab, &instant, &eager());
    assert_eq!((read.early_flags, read.corrected), (1, 0), "{read:?}");
    let name = format!("mm-{}.img", crate::lab::inner(scene.target.pid));
    let [one, other] = [&plain, &instant].map(|images| fs::read(images.join(&name)).unwrap());
    assert!(one == other, "{name} differs");
    assert_eq!(scene.wrong(lab, &instant), Vec::<String>::new());
    scene.target.end();
}

fn late(lab: &Lab) {
    let mut scene = Scene::start(lab, KINDS.len() - NOT_INHERITED);
    let images = lab.dir("images");
    let read = scene.capture(lab, &images, &eager().early_flags(false));
    assert_eq!((read.early_flags, read.corrected), (0, 0), "{read:?}");
    assert_eq!(scene.wrong(lab, &images), Vec::<String>::new());
    scene.target.end();
}
