//! `inspect`, of each kind of place that a checkpoint is in: packings, pipes, sets with parents,
//! pre-dumps, archives of CRI-O and of unknown engines, registries.

use std::fs;
use std::os::unix::fs::symlink;

use criu_lab::certs::{Authority, Wanted};
use criu_lab::registry::{Registry, RegistryWanted, users};

use crate::lab::{Lab, Ran, TestFn, run};
use crate::shipped::IDENTITY;

pub const TESTS: &[(&str, TestFn)] = &[
    ("inspect_shows_the_same_of_each_packing_and_place", packings),
    ("inspect_shows_sets_with_parents_and_pre_dumps", parents),
    ("inspect_and_restore_reach_a_registry_with_tls_and_a_login", registry),
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-rs");

/// Runs a line of a shell.
fn shell(lab: &Lab, line: &str) -> Ran {
    run(lab.program("sh", &["-c", &line.replace("criu-rs", PROGRAM)]))
}

fn packings(lab: &Lab) {
    let images = lab.dir("checkpoint");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--leave-running"]);
    let create = ["archive", "create", &images];
    for (name, words) in [
        ("plain.tar", &["--pack", "plain"][..]),
        ("a.tar.gz", &["--pack", "gzip"]),
        ("seekable.tar.zst", &["--pack", "zstd"]),
    ] {
        lab.done(&[&create[..], &[name, "--engine", "none"], words].concat());
    }
    fs::write(lab.path("key"), IDENTITY).unwrap();
    shell(lab, "chmod 600 key && zstd -q plain.tar -o a.tar.zst").done();
    let key = ["--identity", "key"];
    lab.done(&[&["archive", "encrypt", "a.tar.gz", "a.tar.age"], &key[..]].concat());
    let inspect =
        |place: &str, words: &[&str]| lab.done(&[&["inspect", place], words, &key[..]].concat());
    // All sections are the same; only names and packings differ.
    let sections = ["--ps-tree-cmd", "--files", "--mappings", "--security", "--json"];
    let facts = |place: &str| {
        let mut json = inspect(place, &sections).json();
        for field in ["source", "sizes"] {
            json[field].take();
        }
        json
    };
    let wanted = facts(&images);
    assert!(wanted["processes"][0]["arguments"].to_string().contains("--payload"), "{wanted}");
    let packed = ["a.tar.gz", "a.tar.zst", "a.tar.age"];
    for place in [&["plain.tar", "seekable.tar.zst"][..], &packed].concat() {
        assert_eq!(facts(place), wanted, "{place}");
        let screen = inspect(place, &[]);
        let is_packed = packed.contains(&place);
        // The screen unpacks no memory, and says so.
        assert_eq!(screen.out.contains("--payload"), !is_packed, "{place}: {screen:?}");
        let note = "\n\nCOMMAND has names: ";
        assert_eq!(screen.out.contains(note), is_packed, "{place}: {screen:?}");
        let found = inspect(place, &["--search=--payload"]);
        assert!(found.out.contains("--payload"), "{place}: {found:?}");
        // Through a pipe, the folder named or not.
        for name in ["-", "-:checkpoint"] {
            let json = ["--ps-tree-cmd", "--json"].join(" ");
            let line = format!("cat {place} | criu-rs inspect {name} {json} --identity key");
            let there = shell(lab, &line).json();
            assert_eq!(there["processes"], wanted["processes"], "{line}");
        }
    }
    let none = shell(lab, "criu-rs inspect -:none < plain.tar");
    none.fails(1, &["none: inventory.img: is missing"]);

    // Archives of CRI-O, and of an engine that nobody knows.
    let crio = r#"{"ociVersion":"1","annotations":{"io.container.manager":"cri-o",
        "io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.name\":\"pod\",\"io.kubernetes.pod.namespace\":\"shop\"}"}}"#;
    let unknown = r#"{"ociVersion":"1","annotations":{"io.container.manager":"strange\u001b[2J"}}"#;
    fs::write(lab.path("config.dump"), r#"{"id":"ab12","name":"web","new":[1]}"#).unwrap();
    for (spec, engine) in [(crio, Some("cri-o")), (unknown, None)] {
        fs::write(lab.path("spec.dump"), spec).unwrap();
        let members = "checkpoint config.dump spec.dump";
        shell(lab, &format!("tar -cf engine.tar {members}")).done();
        let json = inspect("engine.tar", &["--metadata", "--json"]).json();
        assert_eq!(json["container"]["engine"].as_str(), engine, "{json}");
        let screen = inspect("engine.tar", &[]).out;
        let shown = engine.unwrap_or("an unknown engine");
        assert!(screen.starts_with("container   web (ab12) of ") && screen.contains(shown));
        assert_eq!(screen.contains("\npod         shop/pod\n"), engine.is_some(), "{screen}");
        assert!(!inspect("engine.tar", &["--all"]).out.contains('\u{1b}'));
    }
}

