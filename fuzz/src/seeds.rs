//! Seeds of the fuzzer: real images, and small ones made by hand.

use std::path::{Path, PathBuf};
use std::{fs, io};

use criu_images::Image;
use criu_images::json::{Style, decode};
use criu_images::kind::{self, Kind};

use crate::archives::{self, member};
use crate::image::message;
use crate::made;
use crate::pack::{Record, Seeds, pack};
use crate::schema::place;

/// All seeds.
///
/// # Errors
/// An image cannot be read.
pub fn all() -> io::Result<Seeds> {
    let mut seeds = Seeds::new();
    for (name, folder) in sets()? {
        let set = read_set(&folder)?;
        for record in &set {
            one_image(&name, record, &mut seeds);
        }
        seeds.push(("archive", name.clone(), tar(&set)));
        seeds.push(("archive", format!("{name}-extended"), extended_tar(&set)));
        seeds.push(("core", name.clone(), pack(&with_pages(&set))));
        seeds.push(("set", name.clone(), pack(&set)));
        for (number, script) in made::scripts().into_iter().enumerate() {
            let mut scripted = set.clone();
            scripted.push(Record { in_parent: false, kind: None, id: 0, bytes: script });
            seeds.push(("edit", format!("{name}-{number}"), pack(&scripted)));
        }
    }
    for (name, mut set) in made::memories() {
        set.push(Record { in_parent: false, kind: None, id: 0, bytes: b"needle".to_vec() });
        for target in ["core", "memory", "set"] {
            seeds.push((target, name.to_owned(), pack(&set)));
        }
    }
    for (number, filter) in made::filters().into_iter().enumerate() {
        seeds.push(("bpf", number.to_string(), filter));
    }
    seeds.extend(made::sessions());
    for (name, acts) in crate::hostile_client::seeds() {
        seeds.push(("hostile_client", name.to_owned(), acts));
    }
    seeds.extend(made::texts());
    for (number, set) in crate::working_set::seeds().into_iter().enumerate() {
        seeds.push(("working_set", number.to_string(), set));
    }
    for (number, record) in crate::record::seeds().into_iter().enumerate() {
        seeds.push(("record", number.to_string(), record));
    }
    seeds.extend(archives::seeds());
    for entry in fs::read_dir(folder("archives"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        seeds.push(("archive", name, fs::read(path)?));
    }
    for target in TARGETS {
        for (number, input) in found(target)?.into_iter().enumerate() {
            seeds.push((target, format!("found-{number}"), input));
        }
    }
    Ok(seeds)
}

/// A folder of seeds.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name)
}

/// Inputs that the fuzzer has found and `cargo xtask fuzz --keep` has kept. In the file each input
/// follows its size.
fn found(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let file = folder("found").join(target);
    let bytes = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let (mut rest, mut inputs) = (&bytes[..], Vec::new());
    while let Some((size, after)) = rest.split_first_chunk() {
        let (input, after) = after.split_at(u16::from_le_bytes(*size).into());
        inputs.push(input.to_vec());
        rest = after;
    }
    Ok(inputs)
}

/// All targets.
pub const TARGETS: [&str; 16] = [
    "archive",
    "bpf",
    "core",
    "differential",
    "edit",
    "hostile_client",
    "image",
    "json",
    "memory",
    "page_client",
    "page_server",
    "record",
    "rpc",
    "set",
    "text",
    "working_set",
];

/// Makes seeds for several targets from an image.
fn one_image(set: &str, record: &Record, seeds: &mut Seeds) {
    let Some(kind) = record.kind else { return };
    let name = format!("{set}-{}", kind.file_name(record.id.into()));
    let Ok(mut image) = Image::parse("seed", &record.bytes, kind) else { return };
    seeds.push(("image", name.clone(), record.bytes.clone()));
    seeds.push(("json", name.clone(), record.bytes.clone()));
    for pretty in [false, true] {
        let (mut text, mut style) = (Vec::new(), Style::default());
        style.pretty = pretty;
        if decode(image.clone(), style, &mut text).is_ok() {
            seeds.push(("json", format!("{name}-{pretty}"), text));
        }
    }
    let mut number = 0;
    while let Ok(Some(entry)) = image.next_entry() {
        let place = place(message(kind, number == 0)).unwrap_or(0);
        let bytes = [&place.to_le_bytes(), entry.bytes()].concat();
        seeds.push(("differential", format!("{name}-{number}"), bytes));
        number += 1;
        if image.payload(&entry).is_err() {
            return;
        }
    }
}

