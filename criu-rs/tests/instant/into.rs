//! Captures whose images are given to a function.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use criu_images::source::Source;
use criu_lab::generations::Shape;
use criu_lab::{names, within};
use criu_rs::instant::{InstantError, Reading};
use criu_rs::pages::PagesError;
use criu_rs::{Cancel, Dump, Error};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Scene, TestFn, all_held, dump, eager, holders};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_function_gets_the_images_of_a_capture", given),
    ("a_function_that_fails_harms_nobody", fails),
    ("a_holder_that_dies_fails_the_function_s_read", dies),
    ("a_cancelled_capture_ends_the_function_s_reads", cancelled),
    ("captures_that_no_function_can_take_are_refused", refused),
];

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Copies all files of a source, piece by piece.
fn copy(images: &dyn Source, to: &Path) -> Result<(), BoxError> {
    for name in images.names()? {
        let blob = images.open(&name)?.ok_or("a name without a file")?;
        let (mut file, mut at) = (File::create(to.join(&name))?, 0);
        let mut piece = vec![0; 1 << 18];
        while at < blob.len() {
            let len = piece.len().min(usize::try_from(blob.len() - at)?);
            blob.read_at(at, &mut piece[..len])?;
            file.write_all(&piece[..len])?;
            at += len as u64;
        }
        assert_eq!(images.size(&name)?, Some(blob.len()));
    }
    Ok(())
}

#[track_caller]
fn none_stays(scene: &Scene, images: &Path) {
    let left = holders(Duration::from_secs(2));
    assert!(left.is_empty(), "holders stay: {left:?}");
    scene.goes_on().unwrap();
    let left = names(images);
    assert!(left.iter().all(|name| name == "dump.log"), "{left:?}");
}

fn given(lab: &Lab) {
    for shape in [
        Shape { mib: 32, writers: 2, churn: 1, zoo: true, ..Shape::default() },
        Shape { mib: 12, writers: 2, children: 3, ..Shape::default() },
    ] {
        let mut scene = lab.start(shape);
        let (images, copied) = (lab.dir("images"), lab.dir("copied"));
        let (to, kept) = (copied.clone(), Arc::new(Mutex::new(None)));
        let keep = Arc::clone(&kept);
        let take = move |images: Arc<dyn Source>| {
            copy(&*images, &to)?;
            *keep.lock().unwrap() = Some(images);
            Ok(())
        };
        let dump = dump(scene.target.pid, &images);
        let capture = dump.instant_into(&lab.criu, &eager(), take, &mut ()).unwrap();
        all_held(&capture, &scene.pids).unwrap();
        let all = |reading: &Reading| reading.progress().1;
        assert!(within(Duration::from_secs(20), || all(&capture.reading) > 0));
        let read = capture.reading.wait().unwrap();
        println!("{read:?}");
        assert!(read.held > 0 && read.unreaped.is_empty());
        none_stays(&scene, &images);
        // What the holders had is gone with them.
        let source = kept.lock().unwrap().take().unwrap();
        let pages = source.open("pages-65537.img").unwrap().unwrap();
        assert!(pages.read_at(0, &mut [0; 4096]).is_err() || pages.is_empty());
        let verdict = scene.judge_images(&copied).unwrap();
        println!("{verdict:?}");
        assert!(verdict.wrong == 0 && verdict.pages > 0, "{verdict:?}");
        scene.end();
        scene.restore(lab, &copied).unwrap();
        scene.end();
    }
}

/// Captures into a function, and waits for its end.
fn capture(
    lab: &Lab,
    dump: &Dump<'_>,
    take: impl FnOnce(Arc<dyn Source>) -> Result<(), BoxError> + Send + 'static,
) -> Result<(), Error> {
    let capture = dump.instant_into(&lab.criu, &eager(), take, &mut ()).unwrap();
    capture.reading.wait().map(drop)
}

