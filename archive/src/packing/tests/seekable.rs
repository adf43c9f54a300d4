//! Seekable archives.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use criu_images::source::Blob;
use criu_lab::scratch;
use sha2::{Digest, Sha256};

use super::made::{
    Counting, TestFile, all, entry, files, fill, header, memory, plain, seekable, write,
};
use crate::packing::seekable::Writer;
use crate::packing::{Form, HotPages, Layer, Packing, Sink, Toc, layer, layer_verified};

fn open(bytes: impl Into<Vec<u8>>) -> (Blob, Toc) {
    opened(&Blob::from(bytes.into()))
}

fn opened(packed: &Blob) -> (Blob, Toc) {
    match layer(packed).unwrap() {
        Layer::Anywhere { packing: Packing::Seekable, bytes, toc: Some(toc) } => (bytes, toc),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_at_every_place() {
    let files = files();
    let tar = plain(&files);
    let written = write(&files, Vec::new(), Form::Seekable { level: 1, threads: 2 }, None).unwrap();
    assert_eq!(written.diff_id, Some(Sha256::digest(&tar).into()));
    assert_eq!(written.unpacked, tar.len() as u64);
    let packed = written.out.clone();
    let (bytes, toc) = open(written.out);
    let table = &packed[toc.place.start as usize..toc.place.end as usize];
    assert_eq!(toc.digest, <[u8; 32]>::from(Sha256::digest(table)));
    assert_eq!(toc.diff_id, written.diff_id);
    assert!(all(&bytes).unwrap() == tar);
    for len in [1, 511, 4096, 65_536, 65_537, 300_000] {
        for at in (0..tar.len() - len).step_by(50_021) {
            let mut found = vec![0; len];
            bytes.read_at(at as u64, &mut found).unwrap();
            assert!(found == tar[at..at + len], "{at} {len}");
        }
    }
    assert!(bytes.read_at(tar.len() as u64 - 1, &mut [0; 2]).is_err());
    // The table of contents knows every member.
    assert_eq!(toc.members.len(), files.len());
    for (member, file) in toc.members.iter().zip(&files) {
        assert_eq!(member.found.name, file.name.as_bytes());
        let start = member.found.start as usize;
        assert_eq!(tar[member.header as usize..start], header(&file.name, file.bytes.len()));
        assert!(tar[start..][..file.bytes.len()] == file.bytes);
        assert_eq!((member.found.mode, member.found.gid), (0o600, 7));
        let want = (!file.bytes.is_empty()).then(|| Sha256::digest(&file.bytes).into());
        assert_eq!(member.has_content().then(|| toc.digest_of(member.row).unwrap()), want);
    }
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    let mut files = files();
    for at in 0..6 {
        let bytes = memory(900_000 + at * 4096, at as u64);
        files.push(TestFile { name: format!("checkpoint/pages-9{at}.img"), bytes });
    }
    let hot = vec![HotPages { path: b"checkpoint/pages-90.img".into(), offset: 4096, len: 8192 }];
    let mut packed = (1..=5).chain([64]).map(|threads| {
        write(&files, Vec::new(), Form::Seekable { level: 1, threads }, Some(hot.clone()))
            .unwrap()
            .out
    });
    let first = packed.next().unwrap();
    packed.for_each(|other| assert!(first == other));
    // In pieces of every size the same, too.
    for piece in [1, 511, 4097, 100_000] {
        let form = Form::Seekable { level: 1, threads: 2 };
        let mut sink = Sink::new(Vec::new(), form, true).unwrap();
        sink.hot(hot.clone()).unwrap();
        for file in &files {
            sink.begin(entry(file)).unwrap();
            sink.write_all(&header(&file.name, file.bytes.len())).unwrap();
            sink.content().unwrap();
            let mut content = file.bytes.clone();
            content.resize(content.len().next_multiple_of(512), 0);
            content.chunks(piece).for_each(|piece| sink.write_all(piece).unwrap());
        }
        sink.end().unwrap();
        sink.write_all(&[0; 1024]).unwrap();
        assert!(sink.finish().unwrap().out == first, "{piece}");
    }
}

#[test]
fn no_page_is_in_two_frames() {
    let files = files();
    let packed = seekable(&files);
    let (bytes, toc) = open(packed.clone());
    let counting = Counting::new(Blob::from(packed));
    for member in &toc.members {
        if !member.found.name.starts_with(b"checkpoint/pages-") {
            continue;
        }
        for page in (0..member.found.size).step_by(4096) {
            let (fresh, _) = opened(&Blob::new(counting.clone()));
            counting.take();
            let at = member.found.start + page;
            let (mut found, mut want) = ([0; 4096], [0; 4096]);
            fresh.read_at(at, &mut found).unwrap();
            bytes.read_at(at, &mut want).unwrap();
            assert_eq!(found, want);
            assert!(counting.take().0 <= 1);
        }
    }
}

#[test]
fn other_programs_read_our_archives() {
    let files = files();
    let directory = scratch("seekable-peers");
    let path = directory.join("a.tar.zst");
    fs::write(&path, seekable(&files)).unwrap();
    let hot = vec![HotPages { path: b"checkpoint/pages-5.img".into(), offset: 0, len: 40_960 }];
    let hot_path = directory.join("hot.tar.zst");
    let form = Form::Seekable { level: 3, threads: 2 };
    write(&files, fs::File::create(&hot_path).unwrap(), form, Some(hot)).unwrap();
    for path in [&path, &hot_path] {
        let read = |program: &str, words: &[&str]| {
            let found = Command::new(program).args(words).arg(path).output().unwrap();
            assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
            found.stdout
        };
        assert!(read("zstd", &["-dc"]) == plain(&files));
        let names = String::from_utf8(read("tar", &["--zstd", "-tf"])).unwrap();
        assert!(names.lines().eq(files.iter().map(|file| file.name.as_str())));
        read("zstd", &["-t"]);
    }
}

#[test]
fn one_page_of_an_archive_takes_few_reads() {
    // 2,000 processes with 7 images each, and 12 MiB of one.
    let mut all_files = Vec::new();
    for kind in ["core", "fs", "ids", "mm", "pagemap", "fdinfo", "timens"] {
        for pid in 0..2000u64 {
            let name = format!("checkpoint/{kind}-{}.img", 100 + pid);
            all_files.push(TestFile { name, bytes: memory(200 + pid as usize % 700, pid) });
        }
    }
    let bytes = memory(12 << 20, 3);
    all_files.push(TestFile { name: "checkpoint/pages-1.img".into(), bytes });
    let packed = seekable(&all_files);
    let counting = Counting::new(Blob::from(packed));
    let (bytes, toc) = opened(&Blob::new(counting.clone()));
    let (reads, read) = counting.take();
    assert!(reads <= 3 && read < 600 << 10, "opening: {reads} reads of {read} bytes");
    let tables = toc.place.end - toc.place.start;
    assert!(tables < 200 << 10, "the table of contents has {tables} bytes");
    let pages = &toc.members.last().unwrap().found;
    let mut page = [0; 4096];
    bytes.read_at(pages.start + (10 << 20), &mut page).unwrap();
    assert_eq!(page[..], all_files.last().unwrap().bytes[10 << 20..][..4096]);
    let (reads, read) = counting.take();
    assert!(reads == 1 && read < 80 << 10, "a page: {reads} reads of {read} bytes");
    // Small members that stand side by side come with few reads.
    for member in &toc.members[..14_000] {
        let mut content = vec![0; member.found.size as usize];
        bytes.read_at(member.found.start, &mut content).unwrap();
    }
    let (reads, read) = counting.take();
    assert!(reads <= 30, "14,000 members: {reads} reads of {read} bytes");
}

#[test]
fn a_working_set_comes_with_one_read() {
    let mut files = files();
    for at in 0..3 {
        let bytes = memory(3 << 20, 77 + at);
        files.push(TestFile { name: format!("checkpoint/pages-8{at}.img"), bytes });
    }
    let page = |file: usize, page: u64, pages: u64| HotPages {
        path: files[files.len() - 1 - file].name.clone().into_bytes(),
        offset: page * 4096,
        len: pages * 4096,
    };
    let mut wanted: Vec<_> =
        (0..200u64).map(|at| page(at as usize % 3, at * 37 % 700, 1 + at % 2)).collect();
    wanted.dedup();
    // Pages that the archive does not have are left out.
    wanted.push(HotPages { path: b"checkpoint/pages-404.img".into(), offset: 0, len: 4096 });
    wanted.push(page(0, 4000, 1));
    let form = Form::Seekable { level: 1, threads: 2 };
    let written = write(&files, Vec::new(), form, Some(wanted.clone())).unwrap();
    assert!(written.hot_pages > 190 * 4096);
    let counting = Counting::new(Blob::from(written.out));
    let (bytes, toc) = opened(&Blob::new(counting.clone()));
    let tar = plain(&files);
    counting.take();
    assert_eq!(toc.prefetch().unwrap(), written.hot_pages);
    let (reads, read) = counting.take();
    let place = toc.reader.hot().unwrap().place();
    assert_eq!((reads, read), (1, place.end - place.start));
    for want in &wanted[..wanted.len() - 2] {
        let member = toc.members.iter().find(|member| member.found.name == want.path).unwrap();
        let at = member.found.start + want.offset;
        let mut found = vec![0; want.len as usize];
        bytes.read_at(at, &mut found).unwrap();
        assert!(found == tar[at as usize..][..found.len()]);
    }
    assert_eq!(counting.take().0, 0);
    assert!(all(&bytes).unwrap() == tar);
    assert_eq!(open(seekable(&files)).1.prefetch().unwrap(), 0);
}

#[test]
fn frames_are_compared_with_their_digests_on_request() {
    // Bytes that zstd stores as they are.
    let bytes = (0..9000u64).flat_map(|at| Sha256::digest(at.to_le_bytes())).collect();
    let files = vec![TestFile { name: "pages-1.img".into(), bytes }];
    let packed = seekable(&files);
    let (_, toc) = open(packed.clone());
    let blob = Blob::from(packed.clone());
    let Layer::Anywhere { bytes, .. } = layer_verified(&blob, toc.digest).unwrap() else {
        panic!()
    };
    assert!(all(&bytes).unwrap() == plain(&files));
    assert!(layer_verified(&blob, [1; 32]).is_err());
    // A frame of somebody else, with the same sizes and a right checksum.
    let mut other = files;
    other[0].bytes[100_000] ^= 1;
    let changed = seekable(&other);
    assert_eq!(packed.len(), changed.len());
    let tables = changed_from(&packed, &toc);
    let forged = [&changed[..tables], &packed[tables..]].concat();
    let blob = Blob::from(forged);
    let (unchecked, toc) = opened(&blob);
    assert!(all(&unchecked).is_ok());
    // From the request on, also frames that are in memory.
    toc.check_frames().unwrap();
    let refused = all(&unchecked).unwrap_err().to_string();
    assert_eq!(refused, "frame 2 of the archive is not the one that was written");
    let Layer::Anywhere { bytes, .. } = layer_verified(&blob, toc.digest).unwrap() else {
        panic!()
    };
    let refused = all(&bytes).unwrap_err().to_string();
    assert_eq!(refused, "frame 2 of the archive is not the one that was written");
}

#[test]
fn digests_of_members_are_written_on_request_only() {
    let files = files();
    let form = Form::Seekable { level: 1, threads: 2 };
    let with = seekable(&files);
    let without = fill(Sink::new(Vec::new(), form, false).unwrap(), &files, None).unwrap();
    assert_eq!(without.diff_id, None);
    let without = without.out;
    let (bytes, toc) = open(without.clone());
    assert_eq!((toc.diff_id, toc.has_digests), (None, false));
    toc.check_frames().unwrap();
    assert!(all(&bytes).unwrap() == plain(&files));
    // The frames are the same.
    let (_, other) = open(with.clone());
    let (here, there) = (changed_from(&without, &toc), changed_from(&with, &other));
    assert!(other.has_digests && without[..here] == with[..there]);
    let members = files.iter().filter(|file| !file.bytes.is_empty()).count();
    assert!(with.len() > without.len() + 32 * members);
}

#[test]
fn a_working_set_with_other_pages_than_the_members_is_found() {
    let file = TestFile { name: "checkpoint/pages-1.img".into(), bytes: memory(8 * 4096, 3) };
    let written = |swap: bool| {
        let mut writer = Writer::new(Vec::new(), 1, 1, false).unwrap();
        let path = file.name.clone().into_bytes();
        let page = |offset| HotPages { path: path.clone(), offset, len: 4096 };
        writer.hot(vec![page(4096), page(8192)]).unwrap();
        writer.put(&header(&file.name, file.bytes.len()), None).unwrap();
        writer.content(&entry(&file)).unwrap();
        for (page, bytes) in file.bytes.chunks(4096).enumerate() {
            // The second page is said to be the first: the set has zeros in its place.
            let offset = if swap && page == 1 { 0 } else { page as u64 * 4096 };
            writer.put(bytes, Some(offset)).unwrap();
        }
        writer.done(entry(&file), 1);
        writer.put(&[0; 1024], None).unwrap();
        let (_, toc) = open(writer.finish().unwrap().out);
        toc
    };
    let honest = written(false);
    assert!(honest.check_frames().unwrap() && honest.reader.hot().is_some());
    assert!(!written(true).check_frames().unwrap());
}

/// Returns the place of the first table: behind the frames of the tar stream.
fn changed_from(packed: &[u8], toc: &Toc) -> usize {
    let before = &packed[..toc.place.start as usize - 8];
    let magic = 0x184d_2a5cu32.to_le_bytes();
    let at = before.windows(4).rposition(|bytes| bytes == magic);
    at.unwrap()
}

#[test]
fn threads_read_one_archive_at_once() {
    let files = files();
    let tar = plain(&files);
    let (bytes, _) = open(seekable(&files));
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (bytes, tar) = (&bytes, &tar);
            scope.spawn(move || {
                for step in 0..400usize {
                    let at = (step * 7919 + thread * 104_729) % (tar.len() - 5000);
                    let mut found = [0; 5000];
                    bytes.read_at(at as u64, &mut found).unwrap();
                    assert!(found == tar[at..at + 5000]);
                }
            });
        }
    });
}

