//! Archives for tests.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use criu_images::source::{Blob, ReadAt};

use crate::member::MemberKind;
use crate::packing::{Entry, Form, HotPages, Sink, Written};

/// A file of a test archive.
pub(in crate::packing) struct TestFile {
    pub(in crate::packing) name: String,
    pub(in crate::packing) bytes: Vec<u8>,
}

/// Bytes that look like memory: some repeat, some do not.
pub(in crate::packing) fn memory(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 4 {
            0 => bytes.extend([0; 4096]),
            1 => bytes.extend(state.to_le_bytes().repeat(512)),
            _ => bytes.extend((0..512u64).flat_map(|at| (state ^ (at * at)).to_le_bytes())),
        }
    }
    bytes.truncate(len);
    bytes
}

/// Files of a checkpoint: small ones, and pages of several sizes.
pub(in crate::packing) fn files() -> Vec<TestFile> {
    let mut files = Vec::new();
    for at in 0..40usize {
        let name = format!("checkpoint/core-{at}.img");
        files.push(TestFile { name, bytes: memory(at * 211, at as u64) });
    }
    for (at, pages) in [1usize, 0, 15, 16, 17, 300, 7].into_iter().enumerate() {
        let name = format!("checkpoint/pages-{at}.img");
        files.push(TestFile { name, bytes: memory(pages * 4096, 1000 + at as u64) });
    }
    files.push(TestFile { name: "rootfs-diff.tar".into(), bytes: memory(100_000, 5) });
    files
}

/// Writes an archive of files with all digests.
pub(in crate::packing) fn write<W: Write>(
    files: &[TestFile],
    out: W,
    form: Form,
    hot: Option<Vec<HotPages>>,
) -> io::Result<Written<W>> {
    fill(Sink::new(out, form, true)?, files, hot)
}

/// Writes files into an archive.
pub(in crate::packing) fn fill<W: Write>(
    mut sink: Sink<W>,
    files: &[TestFile],
    hot: Option<Vec<HotPages>>,
) -> io::Result<Written<W>> {
    if let Some(hot) = hot {
        sink.hot(hot)?;
    }
    put(&mut sink, files)?;
    sink.end()?;
    sink.write_all(&[0; 1024])?;
    sink.finish()
}

/// Writes files into an archive that is not at its end.
pub(in crate::packing) fn put<W: Write>(sink: &mut Sink<W>, files: &[TestFile]) -> io::Result<()> {
    for file in files {
        sink.begin(entry(file))?;
        sink.write_all(&header(&file.name, file.bytes.len()))?;
        sink.content()?;
        for piece in file.bytes.chunks(7001) {
            sink.write_all(piece)?;
        }
        sink.write_all(&vec![0; file.bytes.len().next_multiple_of(512) - file.bytes.len()])?;
    }
    Ok(())
}

pub(in crate::packing) fn entry(file: &TestFile) -> Entry {
    Entry {
        path: file.name.clone().into_bytes(),
        kind: MemberKind::File,
        mode: 0o600,
        uid: 0,
        gid: 7,
        modified: 1_700_000_000,
        size: file.bytes.len() as u64,
    }
}

/// The plain archive of files.
pub(in crate::packing) fn plain(files: &[TestFile]) -> Vec<u8> {
    write(files, Vec::new(), Form::Plain, None).unwrap().out
}

/// The seekable archive of files.
pub(in crate::packing) fn seekable(files: &[TestFile]) -> Vec<u8> {
    write(files, Vec::new(), Form::Seekable { level: 1, threads: 1 }, None).unwrap().out
}

/// A header of tar.
pub(in crate::packing) fn header(name: &str, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000007\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", 1_700_000_000));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Bytes that count how they are read.
#[derive(Clone, Debug)]
pub(in crate::packing) struct Counting {
    bytes: Arc<dyn ReadAt>,
    pub(in crate::packing) reads: Arc<AtomicU64>,
    pub(in crate::packing) read: Arc<AtomicU64>,
    pub(in crate::packing) places: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl Counting {
    pub(in crate::packing) fn new(bytes: impl ReadAt + 'static) -> Self {
        let (reads, read, places) = Default::default();
        Self { bytes: Arc::new(bytes), reads, read, places }
    }

    /// Number of reads and of bytes since the last call.
    pub(in crate::packing) fn take(&self) -> (u64, u64) {
        self.places.lock().unwrap().clear();
        (self.reads.swap(0, Ordering::Relaxed), self.read.swap(0, Ordering::Relaxed))
    }
}

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.places.lock().unwrap().push((offset, buf.len()));
        self.bytes.read_at(offset, buf)
    }
}

/// Reads all bytes of a blob.
pub(in crate::packing) fn all(blob: &Blob) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; blob.len() as usize];
    blob.read_at(0, &mut bytes)?;
    Ok(bytes)
}
