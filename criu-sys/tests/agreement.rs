//! The bindings against the headers and libraries of each libcriu that `cargo xtask setup --tests`
//! unpacks.
//!
//! The C compiler compares: it gets the header, and then everything that the bindings say, written
//! in C.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::{Attribute, Expr, Fields, ForeignItem, Item, Lit, ReturnType, Type};

#[test]
fn bindings_say_what_the_header_of_3_17_says() {
    Libcriu::of("bookworm").agrees();
}

#[test]
fn bindings_say_what_the_header_of_4_1_says() {
    Libcriu::of("trixie").agrees();
}

#[test]
fn bindings_say_what_the_newest_header_says() {
    let newest = Libcriu::of("experimental");
    newest.agrees();
    let (all, known) = (bindings(), newest.known());
    assert_eq!(all.functions.len(), known.functions.len(), "since {:?}", newest.version);
    assert_eq!(all.constants.len(), known.constants.len(), "since {:?}", newest.version);
}

#[test]
fn functions_are_in_the_library_of_3_17() {
    Libcriu::of("bookworm").links();
}

#[test]
fn functions_are_in_the_library_of_4_1() {
    Libcriu::of("trixie").links();
}

#[test]
fn functions_are_in_the_newest_library() {
    Libcriu::of("experimental").links();
}

#[test]
fn a_wrong_signature_is_noticed() {
    let libcriu = Libcriu::of("trixie");
    let mut source = libcriu.in_c(&libcriu.known());
    let at = source.find("criu_set_pid(int").expect("a declaration");
    source.replace_range(at.., "criu_set_pid(unsigned int);\n");
    let said = libcriu.compile("wrong", &source, &["-fsyntax-only"]).unwrap_err();
    assert!(said.contains("conflicting types"), "{said}");
}

/// One that is unpacked.
struct Libcriu {
    suite: &'static str,
    root: PathBuf,
    version: Vec<u32>,
}

impl Libcriu {
    fn of(suite: &'static str) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let root = target.join("criu").join(suite);
        let header = root.join("usr/include/criu/version.h");
        let text = fs::read_to_string(&header).unwrap_or_else(|error| {
            panic!("{}: {error}; run `cargo xtask setup --tests`", header.display())
        });
        let version = text.split("CRIU_VERSION \"").nth(1).unwrap().split('"').next().unwrap();
        Self { suite, root, version: parse(version) }
    }

    /// The part of the bindings that this one should have.
    fn known(&self) -> Bindings {
        let mut known = bindings();
        let is_old = |since: &Option<Vec<u32>>| since.as_ref().is_none_or(|s| *s <= self.version);
        known.functions.retain(|function| is_old(&function.since));
        known.constants.retain(|constant| is_old(&constant.since));
        known.aliases.retain(|alias| is_old(&alias.since));
        for structure in &mut known.structures {
            structure.fields.retain(|field| is_old(&field.since));
        }
        known
    }

    /// Compares with the header.
    #[track_caller]
    fn agrees(&self) {
        let known = self.known();
        self.compile("agreement", &self.in_c(&known), &["-fsyntax-only"]).unwrap();

        let header = self.compile("header", "#include \"criu.h\"\n", &["-E", "-P"]).unwrap();
        let macros = self.compile("header", "#include \"criu.h\"\n", &["-E", "-dM"]).unwrap();
        // Those of other headers have two underscores, or are these.
        let others = ["CRIU_VERSION", "CRIU_GITID"];
        let is_ours =
            |name: &&str| !name.contains("__") && !others.iter().any(|o| name.starts_with(o));
        let functions: BTreeSet<&str> = words(&header)
            .filter(|(word, next)| word.starts_with("criu_") && *next == '(')
            .map(|(word, _)| word)
            .filter(is_ours)
            .collect();
        assert_eq!(known.functions.iter().map(|f| &*f.name).collect::<BTreeSet<_>>(), functions);
        let defined =
            macros.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
        let constants: BTreeSet<&str> = words(&header)
            .map(|(word, _)| word)
            .chain(defined)
            .filter(|word| word.starts_with("CRIU_"))
            .filter(is_ours)
            .collect();
        assert_eq!(known.constants.iter().map(|c| &*c.name).collect::<BTreeSet<_>>(), constants);
    }

