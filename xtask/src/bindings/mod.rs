//! `cargo xtask bindings`: libcriu's header in, committed Rust out.
//!
//! The items are those of the header; their documentation is in `criu-sys/prose.txt`.

mod header;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Result, criu, setup, workspace};
use header::{Function, Item, UNSAFE, list};

/// The bindings, from the workspace root.
pub const OUTPUT: &str = "criu-sys/src/bindings.rs";

/// The documentation of each item, from the workspace root.
const PROSE: &str = "criu-sys/prose.txt";

/// Writes the bindings, and prints the file's name if they changed.
pub(crate) fn run() -> Result<()> {
    setup::for_tests(false)?;
    let path = workspace::root().join(OUTPUT);
    let source = generate()?;
    if fs::read_to_string(&path).ok().as_deref() != Some(&source) {
        fs::write(&path, source)?;
        println!("wrote {OUTPUT}");
    }
    Ok(())
}

/// Makes the bindings of the newest libcriu that `cargo xtask setup --tests` unpacks.
///
/// # Errors
/// If there is no libcriu, its header has an item of a new kind, an item has no documentation, or
/// documentation has no item.
pub fn generate() -> Result<String> {
    let header: PathBuf = criu::folder().join(criu::EXPERIMENTAL).join("usr/include/criu/criu.h");
    let text = fs::read_to_string(&header).map_err(|error| {
        format!("cannot read {}: {error}; run `cargo xtask setup --tests`", header.display())
    })?;
    let items = header::read(&text).map_err(|error| format!("{}: {error}", header.display()))?;
    let prose = fs::read_to_string(workspace::root().join(PROSE))?;
    let source = write(&items, Prose::read(&prose)?).map_err(|e| format!("{PROSE}: {e}"))?;
    format(&source)
}

/// Makes the bindings, without their format.
fn write(items: &[Item], mut prose: Prose) -> Result<String> {
    let mut source = String::from(
        "// Made by `cargo xtask bindings` from criu.h and prose.txt. Do not edit.\n\n\
         use core::ffi::{c_char, c_int, c_uint, c_void};\n\
         use core::marker::{PhantomData, PhantomPinned};\n",
    );
    let mut functions = String::new();
    for item in items {
        match item {
            Item::Constant { name, kind, value } => {
                let docs = prose.of(name)?;
                _ = writeln!(source, "\n{docs}pub const {name}: {kind} = {value};");
            }
            Item::Enum { name, values } => {
                let docs = prose.of(name)?;
                _ = writeln!(source, "\n{docs}pub type {name} = c_uint;");
                for (value, number) in values {
                    let docs = prose.of(value)?;
                    _ = writeln!(source, "{docs}pub const {value}: {name} = {number};");
                }
            }
            Item::Struct { name, fields } => {
                // A function may have the same name.
                let docs = prose.of(&format!("{name}{{}}"))?;
                _ = writeln!(
                    source,
                    "\n{docs}#[repr(C)]\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\n\
                     pub struct {name} {{"
                );
                for field in fields {
                    let docs = prose.of(&format!("{name}.{}", field.name))?;
                    _ = writeln!(source, "{docs}pub {}: {},", field.name, field.kind);
                }
                source += "}\n";
            }
            // Such a type cannot be made, and is neither Send nor Sync.
            Item::Opaque { name } => {
                let docs = prose.of(name)?;
                _ = writeln!(
                    source,
                    "\n{docs}#[repr(C)]\n#[derive(Debug)]\npub struct {name} {{\n\
                     _bytes: [u8; 0],\n_marker: PhantomData<(*mut u8, PhantomPinned)>,\n}}"
                );
            }
            Item::Alias { name, of } => {
                let docs = prose.of(name)?;
                _ = writeln!(source, "\n{docs}pub type {name} = {of};");
            }
            Item::Function(Function { name, parameters, result }) => {
                let docs = prose.of(name)?;
                let result = result.as_ref().map_or(String::new(), |kind| format!(" -> {kind}"));
                let parameters = list(parameters);
                _ = writeln!(functions, "{docs}pub fn {name}({parameters}){result};\n");
            }
        }
    }
    prose.is_used_up()?;
    _ = write!(source, "\n{UNSAFE} extern \"C\" {{\n{}\n}}\n", functions.trim_end());
    Ok(source)
}

/// The documentation of each item, by its name.
struct Prose {
    entries: BTreeMap<String, Entry>,
}

