//! Pods saved and restored over CRI through `criu-cri-proxy`, by a client of grpcio.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use criu_archive::UNWATCHED;
use criu_archive::record::{Finding, Holder, Host, Record};
use criu_lab::engines::{Asked, Containerd, CriProxy, Outcome, Outside, Podman};
use criu_lab::registry::Registry;
use criu_lab::soon;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[case("a_pod_is_moved_over_cri_by_a_client_of_others", moved)];

const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-cri-proxy");

/// A node with a proxy.
struct Scene<'b> {
    bed: &'b Bed,
    engine: Containerd,
    proxy: Option<CriProxy>,
    client: Outside,
    image: String,
    place: PathBuf,
    /// Folder of the proxy's socket and notes.
    folder: PathBuf,
}

impl<'b> Scene<'b> {
    fn new(bed: &'b Bed, registry: &Registry) -> Self {
        let podman = Podman::new(bed);
        let image = podman.push(registry);
        let engine = Containerd::start(bed, &podman.push_pause(registry));
        engine.pull(&image).unwrap();
        let place = bed.dir("place");
        fs::create_dir(place.join("lib64")).unwrap();
        criu_lab::rootfs::place_program(&place);
        let folder = bed.dir("proxy");
        let proxy = start(bed, &engine, &folder);
        let client = Outside::new(proxy.socket());
        Self { bed, engine, proxy: Some(proxy), client, image, place, folder }
    }

    /// Starts containerd and the proxy again. The proxy is killed.
    fn restart(&mut self) {
        self.engine.restart();
        self.kill();
        self.up();
    }

    fn kill(&mut self) {
        let proxy = self.proxy.take().unwrap();
        proxy.signal(Signal::SIGKILL);
        assert!(!proxy.end().success());
    }

    /// Starts the proxy again. Returns its log since then.
    fn up(&mut self) -> String {
        let log = self.folder.join("proxy.log");
        let before = fs::read_to_string(&log).unwrap().len();
        let proxy = start(self.bed, &self.engine, &self.folder);
        self.client = Outside::new(proxy.socket());
        self.proxy = Some(proxy);
        fs::read_to_string(&log).unwrap()[before..].to_owned()
    }

    /// The number of networks that proxies have opened because they end or have no part.
    fn opened(&self) -> usize {
        let log = fs::read_to_string(self.folder.join("proxy.log")).unwrap();
        log.matches("its network is open now").count()
    }

    fn pod(&self, name: &str) -> Value {
        let logs = self.bed.dir.join(name);
        let namespaces = json!({"network": "POD", "ipc": "POD", "pid": "CONTAINER"});
        json!({
            "metadata": {"name": name, "uid": format!("{name}-uid"), "namespace": "tests"},
            "logDirectory": logs, "labels": {"app": name},
            "linux": {
                "cgroupParent": format!("/kubepods/{name}"),
                "securityContext": {"namespaceOptions": namespaces},
            },
        })
    }

    fn container(&self, name: &str, side: &str) -> Value {
        let namespaces = json!({"network": "POD", "ipc": "POD", "pid": "CONTAINER"});
        let mount =
            |from: &str, to: &str| json!({"hostPath": self.place.join(from), "containerPath": to});
        json!({
            "metadata": {"name": name}, "image": {"image": self.image},
            "command": ["/payload", "--payload", "talk", "/count", side, "7100"],
            "mounts": [
                mount("payload", "/payload"), mount("lib64", "/lib64"),
                mount("lib64", "/lib/x86_64-linux-gnu"),
            ],
            "annotations": {"io.kubernetes.container.hash": "1234"},
            "logPath": format!("{name}.log"),
            "linux": {"securityContext": {"namespaceOptions": namespaces}},
        })
    }

    #[track_caller]
    fn ask(&mut self, method: &str, request: Value) -> Outcome {
        self.client.ask(method, request, &Asked { timeout: Some(60.0), ..Asked::default() })
    }

    /// Removes a pod. As a kubelet does, it asks again after a failure: containerd fails to kill a
    /// container that ends at this moment, because its peer has ended (`ttrpc: closed`).
    #[track_caller]
    fn remove(&mut self, sandbox: &str) {
        let of = json!({"podSandboxId": sandbox});
        let mut stopped = self.ask("StopPodSandbox", of.clone());
        soon(|| {
            if stopped.code() != "OK" {
                stopped = self.ask("StopPodSandbox", of.clone());
            }
            stopped.code() == "OK"
        });
        stopped.done();
        self.ask("RemovePodSandbox", of).done();
    }

