//! The words `cri`, and a container that moves between two nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::certs::{Authority, Wanted};
use criu_lab::engines::{
    Containerd, ContainerdWanted, CriProxy, Node, PodNetwork, Podman, Said, finish,
};
use criu_lab::registry::{Registry, RegistryWanted};
use criu_lab::{soon, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Bed, Case, PROGRAM, case, program, text};

/// The proxy.
const PROXY: &str = env!("CARGO_BIN_EXE_criu-cri-proxy");

pub const TESTS: &[Case] = &[
    case("a_container_moves_to_another_node", moves),
    case("a_pod_moves_to_another_node", pod_moves),
    case("cri_refuses_what_it_cannot_do_and_leaves_nothing", refusals),
];

/// Two nodes with an engine each, and a registry that both reach by HTTPS.
///
/// containerd pulls images of checkpoints as if no registry were configured.
struct Nodes {
    node: Node,
    registry: Registry,
    authority: PathBuf,
    image: String,
    pause: String,
}

impl Nodes {
    fn new(bed: &Bed) -> Self {
        let node = Node::join();
        let authority = Authority::new(&bed.dir("ca"));
        let names = [Node::SANDBOX];
        let wanted = Wanted { names: &names, common: "registry", ..Wanted::default() };
        let signed = authority.sign(1, &wanted);
        let wanted = RegistryWanted {
            address: Some(Node::SANDBOX),
            tls: Some((&*signed.certificate, &*signed.key)),
            ..RegistryWanted::default()
        };
        let registry = Registry::with(&bed.dir("registry"), &wanted);
        let podman = Podman::new(bed);
        let (image, pause) = (podman.push(&registry), podman.push_pause(&registry));
        Self { node, registry, authority: signed.ca, image, pause }
    }

    /// Starts the engine of the sandbox.
    fn one(&self, bed: &Bed) -> Containerd {
        let wanted = ContainerdWanted { authority: Some(&self.authority), node: None };
        let engine = Containerd::with(bed, &self.pause, &wanted);
        engine.pull(&self.image).unwrap();
        engine
    }

    /// Starts the engine of the node.
    fn two(&self, bed: &Bed) -> Containerd {
        let wanted = ContainerdWanted { authority: Some(&self.authority), node: Some(&self.node) };
        Containerd::with(bed, &self.pause, &wanted)
    }
}

/// A pod of two containers that talk over TCP goes from one node to another through a registry and
/// through the proxies of the nodes, with one command each.
fn pod_moves(bed: &Bed) {
    let nodes = Nodes::new(bed);
    let one = nodes.one(bed);
    let place = bed.dir("place");
    fs::create_dir(place.join("lib64")).unwrap();
    criu_lab::rootfs::place_program(&place);
    let (payload, lib) = (place.join("payload"), place.join("lib64"));
    let mounts = [(&*payload, "/payload"), (&*lib, "/lib64"), (&*lib, "/lib/x86_64-linux-gnu")];
    let pod = one.pod_in("web", PodNetwork::Own);
    for (name, side) in [("a", "serve"), ("b", "ask")] {
        let words = ["/payload", "--payload", "talk", "/count", side, "7100"];
        pod.run_words(name, (&nodes.image, &words), &mounts).unwrap();
    }
    let logs = bed.dir.join("containerd/web");
    let counted = ["a", "b"].map(|name| counts_on(&logs.join(format!("{name}.log")), 3));

    let command = Command::new(PROXY);
    let proxy = proxy(bed, "proxy-one", command, &one.socket());
    let (ca, name) = (text(&nodes.authority), nodes.registry.name("moved:1"));
    let words = ["cri", "checkpoint", "tests/web", &name, "--option", "tcp=established"];
    let more = ["--ca", ca, "--json", "--endpoint", text(proxy.socket())];
    let saved = json(program(&[&words[..], &more].concat()));
    assert_eq!(steps(&saved), ["find", "save", "pack", "send"], "{saved}");
    assert_eq!(saved["containers"], serde_json::json!(["a", "b"]), "{saved}");
    counts_on(&logs.join("a.log"), counted[0]);
    drop(pod);

    let _two = nodes.two(bed);
    let socket = Path::new("/run/containerd.sock");
    let proxy = self::proxy(bed, "proxy-two", nodes.node.command(Path::new(PROXY)), socket);
    let mut command = nodes.node.command(Path::new(PROGRAM));
    command.args(["cri", "restore", &name, "--ca", ca, "--json", "--endpoint"]);
    let restored = json(finish(command.arg(proxy.socket())));
    assert_eq!(steps(&restored), ["fetch", "check", "image", "create", "start"], "{restored}");
    for (name, counted) in ["a", "b"].iter().zip(counted) {
        counts_on(&logs.join(format!("{name}.log")), counted);
    }
}

