//! Archives whose tables hide what other programs read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use criu_images::source::Blob;

use super::contents::{self, END, End};
use super::digests::blocks;
use super::seek_table::{self, Footer};
use super::skippable;
use super::wire::Contents;
use crate::packing::tests::made::{TestFile, all, files, fill, header, put};
use crate::packing::{Form, HotPages, Layer, Sink, layer};

/// An archive in its parts, which a test changes.
struct Parts {
    /// Frames of the tar stream.
    frames: Vec<u8>,
    /// Tables behind the frames, with their heads.
    digests: Vec<u8>,
    hot: Vec<u8>,
    contents: Contents,
    /// Sizes in the seek table.
    entries: Vec<(u32, u32)>,
}

impl Parts {
    fn new(packed: &[u8]) -> Self {
        let footer = Footer::find(packed).unwrap();
        let table_end = packed.len() - footer.size() as usize;
        let end = End::find(&packed[table_end - END..table_end], packed.len() as u64);
        let end = end.unwrap().unwrap();
        let start = table_end - end.payload() as usize - 8;
        let contents = end.contents(&packed[start..table_end]).unwrap();
        let frames = contents::frames(&contents).unwrap();
        let (digests, end) = (frames.packed() as usize, contents.digests.start as usize);
        let hot = end + contents.digests.len as usize;
        let entries: Vec<(u32, u32)> =
            contents.packed.iter().copied().zip(contents.unpacked.iter().copied()).collect();
        let mut parts = Self {
            frames: packed[..digests].to_vec(),
            digests: packed[digests..hot].to_vec(),
            hot: packed[hot..start].to_vec(),
            contents,
            entries,
        };
        let others = [&parts.digests, &parts.hot].map(|other| (other.len() as u32, 0));
        parts.entries.extend(others.into_iter().filter(|(len, _)| *len > 0));
        assert!(parts.packed() == packed);
        parts
    }

    /// The archive of the parts, with right digests and sizes of the tables.
    fn packed(&self) -> Vec<u8> {
        let mut contents = self.contents.clone();
        contents.digests.blocks = blocks(&self.digests[8..]);
        let table = contents::encode(&contents).unwrap();
        let entries = self.entries.iter().copied().chain([(table.len() as u32, 0)]);
        let entries: Vec<_> = entries.collect();
        let seek_table = seek_table::encode(entries.into_iter()).unwrap();
        [&self.frames[..], &self.digests, &self.hot, &table, &seek_table].concat()
    }
}

/// Returns why an archive is not opened.
fn refused(packed: Vec<u8>) -> String {
    format!("{:?}", layer(&Blob::from(packed)).unwrap_err())
}

/// A zstd frame with a member, and a skippable frame that fills it up to a size.
fn hidden(len: usize) -> Vec<u8> {
    let mut frame = zstd::encode_all(&header("hidden", 0)[..], 3).unwrap();
    let rest = len - frame.len() - 8;
    frame.extend(skippable(rest).unwrap());
    frame.resize(len, 0);
    frame
}

/// An archive, which may end without blocks of zeros.
fn written(with_end: bool) -> Vec<u8> {
    let form = Form::Seekable { level: 1, threads: 1 };
    let mut sink = Sink::new(Vec::new(), form, true).unwrap();
    let path = b"checkpoint/pages-5.img".to_vec();
    let hot = vec![HotPages { path, offset: 4096, len: 8192 }];
    if with_end {
        return fill(sink, &files(), Some(hot)).unwrap().out;
    }
    sink.hot(hot).unwrap();
    put(&mut sink, &files()).unwrap();
    sink.end().unwrap();
    sink.finish().unwrap().out
}

