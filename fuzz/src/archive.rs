//! Sets and metadata in archives of every packing, tables of contents, extraction, and documents of
//! images.

use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Once;
use std::{env, fs, process};

use criu_archive::foreign::Head;
use criu_archive::metadata::Metadata;
use criu_archive::{Archive, Extraction, Member, UNWATCHED, bounds, fuzzing};
use criu_images::source::{Blob, Source};
use criu_images::{ImageSet, Text, check};

/// Opens bytes as an archive, at any place and as a stream, and opens what is in it. Bytes that
/// begin with a brace are a document.
pub fn run(data: &[u8]) {
    if data.first() == Some(&b'{') {
        return document(data);
    }
    if let Ok(Some(head)) = Head::read("input", &Blob::from(data.to_vec())) {
        assert!(!head.facts().is_empty(), "a head says something");
    }
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
    if archive.verify(UNWATCHED).is_ok() {
        let same = |streamed: &Archive| {
            let all = |archive: &Archive| archive.members().cloned().collect::<Vec<Member>>();
            assert_eq!(all(&archive), all(streamed), "a stream has other members");
        };
        // A stream has a lower bound: nobody knows how large the packed archive is.
        streamed.iter().for_each(same);
    }
    metadata(&archive);
    extraction(&archive);
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
    _ = metadata.kept_status();
    _ = metadata.pod_options();
    _ = metadata.dump_stats();
    _ = metadata.devshm();
    _ = metadata.bind_mounts();
    _ = metadata.deleted_files();
    _ = metadata.descriptors();
    _ = metadata.rootfs_diff();
}

fn document(data: &[u8]) {
    for tag in [None, Some("v1")] {
        match fuzzing::document(data, tag) {
            Ok(found) => assert_eq!(found.digest.to_string().parse(), Ok(found.digest)),
            Err(error) => {
                assert!(!error.to_string().contains(Text::hides), "not fit for a terminal");
            }
        }
    }
}

/// Extracts a small archive. Whatever it names, nothing leads out of the new directory.
fn extraction(archive: &Archive) {
    let members: Vec<&Member> = archive.members().collect();
    let bytes = members.iter().fold(0u64, |sum, member| sum.saturating_add(member.size()));
    let names: usize = members.iter().map(|member| member.path().len()).sum();
    if members.len() > MOST_MEMBERS || bytes > MOST_BYTES || names > MOST_NAMES {
        return;
    }
    let memory = PathBuf::from("/dev/shm");
    let above = if memory.is_dir() { memory } else { env::temp_dir() };
    let above = above.join(format!("criu-fuzz-{}", process::id()));
    fs::create_dir_all(&above).expect("a directory for the extraction");
    let to = above.join("to");
    if Extraction::of(archive).into_new(&to).is_ok() {
        // The names at the top are those of the archive.
        let mut inside = 0;
        look(&to, &to, &mut inside);
        assert!(inside >= members.len(), "{inside} entries of {} members", members.len());
        fs::remove_dir_all(&to).expect("its owner can remove it");
    }
    let left: Vec<PathBuf> = fs::read_dir(&above)
        .expect("the directory is there")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "an extraction leaves {left:?}");
    fs::remove_dir(&above).expect("nothing is left");
}

/// Looks at all entries below a directory.
fn look(top: &Path, directory: &Path, entries: &mut usize) {
    for entry in fs::read_dir(directory).expect("its owner can list it").flatten() {
        *entries += 1;
        let path = entry.path();
        let found = fs::symlink_metadata(&path).expect("the entry is there");
        let kind = found.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{}", path.display());
        if kind.is_symlink() {
            let mut at = directory.to_owned();
            for part in fs::read_link(&path).expect("the link is there").components() {
                match part {
                    Component::ParentDir => assert!(at.pop()),
                    Component::CurDir => {}
                    part => at.push(part),
                }
                assert!(at.starts_with(top), "{} leads to {}", path.display(), at.display());
            }
        } else {
            assert_eq!(found.permissions().mode() & 0o7000, 0, "{}", path.display());
            assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
        }
        if kind.is_dir() {
            look(top, &path, entries);
        }
    }
}

/// Largest archive that is extracted.
const MOST_MEMBERS: usize = 40;
const MOST_BYTES: u64 = 256 << 10;
const MOST_NAMES: usize = 4 << 10;

/// Bytes that a small packed archive may have, in the fuzzer.
const UNPACKED: u64 = 4 << 20;