/// An archive in zstd's seekable format without this crate's tables.
fn foreign(tar: &[u8], frame: usize, checksums: bool, gap: bool) -> Vec<u8> {
    let (mut packed, mut entries) = (Vec::new(), Vec::new());
    let mut put = |entry: (usize, usize)| {
        entries.extend((entry.0 as u32).to_le_bytes());
        entries.extend((entry.1 as u32).to_le_bytes());
        if checksums {
            entries.extend([0; 4]);
        }
    };
    let mut count = 0u32;
    for piece in tar.chunks(frame) {
        let bytes = zstd::encode_all(piece, 3).unwrap();
        put((bytes.len(), piece.len()));
        packed.extend(bytes);
        count += 1;
    }
    if gap {
        let skippable = [&0x184d_2a50u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
        put((skippable.len(), 0));
        packed.extend(skippable);
        count += 1;
    }
    let size = entries.len() as u32 + 9;
    packed.extend(0x184d_2a5eu32.to_le_bytes());
    packed.extend(size.to_le_bytes());
    packed.extend(entries);
    packed.extend(count.to_le_bytes());
    packed.push(if checksums { 0x80 } else { 0 });
    packed.extend(0x8f92_eab1u32.to_le_bytes());
    packed
}

#[test]
fn seekable_files_of_other_programs_are_read_at_any_place() {
    let tar = plain(&files());
    for (frame, checksums, gap) in
        [(1000, false, false), (4096, true, true), (2 << 20, true, false), (100_000, false, true)]
    {
        let packed = foreign(&tar, frame, checksums, gap);
        let found = layer(&Blob::from(packed)).unwrap();
        let Layer::Anywhere { packing: Packing::Seekable, bytes, toc: None } = found else {
            panic!("{frame}")
        };
        assert!(all(&bytes).unwrap() == tar);
        let mut byte = [0; 700];
        bytes.read_at(tar.len() as u64 - 700, &mut byte).unwrap();
    }
    // Frames too large to unpack for one page are unpacked in order.
    let zeros = vec![0; 17 << 20];
    let found = layer(&Blob::from(foreign(&zeros, 17 << 20, false, false))).unwrap();
    let Layer::Forward { packing: Packing::Zstd, opener } = found else { panic!() };
    let mut bytes = Vec::new();
    opener.open().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == zeros);
    // Sizes that are no sizes of the file.
    let mut lies = foreign(&tar, 100_000, false, false);
    let at = lies.len() - 20;
    lies[at] ^= 1;
    if let Ok(Layer::Anywhere { bytes, .. }) = layer(&Blob::from(lies)) {
        all(&bytes).unwrap_err();
    }
}

