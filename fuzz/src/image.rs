//! Single images: the frame, the entries, their payloads.

use criu_images::kind::{self, Entries, Kind};
use criu_images::memory::{PageSize, Pagemap};
use criu_images::proto;
use criu_images::{DumpStats, Image, ImageWriter, RestoreStats};

/// Reads bytes as all kinds of images, and the entries as the messages of the kind.
pub fn run(data: &[u8]) {
    if let Ok(image) = Image::detect("image", data) {
        drop(entries(image));
    }
    for &kind in kind::ALL {
        match Image::parse("image", data, kind) {
            Ok(image) => {
                drop(entries(image.clone()));
                whole(data, image);
            }
            // The magic is another's: only the first words have been looked at.
            Err(error) => _ = error.to_string(),
        }
    }
    for size in [4096, 65536] {
        let Some(size) = PageSize::new(size) else { continue };
        if let Ok(pagemap) = Pagemap::parse("pagemap", data, kind::PAGEMAP, size) {
            let mut end = 0;
            for run in pagemap.runs() {
                let Ok(run) = run else { break };
                assert!(run.start >= end, "runs ascend: {run:?} after {end:#x}");
                assert!(run.pages > 0);
                end = run.start + run.pages * size.bytes();
            }
        }
    }
    if let Ok(stats) = DumpStats::parse(data) {
        _ = stats.to_string();
    }
    if let Ok(stats) = RestoreStats::parse(data) {
        _ = stats.to_string();
    }
}

/// Decodes all entries as the messages of the kind.
fn entries(mut image: Image<'_>) -> criu_images::Result<usize> {
    let (kind, mut count) = (image.kind(), 0);
    while let Some(entry) = image.next_entry()? {
        let name = message(kind, count == 0);
        let typed = typed(name, &entry);
        match typed {
            Ok(()) => {}
            Err(error) => _ = error.to_string(),
        }
        image.payload(&entry)?;
        count += 1;
    }
    Ok(count)
}

/// Writes an image again that can be read to its end, and compares all bytes.
fn whole(data: &[u8], mut image: Image<'_>) {
    let kind = image.kind();
    let Ok(mut writer) = ImageWriter::new(kind, Vec::new()) else { return };
    loop {
        match image.next_entry() {
            Ok(Some(entry)) => {
                let Ok(payload) = image.payload(&entry) else { return };
                if writer.raw(entry.bytes(), &payload).is_err() {
                    return;
                }
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    // More or fewer entries than the kind has can be read one by one, and not be written.
    let Ok(written) = writer.finish() else { return };
    // What has no head magic, the other byte order, padding and messages of queues are made anew.
    let head = kind.head_magic().into_iter().chain([kind.magic]);
    let head: Vec<u8> = head.flat_map(u32::to_le_bytes).collect();
    if data.starts_with(&head) && kind.extra == kind::Extra::None {
        assert!(written == data, "{} is not written as it was read", kind.name);
    }
    assert!(Image::parse("image", &written, kind).is_ok());
}

/// Name of the message of an entry.
pub(crate) fn message(kind: &Kind, first: bool) -> &'static str {
    match (kind.entries, first) {
        (Entries::Pagemap, true) => "pagemap_head",
        (Entries::Ghost, false) => "ghost_chunk_entry",
        _ => kind.message,
    }
}

macro_rules! decode {
    ($($name:literal $ours:ident $module:ident $theirs:ident;)*) => {
        /// Decodes an entry as a message, and shows it.
        fn typed(name: &str, entry: &criu_images::RawEntry<'_>) -> criu_images::Result<()> {
            match name {
                $($name => {
                    let message: proto::$ours = entry.decode()?;
                    _ = format!("{message:?}");
                })*
                _ => {}
            }
            Ok(())
        }
    };
}
criu_fuzz_second::messages!(decode);
