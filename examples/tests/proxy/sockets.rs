//! The socket of the proxy: who may connect, whose place it takes, who hands it over.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::engines::{CriProxy, Outside, client};
use criu_lab::place::python;
use serde_json::json;

use crate::Scene;
use crate::ends::check;

#[test]
fn a_socket_that_is_taken_stays_and_one_that_was_left_goes() {
    let scene = Scene::lay();
    let socket = scene.folder.join("cri.sock");
    let refused = || {
        let output = scene.command().stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // A file.
    fs::write(&socket, "mine").unwrap();
    assert!(refused().contains("found a file that is no socket"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    fs::remove_file(&socket).unwrap();
    // A socket of a program that runs, which is no proxy and has no lock.
    let other = UnixListener::bind(&socket).unwrap();
    let inode = fs::metadata(&socket).unwrap().ino();
    assert!(refused().contains("a process listens on this socket"));
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    // The socket that it leaves.
    drop(other);
    let proxy = scene.proxy(&[]);
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    assert_eq!(check(&socket), (Some(0), "ready\n".into()));
    // Another proxy.
    let inode = fs::metadata(&socket).unwrap().ino();
    assert!(refused().contains("a process listens on this socket"));
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    // A proxy that was killed leaves its socket.
    drop(proxy);
    assert!(socket.exists());
    let proxy = scene.proxy(&[]);
    assert_eq!(check(&socket).0, Some(0));
    // A socket that has taken the place of the proxy's own is not removed.
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    assert!(proxy.end().success());
    assert!(socket.exists());
    // The engine's own socket is no place.
    let mut command = Command::new(crate::PROGRAM);
    let engine = scene.engine_socket();
    let output = command.arg("--listen").arg(&engine).arg("--engine").arg(&engine).output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

#[test]
fn another_user_is_turned_away() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    fs::set_permissions(scene.folder.path(), Permissions::from_mode(0o755)).unwrap();
    // A client in the language of the tests is enough: the connection itself is what is refused.
    let connect = || {
        let code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5)\n\
                    s.connect(sys.argv[1]); s.sendall(b'PRI'); print(len(s.recv(1)))";
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", code]);
        let output = command.arg(proxy.socket()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(connect().contains("PermissionError"));
    // Somebody opens the socket for all.
    fs::set_permissions(proxy.socket(), Permissions::from_mode(0o666)).unwrap();
    let said = connect();
    let is_refused = |word: &str| said.contains(word);
    let words = ["ConnectionResetError", "BrokenPipeError"];
    assert!(said == "0\n" || words.into_iter().any(is_refused), "{said}");
    proxy.says("turned away user 65534");
    Outside::new(proxy.socket()).call("Version", json!({})).done();
}

/// systemd makes the socket, hands it over, and is told when the proxy is ready and when it ends.
#[test]
fn a_service_manager_hands_over_the_socket() {
    let scene = Scene::lay();
    let [socket, told, log] = ["cri.sock", "notify", "log"].map(|name| scene.folder.join(name));
    let notices = UnixDatagram::bind(&told).unwrap();
    notices.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let code = "import os, socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n\
        os.chmod(sys.argv[1], 0o600)\n\
        os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[2], sys.argv[2:])";
    let mut command = Command::new(python());
    command.args(["-c", code]).arg(&socket).arg(crate::PROGRAM);
    command.arg("--engine").arg(scene.engine_socket()).env("NOTIFY_SOCKET", &told);
    command.arg("--state").arg(scene.folder.join("state"));
    let proxy = CriProxy::run(command, socket.clone(), log);
    let notice = || {
        let mut bytes = [0; 100];
        let count = notices.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(notice(), "READY=1");
    Outside::new(&socket).call("Version", json!({})).done();
    assert!(proxy.log().contains(&format!("listens on {}", socket.display())));
    assert!(proxy.end().success());
    assert_eq!(notice(), "STOPPING=1");
    // The socket is the manager's.
    assert!(socket.exists());
}

/// Without answers of its own the program gives up its rights, and still finds a new engine.
#[test]
fn a_proxy_that_only_passes_calls_on_is_confined() {
    let mut scene = Scene::lay();
    let proxy = scene.proxy(&["--forward-only"]);
    proxy.says("confined: no capabilities");
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    for wanted in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "Seccomp:\t2"] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    let mut open = Outside::new(proxy.socket());
    open.call("Version", json!({})).done();
    scene.engine.take().unwrap().kill();
    assert_eq!(open.call("Version", json!({})).code(), "UNAVAILABLE");
    let again = criu_lab::engines::OutsideEngine::start(&scene.engine_socket());
    assert!(criu_lab::soon(|| open.call("Version", json!({})).code() == "OK"));
    drop(again);
    assert!(proxy.end().success());
}

/// The words of the client that people call by hand.
#[test]
fn the_client_has_words_for_people() {
    let scene = Scene::lay();
    let output = client(&scene.engine_socket(), &["call", "Version"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "{\"version\": \"0.1.0\"}\n");
    let output = client(&scene.engine_socket(), &["call", "CheckpointPod", "{}"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(r#""code": "UNIMPLEMENTED""#), "{said}");
}
