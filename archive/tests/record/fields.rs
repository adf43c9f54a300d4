//! The page about the record, compared with the types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use criu_archive::record::{
    CgroupVersion, Container, File, GpuStorage, Record, Role, State, Tool, ToolKind,
};
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Fields of each struct with unknown fields, in order, with true for those that are always
/// written.
fn types() -> BTreeMap<String, Vec<(String, bool)>> {
    let mut types = BTreeMap::new();
    for file in ["mod", "pod", "container", "tool", "file", "host", "gpu"] {
        let text = read(&format!("src/record/{file}.rs"));
        let (mut name, mut fields) = (String::new(), Vec::new());
        let (mut is_always, mut is_skipped) = (true, false);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub struct ") {
                (name, fields) = (rest.trim_end_matches(" {").to_owned(), Vec::new());
            } else if line.starts_with("    #[serde(") {
                is_always &= !line.contains("skip_serializing_if");
                is_skipped |= line.contains("(skip)");
            } else if let Some(rest) = line.strip_prefix("    pub ") {
                let Some((field, kind)) = rest.split_once(": ") else { continue };
                match kind {
                    "Other," => drop(types.insert(name.clone(), std::mem::take(&mut fields))),
                    _ if is_skipped => {}
                    _ => fields.push((field.to_owned(), is_always)),
                }
                (is_always, is_skipped) = (true, false);
            }
        }
    }
    types
}

/// Rows of the tables below the headings of the page.
fn tables() -> BTreeMap<String, Vec<(String, bool)>> {
    let (mut tables, mut name) = (BTreeMap::<_, Vec<_>>::new(), String::new());
    for line in read("../docs/record.md").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            name = heading.to_owned();
        } else if let Some((field, rest)) =
            line.strip_prefix("| `").and_then(|row| row.split_once('`'))
        {
            if !name.is_empty() && !rest.is_empty() {
                let row = (field.to_owned(), rest.starts_with('*'));
                tables.entry(name.clone()).or_default().push(row);
            }
        }
    }
    tables
}

#[test]
fn the_page_has_every_field_of_every_object() {
    let (types, tables) = (types(), tables());
    assert_eq!(types.len(), 17, "{:?}", types.keys());
    assert_eq!(tables, types);
    // The scan of the sources has missed nothing that is written.
    let written =
        serde_json::to_value(Record::parse(super::made::whole().to_string().as_bytes()).unwrap())
            .unwrap();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.retain(|key| key != "x");
        keys.sort();
        keys
    };
    let fields = |name: &str| -> Vec<String> {
        let mut fields: Vec<String> = types[name].iter().map(|field| field.0.clone()).collect();
        fields.sort();
        fields
    };
    for (name, pointer) in [
        ("Record", ""),
        ("Pod", "/pod"),
        ("Container", "/containers/0"),
        ("Tool", "/containers/0/tool"),
        ("Image", "/containers/0/image"),
        ("File", "/containers/0/files/0"),
        ("Needs", "/containers/0/needs"),
        ("Mount", "/containers/0/needs/mounts/0"),
        ("Connection", "/containers/0/needs/connections/0"),
        ("Host", "/host"),
        ("Cpu", "/host/cpu"),
        ("Cgroups", "/host/cgroups"),
        ("Lsm", "/host/lsm"),
        ("Program", "/host/programs/0"),
        ("Gpus", "/gpus"),
        ("GpuDevice", "/gpus/devices/0"),
        ("GpuProcess", "/gpus/processes/0"),
    ] {
        assert_eq!(keys(written.pointer(pointer).unwrap()), fields(name), "{name}");
    }
    // Of an object of which nothing is known, only the marked fields are there.
    let container = Container::new("", "", Tool::default());
    let always = |name: &str| -> Vec<String> {
        let mut always = types[name].clone();
        always.retain(|(_, is_always)| *is_always);
        let mut always: Vec<String> = always.into_iter().map(|field| field.0).collect();
        always.sort();
        always
    };
    let bare = |value: Value| keys(&value);
    assert_eq!(bare(serde_json::to_value(&container).unwrap()), always("Container"));
    assert_eq!(bare(serde_json::to_value(&container.tool).unwrap()), always("Tool"));
    assert_eq!(bare(serde_json::to_value(File::default()).unwrap()), always("File"));
}

#[test]
fn the_page_has_every_word() {
    let page = read("../docs/record.md");
    let list = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        words.join(", ")
    };
    for words in [State::WORDS, ToolKind::WORDS, Role::WORDS, CgroupVersion::WORDS] {
        assert!(page.contains(&format!("| word | {} |", list(words))), "{words:?}");
    }
    assert!(GpuStorage::WORDS.iter().all(|word| page.contains(&format!("`{word}` for "))));
}
