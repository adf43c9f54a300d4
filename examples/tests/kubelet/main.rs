//! The word `kubelet`, with an HTTPS server in the place of a kubelet: none runs here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod prune;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use criu_lab::certs::Wanted;
use criu_lab::checkpoints::{Checkpoints, pack};
use criu_lab::https::{Asked, Server};
use serde_json::Value;

/// Runs the program without a kubeconfig of whoever runs the test.
fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
    command.arg("kubelet").env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Answers a request with a token as a kubelet that writes this archive.
fn kubelet(asked: &Asked, path: &Path) -> (u16, String) {
    if asked.token() != Some("good-token") {
        return (401, "Unauthorized".to_owned());
    }
    match asked.path().1 {
        Some("timeout=check") => (404, "cannot parse value of timeout parameter\n".to_owned()),
        _ => (200, format!(r#"{{"items":["{}"]}}"#, path.display())),
    }
}

#[test]
fn a_checkpoint_is_found_and_verified_on_the_node_itself() {
    let place = Checkpoints::new("checkpoint");
    let path = place.directory().join("checkpoint-pod_ns-app-1.tar");
    // The kubelet makes the archive while it is asked.
    let (written, export) = (path.clone(), place.export("ns/pod/app", 1, 1 << 20));
    let server = Server::start(move |asked| {
        let reply = kubelet(asked, &written);
        if reply.0 == 200 {
            pack(&export, &written);
        }
        reply
    });
    let at = format!("127.0.0.1:{}", server.port);
    let ca = server.authority.file();
    let token = server.dir.join("token");
    fs::write(&token, "good-token\n").unwrap();
    let options = ["--kubelet", &at, "--ca", text(&ca), "--token-file", text(&token)];
    let ask = |args: &[&str]| run(&[&["checkpoint", "ns/pod/app"], &options[..], args].concat());

    let checked = json(&ask(&["--check", "--json"]));
    assert_eq!((&checked["checked"], &checked["outcome"]), (&true.into(), &"done".into()));
    assert!(!path.exists());
    let done = ask(&["--json", "--verify", "--timeout", "300"]);
    assert!(done.status.success(), "{done:?}");
    let done = json(&done);
    assert_eq!(done["path"], text(&path));
    assert_eq!(done["is_here"], true);
    assert_eq!((&done["verified"], &done["has_digests"]), (&true.into(), &false.into()));
    let findings = done["findings"].as_array().unwrap();
    assert!(findings[0].as_str().unwrap().starts_with("warning: pages-"), "{findings:?}");
    assert_eq!(done["bytes"], fs::metadata(&path).unwrap().len());
    assert_eq!((&done["engine"], &done["pod_uid"]), (&"containerd".into(), &"uid-pod".into()));
    assert_eq!(server.last().path().1, Some("timeout=300"));
    let done = ask(&[]);
    assert!(done.status.success() && done.stdout.is_empty());
    let line = said(&done);
    assert!(line.contains(&format!("ns/pod/app is in {}, ", path.display())), "{line}");
    let done = ask(&["--verify"]);
    let line = said(&done);
    assert!(line.contains("and the images have no error; there are no digests in it"), "{line}");
    assert!(line.contains("warning: pages-1.img: "), "{line}");

    // Images that are broken.
    let export = place.place().join("ns-pod-app/checkpoint/pages-1.img");
    fs::write(export, "short").unwrap();
    let broken = said(&ask(&["--verify"]));
    assert!(broken.contains("1.tar: error: pages-1.img: ends early"), "{broken}");

    // A file of another container at the path is not the checkpoint, and one that was there before
    // is none either.
    let other = run(&[&["checkpoint", "ns/pod/other", "--json"], &options[..]].concat());
    assert_eq!(json(&other)["is_here"], false);
}

#[test]
fn another_machine_s_archive_is_not_verified() {
    let server = Server::start(|asked| kubelet(asked, Path::new("/nowhere/here.tar")));
    let at = format!("127.0.0.1:{}", server.port);
    let token = server.dir.join("token");
    fs::write(&token, "good-token").unwrap();
    let args = ["checkpoint", "ns/pod/app", "--kubelet", &at, "--token-file", text(&token)];
    let ca = server.authority.file();
    let done = run(&[&args[..], &["--ca", text(&ca), "--verify"]].concat());
    assert_eq!(done.status.code(), Some(1));
    let line = said(&done);
    assert!(line.contains("is in /nowhere/here.tar on its node"), "{line}");
    assert!(line.contains("nothing was verified"), "{line}");
    // Without an authority, with the word for it.
    let done = run(&[&args[..], &["--insecure-skip-tls-verify"]].concat());
    assert!(done.status.success(), "{done:?}");
    assert!(said(&done).contains("the server's certificate is not checked"), "{done:?}");
}

#[test]
fn errors_come_with_advice_in_the_program_s_options_and_no_secret() {
    let server = Server::start(|asked| match asked.token() {
        Some("secret-token") => (403, "Forbidden (user=me)".to_owned()),
        _ => (401, "Unauthorized".to_owned()),
    });
    let at = format!("127.0.0.1:{}", server.port);
    let place = format!("https://{at}");
    let ca = server.authority.file();
    let token = server.dir.join("token");
    fs::write(&token, "secret-token\n").unwrap();
    let ask =
        |args: &[&str]| run(&[&["checkpoint", "ns/pod/app", "--kubelet", &at], args].concat());
    let untrusted = said(&ask(&[]));
    assert!(untrusted.contains("signed by no authority that is trusted\ndo: "), "{untrusted}");
    assert!(untrusted.contains("--insecure-skip-tls-verify"), "{untrusted}");
    let unknown = said(&ask(&["--ca", text(&ca)]));
    assert!(unknown.contains("(401)\ndo: give --client-certificate"), "{unknown}");
    let forbidden = ask(&["--ca", text(&ca), "--token-file", text(&token), "--json"]);
    assert_eq!(forbidden.status.code(), Some(1));
    let found = json(&forbidden);
    let wanted = format!(
        "{place}: the kubelet forbids it (403): the right `create` on `nodes/checkpoint` is \
         needed: Forbidden (user=me)"
    );
    assert_eq!(found["error"]["message"], wanted);
    let advice = found["error"]["hint"].as_str().unwrap();
    assert!(advice.contains("resources: [nodes/checkpoint], verbs: [create]"), "{advice}");
    assert!(!format!("{forbidden:?}").contains("secret-token"));
}

#[test]
fn a_kubeconfig_leads_through_the_api_server() {
    let server = Server::start(|_| (200, r#"{"items":["/nowhere/a.tar"]}"#.to_owned()));
    let me = server.authority.sign(2, &Wanted { common: "me", ..Wanted::default() });
    let file = server.dir.join("config");
    let config = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: a, user: b}}}}]\nclusters: \
         [{{name: a, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: ca.pem}}}}]\
         \nusers: [{{name: b, user: {{client-certificate: {}, client-key: 2.key}}}}]\n",
        server.port,
        me.certificate.display(),
    );
    fs::write(&file, config).unwrap();
    let args = ["checkpoint", "ns/pod/app", "--node", "worker-1", "--json"];
    let done = run(&[&args[..], &["--kubeconfig", text(&file)]].concat());
    let found = json(&done);
    let place = format!("node worker-1 by way of https://127.0.0.1:{}", server.port);
    assert_eq!((&found["place"], &found["path"]), (&(*place).into(), &"/nowhere/a.tar".into()));
    let asked = server.last();
    let path = "/api/v1/nodes/worker-1/proxy/checkpoint/ns/pod/app";
    assert_eq!(asked.path(), (path, None));
    assert!(asked.certificate.is_some());
    // A kubeconfig that trusts anybody is told.
    let anybody = server.dir.join("anybody");
    let config = fs::read_to_string(&file).unwrap();
    let skip = "insecure-skip-tls-verify: true";
    fs::write(&anybody, config.replace("certificate-authority: ca.pem", skip)).unwrap();
    let args_of_anybody = ["checkpoint", "ns/pod/app", "--node", "worker-1", "--kubeconfig"];
    let done = run(&[&args_of_anybody[..], &[text(&anybody)]].concat());
    assert!(done.status.success(), "{done:?}");
    assert!(said(&done).contains("the server's certificate is not checked"), "{done:?}");
    let authority = server.authority.file();
    let done = run(&[&args_of_anybody[..], &[text(&anybody), "--ca", text(&authority)]].concat());
    assert!(done.status.success() && !said(&done).contains("not checked"), "{done:?}");
    // The first of several files, of which some are missing.
    let list = format!("/nowhere/config:{}", file.display());
    let done = program().args(args).env("KUBECONFIG", list).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let done = program().args(args).env("KUBECONFIG", "/nowhere/config").output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(String::from_utf8(done.stdout).unwrap().contains("give --server or --kubeconfig"));
    // The kubelet itself, with the credentials of the kubeconfig.
    let at = format!("127.0.0.1:{}", server.port);
    let args = ["checkpoint", "ns/pod/app", "--kubelet", &at, "--kubeconfig", text(&file)];
    assert!(run(&args).status.success());
    assert_eq!(server.last().path().0, "/checkpoint/ns/pod/app");
    assert!(server.last().certificate.is_some());
}