    /// The last number in a container's log.
    fn last(&self, pod: &str, name: &str) -> u64 {
        let log = self.bed.dir.join(pod).join(format!("{name}.log"));
        let text = fs::read_to_string(log).unwrap_or_default();
        let mut numbers = text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok());
        numbers.next_back().unwrap_or(0)
    }

    /// Waits until both containers count on, beyond a number. Returns the smaller of their numbers.
    #[track_caller]
    fn goes_on(&self, pod: &str, least: u64) -> u64 {
        for name in ["a", "b"] {
            let before = self.last(pod, name).max(least);
            let counted = soon(|| self.last(pod, name) > before);
            let log = self.bed.dir.join(pod).join(format!("{name}.log"));
            assert!(counted, "{pod}/{name}: {}", fs::read_to_string(log).unwrap_or_default());
        }
        self.last(pod, "a").min(self.last(pod, "b"))
    }
}

fn start(bed: &Bed, engine: &Containerd, folder: &Path) -> CriProxy {
    let (criu, state) = (bed.runtime.criu().to_str().unwrap(), folder.join("state"));
    let options = ["--criu", criu, "--state", state.to_str().unwrap()];
    CriProxy::start(Path::new(PROGRAM), folder, &engine.socket(), &options)
}

/// Says whether a pod's cgroup, or one of those below, is to be frozen.
fn is_frozen(pod: &str) -> bool {
    let mut places = Vec::new();
    for above in ["freezer", "unified", "."] {
        let place = Path::new("/sys/fs/cgroup").join(above).join("kubepods").join(pod);
        places.extend(fs::read_dir(&place).into_iter().flatten().flatten().map(|e| e.path()));
        places.push(place);
    }
    let is_set = |at: &PathBuf, file: &str| {
        fs::read_to_string(at.join(file)).is_ok_and(|state| state.trim() == "1")
    };
    places.iter().any(|at| is_set(at, "freezer.self_freezing") || is_set(at, "cgroup.freeze"))
}

/// The program of the containers is another one now. The engine says only that CRIU has failed.
fn fails(scene: &mut Scene<'_>, restore: &Value) {
    let (payload, aside) = (scene.place.join("payload"), scene.place.join("aside"));
    fs::rename(&payload, &aside).unwrap();
    fs::copy(&aside, &payload).unwrap();
    let mut other = fs::File::options().append(true).open(&payload).unwrap();
    other.write_all(b"longer").unwrap();
    drop(other);
    let made = scene.ask("RestorePod", restore.clone());
    let sandbox = json!({"podSandboxId": made.done()["podSandboxId"]});
    let first = json!({"containerId": made.done()["restoredContainers"][0]["containerId"]});
    let refused = scene.ask("StartContainer", first);
    assert_ne!(refused.code(), "OK", "{refused:?}");
    for wanted in ["criu failed", "has changed since the dump (payload)", "bad size"] {
        assert!(refused.text().contains(wanted), "{wanted}: {refused:?}");
    }
    scene.remove(sandbox["podSandboxId"].as_str().unwrap());
    fs::rename(aside, payload).unwrap();
}

/// A network that is shut while containers start is opened when no proxy is there that opens it
/// later.
fn left(scene: &mut Scene<'_>, restore: &Value) {
    let made = scene.ask("RestorePod", restore.clone());
    let sandbox = made.done()["podSandboxId"].as_str().unwrap().to_owned();
    // Engines take the beginning of an id for the id.
    let id = made.done()["restoredContainers"][0]["containerId"].as_str().unwrap()[..16].to_owned();
    scene.ask("StartContainer", json!({"containerId": id})).done();
    // Another proxy has no part in starts.
    scene.kill();
    let (before, state) = (scene.opened(), scene.folder.join("state"));
    let options = ["--forward-only", "--state", state.to_str().unwrap()];
    let forward =
        CriProxy::start(Path::new(PROGRAM), &scene.folder, &scene.engine.socket(), &options);
    assert_eq!(scene.opened(), before + 1, "{}", forward.log());
    assert!(forward.end().success());
    // One that has a part ends.
    scene.up();
    assert_eq!(scene.opened(), before + 1);
    assert!(scene.proxy.take().unwrap().end().success());
    assert_eq!(scene.opened(), before + 2);
    scene.up();
    scene.remove(&sandbox);
}

