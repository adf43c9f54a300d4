//! JSON compared with that of crit itself: of every kind of image, with every field set now and
//! then, and of real dumps.
//!
//! Needs root, Debian's python3-protobuf and the CRIUs that `cargo xtask setup --tests` installs.

#![cfg(feature = "json")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::Cursor;

use common::crit::{NOT_CRITS, PRETTY, compare, crit, encoded, json};
use common::{Payload, dump, image};
use criu_images::json::{EncodeError, Style, decode, decode_file, encode};
use criu_images::kind::{self, ALL, Entries, Extra, Kind};
use criu_images::schema::{Entry, Label, Message as Schema, Show, Type};
use criu_images::{Image, proto};
use prost::encoding::encode_varint;

/// The error of JSON that makes no image.
fn refused(json: &str) -> String {
    let error = encoded(json).unwrap_err();
    assert!(matches!(error, EncodeError::Json(_)), "{error}");
    error.to_string()
}

#[test]
fn every_kind_is_shown_as_crit_shows_it_and_comes_back() {
    let directory = common::scratch("json-made");
    let mut random = Random(7);
    let mut made = Vec::new();
    for kind in ALL.iter().filter(|kind| kind.entries != Entries::Raw) {
        for round in 0..8 {
            let bytes = random.image(kind);
            // By the kind's place: several share a name.
            let name = format!("{}-{round}", made.len());
            fs::write(directory.join(&name), &bytes).unwrap();
            made.push((name, *kind, bytes));
        }
    }
    crit("experimental", &directory);
    let mut compared = 0;
    for (name, kind, bytes) in &made {
        for (style, suffix) in [(Style::default(), "plain"), (PRETTY, "pretty")] {
            let ours = json(name, bytes, kind, style);
            let back = encoded(&ours).unwrap_or_else(|error| panic!("{kind:?}: {error}\n{ours}"));
            assert_eq!(&back, bytes, "{kind:?}\n{ours}");
            let file = directory.join(format!("{name}.{suffix}"));
            if NOT_CRITS.contains(&kind.name) {
                continue;
            }
            let theirs = fs::read_to_string(&file);
            let theirs = theirs.unwrap_or_else(|error| panic!("crit on {kind:?}: {error}"));
            assert_eq!(ours, theirs, "{kind:?}");
            let back = encoded(&theirs).unwrap();
            assert_eq!(&back, bytes, "{kind:?}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn dumps_by_4_1_come_back_from_crit_s_json() {
    dumps("trixie");
}

#[test]
fn dumps_by_4_3_come_back_from_crit_s_json() {
    dumps("experimental");
}

/// Every image of a real dump: from our JSON, from crit's, and ours is crit's.
fn dumps(suite: &str) {
    let directory = common::scratch(&format!("json-{suite}"));
    let payload = Payload::start(&["sh", "-c", "echo waiting in the pipe | sleep 1000"]);
    let pid = payload.0.id();
    while fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().is_empty() {
        std::thread::yield_now();
    }
    dump(suite, pid, "--leave-running", &directory);
    let compared = compare(suite, &directory);
    assert!(compared > 30, "{compared}");
}

#[test]
fn what_crit_loses_is_kept() {
    // A field that nobody knows.
    let mut task =
        prost::Message::encode_to_vec(&proto::PstreeEntry { pid: 7, ..Default::default() });
    task.extend([0xfa, 0x01, 2, b'h', b'i']);
    let bytes = image(kind::PSTREE, &[task]);
    let text = json("pstree.img", &bytes, kind::PSTREE, Style::default());
    assert!(text.contains(r#""unknown_fields": "+gECaGk=\n"}"#), "{text}");
    assert_eq!(encoded(&text).unwrap(), bytes);

    // An enum's number without a name, and a name that is not UTF-8.
    let core = proto::CoreEntry {
        mtype: 99,
        tc: Some(proto::TaskCoreEntry { comm: b"\xff\xfe".to_vec(), ..Default::default() }),
        ..Default::default()
    };
    let bytes = image(kind::CORE, &[prost::Message::encode_to_vec(&core)]);
    let text = json("core-1.img", &bytes, kind::CORE, Style::default());
    assert!(text.contains(r#""mtype": 99"#), "{text}");
    assert!(text.contains(r#""comm": {"bytes": "//4=\n"}"#), "{text}");
    assert_eq!(encoded(&text).unwrap(), bytes);

    // Segments whose content is elsewhere.
    let segment = proto::IpcShmEntry { size: 5, in_pagemaps: Some(true), ..Default::default() };
    let segment = prost::Message::encode_to_vec(&segment);
    let bytes = image(kind::IPCNS_SHM, &[segment.clone(), segment]);
    let text = json("ipcns-shm-9.img", &bytes, kind::IPCNS_SHM, Style::default());
    assert_eq!(text.matches("in_pagemaps").count(), 2);
    assert_eq!(encoded(&text).unwrap(), bytes);

    // Version 1.0 has no first word.
    let new = image(kind::PSTREE, &[prost::Message::encode_to_vec(&proto::PstreeEntry::default())]);
    let text = json("pstree.img", &new[4..], kind::PSTREE, Style::default());
    assert!(text.starts_with(r#"{"magic": "PSTREE", "version": "1.0", "entries": ["#), "{text}");
    assert_eq!(encoded(&text).unwrap(), new[4..]);
}

#[test]
fn without_payload_there_is_its_size() {
    let style = Style { pretty: false, no_payload: true };
    for (size, want) in [(15, "15B"), (4096, "4KB"), (1536, "1.5KB"), (0, "0B")] {
        let entry = proto::PipeDataEntry { pipe_id: 1, bytes: size, size: None };
        let mut bytes = image(kind::PIPES_DATA, &[prost::Message::encode_to_vec(&entry)]);
        bytes.resize(bytes.len() + size as usize, 7);
        let text = json("pipes-data.img", &bytes, kind::PIPES_DATA, style);
        assert!(text.contains(&format!(r#""extra": "... <{want}>"}}"#)), "{text}");
    }
}

#[test]
fn json_that_is_no_image_is_refused_with_a_place() {
    let head = r#"{"magic": "PSTREE", "entries": "#;
    let task = |fields: &str| format!(r#"{head}[{{{fields}}}]}}"#);
    let whole = r#""pid": 1, "ppid": 0, "pgid": 1, "sid": 1, "threads": [1]"#;
    assert!(encoded(&task(whole)).is_ok());
    for (json, want) in [
        (task(r#""pid": 1"#), "entry 0: pstree_entry.ppid: is required and absent"),
        (task(&format!("{whole}, \"x\": 1")), "entry 0: pstree_entry has no x"),
        (task(&format!("{whole}, \"extra\": \"\"")), "extra follows no such entry"),
        (task(&whole.replace("\"pid\": 1", "\"pid\": -1")), "pstree_entry.pid: -1 does not fit"),
        (task(&whole.replace("\"pid\": 1", "\"pid\": 1.5")), "pstree_entry.pid: 1.5 does not fit"),
        (task(&whole.replace("\"pid\": 1", "\"pid\": 4294967296")), "does not fit its type"),
        (task(&whole.replace("\"pid\": 1", "\"pid\": \"x\"")), "\"x\" is no number"),
        (task(&whole.replace("\"pid\": 1", "\"pid\": null")), "null is no number"),
        (task(&whole.replace("[1]", "1")), "pstree_entry.threads: a number is no list"),
        (format!("{head}[1]}}"), "invalid type: integer `1`, expected a map"),
        (format!("{head}[]"), "EOF while parsing"),
        (format!("{head}[]}} x"), "trailing characters"),
        (r#"{"entries": [], "magic": "PSTREE"}"#.into(), "entries come before the magic"),
        (r#"{"magic": "PSTREE"}"#.into(), "missing field `entries`"),
        (r#"{"magic": "NOTHING", "entries": []}"#.into(), "no magic \"NOTHING\""),
        (r#"{"magic": "PAGES", "entries": []}"#.into(), "no magic \"PAGES\""),
        ("[".repeat(100_000), "invalid type: sequence"),
    ] {
        let error = refused(&json);
        assert!(error.contains(want) && error.contains("line 1 column "), "{error}\n{want}");
    }
    let deep = task(&format!("{whole}, \"x\": {}", "[".repeat(100_000)));
    assert!(refused(&deep).contains("recursion limit exceeded"));
    let pipe =
        r#"{"magic": "PIPES_DATA", "entries": [{"pipe_id": 1, "bytes": 3, "extra": "YQ=="}]}"#;
    assert!(refused(pipe).contains("extra: has 1 bytes, bytes says 3"));
    assert!(refused(&pipe.replace("YQ==", "Y!")).contains("is no base64"));
}

/// Truncated anywhere, JSON is refused, and nothing panics.
#[test]
fn cut_json_is_refused() {
    let bytes = fs::read("tests/data/pipeline/files.img").unwrap();
    let text = json("files.img", &bytes, kind::FILES, PRETTY);
    for end in (0..text.len()).step_by(7) {
        refused(&text[..end]);
    }
}

/// Whatever the bytes are, decoding ends in a result, and what it writes can be read again.
#[test]
fn corrupt_images_end_in_a_result() {
    let mut random = Random(1);
    let mut decoded = 0;
    for kind in ALL.iter().filter(|kind| kind.entries != Entries::Raw) {
        let bytes = random.image(kind);
        for round in 0..400 {
            let mut bytes = bytes.clone();
            if round % 2 == 0 {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            } else {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << random.below(8);
            }
            let Ok(image) = Image::parse("x", &bytes, kind) else { continue };
            let mut out = Vec::new();
            let whole = decode(image, PRETTY, &mut out).map_err(|error| error.to_string());
            let pieces = decode_file("x", Cursor::new(&bytes), PRETTY, &mut Vec::new());
            assert_eq!(pieces.map_err(|error| error.to_string()), whole, "{kind:?}");
            if whole.is_ok() {
                decoded += 1;
                if let Err(error) = encode(&*out, &mut Vec::new()) {
                    // Only what is decoded by its bytes and not by its meaning.
                    let text = error.to_string();
                    assert!(text.contains("says") || text.contains("required"), "{kind:?} {text}");
                }
            }
        }
    }
    assert!(decoded > 1000, "{decoded}");
}

/// A single message of more than a MiB, which is shown piece by piece.
#[test]
fn a_large_entry_is_shown_as_a_small_one() {
    let vma = |n: u64| proto::VmaEntry { start: n << 12, end: (n + 1) << 12, ..Default::default() };
    let mm = proto::MmEntry {
        mm_saved_auxv: (0..50).collect(),
        vmas: (0..60_000).map(vma).collect(),
        dumpable: Some(1),
        ..Default::default()
    };
    let whole = prost::Message::encode_to_vec(&mm);
    assert!(whole.len() > 1 << 20);
    let show = |message: &[u8]| {
        let bytes = image(kind::MM, &[message.to_vec()]);
        json("mm-1.img", &bytes, kind::MM, PRETTY)
    };
    let text = show(&whole);
    assert_eq!(text.matches("\"start\"").count(), 60_000);
    // Out of order, with a field that nobody knows, in two pieces: all of them at once.
    for more in [&[0x08, 7][..], &[0xfa, 0x7f, 1, b'?'], &whole[whole.len() - 2..]] {
        assert!(show(&[&whole[..], more].concat()).len() >= text.len());
    }
    // What is wrong has a place, wherever it is.
    let fails = |message: &[u8]| {
        let bytes = image(kind::MM, &[message.to_vec()]);
        let mut out = Vec::new();
        let whole = decode(Image::parse("mm-1.img", &bytes, kind::MM).unwrap(), PRETTY, &mut out);
        let whole = whole.unwrap_err().to_string();
        let pieces = decode_file("mm-1.img", Cursor::new(&bytes), PRETTY, &mut Vec::new());
        (whole, pieces.unwrap_err().to_string())
    };
    let cut = fails(&whole[..whole.len() - 5]);
    assert_eq!(cut.0, cut.1);
    let lacking = proto::MmEntry { vmas: vec![vma(1)], ..Default::default() };
    let lacking = prost::Message::encode_to_vec(&lacking);
    // Without its first required field.
    let lacking = fails(&[&whole[2..], &lacking[..0]].concat());
    assert_eq!(lacking.0, lacking.1);
    let mut wrong = whole.clone();
    let at = wrong.len() - 200_000;
    let at = at + wrong[at..].windows(2).position(|pair| pair == [0x08, 0x80 | pair[1]]).unwrap();
    wrong[at] = 0x0d;
    let wrong = fails(&wrong);
    assert!(wrong.0.contains("vma_entry.start"), "{}", wrong.0);
    assert_eq!(wrong.0, wrong.1);
}

#[test]
fn errors_of_the_writer_are_its_own() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bytes = fs::read("tests/data/pipeline/files.img").unwrap();
    let text = json("files.img", &bytes, kind::FILES, PRETTY);
    let error = encode(text.as_bytes(), &mut Full).unwrap_err();
    assert!(matches!(&error, EncodeError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull));
}

/// Images nobody dumped: each field with a value of its type, or left out.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.next() as u8).collect()
    }

    fn image(&mut self, kind: &Kind) -> Vec<u8> {
        let mut out = image(kind, &[]);
        let count = match kind.entries {
            Entries::One => 1,
            _ => 1 + self.below(4),
        };
        let chunks = self.below(2);
        for n in 0..count {
            let schema = match (kind.entries, n) {
                (Entries::Pagemap, 0) => proto::PagemapHead::schema(),
                (Entries::Ghost, 1..) => proto::GhostChunkEntry::schema(),
                _ => Schema::by_name(kind.message).unwrap(),
            };
            let len = self.below(100);
            let set: &[(&str, u64)] = match (kind.extra, n) {
                (Extra::None, _) => &[],
                (Extra::Pipe, _) => &[("bytes", len)],
                (Extra::Packet, _) => &[("length", len)],
                (Extra::Tcp, _) => &[("inq_len", len), ("outq_len", 2)],
                (Extra::Ghost, 0) => &[("chunks", chunks)],
                (Extra::Ghost, _) => &[("len", len)],
                (Extra::Shm, _) => &[("size", len), ("in_pagemaps", 0)],
                (Extra::Msg, _) => &[("qnum", 2)],
                (Extra::Sem, _) => &[("nsems", 3)],
                (Extra::BpfMap, _) => &[("keys_bytes", len), ("values_bytes", 9)],
                _ => panic!("{kind:?}"),
            };
            let message = self.message(schema, set, false, 3);
            frame(&message, &mut out);
            let mut follows = |random: &mut Self, len: u64, unit: usize| {
                out.extend((0..len).map(|_| random.next() as u8));
                out.resize(out.len() + (len as usize).next_multiple_of(unit) - len as usize, 0);
            };
            match kind.extra {
                Extra::Pipe | Extra::Packet => follows(self, len, 1),
                Extra::Tcp => follows(self, len + 2, 1),
                Extra::Ghost if n > 0 => follows(self, len, 1),
                Extra::Ghost if chunks == 0 => {
                    follows(self, len, 1);
                    break;
                }
                Extra::Shm => follows(self, len, 4),
                Extra::Sem => follows(self, 6, 8),
                Extra::BpfMap => follows(self, len + 9, 1),
                Extra::Msg => {
                    for size in [5, 16] {
                        let schema = proto::IpcMsg::schema();
                        let message = self.message(schema, &[("msize", size)], false, 1);
                        frame(&message, &mut out);
                        out.extend((0..size).map(|_| self.next() as u8));
                        out.resize(
                            out.len() + (size as usize).next_multiple_of(8) - size as usize,
                            0,
                        );
                    }
                }
                _ => {}
            }
        }
        out
    }

    fn message(&mut self, schema: &Schema, set: &[(&str, u64)], hex: bool, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for field in schema.fields {
            let given = set.iter().find(|(name, _)| *name == field.name).map(|(_, value)| *value);
            let count = match (field.label, given, field.show) {
                (Label::Required, ..) | (_, Some(_), _) => 1,
                (Label::Optional, ..) => self.below(2),
                (Label::Repeated, _, Show::Ip) => [1, 4][self.below(2) as usize],
                (Label::Repeated, ..) => self.below(4),
            };
            let mut packed = Vec::new();
            for _ in 0..count {
                let number = u64::from(field.number) << 3;
                let hex = hex || field.show == Show::Hex;
                let blob = match field.kind {
                    Type::Message(_) if depth == 0 && field.label != Label::Required => continue,
                    Type::Message(inner) => self.message(inner, &[], hex, depth.saturating_sub(1)),
                    Type::String => self.text(),
                    // Ends of lines crit does not quote.
                    Type::Bytes if field.show == Show::UnixName => {
                        self.bytes(108).into_iter().filter(|b| !b"\r\n".contains(b)).collect()
                    }
                    Type::Bytes => self.bytes(200),
                    Type::Fixed64 => {
                        encode_varint(number | 1, &mut out);
                        out.extend(self.next().to_le_bytes());
                        continue;
                    }
                    kind => {
                        let value = given.unwrap_or_else(|| self.number(kind, hex));
                        if field.packed {
                            encode_varint(value, &mut packed);
                        } else {
                            encode_varint(number, &mut out);
                            encode_varint(value, &mut out);
                        }
                        continue;
                    }
                };
                encode_varint(number | 2, &mut out);
                encode_varint(blob.len() as u64, &mut out);
                out.extend(blob);
            }
            if !packed.is_empty() {
                encode_varint(u64::from(field.number) << 3 | 2, &mut out);
                encode_varint(packed.len() as u64, &mut out);
                out.extend(packed);
            }
        }
        out
    }

    /// The bits of a number, as they are encoded.
    fn number(&mut self, kind: Type, hex: bool) -> u64 {
        // Small ones often, for names and flags.
        let bits = [4, 8, 20, 64][self.below(4) as usize];
        let number = self.next() & (u64::MAX >> (64 - bits));
        // Negative ones crit shows as 0x-1, which it cannot read again.
        let negative = !hex && self.below(4) == 0;
        match kind {
            Type::Bool => number & 1,
            Type::Enum(kind) => kind.values[number as usize % kind.values.len()].0 as u64,
            Type::Uint32 => number & 0xffff_ffff,
            Type::Int32 | Type::Int64 => {
                let number = number & 0x7fff_ffff;
                if negative { (number as i64).wrapping_neg() as u64 } else { number }
            }
            Type::Sint32 | Type::Sint64 => {
                let number = number & 0x7fff_ffff;
                if negative { number | 1 } else { number & !1 }
            }
            _ => number,
        }
    }

    fn text(&mut self) -> Vec<u8> {
        const SOME: &[&str] =
            &["a", "/", " ", "\"", "\\", "\n", "\t", "\x7f", "\x01", "\u{fc}", "\u{1f600}"];
        let words = (0..self.below(12)).map(|_| SOME[self.below(SOME.len() as u64) as usize]);
        words.collect::<String>().into_bytes()
    }
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    out.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
    out.extend(message);
}