#[test]
fn a_table_that_is_no_skippable_frame_is_refused() {
    for with_end in [false, true] {
        let honest = Parts::new(&written(with_end));
        for of_digests in [true, false] {
            let mut forged = Parts::new(&written(with_end));
            let table = if of_digests { &mut forged.digests } else { &mut forged.hot };
            *table = hidden(table.len());
            if !of_digests {
                let digest = <sha2::Sha256 as sha2::Digest>::digest(&forged.hot[8..]);
                forged.contents.hot.as_mut().unwrap().digest = digest.to_vec();
            }
            // Other programs read the member in the table.
            let plain = zstd::decode_all(&honest.packed()[..]).unwrap();
            let read = zstd::decode_all(&forged.packed()[..]).unwrap();
            assert!(read == [&plain[..], &header("hidden", 0)].concat());
            let refused = refused(forged.packed());
            assert!(refused.contains("Malformed") && refused.contains("is damaged"), "{refused}");
        }
    }
}

#[test]
fn an_archive_with_a_table_of_contents_has_its_end() {
    let refused = refused(written(false));
    assert!(refused.contains("does not describe all bytes"), "{refused}");
    assert!(layer(&Blob::from(written(true))).is_ok());
}

#[test]
fn a_seek_table_with_other_frames_than_the_table_of_contents_is_refused() {
    let packed = written(true);
    let changes: [fn(&mut Parts); 6] = [
        |parts| parts.entries[0].0 += 1,
        |parts| parts.entries[0].1 -= 1,
        |parts| parts.entries.last_mut().unwrap().0 -= 1,
        |parts| parts.entries.last_mut().unwrap().1 = 512,
        |parts| parts.entries.push((0, 0)),
        |parts| parts.entries.retain(|entry| entry.1 > 0),
    ];
    for change in changes {
        let mut forged = Parts::new(&packed);
        change(&mut forged);
        let refused = refused(forged.packed());
        assert!(refused.contains("has other frames than the seek table"), "{refused}");
    }
}

#[test]
fn frames_without_digests_are_refused_before_they_take_memory() {
    let mut forged = Parts::new(&written(true));
    forged.contents.packed = vec![9; 1 << 19];
    forged.contents.unpacked = vec![1; 1 << 19];
    let count = contents::check_count(&forged.contents, forged.packed().len() as u64);
    assert!(count.is_err());
    forged.contents.digests.len = 16 << 19;
    let archive = forged.packed().len() as u64;
    assert!(archive < 16 << 19 && contents::check_count(&forged.contents, archive).is_err());
    let refused = refused(forged.packed());
    assert!(refused.contains("has fewer digests than frames"), "{refused}");
}

/// A file of another program: frames with an unpacked size each, and a seek table.
fn foreign(frames: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let entries: Vec<_> = frames.iter().map(|(bytes, len)| (bytes.len() as u32, *len)).collect();
    let mut packed: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    packed.extend(seek_table::encode(entries.into_iter()).unwrap());
    packed
}

#[test]
fn frames_that_are_said_to_be_empty_are_looked_at() {
    let pack = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let file = TestFile { name: "shown".into(), bytes: Vec::new() };
    let first = (pack(&header(&file.name, 0)), 512);
    let [member, empty] = [pack(&header("hidden", 0)), pack(&[])];
    let gap = [&skippable(5).unwrap()[..], b"12345"].concat();
    let short = [&skippable(4).unwrap()[..], b"12345"].concat();
    let led = [&gap[..], &member].concat();
    for (other, is_known) in
        [(empty, true), (gap, true), (member, false), (led, false), (short, false)]
    {
        let packed = foreign(&[first.clone(), (other, 0)]);
        match layer(&Blob::from(packed)).unwrap() {
            Layer::Anywhere { bytes, toc: None, .. } if is_known => {
                assert_eq!(all(&bytes).unwrap(), header("shown", 0));
            }
            // Read from the first frame on, as other programs do.
            Layer::Forward { .. } if !is_known => {}
            other => panic!("{other:?}"),
        }
    }
    let gap = (skippable(0).unwrap().to_vec(), 0);
    let many = [vec![first], vec![gap; 65]].concat();
    assert!(matches!(layer(&Blob::from(foreign(&many))).unwrap(), Layer::Forward { .. }));
}
