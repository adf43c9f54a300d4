//! Our message descriptions compared with those of the CRIUs that `cargo xtask setup` installs.
//!
//! CRIU's Python package holds its descriptors as bytes literals. Both sides are flattened to rows
//! of text, a row for each field or enum value. Every row that is missing or differs is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use criu_images::kind::{ALL, IMG_COMMON, IMG_SERVICE};
use prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::prost_types::field_descriptor_proto::Label;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, FileDescriptor, Kind};
use xtask::codegen::{SCHEMAS, Schema, descriptors, root};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Rows by their place, as "pagemap_entry 2".
type Rows = BTreeMap<String, String>;

/// A difference that an older CRIU may have: the version, the place, the text, and the reason.
const OLDER: &[(&str, &str, &str, &str)] = &[
    (
        "4.2",
        "pagemap_entry 2",
        "required uint32 nr_pages",
        "the count moved to field 5 and this one was renamed",
    ),
    (
        "4.0",
        "criu_opts 1",
        "required int32 images_dir_fd",
        "the default came when images_dir made the field dispensable",
    ),
];

#[test]
fn the_rpc_messages_are_those_of_every_installed_criu() {
    conform("criu-rs/proto", "rpc_pb2.py");
}

#[test]
fn the_image_messages_are_those_of_every_installed_criu() {
    conform("images/proto", "images");
}