/// Two containers that share net and ipc, and talk over TCP, come back in a new sandbox with no
/// byte lost.
fn moved(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let mut scene = Scene::new(bed, &registry);
    bed.dir("pod");
    let config = scene.pod("pod");
    let made = scene.ask("RunPodSandbox", json!({"config": config}));
    let sandbox = made.done()["podSandboxId"].as_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for (name, side) in [("a", "serve"), ("b", "ask")] {
        let of = json!({
            "podSandboxId": sandbox, "config": scene.container(name, side),
            "sandboxConfig": config,
        });
        let made = scene.ask("CreateContainer", of);
        let id = made.done()["containerId"].as_str().unwrap().to_owned();
        scene.ask("StartContainer", json!({"containerId": id})).done();
        ids.push(id);
    }
    scene.goes_on("pod", 0);

    let to = bed.dir("to");
    let request = json!({
        "podSandboxId": sandbox, "outputPath": to, "containerIds": ids,
        "options": {"tcp": "established"},
    });
    // No deadline, and no option for the connection.
    let refused = scene.client.call("CheckpointPod", request.clone());
    assert_eq!(refused.code(), "INVALID_ARGUMENT", "{refused:?}");
    let mut plain = request.clone();
    plain["options"] = json!({});
    let refused = scene.ask("CheckpointPod", plain.clone());
    assert_eq!(refused.code(), "FAILED_PRECONDITION", "{refused:?}");
    assert!(refused.text().contains("onnected TCP socket"), "{refused:?}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    scene.goes_on("pod", 0);

    // A session of exec, whose process would not be saved.
    let words = json!({"containerId": ids[0], "cmd": ["/bin/sleep", "2"]});
    let session = scene.client.begin("ExecSync", words, &Asked::default());
    let mut refused = None;
    let is_seen = soon(|| {
        // It does not begin at once. This checkpoint fails, too.
        let outcome = scene.ask("CheckpointPod", plain.clone());
        let seen = outcome.text().contains("(sleep) are in the container and not of its own");
        refused = Some(outcome);
        seen
    });
    let refused = refused.unwrap();
    assert!(is_seen && refused.code() == "FAILED_PRECONDITION", "{refused:?}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    scene.client.wait(session).done();
    scene.goes_on("pod", 0);

    // The memory that the containers share by name is the sandbox's, and is not saved.
    let mark = json!({"containerId": ids[0], "cmd": ["/bin/sh", "-c", "echo 1 > /dev/shm/mark"]});
    assert!(scene.ask("ExecSync", mark).done().get("exitCode").is_none_or(|code| code == 0));

    // A proxy that is killed while the pod is frozen: its start thaws the pod.
    let asked = Asked { timeout: Some(60.0), ..Asked::default() };
    let call = scene.client.begin("CheckpointPod", request.clone(), &asked);
    assert!(soon(|| is_frozen("pod")));
    scene.kill();
    assert!(soon(|| is_frozen("pod")), "the kill came too late");
    assert_eq!(scene.client.wait(call).code(), "UNAVAILABLE");
    let log = scene.up();
    assert!(log.contains("thawed, and the files removed"), "{log}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    scene.goes_on("pod", 0);

    scene.ask("CheckpointPod", request).done();
    let counted = scene.goes_on("pod", 0);
    let holder = Holder::open(&to).unwrap();
    let record = Record::read(&holder).unwrap();
    let findings = record.verify(&Host::here(), &holder, UNWATCHED).unwrap();
    assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
    scene.remove(&sandbox);

    scene.restart();
    bed.dir("again");
    let mut containers = vec![scene.container("a", "serve"), scene.container("b", "ask")];
    containers[0]["annotations"]["io.kubernetes.container.hash"] = json!("5678");
    let restore = json!({
        "checkpointPath": to, "config": scene.pod("again"), "containerConfigs": containers,
    });
    fails(&mut scene, &restore);
    left(&mut scene, &restore);
    let made = scene.ask("RestorePod", restore);
    let pod = made.done()["podSandboxId"].as_str().unwrap().to_owned();
    let restored = made.done()["restoredContainers"].as_array().unwrap().clone();
    assert_eq!(restored.len(), 2, "{made:?}");
    for container in &restored {
        let id = json!({"containerId": container["containerId"]});
        let status = scene.ask("ContainerStatus", id.clone());
        let status = &status.done()["status"];
        // CREATED is 0, which JSON leaves out.
        assert!(status.get("state").is_none_or(|state| state == "CONTAINER_CREATED"), "{status}");
        scene.ask("StartContainer", id).done();
        // A restart between two starts loses no connection.
        if container["name"] == "a" {
            let hash = &status["annotations"]["io.kubernetes.container.hash"];
            assert_eq!(hash, "5678", "{status}");
            scene.restart();
        }
    }
    scene.goes_on("again", counted);
    let id = &restored[0]["containerId"];
    let look = json!({"containerId": id, "cmd": ["/bin/cat", "/dev/shm/mark"]});
    assert_eq!(scene.ask("ExecSync", look).done()["exitCode"], 1);
    scene.remove(&pod);
    let notes = fs::read_dir(scene.folder.join("state")).unwrap().flatten();
    let notes: Vec<_> = notes.map(|note| note.file_name()).collect();
    assert_eq!(notes, ["lock"]);
    assert!(scene.proxy.take().unwrap().end().success());
}
