//! Each answer of a kubelet.

use std::time::Duration;

use criu_cri::kubelet::{Container, Error, ErrorKind, Kubelet, Party};
use criu_lab::https::{Asked, Server};

use crate::node::Node;

/// Answers as a kubelet does, in its order: who asks, the gate, the pod, the container, the
/// time-out, the runtime.
fn kubelet(asked: &Asked, has_gate: bool, runtime: &str) -> (u16, String) {
    let text = |status: u16, text: &str| (status, text.to_owned());
    let user = match (&asked.certificate, asked.token()) {
        (Some(_), _) | (None, Some("good")) => "me",
        (None, Some("known")) => "other",
        _ => return text(401, "Unauthorized"),
    };
    if user != "me" {
        let said = "Forbidden (user=other, verb=create, resource=nodes, subresource=[checkpoint])";
        return text(403, said);
    }
    let (path, query) = asked.path();
    let parts: Vec<&str> = path.split('/').collect();
    let ["", "checkpoint", namespace, pod, container] = parts[..] else {
        return text(404, "404 page not found\n");
    };
    if !has_gate {
        return text(404, "404 page not found\n");
    }
    if (namespace, pod) != ("ns", "pod") {
        return text(404, "pod does not exist\n");
    }
    if container != "app" && container != "old" {
        return (404, format!("container {container} does not exist\n"));
    }
    let timeouts = query.into_iter().flat_map(|query| query.split('&'));
    let mut timeouts = timeouts.filter_map(|pair| pair.strip_prefix("timeout="));
    // The last one wins.
    if timeouts.next_back().is_some_and(|last| last.parse::<i64>().is_err()) {
        return text(404, "cannot parse value of timeout parameter\n");
    }
    let failed = |reason: &str| {
        (500, format!("checkpointing of {namespace}/{pod}/{container} failed ({reason})\n"))
    };
    match runtime {
        "" if container == "old" => failed("container old not found"),
        "" => (200, format!(r#"{{"items":["{PATH}"]}}"#)),
        reason => failed(reason),
    }
}

/// The archive that the kubelet names.
const PATH: &str = "/var/lib/kubelet/checkpoints/checkpoint-pod_ns-app-2026-11-30T12:00:00Z.tar";

fn ask(node: &Kubelet, name: &str) -> Result<String, Error> {
    let container: Container = name.parse().unwrap();
    node.checkpoint(&container, None).map(|saved| saved.path.display().to_string())
}

#[test]
fn a_checkpoint_is_made_with_a_certificate_or_a_token() {
    let node = Server::start(|asked| kubelet(asked, true, ""));
    assert_eq!(ask(&node.client(), "ns/pod/app").unwrap(), PATH);
    let asked = node.last();
    assert_eq!(asked.line, "POST /checkpoint/ns/pod/app HTTP/1.1\r\n");
    assert!(asked.headers.contains(&format!("host: 127.0.0.1:{}", node.port)), "{asked:?}");
    // A token in a file is read anew for each request.
    let file = node.dir.join("token");
    let mut access = node.access();
    access.token_file(&file);
    let client = Kubelet::new(node.endpoint(), access);
    let said = ask(&client, "ns/pod/app").unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::File { .. }), "{said}");
    std::fs::write(&file, "stale\n").unwrap();
    let said = ask(&client, "ns/pod/app").unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Unauthenticated { by: Party::Kubelet, .. }), "{said}");
    assert!(!said.to_string().contains("stale") && !format!("{client:?}").contains("stale"));
    std::fs::write(&file, "good\n").unwrap();
    let container = "ns/pod/app".parse().unwrap();
    let saved = client.checkpoint(&container, Some(Duration::from_millis(1500))).unwrap();
    assert_eq!(saved.path.to_str(), Some(PATH));
    // Rounded up.
    assert_eq!(node.last().line, "POST /checkpoint/ns/pod/app?timeout=2 HTTP/1.1\r\n");
}

#[test]
fn each_refusal_has_its_own_error() {
    let node = Server::start(|asked| kubelet(asked, true, ""));
    let client = node.client();
    let said = |client: &Kubelet, name: &str| ask(client, name).unwrap_err();
    let place = format!("https://127.0.0.1:{}: ", node.port);
    let without = Kubelet::new(node.endpoint(), node.access());
    let other = said(&without, "ns/pod/app");
    let wanted = "the kubelet does not accept the credentials (401)";
    assert_eq!(other.to_string(), format!("{place}{wanted}"));
    let mut access = node.access();
    access.token(criu_cri::kubelet::Source::Given(b"known".to_vec()));
    let other = said(&Kubelet::new(node.endpoint(), access), "ns/pod/app");
    let wanted = "the kubelet forbids it (403): the right `create` on `nodes/checkpoint` is \
        needed: Forbidden (user=other, verb=create, resource=nodes, subresource=[checkpoint])";
    assert_eq!(other.to_string(), format!("{place}{wanted}"));
    for (name, wanted) in [
        ("ns/other/app", "no pod ns/other is on this node (404)"),
        ("other/pod/app", "no pod other/pod is on this node (404)"),
        ("ns/pod/other", "the pod has no container other (404)"),
        ("ns/pod/old", "the container is not running (500)"),
    ] {
        assert_eq!(said(&client, name).to_string(), format!("{place}{wanted}"));
    }
    let off = Server::start(|asked| kubelet(asked, false, ""));
    let found = said(&off.client(), "ns/pod/app");
    assert!(matches!(found.kind(), ErrorKind::GateOff), "{found}");
}

