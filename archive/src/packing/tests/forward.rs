//! Archives that are unpacked in order, and spools.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_images::source::Blob;

use super::made::{files, memory, plain};
use crate::packing::forward::Unpacking;
use crate::packing::{Layer, Packing, Spool, layer, unpack};

/// Packs bytes with a program.
fn packed(program: &str, words: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || to.write_all(&bytes).unwrap());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

/// Unpacks an archive in memory.
fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let found = layer(&Blob::from(bytes.to_vec()));
    let Layer::Forward { opener, .. } =
        found.map_err(|fault| io::Error::other(format!("{fault:?}")))?
    else {
        panic!("not packed")
    };
    let mut out = Vec::new();
    opener.open()?.read_to_end(&mut out).map(|_| out)
}

#[test]
fn streams_of_every_form_are_unpacked() {
    let tar = plain(&files());
    let (first, second) = tar.split_at(tar.len() / 3);
    let zstd = |words: &[&str], bytes: &[u8]| packed("zstd", words, bytes);
    let gzip = |bytes: &[u8]| packed("gzip", &["-c1"], bytes);
    let skippable = [&0x184d_2a53u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"12345"].concat();
    // As the writer of Podman: no size of the content, a checksum, a window of 8 MiB.
    let mut podman = zstd::Encoder::new(Vec::new(), 3).unwrap();
    podman.window_log(23).unwrap();
    podman.include_checksum(true).unwrap();
    podman.include_contentsize(false).unwrap();
    tar.chunks(40_000).for_each(|piece| {
        podman.write_all(piece).unwrap();
        podman.flush().unwrap();
    });
    let forms = [
        zstd(&["-c1"], &tar),
        zstd(&["-c19"], &tar),
        zstd(&["-c", "--long=27"], &tar),
        zstd(&["-cT2", "-B100KB"], &tar),
        [zstd(&["-c"], first), zstd(&["-c"], second)].concat(),
        [&skippable[..], &zstd(&["-c"], first), &skippable, &skippable, &zstd(&["-c"], second)]
            .concat(),
        [&zstd(&["-c"], &tar)[..], &zstd(&["-c"], &[]), &skippable].concat(),
        podman.finish().unwrap(),
        gzip(&tar),
        [gzip(first), gzip(second)].concat(),
        [&gzip(first)[..], &gzip(&[]), &gzip(second), &[0; 1500]].concat(),
    ];
    for (number, form) in forms.iter().enumerate() {
        assert!(unpacked(form).unwrap() == tar, "{number}");
        // Through a pipe the same.
        let (packing, mut stream) = unpack(io::Cursor::new(form.clone())).unwrap();
        let mut out = Vec::new();
        stream.read_to_end(&mut out).unwrap();
        assert!(out == tar && packing != Packing::Plain, "{number}");
    }
    for (program, words) in [("xz", ["-c0"]), ("bzip2", ["-c1"])] {
        let fault = layer(&Blob::from(packed(program, &words, first))).unwrap_err();
        assert!(format!("{fault:?}").contains(program), "{fault:?}");
    }
}

#[test]
fn a_stream_that_ends_early_or_goes_on_with_something_else_is_refused() {
    let tar = plain(&files()[..6]);
    let whole = [("zstd", packed("zstd", &["-c"], &tar)), ("gzip", packed("gzip", &["-c"], &tar))];
    for (form, bytes) in whole {
        for cut in (6..bytes.len()).step_by(bytes.len() / 199) {
            let refused = unpacked(&bytes[..cut]).unwrap_err();
            assert_eq!(refused.to_string(), format!("the {form} stream ends early"), "{cut}");
        }
        for at in (4..bytes.len()).step_by(bytes.len() / 199) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            if let Ok(found) = unpacked(&flipped) {
                // Bytes of gzip's header and of unused fields say nothing about the content.
                assert!(found == tar, "{form} {at}");
            }
        }
        let refused = unpacked(&[&bytes[..], b"more"].concat()).unwrap_err().to_string();
        assert!(refused.contains(form), "{refused}");
    }
}

#[test]
fn a_window_above_128_mib_is_refused() {
    let bytes = packed("zstd", &["-c", "--ultra", "--long=28"], &[]);
    let mut large = zstd::Encoder::new(Vec::new(), 1).unwrap();
    large.window_log(28).unwrap();
    large.include_contentsize(false).unwrap();
    large.write_all(&memory(100_000, 1)).unwrap();
    let refused = unpacked(&large.finish().unwrap()).unwrap_err().to_string();
    let want =
        "the zstd window is above 128 MiB: pack it again, as `zstd -d --long=31 | zstd` does";
    assert_eq!(refused, want);
    assert!(unpacked(&bytes).unwrap().is_empty());
}

/// A stream that says how far it has been read, and may fail.
struct Told<R>(R, std::sync::Arc<std::sync::atomic::AtomicU64>, u64);

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let so_far = self.1.load(std::sync::atomic::Ordering::Relaxed);
        if so_far >= self.2 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is broken here"));
        }
        let len = self.0.read(buf)?;
        self.1.fetch_add(len as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(len)
    }
}

