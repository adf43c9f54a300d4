//! The library's daemon, in a process of its own.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use criu_images::source::Directory;
use criu_rs::lazy::{
    Fill, Images, LazyEvent, LazyOptions, LazyPages, Prefetch, Remote, Snapshot, Supply,
};

/// A daemon's settings, as words of this program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Pages come only when they are touched.
    pub nothing: bool,
    /// The working set is recorded and saved beside the images.
    pub record: bool,
    /// The working set beside the images comes first.
    pub with_record: bool,
}

impl Settings {
    /// The words that say these settings.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.nothing, NOTHING), (self.record, RECORD), (self.with_record, WITH_RECORD)];
        all.into_iter().filter_map(|(is_set, word)| is_set.then_some(word))
    }
}

/// `IMAGES WORK PORT RESTORES SETTINGS...`: serves so many restores. Port 0 stands for the images.
pub fn run(words: &[String]) -> ExitCode {
    let (images, work, port) = (Path::new(&words[0]), Path::new(&words[1]), &words[2]);
    let restores: NonZeroU64 = words[3].parse().unwrap();
    let has = |name: &str| words.iter().any(|word| word == name);
    let mut options = LazyOptions::default();
    if has(NOTHING) {
        options.fill = Fill::Nothing;
    }
    let snapshot = Arc::new(Snapshot::open(images).unwrap());
    let supply = supply(images, port.parse().ok().filter(|port| *port != 0));
    let mut pages = LazyPages::new(snapshot, Arc::clone(&supply), options).unwrap();
    let folder = Directory::open(images).unwrap();
    if has(RECORD) {
        pages = pages.record(&folder, None).unwrap();
    }
    if has(WITH_RECORD) {
        pages = pages.prefetch(Prefetch::of(&folder).unwrap().expect("a working set"));
    }
    let mut failed = false;
    let daemon = pages.listen(work).unwrap();
    let result = daemon.run(Some(restores), |event| match event {
        LazyEvent::Recorded { set, .. } => set.save(&File::open(images).unwrap()).unwrap(),
        LazyEvent::Ended(report) => {
            eprintln!("{report:?}");
            failed |= report.result.is_err();
        }
        event => eprintln!("{event:?}"),
    });
    let closed = supply.close();
    eprintln!("{result:?}, {closed:?}");
    if failed || result.is_err() || closed.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A source of pages: images, or a page server that has them.
pub fn supply(images: &Path, port: Option<u16>) -> Arc<dyn Supply> {
    let Some(port) = port else { return Arc::new(Images::open(images).unwrap()) };
    let snapshot = Arc::new(Snapshot::open(images).unwrap());
    Arc::new(Remote::tcp(format!("127.0.0.1:{port}")).open(snapshot).unwrap())
}

/// The word that makes this program the library's daemon.
pub const DAEMON: &str = "--daemon";
const NOTHING: &str = "nothing";
const RECORD: &str = "record";
const WITH_RECORD: &str = "with-record";
