//! `criu-cri-proxy` between containerd and a client of grpcio.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use criu_lab::engines::{Asked, Containerd, CriProxy, Outcome, Outside, Podman, client, finish};
use criu_lab::registry::Registry;
use criu_lab::soon;
use serde_json::{Value, json};

use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[
    case("ordinary_calls_pass_through_the_proxy", ordinary_calls),
    case("the_proxy_finds_containerd_again", restarts),
];

const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-cri-proxy");

/// A pod as a kubelet describes it.
fn pod(name: &str, logs: &Path) -> Value {
    let namespaces = json!({"network": "NODE", "pid": "CONTAINER"});
    json!({
        "metadata": {"name": name, "uid": format!("{name}-uid"), "namespace": "tests"},
        "logDirectory": logs, "labels": {"app": name},
        "linux": {"securityContext": {"namespaceOptions": namespaces}},
    })
}

fn container(name: &str, image: &str, words: &[&str]) -> Value {
    let namespaces = json!({"network": "NODE", "pid": "CONTAINER"});
    json!({
        "metadata": {"name": name}, "image": {"image": image}, "command": words,
        "logPath": format!("{name}.log"), "stdin": true,
        "linux": {"securityContext": {"namespaceOptions": namespaces}},
    })
}

/// Every kind of call that a kubelet and crictl make comes through as it is.
fn ordinary_calls(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    let proxy = CriProxy::start(Path::new(PROGRAM), &bed.dir("proxy"), &engine.socket(), &[]);
    let mut direct = Outside::new(&engine.socket());
    let mut proxied = Outside::new(proxy.socket());
    let events = [&mut direct, &mut proxied].map(|client| {
        let asked = Asked { count: Some(4), ..Asked::default() };
        client.begin("GetContainerEvents", json!({}), &asked)
    });

    let pulled = proxied.call("PullImage", json!({"image": {"image": image}}));
    assert!(pulled.done()["imageRef"].as_str().unwrap().contains("sha256:"), "{pulled:?}");
    let logs = bed.dir("logs");
    let config = pod("pod", &logs);
    let made = proxied.call("RunPodSandbox", json!({"config": config}));
    let sandbox = made.done()["podSandboxId"].as_str().unwrap().to_owned();
    let create = |client: &mut Outside, name: &str, words: &[&str]| {
        let config = container(name, &image, words);
        let of =
            json!({"podSandboxId": sandbox, "config": config, "sandboxConfig": pod("pod", &logs)});
        client.call("CreateContainer", of).done()["containerId"].as_str().unwrap().to_owned()
    };
    let id = create(&mut proxied, "echo", ECHO);
    let of = json!({"containerId": id});
    proxied.call("StartContainer", of.clone()).done();

    // The events of the pod, and of a container that is made and started.
    let [from_direct, from_proxied] =
        [(&mut direct, events[0]), (&mut proxied, events[1])].map(|(client, id)| client.wait(id));
    assert_eq!(from_direct.bytes(), from_proxied.bytes());
    assert!(from_proxied.answers().iter().any(|event| event["containerId"] == *id));

    // Logs, and what programs write and read.
    let log = logs.join("echo.log");
    assert!(soon(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("stdout F started"))));
    let words =
        json!({"containerId": id, "cmd": ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]});
    let ran = same(&mut direct, &mut proxied, "ExecSync", &words);
    assert_eq!(ran.done(), &json!({"stdout": "b3V0Cg==", "stderr": "ZXJyCg==", "exitCode": 7}));
    streams(&proxy, &id, &sandbox);
    assert!(fs::read_to_string(&log).unwrap().contains("stdout F got: hello"));
    proxied.call("ReopenContainerLog", of.clone()).done();

    // Statistics, which change with time. containerd has none where it does not find the cgroup, as
    // with cgroups of version 1 in the sandbox.
    for (method, request) in [("ContainerStats", &of), ("ListContainerStats", &json!({}))] {
        let [direct, proxied] =
            [&mut direct, &mut proxied].map(|client| client.call(method, request.clone()));
        assert_eq!((direct.code(), direct.text()), (proxied.code(), proxied.text()), "{method}");
        let names = |outcome: &Outcome| named(&outcome.all()["answer"]);
        assert_eq!(names(&direct), names(&proxied), "{method}");
        assert!(proxied.code() == "OK" || proxied.text().contains("metrics"), "{proxied:?}");
    }

    // A list of many.
    for number in 0..MANY {
        create(&mut proxied, &format!("many-{number}"), ECHO);
    }
    // containerd lists them in an order that changes.
    let [one, other] = [&mut direct, &mut proxied].map(|client| {
        let answer = client.call("ListContainers", json!({})).done().clone();
        let containers = answer["containers"].as_array().unwrap().iter();
        containers.map(Value::to_string).collect::<BTreeSet<_>>()
    });
    assert_eq!((one.len(), &one), (MANY + 1, &other));

    unchanged(&mut direct, &mut proxied, (&sandbox, &id), &image);

    proxied.call("StopContainer", json!({"containerId": id, "timeout": "0"})).done();
    proxied.call("RemoveContainer", of.clone()).done();
    let gone = same(&mut direct, &mut proxied, "ContainerStatus", &of);
    assert_eq!(gone.code(), "NOT_FOUND");
    proxied.call("StopPodSandbox", json!({"podSandboxId": sandbox})).done();
    proxied.call("RemovePodSandbox", json!({"podSandboxId": sandbox})).done();
    assert_eq!(proxied.call("ListPodSandbox", json!({})).done(), &json!({}));
    assert!(proxy.end().success());
}

