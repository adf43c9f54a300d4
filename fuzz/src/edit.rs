//! Edits: edited images can still be read, and everything else stays the same.

use std::net::IpAddr;

use arbitrary::{Arbitrary, Result, Unstructured};
use criu_images::bpf::Program;
use criu_images::edit::{Edit, Edited, edit, rewrite, unmarked};
use criu_images::files::File;
use criu_images::kind;
use criu_images::memory::{PageFlags, PageSize, Pagemap};
use criu_images::source::InMemory;
use criu_images::{Architecture, Checkpoint, Image, ImageSet, RawEntry};

use crate::pack::{records, script, source};

/// Edits a set as the script in it says.
pub fn run(data: &[u8]) {
    let records = records(data);
    let files = source(&records);
    let Ok(set) = ImageSet::new(files.clone()) else { return };
    for record in &records {
        if rewrite("image", &record.bytes, &mut |_, _| Ok(())).is_ok_and(|new| new.is_some()) {
            panic!("a change of nothing has changed an image");
        }
    }
    mark(&set, &files);
    let known = set.checkpoint().map(known).unwrap_or_default();
    let Ok(edits) = edits(script(&records), &known) else { return };
    let Ok(edited) = edit(&set, &edits) else { return };
    let mut new = files;
    for image in &edited {
        let before = set.read(&image.name).ok().flatten().unwrap_or_default();
        compare(&before, image);
        new.insert(image.name.clone(), image.bytes.clone());
    }
    let again = ImageSet::new(new).expect("an edited set opens");
    if let Ok(before) = set.checkpoint() {
        let after = again.checkpoint().expect("an edited checkpoint reads");
        assert_eq!(before.tasks().count(), after.tasks().count());
        // What could be read before can be read after.
        let files = before.files().map(|files| files.len()).ok();
        assert_eq!(files, after.files().map(|files| files.len()).ok());
    }
}

/// Marks pages for a lazy restore. Marks split runs, and change nothing else.
fn mark(set: &ImageSet, files: &InMemory) {
    let Ok(marked) = edit(set, &[Edit::MarkLazy]) else { return };
    let mut new = files.clone();
    for image in &marked {
        let before = set.read(&image.name).ok().flatten().unwrap_or_default();
        compare_runs(&before, image);
        new.insert(image.name.clone(), image.bytes.clone());
    }
    let again = ImageSet::new(new).expect("a marked set opens");
    let left = unmarked(&again).expect("a marked set is read as before");
    assert!(left.is_empty(), "{left:?}");
}

/// Checks that an edit keeps the number of entries and their payloads, and that no more entries
/// have changed than it counts.
fn compare(before: &[u8], after: &Edited) {
    let both = [before, &after.bytes].map(|bytes| entries(&after.name, bytes));
    let [before, now] = both;
    assert_eq!(before.len(), now.len(), "{}", after.name);
    let differ = before.iter().zip(&now).filter(|(old, new)| old != new).count();
    assert!(differ <= after.changes, "{}: {differ} of {}", after.name, after.changes);
    for ((_, old), (_, new)) in before.iter().zip(&now) {
        assert!(old == new, "{}: what follows an entry has changed", after.name);
    }
}

/// Checks that a pagemap has the same pages in the same order, and that none has lost a flag.
fn compare_runs(before: &[u8], after: &Edited) {
    let runs = |bytes: &[u8]| {
        let pagemap = Pagemap::parse(&after.name, bytes, kind::PAGEMAP, PageSize::K4);
        let runs = pagemap.expect("it was edited").runs();
        // Pages may be larger: then no run is read here, in either pagemap.
        let runs = runs.map_while(criu_images::Result::ok);
        runs.map(|run| (run.start, run.pages, run.flags - PageFlags::LAZY)).collect::<Vec<_>>()
    };
    let mut joined: Vec<(u64, u64, PageFlags)> = Vec::new();
    let old = runs(before);
    for (start, pages, flags) in runs(&after.bytes) {
        match joined.last_mut() {
            // A part of the run before.
            Some(last) if old.binary_search_by_key(&start, |run| run.0).is_err() => {
                assert_eq!(last.2, flags);
                last.1 += pages;
            }
            _ => joined.push((start, pages, flags)),
        }
    }
    assert_eq!(old, joined, "{}", after.name);
}

