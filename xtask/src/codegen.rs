//! `.proto` files in, committed Rust out, without protoc.
//!
//! [`SCHEMAS`] names every schema of the workspace. [`descriptors`] compiles a schema and keeps the
//! comments and the `(criu)` display options, which plain code generation would lose. Messages
//! become prost types and, if the schema wants them, tables of their fields.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// A set of `.proto` files, and the Rust files made of the set. Paths start at the workspace root.
#[derive(Debug)]
pub struct Schema {
    /// The folder of the `.proto` files.
    pub folder: &'static str,
    /// The file of the prost types.
    pub output: &'static str,
    /// The file of the field tables, if they are wanted.
    pub tables: Option<&'static str>,
    /// The Rust types of strings and of messages from others.
    pub style: Style,
}

/// The Rust types of a schema's fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    /// CRIU's strings are C strings: paths and messages of any bytes except NUL. A Rust `String`
    /// that is not UTF-8 would make its whole message unreadable, so strings become bytes.
    Criu,
    /// Strings of proto3 are UTF-8, and stay strings.
    Kubernetes {
        /// Messages that others have made. Fields of these types are `Kept<MESSAGE>`, which holds
        /// the bytes.
        kept: &'static [&'static str],
        /// Messages whose `Debug` is written by hand.
        secret: &'static [&'static str],
        /// Messages and enums of this file, by its name, are read from JSON.
        json: &'static str,
        /// Names in JSON that differ from those in Rust, by field.
        renamed: &'static [(&'static str, &'static str)],
    },
}

/// Every schema of the workspace.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        folder: "criu-rs/proto",
        output: "criu-rs/src/rpc/proto.rs",
        tables: None,
        style: Style::Criu,
    },
    Schema {
        folder: "images/proto",
        output: "images/src/proto/messages.rs",
        tables: Some("images/src/proto/tables.rs"),
        style: Style::Criu,
    },
    Schema {
        folder: "cri/proto",
        output: "cri/src/proto/messages.rs",
        tables: None,
        style: Style::Kubernetes {
            kept: &["PodSandboxConfig", "ContainerConfig"],
            secret: &["AuthConfig"],
            json: "config.proto",
            renamed: &[
                ("ContainerConfig.CDI_devices", "CDI_devices"),
                ("Mount.uidMappings", "uidMappings"),
                ("Mount.gidMappings", "gidMappings"),
            ],
        },
    },
];

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").into()
}

/// Compiles a schema to an encoded `FileDescriptorSet`, custom options included.
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

/// Returns every file generated from a schema, as path and content.
pub fn outputs(schema: &Schema) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    let encoded = descriptors(schema)?;
    let mut set = FileDescriptorSet::decode(encoded.as_slice())?;
    // A file that extends descriptors describes fields, and has no messages of its own.
    set.file.retain(|file| !file.package().starts_with("google.") && file.extension.is_empty());
    let header =
        format!("// Made by `cargo xtask codegen` from {}. Do not edit.\n\n", schema.folder);
    let mut outputs = Vec::new();
    if let Some(path) = schema.tables {
        let pool = DescriptorPool::decode(encoded.as_slice())?;
        outputs.push((path, header.clone() + &tables(&set, &pool)));
    }
    outputs.push((schema.output, header + &types(schema, set)?));
    Ok(outputs)
}

/// Returns the prost types of a schema.
fn types(schema: &Schema, mut set: FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut config = prost_build::Config::new();
    let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    match schema.style {
        Style::Criu => messages.for_each(strings_to_bytes),
        Style::Kubernetes { kept, secret, json, renamed } => {
            messages.for_each(|message| keep(message, kept));
            let read = set.file.iter().filter(|file| file.name() == json);
            for message in read.flat_map(|file| &file.message_type) {
                let attribute = "#[derive(serde::Deserialize)]\n#[serde(default)]";
                config.message_attribute(message.name(), attribute);
                for field in message.field.iter().filter(|field| field.r#type() == Type::Bytes) {
                    let attribute = "#[serde(deserialize_with = \"super::json::bytes\")]";
                    let path = format!("{}.{}", message.name(), field.name());
                    config.field_attribute(path, attribute);
                }
            }
            for (field, name) in renamed {
                config.field_attribute(field, format!("#[serde(rename = {name:?})]"));
            }
            let Some(first) = set.file.first_mut() else { return Ok(String::new()) };
            for name in kept {
                let path = format!(".{}.{}", first.package(), kept_name(name));
                config.extern_path(path, format!("super::Kept<{name}>"));
                first.message_type.push(holder(name));
            }
            config.btree_map(["."]).skip_debug(secret);
        }
    }
    let requests: Vec<_> = set
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = config.generate(requests)?;
    let mut modules = modules.into_values();
    let (Some(source), None) = (modules.next(), modules.next()) else {
        return Err(format!("{}: the files must share one package", schema.folder).into());
    };
    Ok(source)
}