/// An entry: `= NAME [since VERSION] [local VERSION]`, and the paragraph below.
#[derive(Default)]
struct Entry {
    since: Option<String>,
    /// The version since which the function with options of its own exists, if that differs.
    local: Option<String>,
    text: String,
    is_used: bool,
}

impl Prose {
    fn read(text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let (_, text) = text.split_once("\n= ").ok_or("the prose has no entry")?;
        for entry in text.split("\n= ") {
            let (head, text) = entry.split_once('\n').unwrap_or((entry, ""));
            let mut words = head.split_whitespace();
            let name = words.next().ok_or("an entry without a name")?;
            let mut entry = Entry { text: text.trim().into(), ..Entry::default() };
            while let Some(word) = words.next() {
                let version = words.next().map(str::to_owned);
                match word {
                    "since" => entry.since = version,
                    "local" => entry.local = version,
                    _ => return Err(format!("unknown head of an entry: {head}").into()),
                }
            }
            if entry.text.is_empty() || entries.insert(name.to_owned(), entry).is_some() {
                return Err(format!("{name} needs one text").into());
            }
        }
        Ok(Self { entries })
    }

    /// Returns the documentation of an item. Most functions exist twice: for options that all calls
    /// share, and with `local_` in the name for options of their own.
    fn of(&mut self, name: &str) -> Result<String> {
        let (text, since) = if let Some(entry) = self.entries.get_mut(name) {
            entry.is_used = true;
            (entry.text.clone(), entry.since.as_ref())
        } else {
            let shared = name.replacen("criu_local_", "criu_", 1);
            let entry = self.entries.get(&shared).ok_or_else(|| format!("no entry {name}"))?;
            let since = entry.local.as_ref().or(entry.since.as_ref());
            (format!("[`{shared}()`] for these options alone."), since)
        };
        let mut docs = String::from("///");
        let mut width = 0;
        for word in text.split_whitespace() {
            width += word.len() + 1;
            if width > WIDTH {
                docs += "\n///";
                width = word.len() + 1;
            }
            docs += " ";
            docs += word;
        }
        docs.push('\n');
        if let Some(version) = since.filter(|version| *version != OLDEST) {
            _ = writeln!(docs, "///\n/// Since libcriu {version}.");
        }
        Ok(docs)
    }

    fn is_used_up(&self) -> Result<()> {
        match self.entries.iter().find(|(_, entry)| !entry.is_used) {
            Some((name, _)) => Err(format!("the header has no {name}").into()),
            None => Ok(()),
        }
    }
}

/// Runs rustfmt.
fn format(source: &str) -> Result<String> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.arg("--config-path").arg(workspace::root()).args(["--edition", "2024"]);
    rustfmt.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = rustfmt.spawn().map_err(|error| format!("cannot start rustfmt: {error}"))?;
    // It reads all before it writes any.
    child.stdin.take().ok_or("rustfmt has no input")?.write_all(source.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err("rustfmt refuses the bindings".into())
    }
}

/// Columns of documentation. Functions are indented, and lines end before column 100.
const WIDTH: usize = 92;

/// The oldest libcriu that the tests look at. Its items need no "since".
const OLDEST: &str = "3.17";

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "typedef struct criu_opts criu_opts;\n\
                          void criu_set_x(int x);\nvoid criu_local_set_x(criu_opts *opts, int x);\n";

    fn made(prose: &str) -> Result<String> {
        write(&header::read(HEADER)?, Prose::read(prose)?)
    }

    #[test]
    fn a_function_of_its_own_options_refers_to_the_shared_one() {
        let prose = "Head.\n\n= criu_opts\nOptions.\n\n= criu_set_x since 4.3 local 3.17\nThe x.\n";
        let source = made(prose).unwrap();
        let shared = "/// The x.\n///\n/// Since libcriu 4.3.\npub fn criu_set_x(x: c_int);\n";
        assert!(source.contains(shared), "{source}");
        let local = "/// [`criu_set_x()`] for these options alone.\npub fn criu_local_set_x(";
        assert!(source.contains(local), "{source}");
    }

    #[test]
    fn prose_and_header_have_the_same_items() {
        assert!(made("\n= criu_opts\nOptions.\n").unwrap_err().to_string().contains("criu_set_x"));
        let prose = "\n= criu_opts\nOptions.\n= criu_set_x\nThe x.\n= criu_set_y\nThe y.\n";
        assert!(made(prose).unwrap_err().to_string().contains("criu_set_y"));
    }
}
