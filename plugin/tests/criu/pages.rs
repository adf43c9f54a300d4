//! A search for the pages of a payload after a dump: in the images, and in the holder.

use std::fs::File;
use std::os::unix::fs::FileExt;

use criu_images::memory::{PageObject, PageSet, PageSize, PageSource, StoredPages};

use crate::lab::{Dump, Entry};
use crate::memory::{Kind, PAGE, Part};

/// Looks at each part of a payload. Memory that is held is in the holder and not in the images, and
/// the rest is in the images. Everything has the pattern of its part.
#[track_caller]
pub fn check(parts: &[Part], dump: &Dump, record: &Entry) {
    let set = PageSet::open(&dump.images, PageSize::K4).unwrap();
    let task = PageObject::Task(u32::try_from(record.inner).unwrap());
    let images = set.pages(task).unwrap().unwrap();
    let holder = Holder::open(record.holder);
    let mut large = 0;
    for part in parts {
        let stored = pages_in(&images, part);
        let kind = part.kind.name();
        match part.kind {
            Kind::Shared => {
                assert_eq!(stored, 0, "{kind} is no private memory");
                assert!(shared_pages(&set) >= part.pages, "{kind} is missing");
            }
            kind if kind.is_held() => {
                assert_eq!(stored, 0, "{stored} pages of {kind:?} are in the images");
                holder.has(part);
                large += if part.is_large() { part.pages * PAGE } else { 0 };
            }
            _ => {
                assert_eq!(stored, part.pages, "{kind} is missing in the images");
                look(part, |address, buffer| images.read_at(address, buffer).unwrap());
            }
        }
    }
    assert!(record.hidden_whole >= large, "{} bytes, not {large}", record.hidden_whole);
    let small = parts.iter().filter(|part| part.kind.is_held() && !part.is_large());
    let small: u64 = small.map(|part| part.pages).sum();
    assert!(record.hidden >= small, "{} pages, not {small}", record.hidden);
}

/// Looks at the pattern in each page of a part.
#[track_caller]
pub fn look(part: &Part, mut read: impl FnMut(u64, &mut [u8])) {
    let mut page = vec![0; usize::try_from(PAGE).unwrap()];
    for number in 0..part.pages {
        let address = part.address + number * PAGE;
        read(address, &mut page);
        for at in [0, PAGE - 8] {
            let place = usize::try_from(at).unwrap();
            let found = u64::from_le_bytes(page[place..place + 8].try_into().unwrap());
            let wanted = part.word(number, at);
            assert_eq!(found, wanted, "page {number}+{at} of {}", part.kind.name());
        }
    }
}

/// The number of pages of a part that a dump has of a task, which is known by its inner number.
pub fn of_task(dump: &Dump, inner: i32, part: &Part) -> u64 {
    let set = PageSet::open(&dump.images, PageSize::K4).unwrap();
    let task = PageObject::Task(inner.unsigned_abs());
    pages_in(&set.pages(task).unwrap().unwrap(), part)
}

/// The number of pages of a part that the images of a task have.
pub fn pages_in(images: &StoredPages<'_>, part: &Part) -> u64 {
    let runs = images.runs().map(|run| (run.start, run.start + run.pages * PAGE));
    let common =
        runs.map(|(start, end)| end.min(part.end()).saturating_sub(start.max(part.address)));
    common.sum::<u64>() / PAGE
}

fn shared_pages(set: &PageSet) -> u64 {
    let objects = set.objects().unwrap().into_iter();
    let shared = objects.filter(|object| matches!(object, PageObject::Shared(_)));
    let pages = shared
        .map(|object| set.pages(object).unwrap().unwrap().runs().map(|run| run.pages).sum::<u64>());
    pages.sum()
}

/// The memory of a holder.
pub struct Holder(File);

impl Holder {
    pub fn open(pid: i32) -> Self {
        Self(File::open(format!("/proc/{pid}/mem")).unwrap())
    }

    /// Looks at each page of a part.
    #[track_caller]
    pub fn has(&self, part: &Part) {
        look(part, |address, buffer| self.0.read_exact_at(buffer, address).unwrap());
    }
}