/// Returns the tables: a static for each message, with its fields and the impl for its prost type;
/// a static for each enum; and the list of all messages by name.
fn tables(set: &FileDescriptorSet, pool: &DescriptorPool) -> String {
    let mut source = String::from(
        "use super::messages;\nuse crate::error::Fault;\n\
         use crate::schema::{Entry, Enum, Field, Label::*, Message, Show, Type};\n\
         use crate::schema::typed::{Fields, UNKNOWN, Value};\nuse crate::wire::WireType;\n",
    );
    let mut names = Vec::new();
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    // Some enums only name the meanings of a number.
    let used: BTreeSet<&str> =
        messages.flat_map(|message| &message.field).map(|field| field.type_name()).collect();
    for file in &set.file {
        let package = file.package();
        for kind in &file.enum_type {
            let path = format!(".{package}.{}", kind.name());
            if used.contains(path.as_str()) {
                source += &enumeration(&path, kind);
            }
        }
        for message in &file.message_type {
            let (name, constant) = (message.name(), message.name().to_uppercase());
            names.push(name);
            for kind in &message.enum_type {
                source += &enumeration(&format!(".{package}.{name}.{}", kind.name()), kind);
            }
            let mut fields: Vec<_> = message.field.iter().collect();
            fields.sort_by_key(|field| field.number());
            let full = format!("{package}.{name}");
            let rows: String = fields.iter().map(|field| field_row(&full, field, pool)).collect();
            _ = write!(
                source,
                "\nstatic {constant}: Message = Message::new({name:?}, &[\n{rows}]);\n\
                 impl Entry for messages::{0} {{\n    \
                 fn schema() -> &'static Message {{ &{constant} }}\n}}\n\
                 impl Fields for messages::{0} {{\n    #[inline]\n    \
                 fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {{\n        \
                 match number {{\n{1}            _ => Ok(UNKNOWN),\n        }}\n    }}\n}}\n",
                camel_case(name),
                fields
                    .iter()
                    .enumerate()
                    .map(|(place, field)| arm(place, field))
                    .collect::<String>(),
            );
        }
    }
    names.sort_unstable();
    source += "\n/// Every message, by rising name.\npub(crate) static ALL: &[&Message] = &[\n";
    for name in &names {
        _ = writeln!(source, "    &{},", name.to_uppercase());
    }
    source += "];\n\n/// Shows every type to a test.\n#[cfg(test)]\n\
               pub(crate) fn visit(visitor: &mut impl super::Visitor) {\n";
    for name in &names {
        _ = writeln!(source, "    visitor.see::<messages::{}>();", camel_case(name));
    }
    source + "}\n"
}

/// Returns the row of a field.
fn field_row(message: &str, field: &FieldDescriptorProto, pool: &DescriptorPool) -> String {
    let label = match field.label() {
        Label::Required => "Required",
        Label::Optional => "Optional",
        Label::Repeated => "Repeated",
    };
    let kind = match field.r#type() {
        Type::Message => format!("Message(&{})", last(field.type_name()).to_uppercase()),
        Type::Enum => format!("Enum(&{})", enum_constant(field.type_name())),
        scalar => format!("{scalar:?}"),
    };
    let (number, name) = (field.number(), field.name());
    let mut row = format!("    Field::new({number}, {name:?}, {label}, Type::{kind})");
    if field.options.as_ref().is_some_and(|options| options.packed()) {
        row += ".packed()";
    }
    if let Some(show) = display(message, name, pool) {
        row += &format!(".shown(Show::{show})");
    }
    row + ",\n"
}

