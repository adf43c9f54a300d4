//! JSON beside crit's own.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use criu_images::Image;
use criu_images::json::{EncodeError, Style, decode, decode_file, encode};
use criu_images::kind::{Entries, Kind};

use super::python;

pub(crate) const PRETTY: Style = Style { pretty: true, no_payload: false };

/// Kinds that crit knows no handler for, or handles wrongly.
pub(crate) const NOT_CRITS: &[&str] = &["PIDFD", "BINFMT_MISC", "SIGNAL", "PSIGNAL", "IPCNS_SHM"];

pub(crate) fn json(name: &str, bytes: &[u8], kind: &'static Kind, style: Style) -> String {
    let mut out = Vec::new();
    let image = Image::parse(name, bytes, kind).unwrap();
    decode(image, style, &mut out).unwrap_or_else(|error| panic!("{error}"));
    let mut again = Vec::new();
    decode_file(name, Cursor::new(bytes), style, &mut again).unwrap();
    assert!(out == again, "{name}: piece by piece it is another");
    String::from_utf8(out).unwrap()
}

pub(crate) fn encoded(json: &str) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    encode(json.as_bytes(), &mut out)?;
    Ok(out)
}

/// Runs crit's own library over the files of a directory: FILE.plain and FILE.pretty.
pub(crate) fn crit(suite: &str, directory: &Path) {
    const PROGRAM: &str = "
import json, os, sys, pycriu
for name in os.listdir('.'):
    for suffix, pretty in ('plain', False), ('pretty', True):
        try:
            with open(name, 'rb') as f:
                image = pycriu.images.load(f, pretty)
        except Exception as e:
            print(name, repr(e))
            continue
        with open(name + '.' + suffix, 'w') as f:
            json.dump(image, f, indent=4 if pretty else None)
";
    let output = python(suite, PROGRAM).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// Every image of a dump: from our JSON, from crit's, and ours is crit's. Returns how many were
/// compared.
pub(crate) fn compare(suite: &str, directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap();
    let names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    crit(suite, directory);
    let mut compared = 0;
    for name in names {
        let Some((kind, _)) = Kind::of_file(&name) else { continue };
        if kind.entries == Entries::Raw {
            continue;
        }
        let bytes = fs::read(directory.join(&name)).unwrap();
        for (style, suffix) in [(Style::default(), "plain"), (PRETTY, "pretty")] {
            let ours = json(&name, &bytes, kind, style);
            assert_eq!(encoded(&ours).unwrap(), bytes, "{name}");
            if NOT_CRITS.contains(&kind.name) {
                continue;
            }
            let path = directory.join(format!("{name}.{suffix}"));
            let mut theirs = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            if (suite, suffix) == ("trixie", "pretty") {
                // The words of crit 4.1 are others: see the module `json`.
                let state = |name: &str| format!("\"task_state\": {name},");
                theirs = theirs.replace(&state("2"), &state("\"Dead\""));
                theirs = theirs.replace(&state("\"Zombie\""), &state("\"Stopped\""));
            }
            assert_eq!(encoded(&theirs).unwrap(), bytes, "{name}");
            // crit 4.1 calls this field nr_pages.
            if suite == "experimental" || kind.name != "PAGEMAP" {
                assert_eq!(ours, theirs, "{name}");
            }
            compared += 1;
        }
    }
    compared
}
