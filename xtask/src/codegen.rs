//! `.proto` files in, committed Rust out, without protoc.
//!
//! [`SCHEMAS`] names every schema of the workspace. [`descriptors`] compiles one and keeps what
//! plain code generation would lose: comments and the `(criu)` display options. Its messages become
//! prost types and, where a schema asks for them, tables of their fields.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// A set of `.proto` files, and the Rust files made of it. All paths are from the workspace root.
#[derive(Debug)]
pub struct Schema {
    /// Folder of the `.proto` files.
    pub folder: &'static str,
    /// The prost types.
    pub output: &'static str,
    /// The field tables, where they are wanted.
    pub tables: Option<&'static str>,
}

/// Every schema of the workspace.
pub const SCHEMAS: &[Schema] = &[
    Schema { folder: "criu-rs/proto", output: "criu-rs/src/rpc/proto.rs", tables: None },
    Schema {
        folder: "images/proto",
        output: "images/src/proto/messages.rs",
        tables: Some("images/src/proto/tables.rs"),
    },
];

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").into()
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
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// Every file generated from a schema, as path and content.
pub fn outputs(schema: &Schema) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    let mut set = FileDescriptorSet::decode(descriptors(schema)?.as_slice())?;
    // A file that extends descriptors describes fields, and has no messages of its own.
    set.file.retain(|file| !file.package().starts_with("google.") && file.extension.is_empty());
    let header =
        format!("// Made by `cargo xtask codegen` from {}. Do not edit.\n\n", schema.folder);
    let mut outputs = Vec::new();
    if let Some(path) = schema.tables {
        outputs.push((path, header.clone() + &tables(&set)));
    }
    outputs.push((schema.output, header + &types(schema, set)?));
    Ok(outputs)
}

/// The prost types of a schema.
fn types(schema: &Schema, mut set: FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    set.file.iter_mut().flat_map(|file| &mut file.message_type).for_each(strings_to_bytes);
    let requests: Vec<_> = set
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = prost_build::Config::new().generate(requests)?;
    let mut modules = modules.into_values();
    let (Some(source), None) = (modules.next(), modules.next()) else {
        return Err(format!("{}: the files must share one package", schema.folder).into());
    };
    Ok(source)
}

/// One static a message, naming its fields, and the impl that ties it to the prost type.
fn tables(set: &FileDescriptorSet) -> String {
    let mut source = String::from(
        "use super::messages;\nuse crate::schema::{Entry, Field, Message, Label::*, Type};\n",
    );
    for message in set.file.iter().flat_map(|file| &file.message_type) {
        let (name, constant) = (message.name(), message.name().to_uppercase());
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let mut rows = String::new();
        for field in fields {
            let label = match field.label() {
                Label::Required => "Required",
                Label::Optional => "Optional",
                Label::Repeated => "Repeated",
            };
            let kind = match field.r#type() {
                Type::Message => format!("Message(&{})", last(field.type_name()).to_uppercase()),
                scalar => format!("{scalar:?}"),
            };
            let (number, name) = (field.number(), field.name());
            _ = writeln!(rows, "    Field::new({number}, {name:?}, {label}, Type::{kind}),");
        }
        _ = write!(
            source,
            "\nstatic {constant}: Message = Message::new({name:?}, &[\n{rows}]);\n\
             impl Entry for messages::{} {{\n    \
             fn schema() -> &'static Message {{ &{constant} }}\n}}\n",
            camel_case(name),
        );
    }
    source
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The name prost gives a message.
fn camel_case(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_uppercase(), rest.to_string()]
        })
        .collect()
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

/// Writes what every schema generates; returns the files that changed.
pub fn run() -> Result<Vec<&'static str>, Box<dyn Error>> {
    let mut changed = Vec::new();
    for schema in SCHEMAS {
        for (output, source) in outputs(schema)? {
            let path = root().join(output);
            if fs::read_to_string(&path).ok().as_deref() != Some(&source) {
                fs::write(&path, source)?;
                changed.push(output);
            }
        }
    }
    Ok(changed)
}