#[test]
fn failures_of_the_runtime_are_told_apart() {
    let rpc = |code: &str, desc: &str| format!("rpc error: code = {code} desc = {desc}");
    let rows: [(String, &str); 6] = [
        (
            rpc("Unimplemented", "method CheckpointContainer not implemented"),
            "the node's container runtime has no checkpoints (500): method CheckpointContainer \
             not implemented",
        ),
        (
            rpc("Unknown", "checkpoint/restore support not available"),
            "the node's container runtime has no checkpoints (500): checkpoint/restore support \
             not available",
        ),
        (
            rpc("DeadlineExceeded", "context deadline exceeded"),
            "the container runtime did not finish in time (500): context deadline exceeded",
        ),
        (
            rpc("Unknown", "failed to checkpoint container: (CRIU): exit status 1 desc = x"),
            "the container runtime failed (500, Unknown): failed to checkpoint container: (CRIU): \
             exit status 1 desc = x",
        ),
        ("no space".into(), "the container runtime failed (500): no space"),
        ("\u{1b}[2Jred".into(), "the container runtime failed (500): \\u{1b}[2Jred"),
    ];
    for (reason, wanted) in rows {
        let node = Server::start(move |asked| kubelet(asked, true, &reason));
        let said = ask(&node.client(), "ns/pod/app").unwrap_err().to_string();
        assert_eq!(said, format!("https://127.0.0.1:{}: {wanted}", node.port));
    }
}

#[test]
fn a_check_has_no_effect_and_knows_what_stands_in_the_way() {
    let node = Server::start(|asked| {
        let (status, body) = kubelet(asked, true, "");
        assert_ne!(status, 200, "a check makes no checkpoint");
        (status, body)
    });
    let client = node.client();
    client.check(&"ns/pod/app".parse().unwrap()).unwrap();
    assert_eq!(node.last().line, "POST /checkpoint/ns/pod/app?timeout=check HTTP/1.1\r\n");
    let said = client.check(&"ns/pod/other".parse().unwrap()).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::NoContainer(_)), "{said}");
    let said = client.check(&"ns/other/app".parse().unwrap()).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::NoPod { .. }), "{said}");
    let without = Kubelet::new(node.endpoint(), node.access());
    let said = without.check(&"ns/pod/app".parse().unwrap()).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Unauthenticated { .. }), "{said}");
    // A server that is no kubelet.
    let other = Server::start(|_| (200, r#"{"items":["/a.tar"]}"#.to_owned()));
    let said = other.client().check(&"ns/pod/app".parse().unwrap()).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Garbled(_)), "{said}");
}

#[test]
fn the_api_server_is_told_apart_from_the_kubelet_behind_it() {
    let status = |code: u16, reason: &str, message: &str| {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        (code, body.to_string())
    };
    let forbidden = "nodes \"node-1\" is forbidden: User \"me\" cannot create resource \
        \"nodes/proxy\" in API group \"\" at the cluster scope";
    let rows = [
        (
            status(401, "Unauthorized", "Unauthorized"),
            "the API server does not accept the credentials (401)".to_owned(),
        ),
        (
            status(403, "Forbidden", forbidden),
            format!(
                "the API server forbids it (403): the right `create` on `nodes/proxy` is needed: \
                 {forbidden}"
            ),
        ),
        (
            status(404, "NotFound", r#"nodes "node-1" not found"#),
            r#"the API server knows no such node (404): nodes "node-1" not found"#.to_owned(),
        ),
        (
            status(
                503,
                "ServiceUnavailable",
                "error trying to reach service: dial tcp 192.0.2.1:10250: connect: connection \
                 refused",
            ),
            "the API server cannot reach the kubelet (503): error trying to reach service: dial \
             tcp 192.0.2.1:10250: connect: connection refused"
                .to_owned(),
        ),
        // The kubelet refuses the API server.
        (
            (401, "Unauthorized".to_owned()),
            "the kubelet does not accept the credentials (401)".to_owned(),
        ),
        (
            (404, "404 page not found\n".to_owned()),
            "has no checkpoints (404): the gate ContainerCheckpoint is off, or this is no kubelet"
                .to_owned(),
        ),
        (
            (404, "pod does not exist\n".to_owned()),
            "no pod ns/pod is on this node (404)".to_owned(),
        ),
        (status(429, "TooManyRequests", "slow down"), "answers 429: slow down".to_owned()),
        (status(500, "InternalError", "etcd"), "answers 500: etcd".to_owned()),
    ];
    for ((code, body), wanted) in rows {
        let node = Server::start(move |_| (code, body.clone()));
        let said = ask(&node.by_api(), "ns/pod/app").unwrap_err().to_string();
        let place = format!("node node-1 by way of https://127.0.0.1:{}: ", node.port);
        assert_eq!(said, format!("{place}{wanted}"));
        let path = "/api/v1/nodes/node-1/proxy/checkpoint/ns/pod/app";
        assert_eq!(node.last().path(), (path, None));
    }
    let node = Server::start(|_| (200, r#"{"items":["/a.tar"]}"#.to_owned()));
    assert_eq!(ask(&node.by_api(), "ns/pod/app").unwrap(), "/a.tar");
}
