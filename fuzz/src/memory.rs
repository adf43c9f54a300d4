//! Memory (pagemaps, pages, parent sets, shared memory, compressed runs) and searches through it.

use criu_images::memory::{Backing, Content, Hexdump, Memory, PageSet, PageSize, PageSource};
use criu_images::search::{Pattern, Search};
use criu_images::{ErrorKind, ImageSet};

use crate::pack::{Record, records, script, source};

/// Reads the memory of a set in all ways.
pub fn run(data: &[u8]) {
    let records = records(data);
    let needle = script(&records);
    pages(&records);
    let Ok(set) = ImageSet::new(source(&records)) else { return };
    let Ok(checkpoint) = set.checkpoint() else { return };
    for task in checkpoint.tasks().take(4) {
        let Ok(Some(memory)) = task.memory() else { continue };
        of_task(&memory, needle);
    }
    for shared in checkpoint.shared_memory().unwrap_or_default() {
        pieces(&shared);
        search(
            needle,
            |search| search.run_in(&shared).take(HITS).map(|hit| hit.ok()).collect(),
            &shared,
        );
    }
}

fn of_task(memory: &Memory<'_>, needle: &[u8]) {
    let mut end = 0;
    for vma in memory.vmas() {
        assert!(vma.start() >= end && vma.end() > vma.start(), "{vma}");
        end = vma.end();
        assert_eq!(memory.vma(vma.start()).map(|found| found.start()), Some(vma.start()));
        if let Backing::Shared(id) = vma.backing() {
            _ = memory.shared(id).map(|shared| shared.runs().count());
        }
        for address in [vma.start(), vma.end().saturating_sub(64), vma.start().saturating_sub(32)] {
            let mut bytes = [0; 64];
            if let Err(error) = memory.read_at(address, &mut bytes) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
    _ = memory.totals();
    memory.usage(|vma, totals| _ = format!("{vma} {totals}"));
    _ = memory.cmdline();
    _ = memory.environ();
    pieces(memory);
    search(needle, |search| search.run(memory).take(HITS).map(|hit| hit.ok()).collect(), memory);
}

/// Checks that the chunks of memory agree with what is read.
fn pieces(memory: &impl PageSource) {
    let mut next = 0;
    for chunk in memory.chunks(0..u64::MAX).take(2000) {
        let Ok(chunk) = chunk else { return };
        assert_eq!(chunk.start, next, "{chunk:x?}");
        assert!(chunk.end > chunk.start, "{chunk:x?}");
        next = chunk.end;
        let size = usize::try_from(chunk.size().min(3 * 4096)).unwrap_or(0);
        let mut found = vec![0xee; size];
        let read = memory.read_at(chunk.start, &mut found);
        match chunk.content {
            Content::Bytes(bytes) => {
                assert_eq!(bytes.len() as u64, chunk.size());
                assert!(read.is_ok() && found == bytes[..size], "{chunk:x?}");
                let dump = Hexdump { address: chunk.start, bytes: &found }.to_string();
                assert!(dump.ends_with('\n'));
            }
            // What is compressed may prove broken when it is read.
            Content::Stored => _ = read,
            Content::Zero => {
                assert!(read.is_ok() && found.iter().all(|byte| *byte == 0), "{chunk:x?}")
            }
            Content::Absent(expected) => match read.map_err(|error| error.to_string()) {
                Ok(()) => panic!("{chunk:x?} was read"),
                Err(said) => assert!(said.contains(&expected.to_string()), "{chunk:x?}: {said}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// Checks that hits are where they say, and that bytes in memory are found.
fn search<S: PageSource>(
    needle: &[u8],
    run: impl Fn(&Search) -> Vec<Option<criu_images::search::Hit>>,
    memory: &S,
) {
    let Ok(pattern) = Pattern::literal(needle) else { return };
    let hits = run(&Search::new(pattern).context(8));
    for hit in hits.iter().flatten() {
        let mut found = vec![0; needle.len()];
        assert!(memory.read_at(hit.address, &mut found).is_ok(), "{hit}");
        assert_eq!((&found[..], &hit.bytes[..]), (needle, needle), "{hit}");
    }
    let text = String::from_utf8_lossy(needle);
    for pattern in [Pattern::regex(&text), Pattern::hex(&text)].into_iter().flatten() {
        for hit in run(&Search::new(pattern)).iter().flatten() {
            let mut found = vec![0; hit.bytes.len()];
            assert!(memory.read_at(hit.address, &mut found).is_ok(), "{hit}");
            assert_eq!(found, hit.bytes, "{hit}");
        }
    }
}

/// Reads the pages alone, as a page server does.
fn pages(records: &[Record]) {
    for size in [PageSize::K4, PageSize::new(65536).unwrap_or(PageSize::K4)] {
        let set = PageSet::new(source(records), size);
        for object in set.objects().unwrap_or_default() {
            assert!(set.has(object).unwrap_or(false));
            let Ok(Some(stored)) = set.pages(object) else { continue };
            for ranges in stored.covered().unwrap_or_default().windows(2) {
                assert!(ranges[0].1 < ranges[1].0, "{ranges:x?}");
            }
            for run in stored.stored_runs().unwrap_or_default() {
                assert!(run.end > run.start, "{run:x?}");
            }
            for run in stored.runs().take(64) {
                let end = run.start.saturating_add(run.pages.saturating_mul(size.bytes()));
                if let Ok(Some(gap)) = stored.first_gap(run.start, end) {
                    assert!((run.start..end).contains(&gap));
                    let mut byte = [0];
                    let read = stored.read_at(gap, &mut byte);
                    assert!(read.is_err(), "{gap:#x} is a gap and reads");
                    let error = read.expect_err("just seen");
                    assert!(!matches!(error.kind(), ErrorKind::Io(_)), "{error}");
                }
                _ = stored.in_file(run.start);
            }
            pieces(&stored);
        }
    }
}

/// Largest number of hits examined.
const HITS: usize = 50;