/// Starts a proxy in front of an engine. Its notes are in `/run`, which each node has for itself.
fn proxy(bed: &Bed, name: &str, mut command: Command, engine: &Path) -> CriProxy {
    let dir = bed.dir(name);
    command.arg("--engine").arg(engine).arg("--criu").arg(bed.runtime.criu());
    CriProxy::start_by(command, &dir)
}

/// A container goes from one node to another through a registry, with one command each.
fn moves(bed: &Bed) {
    let nodes = Nodes::new(bed);
    let one = nodes.one(bed);
    let (image, ca) = (&nodes.image, text(&nodes.authority));
    let pod = one.pod("web");
    let id = pod.run("c", image, &[]).unwrap();
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
    assert!(table.contains("tests/web") && table.contains(&**image), "{table}");

    let name = nodes.registry.name("moved:1");
    let words = ["cri", "checkpoint", "tests/web/c", &name, "--ca", ca, "--json"];
    let saved = json(program(&[&words[..], &["--endpoint", text(&socket)]].concat()));
    assert_eq!(steps(&saved), ["find", "save", "check", "send"], "{saved}");
    pod.counts_beyond(&id, "c", counted);
    pod.remove(&id).unwrap();

    let two = nodes.two(bed);
    let mut command = nodes.node.command(Path::new(PROGRAM));
    let words = ["cri", "restore", &name, "--ca", ca, "--json", "--endpoint"];
    let restored = json(finish(command.args(words).arg("/run/containerd.sock")));
    assert_eq!(
        steps(&restored),
        ["fetch", "check", "image", "pod", "create", "start"],
        "{restored}"
    );
    let log = PathBuf::from("/var/log/pods/tests_web_web-uid/c.log");
    counts_on(&nodes.node.path(&log), counted);
    let root = two.bundle(restored["containers"][0]["id"].as_str().unwrap()).join("rootfs");
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.ends_with("changed\n"), "{passwd}");
}