/// A stream that goes on for ever, and counts what was read of it.
struct Endless(&'static [u8], usize, Arc<AtomicU64>);

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.2.fetch_add(buf.len() as u64, Ordering::Relaxed);
        if read > 1 << 30 {
            return Err(io::Error::other("nobody stopped reading"));
        }
        for byte in &mut *buf {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(buf.len())
    }
}

#[test]
fn empty_blocks_and_frames_without_end_are_refused() {
    // Empty blocks of one frame, empty frames, skippable frames, empty members of gzip.
    let (head, blocks) = (&b"\x28\xb5\x2f\xfd\x00\x58"[..], &[0][..]);
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    for (packing, head, piece) in [
        (Packing::Zstd, head, blocks),
        (Packing::Zstd, &[], b"\x28\xb5\x2f\xfd\x00\x58\x01\0\0"),
        (Packing::Zstd, &[], b"\x50\x2a\x4d\x18\0\0\0\0"),
        (Packing::Gzip, &[], gzip),
        (Packing::Gzip, gzip, &[0]),
    ] {
        let read = Arc::new(AtomicU64::new(0));
        let endless = head.chain(Endless(piece, 0, Arc::clone(&read)));
        let mut stream = Unpacking::with_idle(endless, packing, 1 << 20).unwrap();
        let error = stream.read(&mut [0; 100]).unwrap_err().to_string();
        assert!(error.contains("goes on and unpacks to almost nothing"), "{piece:?}: {error}");
        assert!(read.load(Ordering::Relaxed) < 2 << 20, "{piece:?}");
    }
    // Frames of one byte each are no fault.
    let frames = packed("zstd", &["-c"], b"1").repeat(200_000);
    let mut stream = Unpacking::with_idle(io::Cursor::new(frames), Packing::Zstd, 1 << 17).unwrap();
    let mut out = Vec::new();
    stream.read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), 200_000);
}

#[test]
fn a_spool_reads_as_far_as_it_is_asked() {
    let bytes = memory(3 << 20, 9);
    let read = std::sync::Arc::default();
    let told = Told(io::Cursor::new(bytes.clone()), std::sync::Arc::clone(&read), u64::MAX);
    let spool = Spool::new(told).unwrap();
    let blob = spool.blob(bytes.len() as u64);
    let so_far = || read.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(so_far(), 0);
    let mut part = [0; 5000];
    blob.read_at(300_000, &mut part).unwrap();
    assert!(part == bytes[300_000..305_000] && so_far() < 1 << 20, "{}", so_far());
    blob.read_at(0, &mut part).unwrap();
    assert!(part == bytes[..5000]);
    std::thread::scope(|scope| {
        for thread in 0..6usize {
            let (blob, bytes) = (&blob, &bytes);
            scope.spawn(move || {
                for step in 0..200usize {
                    let at = (step * 15_331 + thread * 77_777) % (bytes.len() - 5000);
                    let mut part = [0; 5000];
                    blob.read_at(at as u64, &mut part).unwrap();
                    assert!(part == bytes[at..at + 5000]);
                }
            });
        }
    });
    assert_eq!(spool.reach(u64::MAX).unwrap(), bytes.len() as u64);
    assert!(spool.read_at(bytes.len() as u64, &mut [0]).is_err());
    let mut again = Vec::new();
    spool.stream().read_to_end(&mut again).unwrap();
    assert!(again == bytes);
}

#[test]
fn zeros_take_no_room_in_a_spool() {
    let stream = io::repeat(0).take(64 << 20).chain(&b"end"[..]);
    let spool = Spool::new(stream).unwrap();
    assert_eq!(spool.reach(u64::MAX).unwrap(), (64 << 20) + 3);
    let mut end = [9; 8];
    spool.read_at((64 << 20) - 5, &mut end).unwrap();
    assert_eq!(&end, b"\0\0\0\0\0end");
    let kept = spool.kept().metadata().unwrap();
    assert_eq!((kept.len(), kept.nlink()), ((64 << 20) + 3, 0));
    assert!(kept.blocks() * 512 < 1 << 20, "{} blocks", kept.blocks());
}

#[test]
fn an_error_of_a_stream_stays() {
    let bytes = memory(1 << 20, 2);
    let read = std::sync::Arc::default();
    let spool = Spool::new(Told(io::Cursor::new(bytes.clone()), read, 600_000)).unwrap();
    for _ in 0..2 {
        let refused = spool.reach(u64::MAX).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(refused.to_string(), "is broken here");
        // What came before can be read.
        let mut part = [0; 100];
        spool.read_at(500_000, &mut part).unwrap();
        assert!(part == bytes[500_000..500_100]);
    }
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a stream of the caller's")
        }
    }
    let spool = Spool::new(Panics).unwrap();
    let thread = {
        let spool = spool.clone();
        std::thread::spawn(move || spool.reach(u64::MAX))
    };
    assert!(thread.join().is_err());
    let refused = spool.reach(u64::MAX).unwrap_err().to_string();
    assert_eq!(refused, "reading the stream panicked");
}