    /// Links a program that names every function, to either library.
    #[track_caller]
    fn links(&self) {
        let mut source = String::new();
        let names: Vec<String> = self.known().functions.into_iter().map(|f| f.name).collect();
        assert!(names.len() > 100);
        for name in &names {
            _ = writeln!(source, "void {name}(void);");
        }
        let table = names.join(", ");
        _ = writeln!(source, "void (*volatile table[])(void) = {{ {table} }};");
        source += "int main(void) { return table[0] == 0; }\n";
        let link = self.root.join("link");
        let folder = format!("-L{}", link.display());
        let run_path = format!("-Wl,-rpath-link,{}", link.display());
        let program = out(&format!("linked-{}", self.suite));
        let program = program.to_str().unwrap();
        let libraries = ["-lcriu", "-lprotobuf-c"];
        let dynamic = [&["-o", program, &folder, &run_path][..], &libraries].concat();
        self.compile("linked", &source, &dynamic).unwrap();
        let archives = ["-Wl,-Bstatic", "-lcriu", "-lprotobuf-c", "-Wl,-Bdynamic"];
        let fixed = [&["-o", program, &folder][..], &archives].concat();
        self.compile("linked", &source, &fixed).unwrap();
    }

    /// Everything that bindings say, for a compiler that has seen the header.
    fn in_c(&self, bindings: &Bindings) -> String {
        let mut source = String::from("#include <stddef.h>\n#include \"criu.h\"\n");
        for Constant { name, value, .. } in &bindings.constants {
            _ = writeln!(source, "_Static_assert({name} == ({value}), \"{name}\");");
        }
        for Alias { name, of, .. } in &bindings.aliases {
            // Rust has an enumeration as its numbers, which C lets one choose.
            let check = match &**of {
                "unsigned int" => {
                    format!("sizeof(enum {name}) == sizeof({of}) && (enum {name})-1 > 0")
                }
                _ => format!("__builtin_types_compatible_p({name}, {of})"),
            };
            _ = writeln!(source, "_Static_assert({check}, \"{name}\");");
        }
        for Structure { name, fields } in &bindings.structures {
            let list: Vec<String> =
                fields.iter().map(|f| format!("{} {};", f.kind, f.name)).collect();
            _ = writeln!(source, "struct our_{name} {{ {} }};", list.join(" "));
            _ = writeln!(
                source,
                "_Static_assert(sizeof(struct {name}) == sizeof(struct our_{name}), \"size\");"
            );
            for Field { name: field, .. } in fields {
                _ = writeln!(
                    source,
                    "_Static_assert(offsetof(struct {name}, {field}) == offsetof(struct our_{name}, {field}) \
                     && __builtin_types_compatible_p(__typeof__(((struct {name} *)0)->{field}), \
                     __typeof__(((struct our_{name} *)0)->{field})), \"{field}\");"
                );
            }
        }
        for Function { name, parameters, result, .. } in &bindings.functions {
            let parameters = match &**parameters {
                [] => "void".to_owned(),
                some => some.join(", "),
            };
            _ = writeln!(source, "{result} {name}({parameters});");
        }
        source
    }