#[test]
fn a_member_that_is_not_as_announced_is_refused() {
    let file = TestFile { name: "a".into(), bytes: vec![1; 600] };
    for form in [Form::Plain, Form::Seekable { level: 1, threads: 2 }] {
        let begin = || {
            let mut sink = Sink::new(Vec::new(), form, true).unwrap();
            sink.begin(entry(&file)).unwrap();
            sink.write_all(&header("a", 600)).unwrap();
            sink.content().unwrap();
            sink
        };
        let mut short = begin();
        short.write_all(&[1; 600]).unwrap();
        let refused = short.finish().map(drop).unwrap_err().to_string();
        assert_eq!(refused, "a: has another size than was said");
        let mut long = begin();
        let refused = long.write_all(&[1; 1025]).unwrap_err().to_string();
        assert_eq!(refused, "a: goes on behind its size");
        let mut sink = Sink::new(Vec::new(), form, true).unwrap();
        assert!(sink.write_all(b"x").is_err());
        sink.begin(entry(&file)).unwrap();
        sink.write_all(&[0; 511]).unwrap();
        let refused = sink.content().unwrap_err().to_string();
        assert_eq!(refused, "a: has no whole headers before its content");
    }
}

#[test]
fn a_failing_disk_ends_writing() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let files = files();
    let whole = seekable(&files).len();
    for room in (0..whole).step_by(whole / 9) {
        let form = Form::Seekable { level: 1, threads: 3 };
        let error = write(&files, Full(room), form, None).map(drop).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

#[test]
fn a_seekable_archive_comes_through_a_pipe() {
    let files = files();
    let mut packed =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, from) = (packed.stdin.take().unwrap(), packed.stdout.take().unwrap());
    let bytes = seekable(&files);
    let writer = std::thread::spawn(move || to.write_all(&bytes).unwrap());
    let (packing, mut stream) = crate::packing::unpack(from).unwrap();
    let mut tar = Vec::new();
    stream.read_to_end(&mut tar).unwrap();
    writer.join().unwrap();
    packed.wait().unwrap();
    assert!(packing == Packing::Zstd && tar == plain(&files));
}

#[test]
fn a_working_set_is_written_in_small_pieces() {
    /// Counts bytes, and the most that came at once.
    #[derive(Default)]
    struct Pieces(usize, usize);
    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            *self = Self(self.0 + bytes.len(), self.1.max(bytes.len()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let bytes: Vec<u8> = (0..131_072u64).flat_map(|at| Sha256::digest(at.to_le_bytes())).collect();
    let len = bytes.len() as u64;
    let files = [TestFile { name: "checkpoint/pages-1.img".into(), bytes }];
    let hot = vec![HotPages { path: files[0].name.clone().into(), offset: 0, len }];
    let form = Form::Seekable { level: 1, threads: 1 };
    let written = write(&files, Pieces::default(), form, Some(hot)).unwrap();
    let Pieces(all, most) = written.out;
    // Noise is stored as it is, twice. A piece of the tar stream has 1 MiB.
    assert!(all as u64 > 2 * len && written.hot_pages == len);
    assert!(most < 1200 << 10, "{most}");
}