/// Calls whose answers are the same at any time.
fn unchanged(direct: &mut Outside, proxied: &mut Outside, of: (&str, &str), image: &str) {
    let (sandbox, id) = of;
    for (method, request, code) in [
        ("Version", json!({}), "OK"),
        ("Status", json!({}), "OK"),
        ("Status", json!({"verbose": true}), "OK"),
        ("RuntimeConfig", json!({}), "OK"),
        ("ListPodSandbox", json!({"filter": {"labelSelector": {"app": "pod"}}}), "OK"),
        ("PodSandboxStatus", json!({"podSandboxId": sandbox}), "OK"),
        ("ContainerStatus", json!({"containerId": id, "verbose": true}), "OK"),
        ("ImageStatus", json!({"image": {"image": image}, "verbose": true}), "OK"),
        ("ListImages", json!({}), "OK"),
        ("ContainerStatus", json!({"containerId": "none"}), "NOT_FOUND"),
        ("StartContainer", json!({"containerId": id}), "UNKNOWN"),
        ("CreateContainer", json!({"podSandboxId": sandbox}), "UNKNOWN"),
        ("RunPodSandbox", json!({"config": {}}), "UNKNOWN"),
        ("PullImage", json!({"image": {"image": "127.0.0.1:1/none:1"}}), "UNKNOWN"),
        ("CheckpointContainer", json!({"containerId": id}), "UNKNOWN"),
        ("/runtime.v1.RuntimeService/None", json!(""), "UNIMPLEMENTED"),
        ("/none.Service/None", json!(""), "UNIMPLEMENTED"),
    ] {
        let outcome = same(direct, proxied, method, &request);
        assert_eq!(outcome.code(), code, "{method} {request}: {outcome:?}");
    }
    // The engine does not know this call, and the proxy misses the deadline in the request.
    let request = json!({"podSandboxId": sandbox});
    let codes = [direct, proxied].map(|client| client.call("CheckpointPod", request.clone()));
    assert_eq!(codes.each_ref().map(Outcome::code), ["UNIMPLEMENTED", "INVALID_ARGUMENT"]);
}

/// Makes a call with both clients. Their outcomes must be equal, byte for byte.
///
/// containerd writes lists and maps in an order that changes. So the calls are repeated until both
/// have the same order.
#[track_caller]
fn same(direct: &mut Outside, proxied: &mut Outside, method: &str, request: &Value) -> Outcome {
    for _ in 0..TRIES {
        let [direct, proxied] =
            [&mut *direct, &mut *proxied].map(|client| client.call(method, request.clone()));
        if direct.all() == proxied.all() {
            return proxied;
        }
        assert_eq!(direct.code(), proxied.code(), "{method} {request}");
        assert_eq!(direct.text(), proxied.text(), "{method} {request}");
    }
    panic!("{method} {request}: not once the same bytes in {TRIES} tries");
}

