//! Archives made to do harm, each refused with its member and the reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod damage;
mod made;

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corpus::{At, corpus};
use criu_archive::{Archive, Error, Extraction, UNWATCHED};
use criu_images::source::{Blob, ReadAt, Source};
use criu_lab::memory::grown;
use criu_lab::{in_own_process, scratch};
use made::{file, header};

/// The archive in every form: plain, gzip, zstd, and each of them through a pipe.
fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let packed = |program: &str| {
        let mut child = Command::new(program);
        let child = child.args(["-c", "-1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    vec![("plain", bytes.to_vec()), ("gzip", packed("gzip")), ("zstd", packed("zstd"))]
}

#[test]
fn every_hostile_archive_is_refused_with_its_member_and_reason() {
    let corpus = corpus();
    assert!(corpus.len() >= 85, "{}", corpus.len());
    let directory = scratch("corpus");
    for hostile in &corpus {
        let mut messages = Vec::new();
        for (form, bytes) in forms(&hostile.bytes) {
            let what = format!("{} as {form}", hostile.name);
            let opened = [
                Archive::new("a.tar", Blob::from(bytes.clone())),
                Archive::read("a.tar", Cursor::new(bytes)),
            ];
            for archive in opened {
                let to = directory.join("to");
                let error = match (hostile.at, archive) {
                    (At::Open, Ok(_)) => panic!("{what} is opened"),
                    (At::Open, Err(error)) => error,
                    (_, Err(error)) => panic!("{what} is not opened: {error}"),
                    (at, Ok(archive)) => used(&archive, at, hostile.member, &to, &what),
                };
                let member = error.member().unwrap_or_default();
                assert!(
                    member == hostile.member || member.len() > 4000 && hostile.member == "nnnn",
                    "{what}: {error}"
                );
                let said = error.to_string();
                assert!(said.contains(hostile.reason), "{what}: {said}");
                assert!(!said.contains(criu_images::Text::hides), "{what}: {said}");
                messages.push(said);
                assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "{what}");
            }
        }
        // Where a packed archive ends is known only at the end.
        if !hostile.name.starts_with("past-") {
            messages.dedup();
            assert_eq!(messages.len(), 1, "{messages:?}");
        }
    }
}

/// Uses a member of an archive that opens, and returns the refusal of its extraction.
fn used(archive: &Archive, at: At, member: &str, to: &Path, what: &str) -> Error {
    if at == At::Use {
        archive.bytes(member).unwrap_err();
        assert!(archive.folder("").open(member).is_err(), "{what}");
    }
    // Other members are served.
    let others = archive.members().filter(|other| other.path() != member);
    for other in others.filter(|other| *other.kind() == criu_archive::MemberKind::File) {
        archive.bytes(other.path()).unwrap();
    }
    archive.verify(UNWATCHED).unwrap();
    Extraction::of(archive).into_new(to).unwrap_err()
}

#[test]
fn the_corpus_takes_little_memory_and_work() {
    if !in_own_process("the_corpus_takes_little_memory_and_work", || ()) {
        return;
    }
    let corpus = corpus();
    let ((), grown) = grown(|| {
        for hostile in &corpus {
            let (blob, read) = counted(&hostile.bytes);
            let _ = Archive::new("a.tar", blob);
            let (read, size) = (read.load(Ordering::Relaxed), hostile.bytes.len() as u64);
            assert!(read <= 2 * size + AHEAD, "{}: {read} of {size} bytes", hostile.name);
        }
    });
    assert!(grown < 16 << 10, "{grown} KiB");
}

/// A bomb of zeros takes neither memory nor room in the directory of temporary files, and a bomb
/// that claims more than a packed archive may have is refused before it is unpacked.
#[test]
fn bombs_take_no_memory_and_end() {
    if !in_own_process("bombs_take_no_memory_and_end", || ()) {
        return;
    }
    let directory = scratch("bombs");
    let size = 1u64 << 30;
    let path = directory.join("zeros.tar.zst");
    let mut zstd = Command::new("zstd");
    let zstd = zstd.args(["-q", "-1", "-o"]).arg(&path).stdin(Stdio::piped());
    let mut child = zstd.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&header("checkpoint/pages-1.img", b'0', size)).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..size >> 20).for_each(|_| input.write_all(&zeros).unwrap());
    input.write_all(&file("last", b"1")).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    let ((), grown) = grown(|| {
        let archive = Archive::open(&path).unwrap();
        let blob = archive.bytes("checkpoint/pages-1.img").unwrap();
        let mut last = [1; 4096];
        blob.read_at(size - 4096, &mut last).unwrap();
        assert_eq!(last, [0; 4096]);
        // An extraction has holes, and a bound.
        let to = directory.join("to");
        let said = Extraction::of(&archive).limit(size).into_new(&to).unwrap_err().to_string();
        assert!(said.contains("last: has 1073741825 bytes, at most 1073741824"), "{said}");
    });
    assert!(grown < 32 << 10, "{grown} KiB");
    // Content that does not become smaller, so that what is read of it counts.
    let mut claim = header("checkpoint/pages-1.img", b'0', 1 << 40).to_vec();
    let mut random = 1u64;
    claim.extend((0..4 << 20).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random.to_be_bytes()[0]
    }));
    for (form, bytes) in forms(&claim).into_iter().skip(1) {
        assert!(bytes.len() as u64 > 4 * AHEAD, "{form}");
        let (blob, read) = counted(&bytes);
        let refused = Archive::new("a.tar", blob).unwrap_err();
        assert_eq!(refused.member(), Some("checkpoint/pages-1.img"), "{form}");
        assert!(refused.to_string().contains("at most 68719476736 are read"), "{refused}");
        let read = read.load(Ordering::Relaxed);
        assert!(read <= AHEAD, "{form}: {read} bytes");
    }
}

/// Bytes in memory that count what is read of them.
#[derive(Debug)]
struct Counted {
    bytes: Blob,
    read: Arc<AtomicU64>,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, buf)
    }
}

/// Returns bytes, and the count of what is read of them.
fn counted(bytes: &[u8]) -> (Blob, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let bytes = Blob::from(bytes.to_vec());
    (Blob::new(Counted { bytes, read: Arc::clone(&read) }), read)
}

/// Most bytes that are read before the first header: buffers, and whole blocks of zstd.
const AHEAD: u64 = 512 << 10;
