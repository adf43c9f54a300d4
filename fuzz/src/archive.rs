//! Sets and metadata in archives of every packing, and tables of contents.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Once;

use criu_archive::metadata::Metadata;
use criu_archive::{Archive, Member, bounds};
use criu_images::source::{Blob, Source};
use criu_images::{ImageSet, Text, check};

/// Opens bytes as an archive, at any place and as a stream, and opens what is in it.
pub fn run(data: &[u8]) {
    static BOUNDED: Once = Once::new();
    BOUNDED.call_once(|| bounds::UNPACKED.raise(UNPACKED));
    let most = UNPACKED.max(256 * data.len() as u64);
    let streamed = Archive::read("input", Cursor::new(data.to_vec()));
    let archive = match Archive::new("input", Blob::from(data.to_vec())) {
        Ok(archive) => archive,
        Err(error) => {
            assert!(!error.to_string().contains(Text::hides), "not fit for a terminal");
            return;
        }
    };
    for member in archive.members() {
        if let Ok(blob) = archive.bytes(member.path()) {
            assert!(blob.len() <= most, "{} is larger than an archive may be", member.path());
        }
    }
    // The table of contents is an index: it tells nothing that the headers do not tell.
    if archive.verify(&|_| ControlFlow::Continue(())).is_ok() {
        let same = |streamed: &Archive| {
            let all = |archive: &Archive| archive.members().cloned().collect::<Vec<Member>>();
            assert_eq!(all(&archive), all(streamed), "a stream has other members");
        };
        // A stream has a lower bound: nobody knows how large the packed archive is.
        streamed.iter().for_each(same);
    }
    metadata(&archive);
    for name in archive.sets().take(4).collect::<Vec<_>>() {
        let folder = archive.folder(&name);
        for file in folder.names().unwrap_or_default() {
            _ = folder.open(&file);
        }
        if let Ok(set) = ImageSet::new(folder) {
            _ = check(&set);
            _ = set.checkpoint().map(|checkpoint| checkpoint.tree().to_string());
        }
    }
}

fn metadata(archive: &Archive) {
    let top = archive.folder("");
    let metadata = Metadata::of("input", &top);
    _ = metadata.engine();
    _ = metadata.identity();
    _ = metadata.config();
    _ = metadata.spec();
    _ = metadata.networks();
    _ = metadata.status();
    _ = metadata.bind_mounts();
    _ = metadata.deleted_files();
    _ = metadata.descriptors();
    _ = metadata.rootfs_diff();
}

/// Bytes that a small packed archive may have, in the fuzzer.
const UNPACKED: u64 = 4 << 20;
