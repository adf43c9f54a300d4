//! Makes a second decoder of the images from the same descriptions, with protobuf-codegen and its
//! own parser. Makes the list of all messages too.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut inputs: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo::rerun-if-changed={}", path.display());
            inputs.push(path);
        }
    }
    inputs.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let second = out.join("second");
    fs::create_dir_all(&second)?;
    protobuf_codegen::Codegen::new()
        .pure()
        .include(&folder)
        .inputs(&inputs)
        .out_dir(&second)
        .run_from_script();

    let mut parser = protobuf_parse::Parser::new();
    parser.pure().include(&folder).inputs(&inputs);
    let mut rows = BTreeSet::new();
    for file in parser.file_descriptor_set()?.file {
        let name = file.name();
        // The options describe the descriptions; no image has them.
        if name.starts_with("google/") || name == "opts.proto" {
            continue;
        }
        let module = name.trim_end_matches(".proto").replace('-', "_");
        for message in &file.message_type {
            let name = message.name();
            let (ours, theirs) = (camel(name), capital(name));
            rows.insert(format!("{name:?} {ours} {module} {theirs}"));
        }
    }
    let mut list =
        String::from("#[macro_export]\nmacro_rules! messages { ($do:ident) => { $do! {\n");
    for row in &rows {
        writeln!(list, "    {row};")?;
    }
    list += "} } }\n";
    fs::write(out.join("messages.rs"), list)?;
    Ok(())
}

/// Name that prost makes from CRIU's name, which is in lower case.
fn camel(name: &str) -> String {
    name.split('_').map(capital).collect()
}

/// Name that protobuf-codegen makes from CRIU's name.
fn capital(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
