//! Checkpoints to report on, made from a real one.

use std::fs;
use std::path::Path;

use criu_archive::inspection::{Inspection, Part, Place};
use criu_archive::report::Report;
use criu_images::kind::{self, Kind};
use criu_images::proto::{CoreEntry, FileEntry, PstreeEntry};
use criu_images::source::{InMemory, Source};
use prost::Message;

use crate::common::{image, load, store};

/// The real checkpoint: a shell with two children.
pub(crate) fn pipeline() -> InMemory {
    load(Path::new("../images/tests/data/pipeline"))
}

/// Returns a report about images, which are stored in the directory.
pub(crate) fn report(files: &InMemory, directory: &Path, parts: &[Part]) -> String {
    let images = directory.join("images");
    fs::create_dir_all(&images).unwrap();
    store(files, &images);
    let place = Place::directory(&images, "").unwrap();
    let inspection = Inspection::new(&place, parts).unwrap();
    written(&Report::new(&inspection).with_pages(place.set()))
}

/// Returns a report about the pipeline, the inspection of which was changed.
pub(crate) fn changed(change: impl FnOnce(&mut Inspection)) -> String {
    let place = Place::directory("../images/tests/data/pipeline", "").unwrap();
    let mut inspection = Inspection::new(&place, Part::ALL).unwrap();
    change(&mut inspection);
    written(&Report::new(&inspection).with_pages(place.set()))
}

fn written(report: &Report<'_>) -> String {
    let mut html = Vec::new();
    report.write(&mut html).unwrap();
    String::from_utf8(html).unwrap()
}

/// A tree of 2,000 processes: 39 servers with 50 workers each, and a chain of ten. Each is a copy
/// of a process of the pipeline.
pub(crate) fn two_thousand() -> InMemory {
    let mut files = pipeline();
    let (mut tree, mut models) = (Vec::new(), MODELS.iter().cycle());
    let mut add = |pid: u32, ppid: u32, name: &str| {
        let model = *models.next().unwrap();
        for kind in [kind::IDS, kind::MM, kind::PAGEMAP, kind::FS] {
            let bytes = bytes(&files, &kind.file_name(model.into()));
            files.insert(kind.file_name(pid.into()), bytes);
        }
        rename(&mut files, model, pid, name.as_bytes());
        let entry = PstreeEntry { pid, ppid, pgid: 1, sid: 1, threads: vec![pid] };
        tree.push(entry.encode_to_vec());
    };
    add(1, 0, "init");
    for server in 0..39 {
        let pid = 100 + server * 100;
        add(pid, 1, "server");
        for worker in 1..=50 {
            add(pid + worker, pid, &format!("worker-{server}-{worker}"));
        }
    }
    for link in 0..10 {
        add(9000 + link, if link == 0 { 1 } else { 8999 + link }, "chain");
    }
    assert_eq!(tree.len(), 2000);
    files.insert(kind::PSTREE.file, image(kind::PSTREE, &tree));
    files
}

/// The pipeline, with these names of the root process and of every regular file.
pub(crate) fn hostile(process: &str, file: &str) -> InMemory {
    let mut files = pipeline();
    rename(&mut files, MODELS[0], MODELS[0], process.as_bytes());
    let entries = messages(&bytes(&files, kind::FILES.file)).into_iter().map(|message| {
        let mut entry = FileEntry::decode(&*message).unwrap();
        if let Some(regular) = &mut entry.reg {
            regular.name = file.into();
        }
        entry.encode_to_vec()
    });
    files.insert(kind::FILES.file, image(kind::FILES, &entries.collect::<Vec<_>>()));
    files
}

/// Copies the core image of a process under another pid and name.
fn rename(files: &mut InMemory, from: u32, to: u32, name: &[u8]) {
    let message = messages(&bytes(files, &kind::CORE.file_name(from.into()))).remove(0);
    let mut core = CoreEntry::decode(&*message).unwrap();
    core.tc.as_mut().unwrap().comm = name.to_vec();
    core.thread_core.as_mut().unwrap().comm = None;
    files.insert(kind::CORE.file_name(to.into()), one(kind::CORE, &core));
}

fn one(kind: &Kind, message: &impl Message) -> Vec<u8> {
    image(kind, &[message.encode_to_vec()])
}

fn bytes(files: &InMemory, name: &str) -> Vec<u8> {
    let blob = files.open(name).unwrap().unwrap();
    let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
    blob.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The messages of an image, without their frames.
fn messages(image: &[u8]) -> Vec<Vec<u8>> {
    let (mut messages, mut rest) = (Vec::new(), &image[8..]);
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (message, tail) = tail.split_at(u32::from_le_bytes(*len) as usize);
        messages.push(message.to_vec());
        rest = tail;
    }
    messages
}

/// The processes of the pipeline.
const MODELS: [u32; 3] = [10139, 10141, 10142];