/// The reason why a capture has failed.
#[track_caller]
fn why(result: &Result<(), Error>) -> &InstantError {
    match result {
        Err(Error::Instant(error)) => error.downcast_ref().unwrap(),
        other => panic!("{other:?}"),
    }
}

const SHAPE: Shape = Shape { mib: 48, writers: 2, ..Shape::USUAL };

fn fails(lab: &Lab) {
    let scene = lab.start(SHAPE);
    let images = lab.dir("images");
    let dump = dump(scene.target.pid, &images);
    let failed = capture(lab, &dump, |_| Err("the disk is full".into()));
    assert!(matches!(why(&failed), InstantError::Taker(_)), "{failed:?}");
    assert_eq!(why(&failed).to_string(), "the disk is full");
    none_stays(&scene, &images);
    let failed = capture(lab, &dump, |_| panic!("a function that panics"));
    assert!(matches!(why(&failed), InstantError::Panicked), "{failed:?}");
    none_stays(&scene, &images);
    // An earlier checkpoint comes back.
    let whole = dump.instant(&lab.criu, &eager(), &mut ()).unwrap();
    whole.reading.wait().unwrap();
    let before = names(&images);
    let again = dump.clone().overwrite(true);
    capture(lab, &again, |_| Ok(())).unwrap();
    assert_eq!(names(&images), before);
    scene.judge_images(&images).unwrap();
}

fn dies(lab: &Lab) {
    let scene = lab.start(SHAPE);
    let images = lab.dir("images");
    let (dump, task) = (dump(scene.target.pid, &images), scene.target.pid);
    let failed = capture(lab, &dump, move |images| {
        let pages = images.open("pages-65537.img")?.ok_or("no pages")?;
        pages.read_at(0, &mut [0; 4096])?;
        for holder in criu_lab::process::children(task) {
            criu_lab::process::send(holder, Signal::SIGKILL);
            while criu_lab::process::state(holder).is_some_and(|state| state != 'Z') {}
        }
        // The error counts, even if the function does not heed it.
        let mut all = vec![0; usize::try_from(pages.len())?];
        assert!(pages.read_at(0, &mut all).is_err());
        Ok(())
    });
    let is_it = matches!(why(&failed), InstantError::Pages(PagesError::Holder { .. }));
    assert!(is_it, "{failed:?}");
    none_stays(&scene, &images);
}

fn cancelled(lab: &Lab) {
    let scene = lab.start(SHAPE);
    let images = lab.dir("images");
    let cancel = Cancel::new().unwrap();
    let dump = dump(scene.target.pid, &images).cancel(&cancel);
    let (begun, wait) = mpsc::channel();
    let cancels = std::thread::spawn(move || {
        let () = wait.recv().unwrap();
        cancel.cancel();
    });
    let failed = capture(lab, &dump, move |images| {
        let pages = images.open("pages-65537.img")?.ok_or("no pages")?;
        begun.send(())?;
        loop {
            pages.read_at(0, &mut [0; 4096])?;
        }
    });
    cancels.join().unwrap();
    assert!(matches!(why(&failed), InstantError::Cancelled), "{failed:?}");
    none_stays(&scene, &images);
}

fn refused(lab: &Lab) {
    let scene = lab.start(SHAPE);
    let images = lab.dir("images");
    let pid = scene.target.pid;
    let none = |_: Arc<dyn Source>| Err(io::Error::other("it was called").into());
    let verify = eager().verify(true);
    let ends = Dump::new(pid, &images);
    let stays = dump(pid, &images);
    let child = stays.clone().parent_img("../before");
    for (dump, options, found) in [
        (&ends, &eager(), "one that ends the tasks"),
        (&stays, &verify, "verify"),
        (&child, &eager(), "parent_img"),
    ] {
        let error = dump.instant_into(&lab.criu, options, none, &mut ()).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::InvalidValue(_)) && said.contains(found), "{said}");
    }
    none_stays(&scene, &images);
    assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
}