fn parents(lab: &Lab) {
    let target = lab.start(&["count"]);
    for name in ["first", "second"] {
        let images = lab.dir(name);
        lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--leave-running"]);
        target.goes_on();
    }
    symlink("../first", lab.path("second/parent")).unwrap();
    lab.done(&["archive", "create", "second", "a.tar", "--engine", "podman"]);
    let screen = lab.done(&["inspect", "a.tar"]).out;
    assert!(screen.contains(", on top of a parent set\n"), "{screen}");
    let json = lab.done(&["inspect", "a.tar", "--json"]).json();
    assert_eq!(json["sizes"]["parents"].as_array().unwrap().len(), 1, "{json}");
    let since = ["inspect", "a.tar", "--since", "a.tar:pre-checkpoint"];
    let changed = lab.done(&since).out;
    assert!(changed.contains(&format!("~ [{}] ", target.pid())), "{changed}");
    assert!(changed.contains(" differ"), "{changed}");
    let first = "a.tar:checkpoint since a.tar:pre-checkpoint\n";
    assert!(changed.starts_with(first), "{changed}");
    assert_eq!(lab.done(&["inspect", "second", "--since", "first"]).out.lines().count(), 3);

    // A pre-dump has memory alone. Not every kernel lets CRIU make one.
    let set = lab.dir("pre");
    shell(lab, "cp first/pagemap-* first/pages-* first/stats-dump pre").done();
    let text = lab.done(&["crit", "decode", "-i", "first/inventory.img"]).out;
    let (magic, entries) = text.split_once("entries").unwrap();
    let entries = entries.replacen('{', "{\"pre_dump_mode\": 1, ", 1);
    fs::write(lab.path("inventory.json"), format!("{magic}entries{entries}")).unwrap();
    lab.done(&["crit", "encode", "-i", "inventory.json", "-o", "pre/inventory.img"]);
    let screen = lab.done(&["inspect", &set]).out;
    assert!(screen.starts_with("pre-dump    memory alone, for a later dump: "), "{screen}");
    let json = lab.done(&["inspect", &set, "--all", "--json"]).json();
    assert_eq!(json["pre_dump"], true);
    lab.done(&["inspect", &set, "--html", "page.html"]);
    for words in [&["--secrets"][..], &["--search", "x"], &["--since", "first"]] {
        let ran = lab.run(&[&["inspect", "pre"], words].concat());
        ran.fails(1, &["pre: is a pre-dump, which has memory and no processes"]);
    }
}

/// A registry with TLS of an authority of its own, which asks for a name and a password.
fn registry(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    lab.done(&["archive", "create", "img", "a.tar", "--engine", "podman", "--name", "web"]);
    users(lab.path("users").as_ref());
    let authority = Authority::new(lab.path("ca").as_ref());
    let wanted = Wanted { names: &["127.0.0.1"], common: "registry", ..Wanted::default() };
    let signed = authority.sign(1, &wanted);
    let user_file = lab.path("users");
    let wanted = RegistryWanted {
        tls: Some((&*signed.certificate, &*signed.key)),
        users: Some(user_file.as_ref()),
        ..RegistryWanted::default()
    };
    let server = Registry::with(lab.dir("server").as_ref(), &wanted);
    // The name lab and the password oracle.
    let auth =
        format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"bGFiOm9yYWNsZQ=="}}}}}}"#, server.port());
    fs::write(lab.path("auth.json"), auth).unwrap();
    let name = server.name("shop/web:v1");
    let ca = signed.ca.to_str().unwrap();
    let login = ["--ca", ca, "--authfile", "auth.json"];
    lab.done(&[&["push", "a.tar", &name], &login[..]].concat());
    lab.run(&["inspect", &name]).fails(1, &["certificate"]);
    lab.run(&["restore", "-D", &name]).fails(1, &["certificate"]);
    let screen = lab.done(&[&["inspect", &name], &login[..]].concat()).out;
    assert!(screen.starts_with("container   web ("), "{screen}");
    lab.done(&[&["crit", "x", &name, "ps"], &login[..]].concat());
    // Into a directory, from which a restore is made as from the registry itself.
    let json = lab.done(&[&["pull", &name, "out/", "--json"], &login[..]].concat()).json();
    assert!(json["members"].as_u64() > Some(10), "{json}");
    let taken = lab.run(&[&["pull", &name, "out"], &login[..]].concat());
    taken.fails(1, &["out: is not empty; name a new directory"]);
    let line = format!("criu-rs pull {name} - {} | cmp - a.tar", login.join(" "));
    assert_eq!(shell(lab, &line).code, Some(0), "{line}");
    let work = lab.dir("work");
    for (place, login) in [("out", &[][..]), (&*name, &login)] {
        lab.done(&[&["restore", "-d", "-D", place, "-W", &work], login].concat());
        target.restored_as(target.pid);
        target.goes_on();
        target.end();
    }
    // A device is not replaced.
    let null = format!("{}/null", lab.dir("devices"));
    shell(lab, &format!("mkfifo {null}")).done();
    let refused = lab.run(&[&["pull", &name, &null], &login[..]].concat());
    refused.fails(1, &["null: cannot be written: is no regular file, and is not replaced"]);
    let full = lab.run(&[&["pull", &name, "no/a.tar"], &login[..]].concat());
    full.fails(1, &["no/a.tar: cannot be written: No such file"]);
}
