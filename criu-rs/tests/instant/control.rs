//! Negative controls: what is not of one moment is found to be wrong.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use criu_images::memory::{PageObject, PageSet, PageSize};
use criu_lab::generations::{Region, Shape, Verdict, judge};
use criu_rs::Pid;

use crate::lab::{Lab, TestFn, dump, eager};

pub const TESTS: &[(&str, TestFn)] = &[
    ("the_judge_tells_a_fork_from_a_running_process", forked),
    ("a_restore_finds_the_memory_of_a_running_process_wrong", running),
];

/// A fork by hand has the memory of one moment; its parent has not.
fn forked(lab: &Lab) {
    let shape = Shape { mib: 64, writers: 2, churn: 1, zoo: true, ..Shape::default() };
    let mut scene = lab.start(shape);
    let regions = scene.watches[0].regions();
    for _ in 0..4 {
        let twin = scene.watches[0].twin();
        let verdict = judge_process(twin, &regions);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(twin), nix::sys::signal::SIGKILL)
            .unwrap();
        assert_eq!((verdict.wrong, verdict.pages), (0, 64 << 8), "{verdict:?}");
        assert!(verdict.torn <= 2, "{verdict:?}");
    }
    let verdict = judge_process(scene.target.pid.as_raw(), &regions);
    println!("of the running process: {verdict:?}");
    assert!(verdict.wrong > 100, "{verdict:?}");
    scene.goes_on().unwrap();
    scene.end();
}

/// The images of a capture, into which the memory of the running process is written in place of the
/// holder's, do not restore to a process that finds its memory right.
fn running(lab: &Lab) {
    let shape = Shape { mib: 64, writers: 2, ..Shape::default() };
    let mut scene = lab.start(shape);
    let (right, wrong) = (lab.dir("right"), lab.dir("wrong"));
    let capture = dump(scene.target.pid, &right).instant(&lab.criu, &eager(), &mut ()).unwrap();
    capture.reading.wait().unwrap();
    let verdict = scene.judge_images(&right).unwrap();
    assert_eq!((verdict.wrong, verdict.pages), (0, 64 << 8), "{verdict:?}");
    for entry in fs::read_dir(&right).unwrap().flatten() {
        fs::copy(entry.path(), wrong.join(entry.file_name())).unwrap();
    }
    take_running(&wrong, scene.target.pid, &scene.watches[0].regions());
    let verdict = scene.judge_images(&wrong).unwrap();
    println!("of the running process: {verdict:?}");
    assert!(verdict.wrong > 100, "{verdict:?}");
    scene.goes_on().unwrap();
    scene.end();
    scene.restore(lab, &wrong).expect_err("the wrong memory goes unnoticed");
    println!("{} words are wrong", scene.watches[0].wrongs());
    assert!(scene.watches[0].wrongs() > 100, "{}", scene.watches[0].wrongs());
    scene.end();
    scene.restore(lab, &right).unwrap();
    scene.end();
}

fn judge_process(pid: i32, regions: &[Region]) -> Verdict {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    judge(regions, |address, buffer| memory.read_exact_at(buffer, address).is_ok())
}

/// Writes what a process has now over its pages in images.
fn take_running(images: &Path, pid: Pid, regions: &[Region]) {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let set = PageSet::open(images, PageSize::K4).unwrap();
    let object = PageObject::Task(u32::try_from(pid.as_raw()).unwrap());
    let pages = set.pages(object).unwrap().unwrap();
    for run in pages.stored_runs().unwrap() {
        let file = File::options().write(true).open(images.join(&run.file)).unwrap();
        for region in regions {
            let end = (region.start + region.pages * 4096).min(run.end);
            let start = region.start.max(run.start);
            if start < end {
                let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
                memory.read_exact_at(&mut bytes, start).unwrap();
                file.write_all_at(&bytes, run.offset + start - run.start).unwrap();
            }
        }
    }
}
