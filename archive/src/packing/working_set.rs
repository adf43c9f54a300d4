//! The pages of a recorded working set, as places in the members of an archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use criu_images::Result;
use criu_images::memory::{PageObject, PageSet, StoredRun};
use criu_images::source::Source;
use criu_images::working_set::{Touched, WorkingSet};

use super::HotPages;

/// Returns the pages of the working set beside images, in the order in which a restore wants them;
/// no pages if none was recorded. `folder` is the folder of the images in the archive.
///
/// Pages of parent sets, of shared memory, and pages that CRIU has compressed are left out.
///
/// # Errors
/// [`ErrorKind::Stale`](criu_images::ErrorKind::Stale) if the working set was recorded with other
/// images; those of reading the images.
pub(crate) fn working_set(folder: &str, images: &Arc<dyn Source>) -> Result<Vec<HotPages>> {
    let Some(record) = WorkingSet::of(&**images)? else { return Ok(Vec::new()) };
    let bytes = record.page_size().bytes();
    let set = PageSet::new(Arc::clone(images), record.page_size());
    let mut places: BTreeMap<u32, Vec<StoredRun>> = BTreeMap::new();
    for task in record.tasks() {
        let pages = set.pages(PageObject::Task(task.pid()))?;
        let mut runs = pages.map(|pages| pages.stored_runs()).transpose()?.unwrap_or_default();
        runs.retain(|run| !run.file.contains('/'));
        places.insert(task.pid(), runs);
    }
    let mut hot: Vec<HotPages> = Vec::new();
    for (pid, touched) in record.in_order() {
        let runs = places.get(&pid).map_or(&[][..], Vec::as_slice);
        for (file, offset, len) in stored(runs, touched, bytes) {
            let path = [folder, file].join("/");
            let path = path.trim_start_matches('/').as_bytes().to_vec();
            match hot.last_mut() {
                Some(last) if last.path == path && last.offset + last.len == offset => {
                    last.len += len;
                }
                _ => hot.push(HotPages { path, offset, len }),
            }
        }
    }
    Ok(hot)
}

/// Finds the bytes of touched pages: file, offset and size.
fn stored(
    runs: &[StoredRun],
    touched: Touched,
    page: u64,
) -> impl Iterator<Item = (&str, u64, u64)> {
    let end = touched.start.saturating_add(touched.pages.saturating_mul(page));
    let first = runs.partition_point(|run| run.end <= touched.start);
    let over = runs.iter().skip(first).take_while(move |run| run.start < end);
    over.map(move |run| {
        let (from, to) = (run.start.max(touched.start), run.end.min(end));
        (run.file.as_str(), run.offset.saturating_add(from - run.start), to - from)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use criu_images::ErrorKind;
    use criu_images::memory::{PageFlags, PageSize, PagemapWriter};
    use criu_images::source::InMemory;
    use criu_images::working_set::{Fingerprint, Recording};

    use super::*;

    const BASE: u64 = 0x40_0000;

    #[test]
    fn touched_pages_are_found_in_the_order_of_their_touches() {
        let mut files = InMemory::default();
        for (pid, id) in [(1, 7), (2, 8)] {
            let mut map = PagemapWriter::new(Vec::new(), id, PageSize::K4).unwrap();
            map.run(BASE, 10, PageFlags::PRESENT).unwrap();
            map.run(BASE + 20 * 4096, 5, PageFlags::LAZY).unwrap();
            map.run(BASE + 30 * 4096, 10, PageFlags::PRESENT | PageFlags::LAZY).unwrap();
            files.insert(format!("pagemap-{pid}.img"), map.finish().unwrap());
            files.insert(format!("pages-{id}.img"), vec![0; 20 * 4096]);
        }
        let mut recording = Recording::new(PageSize::K4);
        let mut time = 0;
        let mut touch = |pid, page: u64| {
            time += 1;
            recording.touch(pid, BASE + page * 4096, Duration::from_micros(time));
        };
        // The last page of task 2 first; then pages that follow each other, of which some have no
        // bytes; then one of a task without pages.
        for (pid, page) in [(2, 39), (1, 8), (1, 9), (1, 10), (1, 21), (1, 30), (1, 31), (3, 0)] {
            touch(pid, page);
        }
        let record = recording.finish(Fingerprint::of(&files).unwrap(), Duration::from_secs(1));
        files.insert(WorkingSet::FILE, record.to_bytes());
        let images: Arc<dyn Source> = Arc::new(files.clone());
        let hot = working_set("checkpoint", &images).unwrap();
        let page = |id: u32, page: u64, pages: u64| HotPages {
            path: format!("checkpoint/pages-{id}.img").into_bytes(),
            offset: page * 4096,
            len: pages * 4096,
        };
        // The pages of two runs lie side by side.
        assert_eq!(hot, [page(8, 19, 1), page(7, 8, 4)]);
        assert_eq!(working_set("", &images).unwrap()[0].path, b"pages-8.img");
        let map = PagemapWriter::new(Vec::new(), 9, PageSize::K4).unwrap();
        files.insert("pagemap-4.img", map.finish().unwrap());
        let images: Arc<dyn Source> = Arc::new(files.clone());
        let stale = working_set("checkpoint", &images).unwrap_err();
        assert!(matches!(stale.kind(), ErrorKind::Stale), "{stale}");
        files.remove(WorkingSet::FILE);
        let images: Arc<dyn Source> = Arc::new(files);
        assert!(working_set("checkpoint", &images).unwrap().is_empty());
    }
}