/// Message and payload of all entries.
fn entries(name: &str, bytes: &[u8]) -> Vec<(Vec<u8>, String)> {
    let mut image = Image::detect(name, bytes).expect("it was edited");
    let mut all = Vec::new();
    while let Some(entry) = image.next_entry().expect("it was edited") {
        let payload = image.payload(&entry).expect("it was edited");
        all.push((RawEntry::bytes(&entry).to_vec(), format!("{payload:?}")));
    }
    all
}

/// Finds a text of the set, so that edits change something.
fn known(checkpoint: Checkpoint<'_>) -> Vec<Vec<u8>> {
    let mut known: Vec<Vec<u8>> = Vec::new();
    for file in checkpoint.files().unwrap_or_default() {
        known.extend(file.path().map(<[u8]>::to_vec));
        if let File::Inet(socket) = file.file() {
            known.extend(socket.local().map(|address| address.to_string().into_bytes()));
        }
    }
    for saved in checkpoint.namespaces().unwrap_or_default() {
        if let Ok(Some(mounts)) = saved.mounts() {
            for mount in mounts.iter() {
                known.push(mount.entry.source.clone());
                known.extend(mount.entry.ext_key.clone());
            }
        }
    }
    if let Ok(cgroups) = checkpoint.cgroups() {
        known.extend(cgroups.sets.iter().flat_map(|set| &set.ctls).map(|ctl| ctl.path.clone()));
    }
    for task in checkpoint.tasks() {
        known.extend(task.creds().and_then(|creds| creds.lsm_profile.clone()));
    }
    known.sort();
    known.dedup();
    known
}

fn edits(script: &[u8], known: &[Vec<u8>]) -> Result<Vec<Edit>> {
    let mut bytes = Unstructured::new(script);
    let mut edits = Vec::new();
    while !bytes.is_empty() && edits.len() < 4 {
        edits.push(one(&mut bytes, known)?);
    }
    Ok(edits)
}

fn one(bytes: &mut Unstructured<'_>, known: &[Vec<u8>]) -> Result<Edit> {
    let what = bytes.int_in_range(0..=9)?;
    Ok(match what {
        0 | 3 | 5 | 6 => {
            let (from, to) = (text(bytes, known)?, text(bytes, known)?);
            match what {
                0 => Edit::Path { from, to },
                3 => Edit::Cgroup { from, to },
                5 => Edit::MountSource { from, to },
                _ => Edit::ExternalKey { from, to },
            }
        }
        1 => Edit::Address { from: IpAddr::arbitrary(bytes)?, to: IpAddr::arbitrary(bytes)? },
        2 => Edit::Port { from: bytes.arbitrary()?, to: bytes.arbitrary()? },
        4 => {
            let from = bytes.arbitrary::<bool>()?.then(|| text(bytes, known)).transpose()?;
            Edit::Label { from, to: text(bytes, known)? }
        }
        7 => Edit::DropSeccomp,
        8 => Edit::DropFilter(bytes.int_in_range(0..=4)?),
        _ => {
            let code: [[u8; 8]; 2] = [[0x20, 0, 0, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0xff, 0x7f]];
            let program = Program::parse(code.as_flattened(), Architecture::X86_64);
            let program = program.map_err(|_| arbitrary::Error::IncorrectFormat)?;
            Edit::ReplaceFilter(bytes.int_in_range(0..=4)?, program)
        }
    })
}

fn text(bytes: &mut Unstructured<'_>, known: &[Vec<u8>]) -> Result<Vec<u8>> {
    Ok(match bytes.int_in_range(0..=3)? {
        0 | 1 if !known.is_empty() => {
            let mut text = bytes.choose(known)?.clone();
            // A folder above, for what covers more than one.
            if bytes.arbitrary()? {
                let end = text.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                text.truncate(end);
            }
            text
        }
        0..3 => b"/to/here".to_vec(),
        _ => {
            let size = bytes.int_in_range(0..=20)?;
            bytes.bytes(size)?.to_vec()
        }
    })
}
