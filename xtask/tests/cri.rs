//! Our descriptions of the container runtime interface compared with those of Kubernetes.
//!
//! `cri/proto/released.txt` has a row for each field, value and method of the messages that we
//! describe, as Kubernetes has released them. With the variable `CRIU_RS_TEST_CRI_PROTO` the rows
//! come from the released `api.proto` at that path, and the table has to equal them as well.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use xtask::codegen::{SCHEMAS, descriptors, root};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Rows by their place, as "PodSandboxConfig 1".
type Rows = BTreeMap<String, String>;

/// Path of the table, from the workspace's root.
const TABLE: &str = "cri/proto/released.txt";

/// Fields that we leave out: those of Windows, and those that no part of this project reads. `Kept`
/// holds those of the configurations.
const LEFT_OUT: &[&str] = &[
    "ContainerConfig 16",
    "ContainerStatus 16",
    "ContainerStatus 18",
    "Image 5",
    "Image 6",
    "PodSandboxConfig 9",
    "RuntimeHandler 2",
    "StatusResponse 4",
];

#[test]
fn the_messages_are_those_of_the_released_interface() {
    let schema = SCHEMAS.iter().find(|schema| schema.folder == "cri/proto");
    let encoded = descriptors(schema.expect("a row of SCHEMAS")).expect("our descriptors");
    let ours = rows(&DescriptorPool::decode(encoded.as_slice()).expect("our descriptors"));
    let text = fs::read_to_string(root().join(TABLE)).expect("the table");
    let table = parse(&text);
    if let Some(path) = std::env::var_os("CRIU_RS_TEST_CRI_PROTO") {
        let all = released(Path::new(&path)).expect("the released file");
        let theirs = all.into_iter().filter(|(place, _)| is_of(&ours, place)).collect();
        assert!(table == theirs, "{TABLE} is stale, and would be:\n{}", print(&theirs));
    }
    assert!(table.len() > 200, "only {} rows", table.len());
    let wrong = ours.iter().filter(|(place, row)| table.get(*place) != Some(*row));
    let wrong: Vec<_> = wrong.map(|(place, row)| (place, row, table.get(place))).collect();
    assert!(wrong.is_empty(), "ours, and Kubernetes': {wrong:#?}");
    let missing: Vec<_> = table.keys().filter(|place| !ours.contains_key(*place)).collect();
    assert_eq!(missing, LEFT_OUT, "fields that we leave out");
}

/// Returns true if the place is in a message or an enum that we describe, or is a method of ours.
fn is_of(ours: &Rows, place: &str) -> bool {
    let kind = |place: &str| place.rsplit_once(' ').map(|(kind, _)| kind.to_owned());
    if place.starts_with("rpc ") {
        return ours.contains_key(place);
    }
    ours.keys().any(|own| kind(own) == kind(place))
}

/// Compiles a released file.
fn released(path: &Path) -> Result<Rows> {
    let folder = path.parent().ok_or("a path without a folder")?;
    let mut compiler = protox::Compiler::new([folder])?;
    let encoded = compiler.open_file(path)?.encode_file_descriptor_set();
    Ok(rows(&DescriptorPool::decode(encoded.as_slice())?))
}

fn parse(text: &str) -> Rows {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.into(), b.into())).collect()
}

fn print(rows: &Rows) -> String {
    rows.iter().map(|(place, row)| format!("{place}: {row}\n")).collect()
}

/// Returns the rows of a pool.
fn rows(pool: &DescriptorPool) -> Rows {
    let mut rows = Rows::new();
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        rows.extend(message.fields().map(|field| field_row(&message, &field)));
    }
    for kind in pool.all_enums() {
        let name = short(kind.full_name());
        let values = kind.values();
        rows.extend(values.map(|v| (format!("{name} {}", v.number()), v.name().to_owned())));
    }
    for service in pool.services() {
        rows.extend(service.methods().map(|method| {
            let place = format!("rpc {} {}", service.name(), method.name());
            let stream = if method.is_server_streaming() { "stream " } else { "" };
            (place, format!("{} -> {stream}{}", method.input().name(), method.output().name()))
        }));
    }
    rows
}

fn field_row(message: &MessageDescriptor, field: &FieldDescriptor) -> (String, String) {
    let place = format!("{} {}", short(message.full_name()), field.number());
    let kind = |kind: Kind| match kind {
        Kind::Message(message) => short(message.full_name()).to_owned(),
        Kind::Enum(kind) => short(kind.full_name()).to_owned(),
        scalar => format!("{scalar:?}"),
    };
    let shape = match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let of = |field: FieldDescriptor| kind(field.kind());
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("map<{}, {}>", of(key), of(value))
        }
        other if field.is_list() => format!("repeated {}", kind(other)),
        other => kind(other),
    };
    (place, format!("{shape} {}", field.name()))
}

/// Returns a name without the package.
fn short(name: &str) -> &str {
    name.strip_prefix("runtime.v1.").unwrap_or(name)
}
