//! The words `push` and `pull`, and other words with an image in a registry.

use std::fs;
use std::process::Command;

use criu_archive::registry::{Access, Registry as Client};
use criu_lab::registry::Registry;

use crate::lab::{Lab, Ran, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_archive_becomes_an_image_in_a_registry", trip),
    ("a_working_set_comes_from_a_registry_in_one_request", working_set),
    ("a_name_of_no_image_is_told", names),
];

fn trip(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let out = lab.dir("out");
    let archive = format!("{out}/checkpoint.tar");
    let made = Command::new("tar").args(["-cf", &archive, "-C", &images, "."]).status().unwrap();
    assert!(made.success());
    let server = Registry::start(lab.dir("server").as_ref());
    let name = server.name("counter:v1");
    let json = |out: &str| -> serde_json::Value { serde_json::from_str(out).unwrap() };
    let size = fs::metadata(&archive).unwrap().len();
    let pushed = json(&lab.done(&["push", "--json", &archive, &name]).out);
    assert_eq!((pushed["sent"].as_u64(), pushed["bytes"].as_u64()), (Some(size), Some(size)));
    assert_eq!(pushed["path"], *archive);
    let again = json(&lab.done(&["push", "--json", &archive, &name]).out);
    assert_eq!(again["sent"].as_u64(), Some(0), "{again}");
    assert_eq!(again["reference"], pushed["reference"]);

    // By its digest, as the push told it.
    let reference = pushed["reference"].as_str().unwrap();
    let here = json(&lab.done(&["inspect", "--json", &images]).out);
    let there = json(&lab.done(&["inspect", "--json", reference]).out);
    assert_eq!(there["processes"], here["processes"], "{there}");
    let pulled = format!("{out}/pulled.tar");
    lab.done(&["pull", reference, &pulled]);
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&archive).unwrap());
    // Through a layout, and back.
    let layout = format!("oci:{out}/layout:v2");
    lab.done(&["pull", &name, &layout]);
    lab.done(&["push", &layout, &server.name("again:v2")]);
    fs::remove_file(&pulled).unwrap();
    lab.done(&["pull", &server.name("again:v2"), &pulled]);
    assert_eq!(fs::read(&pulled).unwrap(), fs::read(&archive).unwrap());
    // All memory at once, from the registry.
    let work = lab.dir("work");
    lab.done(&["restore", "-d", "-D", &name, "-W", &work]);
    target.restored_as(target.pid);
    target.goes_on();
    target.end();
    // A path in a directory is no name of a registry: nothing is asked.
    lab.dir("local.host");
    let near = lab.run(&["inspect", "local.host/counter"]);
    near.fails(1, &["local.host/counter: cannot be read: No such file"]);
    // The registry has other memory now. No seekable archive, so the whole layer tells.
    let layer = pushed["layer"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let kept = format!("server/blobs/docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]);
    let kept = lab.path(&kept);
    let mut bytes = fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).unwrap();
    let refused = lab.run(&["restore", "-d", "-D", &name, "-W", &work]);
    refused.fails(1, &["layer", "has the digest"]);
    assert_eq!(fs::read_dir(&work).unwrap().filter(is_hidden).count(), 0);
    lab.run(&["pull", &name, "out/new/"]).fails(1, &["layer", "has the digest"]);
}

fn is_hidden(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b".")
}

/// A working set that was recorded beside the images goes with them into an archive and a registry.
fn working_set(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["noise", "32"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    lab.done(&["restore", "-d", "-D", &images, "--lazy", "--record=1"]);
    target.restored_as(target.pid);
    target.end();
    let create = ["archive", "create", &images, "a.tar", "--engine", "none", "--json"];
    let made = lab.done(&create).json();
    let hot = made["working_set"].as_u64().unwrap();
    assert!(hot > 0 && hot < 4 << 20 && made.get("working_set_fault").is_none(), "{made}");
    let server = Registry::start(lab.dir("server").as_ref());
    let name = server.name("counter:v1");
    lab.done(&["push", "a.tar", &name]);
    let shown = lab.done(&["inspect", &name]).out;
    assert!(shown.contains("\nworking set "), "{shown}");
    let work = lab.dir("work");
    // All of it in one request, after which its pages cost none.
    let client = Client::connect(name.parse().unwrap(), &Access::default()).unwrap();
    let archive = client.open().unwrap().archive().unwrap();
    let before = client.traffic();
    assert_eq!(archive.prefetch().unwrap(), hot);
    let after = client.traffic();
    assert_eq!(after.requests, before.requests + 1, "{before:?} {after:?}");
    // A part of it came with the table of contents, whose neighbour it is.
    assert!(before.fetched < after.fetched && after.fetched > hot, "{before:?} {after:?}");
    assert_eq!((archive.prefetch().unwrap(), client.traffic().requests), (hot, after.requests));
    let fetched = |ran: &Ran| {
        let lines = ran.out.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut lines = lines.filter(|line: &serde_json::Value| line["outcome"] == "fetched");
        lines.next().unwrap()["before"].as_u64().unwrap()
    };
    let words = ["restore", "-d", "-D", &name, "-W", &work, "--lazy", "--json"];
    let without = lab.done(&[&words[..], &["--no-working-set"]].concat());
    target.restored_as(target.pid);
    target.goes_on();
    target.end();
    let said = lab.done(&words);
    target.restored_as(target.pid);
    target.goes_on();
    target.end();
    let (before, without) = (fetched(&said), fetched(&without));
    assert!(before > without, "{before} bytes with a working set, {without} without");
    let lines: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |outcome: &str| -> &serde_json::Value {
        lines.iter().find(|line| line["outcome"] == outcome).unwrap()
    };
    let pages = find("memory complete")["statistics"]["pages"]["working_set"].as_u64();
    assert!(pages > Some(5), "{lines:?}");
    // The tasks began to run with a small part of their memory.
    let fetched = find("fetched");
    let (before, later) = (fetched["before"].as_u64(), fetched["later"].as_u64());
    assert!(before.unwrap() * 2 < later.unwrap(), "{fetched}");
}

fn names(lab: &Lab) {
    lab.run(&["push", "nothing.tar", "counter:v1"]).fails(2, &["begins with no registry"]);
    lab.run(&["pull", "counter"]).fails(2, &["is no image"]);
    let nobody = "127.0.0.1:9/counter:v1";
    lab.run(&["pull", nobody]).fails(1, &[nobody, "refused"]);
    lab.run(&["inspect", nobody]).fails(1, &[nobody, "refused"]);
}
