//! The rooms of each crate keep the rules between them; `cargo xtask rooms` prints the rooms.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use xtask::architecture::{Breach, FLOORS, Graph, Rule, Sources, breaches};

#[test]
fn rooms_keep_the_rules() {
    let sources = real();
    assert!(sources.paths().count() > 200, "the sources are elsewhere");
    let found = breaches(&sources).unwrap();
    let lines: Vec<String> = found.iter().map(Breach::to_string).collect();
    assert!(lines.is_empty(), "{} breaches:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn a_good_tree_has_no_breach() {
    assert_eq!(text(&breaches(&small()).unwrap()), "");
}

#[test]
fn a_bad_import_is_found_for_each_rule() {
    let cases = [
        (Rule::Cycle, "images/src/store.rs", "use crate::set::ImageSet;"),
        (Rule::Cycle, "fuzz/src/seeds.rs", "use crate::made::made;"),
        (Rule::Facade, "images/src/set.rs", "use crate::Store;"),
        (Rule::Facade, "images/src/set.rs", "use super::Store;"),
        (Rule::Facade, "images/src/set.rs", "use crate::*;"),
        (Rule::Facade, "criu-rs/src/operation/dump.rs", "fn f(_: crate::Pid) {}"),
        (Rule::Floor, "criu-rs/src/value/mod.rs", "use crate::operation;"),
        (Rule::Floor, "criu-rs/src/oci.rs", "use crate::pod::Pod;"),
        (Rule::Floor, "cri/src/engine.rs", "use crate::hold::shut;"),
        (Rule::Stranger, "images/src/set.rs", "use criu_rs::Pid;"),
        (Rule::Stranger, "images/src/set.rs", "fn f() { criu_rs::start() }"),
        (Rule::Stranger, "criu-rs/src/pages.rs", "use crate::operation::Dump;"),
        (Rule::Stranger, "criu-rs/src/operation/dump.rs", "use criu_cli::run;"),
    ];
    for (rule, path, bad) in cases {
        let mut sources = small();
        let text = sources.get(path).unwrap_or_default().to_owned();
        let line = text.lines().count().max(1) + 1;
        sources.insert(path, &format!("{text}\n{bad}"));
        let found = breaches(&sources).unwrap();
        let of_rule: Vec<&Breach> = found.iter().filter(|breach| breach.rule == rule).collect();
        assert_eq!(of_rule.len(), 1, "{path} with {bad}: {}", self::text(&found));
        let place = format!("{path}:{line}: `");
        assert!(of_rule[0].to_string().contains(&place), "{place}: {}", of_rule[0]);
    }
}

#[test]
fn a_new_room_needs_a_row() {
    for (name, _) in FLOORS {
        let mut sources = small();
        let path = format!("{name}/src/lib.rs");
        let root = sources.get(&path).unwrap().to_owned() + "mod annex;";
        sources.insert(&path, &root);
        sources.insert(&format!("{name}/src/annex.rs"), "");
        let found = text(&breaches(&sources).unwrap());
        assert_eq!(found, format!("the room `annex` of {name} needs a row in FLOORS"));
    }
}

#[test]
fn a_bad_import_in_the_real_sources_is_found() {
    let cases = [
        (Rule::Cycle, "images/src/far.rs", "use crate::near;"),
        (Rule::Facade, "criu-rs/src/hooks.rs", "use crate::Dump;"),
        (Rule::Floor, "criu-rs/src/sys/mod.rs", "use crate::pod::Pod;"),
        (Rule::Floor, "cri/src/client/mod.rs", "use crate::pod::Pods;"),
        (Rule::Row, "criu-rs/src/lib.rs", "mod annex;"),
        (Rule::Stranger, "images/src/kind.rs", "fn f() { criu_rs::start() }"),
    ];
    let good = real();
    let mut bad = good.clone();
    bad.insert("criu-rs/src/annex.rs", "");
    bad.insert("images/src/near.rs", "use crate::far;");
    let root = good.get("images/src/lib.rs").unwrap().to_owned();
    bad.insert("images/src/lib.rs", &(root + "mod far; mod near;"));
    for (_, path, text) in cases {
        bad.insert(path, &format!("{}\n{text}", good.get(path).unwrap_or_default()));
    }
    let (before, after) = (breaches(&good).unwrap(), breaches(&bad).unwrap());
    for (rule, path, bad) in cases {
        let of_rule = |found: &[Breach]| {
            let found = found.iter().filter(|breach| breach.rule == rule);
            found.map(Breach::to_string).collect::<Vec<_>>()
        };
        let mut found = of_rule(&after);
        assert_ne!(found, of_rule(&before), "{path} with {bad}");
        found.retain(|line| rule == Rule::Row || line.contains(path));
        assert_ne!(found, [""; 0], "{path} with {bad}: no breach names the file");
    }
}

#[test]
fn re_exports_lead_to_the_file_that_defines_a_name() {
    let sources = sources(&[
        ("fuzz/src/lib.rs", "mod a; mod b; mod c; mod d; mod e; pub use b::Renamed; pub use d::*;"),
        ("fuzz/src/a.rs", "use crate::{Renamed, Globbed};"),
        ("fuzz/src/b/mod.rs", "mod inner; pub use inner::Name as Renamed;"),
        ("fuzz/src/b/inner.rs", "pub use crate::c::Name;"),
        ("fuzz/src/c.rs", "pub struct Name;"),
        ("fuzz/src/d.rs", "pub use self::below::Globbed; mod below { pub use crate::e::Globbed; }"),
        ("fuzz/src/e.rs", "pub struct Globbed;"),
    ]);
    assert_eq!(imports(&sources, "a"), ["b", "c", "d", "e"]);
}

#[test]
fn imports_are_found_wherever_they_stand() {
    let forms = [
        "use crate::b::B;",
        "use crate::b;",
        "use crate::{b::{self, B}, c};",
        "use super::b::B as C;",
        "mod below { use super::super::b::B; }",
        "fn f() { use crate::b::B; }",
        "fn f() -> crate::b::B { loop {} }",
        "fn f() { println!(\"{}\", crate::b::B::new()) }",
        "macro_rules! m { () => { $crate::b::B } }",
        "fn f() { m!(use crate::{b, c};) }",
        "impl Clone for X { fn f(&self) { let x: Vec<crate::b::B> = <crate::b::B>::all(); } }",
        "#[derive(X)] #[x(parser = crate::b::parse)] struct Y;",
    ];
    for form in forms {
        assert!(imports(&three(form), "a").contains(&"b".to_owned()), "{form}");
    }
}

#[test]
fn tests_and_documentation_import_nothing() {
    let forms = [
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::B;",
        "#[cfg(doctest)] mod readme { use crate::b::B; }",
        "#[cfg(all(test, unix))] fn f() { crate::b::f() }",
        "struct X; impl X { #[cfg(test)] fn f() { crate::b::f() } }",
        "/// Sees [`crate::b::B`].\nstruct X;",
        "#![doc = \"crate::b::B\"]",
        "// use crate::b::B;",
        "pub(in crate::b) struct X;",
    ];
    for form in forms {
        assert_eq!(imports(&three(form), "a"), [""; 0], "{form}");
    }
    let kept = three("#[cfg(not(test))] use crate::b::B;");
    assert_eq!(imports(&kept, "a"), ["b"]);
}

#[test]
fn floors_and_knots_are_those_of_the_imports() {
    let sources = sources(&[
        ("fuzz/src/lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("fuzz/src/a.rs", "use crate::b; use crate::e;"),
        ("fuzz/src/b.rs", "use crate::c;"),
        ("fuzz/src/c.rs", "use crate::d; use crate::b;"),
        ("fuzz/src/d.rs", ""),
        ("fuzz/src/e.rs", ""),
    ]);
    let graph = &Graph::all(&sources).unwrap()[0];
    let floors: Vec<_> = graph.floors().into_iter().collect();
    assert_eq!(floors, [("a", 3), ("b", 2), ("c", 2), ("d", 1), ("e", 1)]);
    assert_eq!(graph.knots(), [["b", "c"]]);
    let shown = graph.to_string();
    assert!(shown.starts_with("fuzz: 5 rooms, 3 floors, rooms in knots: 2\n"), "{shown}");
}

#[test]
fn no_room_has_two_rows_and_every_room_of_a_table_exists() {
    let graphs = Graph::all(&real()).unwrap();
    for (name, rows) in FLOORS {
        let graph = graphs.iter().find(|graph| graph.name == *name).unwrap();
        let mut rooms = rows.concat();
        rooms.sort_unstable();
        assert_eq!(rooms, graph.rooms().collect::<Vec<_>>(), "{name}");
    }
}

/// The sources of this workspace.
fn real() -> Sources {
    Sources::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap()
}

/// A workspace that keeps the rules.
fn small() -> Sources {
    sources(&[
        ("images/src/lib.rs", "mod set; mod store; pub use set::ImageSet; pub use store::Store;"),
        ("images/src/set.rs", "use crate::store::Store;\npub struct ImageSet(Store);"),
        ("images/src/store.rs", "pub struct Store;"),
        ("fuzz/src/lib.rs", "mod made; mod seeds;"),
        ("fuzz/src/made.rs", "use crate::seeds::Seeds;\npub fn made() {}"),
        ("fuzz/src/seeds.rs", ""),
        ("cri/src/lib.rs", "mod engine; mod hold;"),
        ("cri/src/engine.rs", ""),
        ("cri/src/hold.rs", "use crate::engine::Engine;"),
        (
            "criu-rs/src/lib.rs",
            "mod oci; mod operation; mod pages; mod pod; mod value;\n\
             pub use value::Pid; pub use operation::Dump; use std::fmt;",
        ),
        ("criu-rs/src/oci.rs", ""),
        ("criu-rs/src/operation/mod.rs", "mod dump;\npub use dump::Dump;"),
        ("criu-rs/src/operation/dump.rs", "use crate::value::Pid;\npub struct Dump(Pid);"),
        ("criu-rs/src/pages.rs", "use crate::value::Pid;\npub struct PageServer(Pid);"),
        ("criu-rs/src/pod.rs", "pub struct Pod;"),
        ("criu-rs/src/value/mod.rs", "pub struct Pid;"),
    ])
}

/// A crate of three rooms, of which `a` has the given content.
fn three(a: &str) -> Sources {
    sources(&[
        ("fuzz/src/lib.rs", "mod a; mod b; mod c;"),
        ("fuzz/src/a.rs", a),
        ("fuzz/src/b.rs", "pub struct B;"),
        ("fuzz/src/c.rs", ""),
    ])
}

fn sources(files: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::default();
    files.iter().for_each(|(path, text)| sources.insert(path, text));
    sources
}

/// The rooms that a room of the only crate imports.
fn imports(sources: &Sources, room: &str) -> Vec<String> {
    let graphs = Graph::all(sources).unwrap();
    graphs[0].imports(room).map(|(to, _)| to.to_owned()).collect()
}

fn text(breaches: &[Breach]) -> String {
    let lines: Vec<String> = breaches.iter().map(Breach::to_string).collect();
    lines.join("\n")
}