/// Mistakes and refusals have their message and their exit status, and nothing is left of them.
fn refusals(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    engine.pull(&image).unwrap();
    let pod = engine.pod("web");
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let socket = engine.socket();
    let cri = |words: &[&str]| {
        let end = ["--endpoint", text(&socket)];
        program(&[&["cri"], words, &end].concat())
    };
    let place = bed.dir("place");
    let archive = place.join("c.tar");
    let is_empty = |place: &Path| fs::read_dir(place).unwrap().next().is_none();

    // A pod, which this engine does not save.
    let said = cri(&["checkpoint", "web", &format!("{}/pod/", place.display())]).failed();
    assert!(said.contains("CheckpointPod: not implemented") && said.contains("criu-cri-proxy"));
    for (words, wanted) in [
        (&["checkpoint", "nobody", text(&archive)][..], "no pod and no container is named nobody"),
        (&["checkpoint", "c", text(&place)], "is a directory: name the archive"),
        (&["checkpoint", "c", "/nowhere/c.tar"], "/nowhere"),
        (&["checkpoint", "c", text(&archive), "--option", "a=b"], "--option"),
        (&["restore", text(&archive)], "c.tar"),
    ] {
        let said = cri(words).failed();
        assert!(said.contains(wanted), "{words:?}: {said}");
        assert!(is_empty(&place), "{words:?}");
    }
    // The engine learns of the deadline, and an archive that is there stays as it was.
    fs::write(&archive, "old").unwrap();
    let said = cri(&["checkpoint", &id[..8], "127.0.0.1:1/closed:1"]).failed();
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert_eq!(fs::read(&archive).unwrap(), b"old");
    pod.counts_beyond(&id, "c", counted);
    let said = cri(&["checkpoint", "web/c", text(&archive)]).done();
    assert_eq!(said, "");
    pod.counts_beyond(&id, "c", counted);
    let shown = program(&["inspect", text(&archive)]).done();
    assert!(shown.contains("nc -l -p 7007"), "{shown}");

    // Without the image there is no container, and then no pod.
    let strange = bed.dir.join("strange.json");
    fs::write(&strange, r#"{"metadata": {"name": "again"}, "log_direktory": "/"}"#).unwrap();
    let said = cri(&["restore", text(&archive), "--pod-config", text(&strange)]).failed();
    assert!(said.contains("the field log_direktory is unknown"), "{said}");
    let (above, logs) = (bed.dir.join("logs"), bed.dir.join("logs/again"));
    let config = r#"{"metadata": {"name": "again", "namespace": "n", "uid": "u"},
        "linux": {"security_context": {"namespace_options": {"network": 2, "pid": 1}}},
        "log_directory": "LOGS"}"#;
    fs::write(&strange, config.replace("LOGS", text(&logs))).unwrap();
    // The container that was saved has its port still.
    let config = ["--pod-config", text(&strange)];
    let said = cri(&[&["restore", text(&archive)], &config[..]].concat()).failed();
    assert!(said.contains("StartContainer"), "{said}");
    let listed = json(cri(&["list", "--all", "--json"]));
    assert_eq!(listed["pods"].as_array().unwrap().len(), 1, "{listed}");
    assert!(!above.exists());

    pod.remove(&id).unwrap();
    // A signal while the engine makes the pod, whose name only the engine's answer tells. Whoever
    // runs the tests may have them ignore SIGINT.
    let mut restore = Command::new(PROGRAM);
    restore.args(["cri", "restore", text(&archive), config[0], config[1], "--endpoint"]);
    let mut restore = restore.arg(&socket).stderr(Stdio::piped()).spawn().unwrap();
    assert!(soon(|| logs.exists()));
    signal(engine.pid(), Signal::SIGSTOP);
    signal(restore.id(), Signal::SIGTERM);
    let is_over = within(Duration::from_millis(300), || restore.try_wait().unwrap().is_some());
    signal(engine.pid(), Signal::SIGCONT);
    assert!(!is_over, "the program has not waited for the engine");
    let ended = restore.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains("stopped by SIGTERM"), "{said}");
    let listed = json(cri(&["list", "--all", "--json"]));
    assert_eq!(listed["pods"].as_array().unwrap().len(), 1, "{listed}");
    assert!(!above.exists());

    let restored = json(cri(&["restore", text(&archive), "--json", config[0], config[1]]));
    counts_on(&logs.join("c.log"), counted);
    let listed = json(cri(&["list", "--json"]));
    let row = listed["pods"].as_array().unwrap().iter().find(|row| row["name"] == "again").unwrap();
    assert_eq!(row["id"], restored["sandbox"], "{listed}");
    assert_eq!(row["containers"][0]["id"], restored["containers"][0]["id"], "{listed}");
}

fn signal(process: u32, signal: Signal) {
    kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
}

fn steps(facts: &Value) -> Vec<&str> {
    let steps = facts["steps"].as_array().unwrap().iter();
    steps.map(|step| step["step"].as_str().unwrap()).collect()
}

#[track_caller]
fn json(said: Said) -> Value {
    serde_json::from_str(&said.done()).unwrap()
}

/// Waits until a log has a number beyond another, and one more. Returns the number.
#[track_caller]
fn counts_on(log: &Path, least: u64) -> u64 {
    let last = || -> u64 {
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines().last().and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    assert!(soon(|| last() > least), "{} after {least}", last());
    let first = last();
    assert!(soon(|| last() > first), "the count stays at {first}");
    first
}
