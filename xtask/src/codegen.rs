//! `.proto` files in, committed Rust out, without protoc.
//!
//! [`SCHEMAS`] names every schema of the workspace. [`descriptors`] compiles one and keeps what
//! plain code generation would lose: comments and the `(criu)` display options.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// A set of `.proto` files that becomes one Rust file.
#[derive(Debug)]
pub struct Schema {
    /// Folder of the `.proto` files, from the workspace root.
    pub folder: &'static str,
    /// The generated file, from the workspace root.
    pub output: &'static str,
}

/// Every schema of the workspace.
pub const SCHEMAS: &[Schema] = &[Schema {
    folder: "criu-rs/proto",
    output: "criu-rs/src/rpc/proto.rs",
}];

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .into()
}

/// Compiles the schema to an encoded `FileDescriptorSet`, custom options included.
pub fn descriptors(schema: &Schema) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = root().join(schema.folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// The Rust source generated from a schema.
pub fn render(schema: &Schema) -> Result<String, Box<dyn Error>> {
    let mut set = FileDescriptorSet::decode(descriptors(schema)?.as_slice())?;
    set.file
        .retain(|file| !file.package().starts_with("google."));
    set.file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .for_each(strings_to_bytes);
    let requests: Vec<_> = set
        .file
        .into_iter()
        .map(|file| {
            (
                prost_build::Module::from_protobuf_package_name(file.package()),
                file,
            )
        })
        .collect();
    let modules = prost_build::Config::new().generate(requests)?;
    let mut modules = modules.into_values();
    let (Some(source), None) = (modules.next(), modules.next()) else {
        return Err(format!("{}: the files must share one package", schema.folder).into());
    };
    Ok(format!(
        "// Made by `cargo xtask codegen` from {}. Do not edit.\n\n{source}",
        schema.folder
    ))
}

/// CRIU's strings are C strings: paths and messages of any bytes but NUL. As Rust's `String` one of
/// them that is not UTF-8 would make its whole message unreadable.
fn strings_to_bytes(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if field.r#type() == Type::String {
            field.set_type(Type::Bytes);
        }
    }
    message.nested_type.iter_mut().for_each(strings_to_bytes);
}

/// Writes every schema's output; returns the files that changed.
pub fn run() -> Result<Vec<&'static str>, Box<dyn Error>> {
    let mut changed = Vec::new();
    for schema in SCHEMAS {
        let source = render(schema)?;
        let path = root().join(schema.output);
        if fs::read_to_string(&path).ok().as_deref() != Some(&source) {
            fs::write(&path, source)?;
            changed.push(schema.output);
        }
    }
    Ok(changed)
}