    /// Hands a file to the C compiler; returns what it says.
    fn compile(&self, name: &str, source: &str, args: &[&str]) -> Result<String, String> {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main");
        let file = out(&format!("{test}-{name}.c"));
        fs::write(&file, source).unwrap();
        let include = self.root.join("usr/include");
        let output = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-std=gnu11", "-Werror"])
            .arg("-I")
            .arg(include.join("criu"))
            .arg("-I")
            .arg(include)
            .arg(&file)
            .args(args)
            .output()
            .expect("a C compiler");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// What the bindings say, with types as C has them.
struct Bindings {
    functions: Vec<Function>,
    constants: Vec<Constant>,
    aliases: Vec<Alias>,
    structures: Vec<Structure>,
}

struct Function {
    name: String,
    parameters: Vec<String>,
    result: String,
    since: Option<Vec<u32>>,
}

struct Constant {
    name: String,
    value: String,
    since: Option<Vec<u32>>,
}

struct Alias {
    name: String,
    of: String,
    since: Option<Vec<u32>>,
}

struct Structure {
    name: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    kind: String,
    since: Option<Vec<u32>>,
}

/// Reads the committed file.
fn bindings() -> Bindings {
    let file = syn::parse_file(include_str!("../src/bindings.rs")).unwrap();
    let mut found = Bindings {
        functions: Vec::new(),
        constants: Vec::new(),
        aliases: Vec::new(),
        structures: Vec::new(),
    };
    let mut enumerations = Vec::new();
    let mut structures = Vec::new();
    for item in &file.items {
        match item {
            Item::Type(alias) if matches!(&*alias.ty, Type::Path(_)) => {
                enumerations.push(alias.ident.to_string());
            }
            Item::Struct(item) if item.fields.iter().any(|f| is_public(&f.vis)) => {
                structures.push(item.ident.to_string());
            }
            _ => {}
        }
    }
    let c = |kind: &Type| in_c(kind, &enumerations, &structures);
    for item in &file.items {
        match item {
            Item::Use(_) => {}
            Item::Const(item) => found.constants.push(Constant {
                name: item.ident.to_string(),
                value: number(&item.expr),
                since: since(&item.attrs),
            }),
            Item::Type(item) => found.aliases.push(Alias {
                name: item.ident.to_string(),
                of: c(&item.ty),
                since: since(&item.attrs),
            }),
            Item::Struct(item) => {
                let name = item.ident.to_string();
                let Fields::Named(fields) = &item.fields else { panic!("{name}") };
                if structures.contains(&name) {
                    let fields = fields.named.iter().map(|field| Field {
                        name: field.ident.as_ref().unwrap().to_string(),
                        kind: c(&field.ty),
                        since: since(&field.attrs),
                    });
                    found.structures.push(Structure { name, fields: fields.collect() });
                }
            }
            Item::ForeignMod(block) => {
                for item in &block.items {
                    let ForeignItem::Fn(item) = item else { panic!("not a function") };
                    let parameters = item.sig.inputs.iter().map(|input| match input {
                        syn::FnArg::Typed(input) => c(&input.ty),
                        syn::FnArg::Receiver(_) => panic!("self"),
                    });
                    found.functions.push(Function {
                        name: item.sig.ident.to_string(),
                        parameters: parameters.collect(),
                        result: result(&item.sig.output, &c),
                        since: since(&item.attrs),
                    });
                }
            }
            _ => panic!("more than bindings"),
        }
    }
    found
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

fn result(output: &ReturnType, c: &impl Fn(&Type) -> String) -> String {
    match output {
        ReturnType::Default => "void".into(),
        ReturnType::Type(_, kind) => c(kind),
    }
}

/// A type as C has it.
fn in_c(kind: &Type, enumerations: &[String], structures: &[String]) -> String {
    let c = |kind: &Type| in_c(kind, enumerations, structures);
    match kind {
        Type::Ptr(pointer) => {
            let is_const = if pointer.const_token.is_some() { "const " } else { "" };
            format!("{is_const}{} *", c(&pointer.elem))
        }
        Type::Path(path) => {
            let last = path.path.segments.last().unwrap();
            match &*last.ident.to_string() {
                "c_char" => "char".into(),
                "c_int" => "int".into(),
                "c_uint" => "unsigned int".into(),
                "c_void" => "void".into(),
                "bool" => "_Bool".into(),
                "usize" => "size_t".into(),
                "Option" => match &last.arguments {
                    syn::PathArguments::AngleBracketed(inner) => match inner.args.first() {
                        Some(syn::GenericArgument::Type(Type::BareFn(function))) => {
                            let inputs = function.inputs.iter().map(|input| c(&input.ty));
                            let inputs: Vec<String> = inputs.collect();
                            let result = result(&function.output, &c);
                            format!("{result} (*)({})", inputs.join(", "))
                        }
                        _ => panic!("an option of something else"),
                    },
                    _ => panic!("an option of nothing"),
                },
                name if enumerations.iter().any(|e| e == name) => format!("enum {name}"),
                name if structures.iter().any(|s| s == name) => format!("struct {name}"),
                name => name.into(),
            }
        }
        _ => panic!("a type of an unknown kind"),
    }
}

fn number(value: &Expr) -> String {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_digits().into(),
            _ => panic!("not a number"),
        },
        Expr::Unary(negated) if matches!(negated.op, syn::UnOp::Neg(_)) => {
            format!("-{}", number(&negated.expr))
        }
        _ => panic!("not a number"),
    }
}

/// The version that the documentation of an item names.
fn since(attributes: &[Attribute]) -> Option<Vec<u32>> {
    let lines = attributes.iter().filter_map(|attribute| {
        let meta = attribute.meta.require_name_value().ok()?;
        match &meta.value {
            Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        }
    });
    let mut docs = lines.collect::<Vec<_>>();
    assert!(!docs.is_empty(), "an item without documentation");
    docs.retain(|line| line.starts_with(" Since libcriu "));
    let version = docs.pop()?;
    Some(parse(version.trim_start_matches(" Since libcriu ").trim_end_matches('.')))
}

fn parse(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().unwrap()).collect()
}

/// The words of C code, each with what follows it.
fn words(code: &str) -> impl Iterator<Item = (&str, char)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.split_inclusive(move |c| !is_word(c)).map(move |part| {
        let word = part.trim_end_matches(move |c| !is_word(c));
        (word, part[word.len()..].chars().next().unwrap_or(' '))
    })
}

/// A file below the tests' folder.
fn out(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agreement");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}