/// Adds pages to a set, all zero: as many as the first pagemap lists.
fn with_pages(set: &[Record]) -> Vec<Record> {
    let mut set = set.to_vec();
    if set.iter().all(|record| record.kind != Some(kind::PAGES)) {
        let bytes = vec![0; 15 * 4096];
        set.push(Record { in_parent: false, kind: Some(kind::PAGES), id: 1, bytes });
    }
    set
}

/// Makes a tar archive of a set: a folder with the files in it.
fn tar(set: &[Record]) -> Vec<u8> {
    let mut archive = Vec::new();
    for record in set {
        let Some(kind) = record.kind else { continue };
        let name = format!("checkpoint/{}", kind.file_name(record.id.into()));
        member(&name, "0", &record.bytes, &mut archive);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Makes a tar archive of a set in which other headers name and size the files: GNU's long names,
/// PAX records of one file and of all, hard and symbolic links.
fn extended_tar(set: &[Record]) -> Vec<u8> {
    let mut archive = Vec::new();
    member("global", "g", b"16 comment=seed\n", &mut archive);
    for (number, record) in set.iter().enumerate() {
        let Some(kind) = record.kind else { continue };
        let name = format!("checkpoint/{}", kind.file_name(record.id.into()));
        if number % 2 == 0 {
            member("long", "L", format!("{name}\0").as_bytes(), &mut archive);
        } else {
            // The length counts itself.
            let rest = format!(" path={name}\n");
            let records = format!("{}{rest}", rest.len() + 2);
            member("records", "x", records.as_bytes(), &mut archive);
        }
        member("short", "0", &record.bytes, &mut archive);
    }
    member("target", "K", b"checkpoint/inventory.img\0", &mut archive);
    member("other/inventory.img", "1", &[], &mut archive);
    member("target", "K", b"../checkpoint\0", &mut archive);
    member("other/parent", "2", &[], &mut archive);
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Lists the sets beside the tests, and the fuzzer's own sets.
fn sets() -> io::Result<Vec<(String, std::path::PathBuf)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sets = vec![("pipeline".to_owned(), root.join("../images/tests/data/pipeline"))];
    if let Ok(entries) = fs::read_dir(root.join("seeds/sets")) {
        for entry in entries {
            let entry = entry?;
            sets.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    sets.sort();
    Ok(sets)
}

fn read_set(folder: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((kind, id)) = Kind::of_file(&name) {
            let id = id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
            let bytes = fs::read(entry.path())?;
            records.push(Record { in_parent: false, kind: Some(kind), id, bytes });
        }
    }
    records.sort_by_key(|record| (record.kind.map(|kind| kind.file), record.id));
    Ok(records)
}

/// Dictionary of words that the fuzzer puts into inputs: magics, keys of fields, words of archives.
pub fn dictionary() -> String {
    let mut lines = Vec::new();
    let word = |word: u32| word.to_le_bytes().map(|byte| format!("\\x{byte:02x}")).concat();
    let magics = [kind::IMG_COMMON, kind::IMG_SERVICE];
    for magic in magics.into_iter().chain(kind::ALL.iter().map(|kind| kind.magic)) {
        if magic != 0 {
            lines.push(format!("\"{}\"", word(magic)));
        }
    }
    for kind in kind::ALL {
        lines.push(format!("\"\\\"{}\\\"\"", kind.name));
    }
    for number in 1..16u32 {
        for wire in [0, 2] {
            lines.push(format!("\"\\x{:02x}\"", number << 3 | wire));
        }
    }
    for word in ["magic", "entries", "extra", "unknown_fields", "bytes", "version", "1.0"] {
        lines.push(format!("\"\\\"{word}\\\"\""));
    }
    for word in archives::WORDS {
        lines.push(format!("\"{word}\""));
    }
    for word in ["path=", "linkpath=", "size=", "GNU.sparse.name=", "ustar  ", "ustar"] {
        lines.push(format!("\"{word}\""));
    }
    lines.sort();
    lines.dedup();
    lines.join("\n") + "\n"
}