/// Compares a schema with the descriptors at `path` in each installed pycriu: every message.
fn conform(folder: &str, path: &str) {
    let schema = SCHEMAS.iter().find(|schema| schema.folder == folder);
    let ours = our_pool(schema.expect("a row of SCHEMAS")).expect("our descriptors");
    let ours = rows(&ours);
    let installed = installed();
    let newest = installed.keys().max().expect("at least one CRIU");
    let mut faults = Vec::new();
    for (version, pycriu) in &installed {
        let theirs = their_pool(&pycriu.join(path)).expect("their descriptors");
        let theirs = rows(&theirs);
        assert!(theirs.len() > 50, "{}: too few rows", pycriu.display());
        for (place, want) in &theirs {
            let found = ours.get(place).map_or("nothing", String::as_str);
            if found != want && !excused(version, place, want) {
                faults.push(format!("{version}: {place}: want {want}, have {found}"));
            }
        }
        // Rows that an older CRIU lacks are newer.
        for (place, found) in ours.iter().filter(|_| version == newest) {
            if !theirs.contains_key(place) {
                faults.push(format!("{version}: {place}: want nothing, have {found}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} rows differ:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_catalogue_of_images_is_that_of_every_installed_criu() {
    // Magics of no image, and of CRIU's cache of kernel features.
    let others = ["CRTOOLS_IMAGES_V1_1", "CRTOOLS_IMAGES_V1_2", "KDAT"];
    let mut ours: BTreeMap<&str, u32> = ALL.iter().map(|kind| (kind.name, kind.magic)).collect();
    ours.retain(|_, magic| *magic != 0);
    ours.extend([("IMG_COMMON", IMG_COMMON), ("IMG_SERVICE", IMG_SERVICE)]);
    let installed = installed();
    for (version, pycriu) in &installed {
        let source = fs::read_to_string(pycriu.join("images/magic.py")).expect("magic.py");
        let lines = source.lines().filter_map(|line| line.strip_prefix("by_name['"));
        let mut theirs: BTreeMap<&str, u32> = lines
            .filter_map(|line| line.split_once("'] = "))
            .map(|(name, magic)| (name, magic.parse().expect("a number")))
            .collect();
        theirs.retain(|name, _| !others.contains(name));
        assert!(theirs.len() > 50, "{}: too few magics", pycriu.display());
        for (name, magic) in theirs {
            assert_eq!(ours.get(name), Some(&magic), "{version}: {name}");
        }
    }
    let newest = installed.values().next_back().expect("at least one CRIU");
    let theirs = names(&their_pool(&newest.join("images")).expect("their descriptors"));
    for kind in ALL.iter().filter(|kind| kind.magic != 0) {
        assert!(theirs.contains(kind.message), "{kind:?}");
    }
}

fn excused(version: &Version, place: &str, row: &str) -> bool {
    OLDER.iter().any(|&(before, at, what, _)| {
        *version < Version::parse(before) && place == at && row == what
    })
}

/// Returns the numbers of a version, so that 4.10 comes after 4.9.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(Vec<u32>);

impl Version {
    fn parse(text: &str) -> Self {
        Self(text.split('.').map_while(|n| n.parse().ok()).collect())
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// Returns the Python package of each CRIU below the target directory.
fn installed() -> BTreeMap<Version, PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let criu = target.unwrap_or_else(|| root().join("target")).join("criu");
    let mut found = BTreeMap::new();
    for suite in fs::read_dir(&criu).into_iter().flatten().flatten() {
        let pycriu = suite.path().join("usr/lib/python3/dist-packages/pycriu");
        if pycriu.is_dir() {
            let version = fs::read_to_string(pycriu.join("version.py"));
            // CRIU 3 has no such file.
            let version = version.unwrap_or_else(|_| "'3'".to_owned());
            let version = version.split(['"', '\'']).nth(1);
            found.insert(Version::parse(version.expect("in quotes")), pycriu);
        }
    }
    let two = "two CRIUs with their Python packages are needed";
    assert!(found.len() >= 2, "{}: {two}: run `cargo xtask setup`", criu.display());
    found
}

fn our_pool(schema: &Schema) -> Result<DescriptorPool> {
    Ok(DescriptorPool::decode(descriptors(schema)?.as_slice())?)
}

/// Returns the descriptors in a Python file, or in the files of a folder.
fn their_pool(path: &Path) -> Result<DescriptorPool> {
    let mut files: Vec<PathBuf> = if path.is_dir() {
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
    } else {
        vec![path.into()]
    };
    files.retain(|file| file.to_string_lossy().ends_with("_pb2.py"));
    let mut waiting = Vec::new();
    for file in files {
        let bytes = python_bytes(&fs::read_to_string(&file)?);
        let bytes = bytes.ok_or_else(|| format!("{}: no descriptor", file.display()))?;
        waiting.push((FileDescriptorProto::decode(bytes.as_slice())?, bytes));
    }
    // A pool takes a file after the files that it imports.
    let mut pool = DescriptorPool::global();
    while !waiting.is_empty() {
        let known = |name: &String| pool.get_file_by_name(name).is_some();
        let ready = waiting.iter().position(|(file, _)| file.dependency.iter().all(known));
        let (_, bytes) = waiting.swap_remove(ready.ok_or("an import is missing")?);
        pool.decode_file_descriptor_proto(bytes.as_slice())?;
    }
    Ok(pool)
}

/// Returns the bytes literal that a file made by protoc hands to its descriptor pool.
fn python_bytes(source: &str) -> Option<Vec<u8>> {
    let (_, literal) = source.split_once("AddSerializedFile(b")?;
    let mut chars = literal.chars();
    let quote = chars.next()?;
    let mut bytes = Vec::new();
    loop {
        let char = chars.next()?;
        if char == quote {
            return Some(bytes);
        }
        if char != '\\' {
            bytes.push(u8::try_from(char).ok()?);
            continue;
        }
        bytes.push(match chars.next()? {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'x' => {
                let digits = [chars.next()?, chars.next()?];
                u8::from_str_radix(&String::from_iter(digits), 16).ok()?
            }
            char @ ('\\' | '\'' | '"') => u8::try_from(char).ok()?,
            _ => return None,
        });
    }
}

/// Returns the names of all messages and enums, without the package.
fn names(pool: &DescriptorPool) -> BTreeSet<String> {
    let messages =
        pool.all_messages().map(|message| name(message.full_name(), &message.parent_file()));
    let enums = pool.all_enums().map(|kind| name(kind.full_name(), &kind.parent_file()));
    messages.chain(enums).collect()
}

fn name(full: &str, file: &FileDescriptor) -> String {
    let package = format!("{}.", file.package_name());
    full.strip_prefix(&package).unwrap_or(full).to_owned()
}

/// Returns a row for each field and enum value.
fn rows(pool: &DescriptorPool) -> Rows {
    let display = pool.all_extensions().find(|extension| extension.number() == DISPLAY);
    let mut rows = Rows::new();
    for message in pool.all_messages() {
        let name = name(message.full_name(), &message.parent_file());
        if !is_google(&message.parent_file()) {
            for field in message.fields() {
                rows.insert(format!("{name} {}", field.number()), row(&field, display.as_ref()));
            }
        }
    }
    for kind in pool.all_enums() {
        let name = name(kind.full_name(), &kind.parent_file());
        if !is_google(&kind.parent_file()) {
            for value in kind.values() {
                rows.insert(format!("{name} {}", value.name()), value.number().to_string());
            }
        }
    }
    rows
}

fn is_google(file: &FileDescriptor) -> bool {
    file.package_name().starts_with("google.")
}

/// Formats a field as a line of a `.proto` file, without its number.
fn row(field: &FieldDescriptor, display: Option<&ExtensionDescriptor>) -> String {
    let proto = field.field_descriptor_proto();
    let label = match proto.label() {
        Label::Required => "required",
        Label::Optional => "optional",
        Label::Repeated => "repeated",
    };
    let kind = match field.kind() {
        Kind::Message(kind) => name(kind.full_name(), &kind.parent_file()),
        Kind::Enum(kind) => name(kind.full_name(), &kind.parent_file()),
        scalar => format!("{scalar:?}"),
    };
    let mut row = format!("{label} {kind} {}", field.name());
    if let Some(default) = &proto.default_value {
        row += &format!(" default {default}");
    }
    if field.is_packed() {
        row += " packed";
    }
    let options = field.options();
    if let Some(display) = display.filter(|display| options.has_extension(display)) {
        row += &format!(" criu {}", options.get_extension(display));
    }
    row
}

/// The number of the extension that says how a field is shown.
const DISPLAY: u32 = 1018;

#[test]
fn python_literals_are_read_as_python_reads_them() {
    let source = r#"x = Default().AddSerializedFile(b'\n\x0fa\"\'\\\t\rb"\xff') y"#;
    assert_eq!(python_bytes(source).as_deref(), Some(&b"\n\x0fa\"'\\\t\rb\"\xff"[..]));
    assert_eq!(python_bytes("AddSerializedFile(b'never ends"), None);
}