#[test]
fn mistakes_are_told_before_anything_is_asked() {
    let at = ["--kubelet", "127.0.0.1:1"];
    let usage = |args: &[&str], wanted: &str| {
        let done = run(args);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(said(&done).contains(wanted), "{done:?}");
    };
    usage(&["checkpoint", "ns/pod", at[0], at[1]], "ns/pod: is not NAMESPACE/POD/CONTAINER");
    usage(&["checkpoint", "../pod/app", at[0], at[1]], "the namespace is no name of Kubernetes");
    usage(&["checkpoint", "ns/pod/app"], "--node");
    usage(&["checkpoint", "ns/pod/app", "--kubelet", "a/b"], "is not HOST[:PORT]");
    usage(&["checkpoint", "ns/pod/app", "--node", "a"], "give --server or --kubeconfig");
    let plain = ["checkpoint", "ns/pod/app", "--node", "a", "--server", "http://a"];
    usage(&plain, "credentials are sent over TLS only");
    let both = ["checkpoint", "ns/pod/app", "--node", "a", "--kubelet", "b"];
    usage(&both, "cannot be used with");
    usage(&["checkpoint", "ns/pod/app", at[0], at[1], "--client-key", "k"], "--client-certificate");
}

#[test]
fn a_terminal_shows_that_the_kubelet_is_at_work() {
    let server = Server::start(|_| {
        thread::sleep(Duration::from_millis(600));
        (404, "pod does not exist".to_owned())
    });
    let at = format!("127.0.0.1:{}", server.port);
    let ca = server.authority.file();
    let mut command = program();
    command.args(["checkpoint", "ns/pod/app", "--kubelet", &at, "--ca", text(&ca)]);
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut child = command.stderr(terminal.slave).spawn().unwrap();
    drop(command);
    // A terminal that no process holds any more fails with EIO, after all that was written.
    let mut shown = Vec::new();
    let end = File::from(terminal.master).read_to_end(&mut shown).unwrap_err();
    assert_eq!(end.raw_os_error(), Some(nix::libc::EIO));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("the kubelet checkpoints"), "{shown:?}");
    let (_, after) = shown.rsplit_once("the kubelet checkpoints").unwrap();
    assert!(after.contains("no pod ns/pod is on this node (404)"), "{shown:?}");
}