/// Returns the arm that takes a field's value and returns the field's place in the row.
fn arm(place: usize, field: &FieldDescriptorProto) -> String {
    let name = match field.name() {
        "type" => "r#type",
        name => name,
    };
    let (read, wire) = match field.r#type() {
        Type::Message => ("message", ""),
        Type::Bytes | Type::String => ("bytes", ""),
        Type::Enum => ("int32", "Varint"),
        Type::Bool => ("bool", "Varint"),
        Type::Uint32 => ("uint32", "Varint"),
        Type::Uint64 => ("uint64", "Varint"),
        Type::Int32 => ("int32", "Varint"),
        Type::Int64 => ("int64", "Varint"),
        Type::Sint32 => ("sint32", "Varint"),
        Type::Sint64 => ("sint64", "Varint"),
        Type::Fixed64 => ("fixed64", "Fixed64"),
        other => panic!("{name}: fields of type {other:?} are not supported"),
    };
    let take = match (field.label(), read) {
        (Label::Required, "message") => format!("value.message(&mut self.{name})?"),
        (Label::Optional, "message") => {
            format!("value.message(self.{name}.get_or_insert_default())?")
        }
        (Label::Repeated, "message") => format!("value.push(&mut self.{name})?"),
        (Label::Repeated, "bytes") => format!("self.{name}.push(value.bytes()?)"),
        (Label::Repeated, _) => {
            format!("value.repeat(&mut self.{name}, WireType::{wire}, Value::{read})?")
        }
        (Label::Required, _) => format!("self.{name} = value.{read}()?"),
        (Label::Optional, _) => format!("self.{name} = Some(value.{read}()?)"),
    };
    format!("            {} => {{ {take}; Ok({place}) }}\n", field.number())
}

/// Returns how people are shown a field: the first of its `(criu)` options that crit looks at.
fn display(message: &str, field: &str, pool: &DescriptorPool) -> Option<String> {
    let field = pool.get_message_by_name(message)?.get_field_by_name(field)?;
    let extension = pool.all_extensions().find(|extension| extension.number() == DISPLAY)?;
    let options: DynamicMessage = field.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let options = options.get_extension(&extension);
    let options = options.as_message()?;
    let is = |name: &str| options.get_field_by_name(name).is_some_and(|v| *v == Value::Bool(true));
    let text = |name: &str| {
        let value = options.get_field_by_name(name)?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    for (option, show) in [("ipadd", "Ip"), ("hex", "Hex"), ("odev", "Odev"), ("dev", "Dev")] {
        if is(option) {
            return Some(show.into());
        }
    }
    let table = |name, show: &str| Some(format!("{show}({:?})", text(name)?));
    let unix = || text("conv").filter(|conv| conv == "unix_name").map(|_| "UnixName".into());
    table("flags", "Flags").or_else(|| table("dict", "Dict")).or_else(unix)
}

fn enumeration(path: &str, kind: &EnumDescriptorProto) -> String {
    let mut values = String::new();
    for value in &kind.value {
        _ = writeln!(values, "    ({}, {:?}),", value.number(), value.name());
    }
    format!("\nstatic {}: Enum = Enum::new(&[\n{values}]);\n", enum_constant(path))
}

/// Returns the name of an enum's static: `.criu.images.core_entry.march` is
/// `ENUM_CORE_ENTRY_MARCH`.
fn enum_constant(path: &str) -> String {
    let path = path.strip_prefix(".criu.images.").unwrap_or(path);
    format!("ENUM_{}", path.replace('.', "_").to_uppercase())
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Returns the name that prost gives a message.
fn camel_case(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_uppercase(), rest.to_string()]
        })
        .collect()
}

/// Gives the fields whose type is one of the messages `kept` the type that holds bytes.
fn keep(message: &mut DescriptorProto, kept: &[&str]) {
    for field in &mut message.field {
        let (package, name) = field.type_name().rsplit_once('.').unwrap_or_default();
        if kept.contains(&name) {
            field.type_name = Some(format!("{package}.{}", kept_name(name)));
        }
    }
}

/// The name, for prost, of the type that holds a message's bytes.
fn kept_name(name: &str) -> String {
    format!("Kept{name}")
}

/// A message of this name. prost asks it what types with such fields can derive.
fn holder(name: &str) -> DescriptorProto {
    let mut bytes = FieldDescriptorProto { name: Some("bytes".into()), ..Default::default() };
    bytes.set_type(Type::Bytes);
    DescriptorProto { name: Some(kept_name(name)), field: vec![bytes], ..Default::default() }
}

/// Makes bytes of strings.
fn strings_to_bytes(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if field.r#type() == Type::String {
            field.set_type(Type::Bytes);
        }
    }
    message.nested_type.iter_mut().for_each(strings_to_bytes);
}

/// Writes the files of every schema; returns those that changed.
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

/// Number of the extension that says how a field is shown.
const DISPLAY: u32 = 1018;