/// The names of all fields of a value, in order.
fn named(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| {
                named(value)
                    .into_iter()
                    .map(move |inner| format!("{name}.{inner}"))
                    .chain([name.clone()])
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(named).collect(),
        _ => Vec::new(),
    }
}

/// The addresses of streams are the engine's, and work.
fn streams(proxy: &CriProxy, id: &str, sandbox: &str) {
    let stream = |words: &[&str]| -> Value {
        let said = finish(&mut client(proxy.socket(), words)).done();
        serde_json::from_str(&said).unwrap()
    };
    let run = json!({"containerId": id, "cmd": ["/bin/sh", "-c", "read x; echo \"<$x>\"; exit 3"],
        "stdin": true, "stdout": true, "stderr": true});
    let said = stream(&["stream", "Exec", &run.to_string(), "hello\n"]);
    assert!(said["status"].as_str().unwrap().contains(" 101 "), "{said}");
    assert_eq!(said["stdout"], "<hello>\n", "{said}");
    assert!(said["error"].as_str().unwrap().contains(r#""message":"3""#), "{said}");
    let attach = json!({"containerId": id, "stdin": true, "stdout": true, "stderr": true});
    let said = stream(&["stream", "Attach", &attach.to_string(), "hello\n"]);
    assert!(said["stdout"].as_str().unwrap().contains("got: hello\n"), "{said}");
    let forward = json!({"podSandboxId": sandbox, "port": [7007]});
    let url = stream(&["call", "PortForward", &forward.to_string()])["url"].clone();
    let url = url.as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let (address, path) = url.split_once('/').unwrap();
    assert!(path.starts_with("portforward/"), "{url}");
    TcpStream::connect(address).unwrap();
}

/// Clients keep their connection while containerd is restarted, and containers run on.
fn restarts(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let mut engine = Containerd::start(bed, &podman.push_pause(&registry));
    let socket = engine.socket();
    let proxy = CriProxy::start(Path::new(PROGRAM), &bed.dir("proxy"), &socket, &[]);
    let mut proxied = Outside::new(proxy.socket());
    let id = {
        engine.pull(&image).unwrap();
        let pod = engine.pod("pod");
        let id = pod.run("c", &image, &[]).unwrap();
        std::mem::forget(pod);
        id
    };
    let of = json!({"containerId": id});
    let before = proxied.call("ContainerStatus", of.clone());
    assert_eq!(before.done()["status"]["state"], "CONTAINER_RUNNING");
    let events = proxied.begin("GetContainerEvents", json!({}), &Asked::default());
    let words = json!({"containerId": id, "cmd": ["/bin/sleep", "30"]});
    let runs = proxied.begin("ExecSync", words, &Asked::default());
    std::thread::sleep(Duration::from_millis(500));
    engine.restart();
    for id in [events, runs] {
        let outcome = proxied.wait(id);
        assert_eq!(outcome.code(), "UNAVAILABLE", "{outcome:?}");
        assert!(outcome.text().contains("may have executed"), "{outcome:?}");
    }
    let mut after = proxied.call("ContainerStatus", of.clone());
    soon(|| {
        after = proxied.call("ContainerStatus", of.clone());
        after.code() != "UNAVAILABLE"
    });
    assert_eq!(before.done(), after.done());
    proxy.says("the connection to the engine at ");
    proxied.call("RemoveContainer", of).done();
}

/// A program that writes what it reads.
const ECHO: &[&str] =
    &["/bin/sh", "-c", "echo started; while read x; do echo \"got: $x\"; done; sleep 1000"];

/// Calls until two lists of few entries have had the same order.
const TRIES: usize = 100;

/// Containers of a long list.
const MANY: usize = 30;
