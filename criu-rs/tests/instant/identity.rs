//! An instant capture of a process that stands still has what a plain dump of it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use criu_images::ImageSet;
use criu_images::memory::PageObject;
use criu_lab::generations::Shape;
use criu_lab::{names, soon};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Scene, TestFn, all_held, dump, eager, is_whole};
use crate::stored::pages;

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_capture_of_a_stopped_process_is_what_a_dump_is", plain),
    ("a_capture_of_a_stopped_tree_is_what_a_dump_is", tree),
    ("a_capture_of_huge_pages_of_a_pool_is_what_a_dump_is", pool),
];

fn plain(lab: &Lab) {
    let shape = Shape { mib: 48, writers: 3, zoo: true, beat: true, ..Shape::default() };
    compare(lab, &mut lab.start(shape));
}

fn tree(lab: &Lab) {
    let shape = Shape { mib: 16, writers: 2, zoo: true, huge: true, ..Shape::default() };
    compare(lab, &mut lab.start(Shape { children: 3, ..shape }));
}

fn pool(lab: &Lab) {
    let _alone = criu_lab::place::alone("huge-pages");
    let pool = HugePages::set(8);
    let mut scene = lab.start(Shape { mib: 8, zoo: true, pool: true, ..Shape::default() });
    let maps = fs::read_to_string(format!("/proc/{}/maps", scene.target.pid)).unwrap();
    assert!(maps.contains("anon_hugepage"), "{maps}");
    compare(lab, &mut scene);
    drop(pool);
}

/// Compares a plain dump of a tree that stands still with an instant capture, and restores the
/// capture.
fn compare(lab: &Lab, scene: &mut Scene) {
    for pid in &scene.pids {
        criu_lab::process::send(*pid, Signal::SIGSTOP);
    }
    let is_still = || scene.pids.iter().all(|pid| criu_lab::process::is_stopped(*pid));
    assert!(soon(is_still), "SIGSTOP stops them");
    // The first dump interrupts system calls, which are interrupted then.
    let (first, plain, instant) = (lab.dir("first"), lab.dir("plain"), lab.dir("instant"));
    for images in [&first, &plain] {
        dump(scene.target.pid, images).run(&lab.criu).unwrap();
        assert!(soon(is_still), "a dump leaves them stopped");
    }
    let capture = dump(scene.target.pid, &instant).instant(&lab.criu, &eager(), &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    assert!(read.held > (scene.shape.mib as u64) << 8, "{read:?}");
    assert!(soon(is_still), "a capture leaves them stopped");
    is_whole(&instant).unwrap();
    assert_eq!(names_of_images(&plain), names_of_images(&instant));
    others_are_alike(&plain, &instant);
    let rseqs = rseqs(&instant);
    pages_are_alike(&plain, &instant, &rseqs);
    scene.end();
    // They are restored as they were: stopped.
    scene.watches.iter().for_each(criu_lab::generations::Watch::forget);
    let restored = criu_rs::Restore::new(&instant).run(&lab.criu).unwrap();
    scene.target.restored_as(restored.pid);
    for pid in &scene.pids {
        criu_lab::process::send(*pid, Signal::SIGCONT);
    }
    scene.goes_on().unwrap();
    scene.end();
}

fn names_of_images(images: &Path) -> BTreeSet<String> {
    // A page server numbers its files of pages in another way.
    let is_image = |name: &String| name.ends_with(".img") && !name.starts_with("pages-");
    names(images).into_iter().filter(is_image).collect()
}

/// All images but those of pages and the statistics are equal, except for what no two dumps have in
/// common.
fn others_are_alike(plain: &Path, instant: &Path) {
    let mut compared = 0;
    for name in names_of_images(plain) {
        let kind = name.split('-').next().unwrap_or_default();
        if ["pagemap", "stats"].contains(&kind) {
            continue;
        }
        let (mut one, mut other) =
            (fs::read(plain.join(&name)).unwrap(), fs::read(instant.join(&name)).unwrap());
        if name == "inventory.img" {
            // The id of the run is a message of its own in there.
            let differing = one.iter().zip(&other).filter(|(one, other)| one != other).count();
            assert!(one.len() == other.len() && differing <= 36, "{name}: {differing} bytes");
        } else if kind != "timens" {
            if kind == "core" {
                one = without_times(&one);
                other = without_times(&other);
            }
            assert!(one == other, "{name} differs: {}", differences(&one, &other));
        }
        compared += 1;
    }
    println!("{compared} other images are alike");
    assert!(compared > 10);
}

/// A core image as it is; a place to take out what two plain dumps do not have in common.
fn without_times(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn differences(one: &[u8], other: &[u8]) -> String {
    let places = one.iter().zip(other).enumerate().filter(|(_, (one, other))| one != other);
    let places: Vec<String> =
        places.take(20).map(|(at, (one, other))| format!("{at}: {one:#x} {other:#x}")).collect();
    format!("{} and {} bytes; {}", one.len(), other.len(), places.join(", "))
}

/// Finds the words of restartable sequences of the threads: the kernel writes the number of the
/// processor there.
fn rseqs(images: &Path) -> Vec<(u32, u64)> {
    let set = ImageSet::open(images).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let mut all = Vec::new();
    for task in checkpoint.tasks() {
        for thread in task.threads().unwrap() {
            let rseq = thread.core().thread_core.as_ref().and_then(|core| core.rseq_entry.as_ref());
            all.extend(rseq.map(|rseq| (task.pid(), rseq.rseq_abi_pointer)));
        }
    }
    all
}

/// Both have the same pages, whose bytes differ in words of restartable sequences alone.
fn pages_are_alike(plain: &Path, instant: &Path, rseqs: &[(u32, u64)]) {
    let (one, other) = (pages(plain), pages(instant));
    let (of_one, of_other): (BTreeSet<_>, BTreeSet<_>) =
        (one.keys().collect(), other.keys().collect());
    let lacks: Vec<_> = of_one.difference(&of_other).take(10).collect();
    let has: Vec<_> = of_other.difference(&of_one).take(10).collect();
    assert!(lacks.is_empty() && has.is_empty(), "the capture lacks {lacks:x?} and has {has:x?}");
    let mut words = 0;
    for ((object, address), page) in &one {
        let other = &other[&(*object, *address)];
        for (at, _) in page.iter().zip(other).enumerate().filter(|(_, (one, other))| one != other) {
            let at = address + at as u64;
            let is_rseq = |(pid, start): &(u32, u64)| {
                *object == PageObject::Task(*pid) && (*start..start + 32).contains(&at)
            };
            assert!(rseqs.iter().any(is_rseq), "{object:?} differs at {at:#x}");
            words += 1;
        }
    }
    println!("{} pages are alike, but for {words} bytes of rseq", one.len());
}

/// Huge pages of the machine's pool, which goes back to its size when dropped.
pub struct HugePages(String);

impl HugePages {
    /// Gives the pool so many pages of 2 MiB.
    pub fn set(pages: u32) -> Self {
        let before = fs::read_to_string(POOL).unwrap();
        fs::write(POOL, pages.to_string()).unwrap();
        let now = fs::read_to_string(POOL).unwrap();
        assert_eq!(now.trim(), pages.to_string(), "the machine has no huge pages left");
        Self(before)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(POOL, &self.0);
    }
}

const POOL: &str = "/proc/sys/vm/nr_hugepages";
