//! Clients that break the protocol, and users who may not connect.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use criu_cri::coordinator::{Client, CoordinatorError, Event, Limits, Server, Step};

use crate::lab::Coordinator;

#[test]
fn garbage_is_refused_and_others_are_served() {
    let coordinator = Coordinator::plain();
    let deep = [vec![b'{'; 4096], vec![b'}'; 4096]].concat();
    let nested = format!("{{\"id\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for (text, why) in [
        (&b"GET / HTTP/1.1\r\n"[..], "begins with no"),
        (b"\x16\x03\x01\x02\0", "begins with no"),
        (b"{}", "lacks `id`"),
        (b"{\"id\":\"A\",\"id\":\"B\",\"action\":\"pre-dump\"}{", "bytes follow"),
        (b"{\"id\":\"\xff\",\"action\":\"pre-dump\"}", "no JSON"),
        (b"{\"id\":\"../../etc\",\"action\":\"post-stream\"}", "takes no images"),
        (b"{\"img_name\":\"../x\",\"img_size\":1}", "lacks `id`"),
        (&deep, "no JSON"),
        (nested.as_bytes(), "no JSON"),
    ] {
        let answer = coordinator.say(text);
        let shown = String::from_utf8_lossy(text);
        assert!(answer.starts_with("refused: ") && answer.contains(why), "{shown}: {answer}");
    }
    coordinator.member("A", &[]).join_dump().unwrap();
}

#[test]
fn a_request_is_bounded_in_size() {
    let coordinator = Coordinator::plain();
    let text = [b"{\"id\":\"".to_vec(), vec![b'x'; 128 << 10]].concat();
    let answer = coordinator.say(&text);
    assert_eq!(answer, "refused: the request has more than 131072 bytes, the limit");
    let mut socket = TcpStream::connect(coordinator.address).unwrap();
    // The kernel holds some MiB, the coordinator takes no more than twice the limit.
    assert!((0..256).any(|_| socket.write_all(&text).is_err()), "all is taken");
    coordinator.member("A", &[]).join_dump().unwrap();
}

#[test]
fn a_request_is_bounded_in_time_and_silent_clients_give_way() {
    let mut limits = Limits::default();
    limits.first = Duration::from_millis(300);
    limits.connections = 4;
    let coordinator = Coordinator::start(Server::new().limits(limits));
    let begun = Instant::now();
    let mut slow = TcpStream::connect(coordinator.address).unwrap();
    slow.write_all(b"{").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(slow.read(&mut [0]), Ok(0) | Err(_)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(coordinator.address)).collect();
    coordinator.member("A", &[]).join_dump().unwrap();
    drop(silent);
}

#[test]
fn waiting_members_do_not_give_way() {
    let mut limits = Limits::default();
    limits.connections = 2;
    let coordinator = Coordinator::start(Server::new().limits(limits));
    let wait = |id: &'static str| {
        let client = coordinator.client();
        thread::spawn(move || client.step(id, Step::PreDump, &["Z".into()]))
    };
    let waiting = ["A", "B"].map(wait);
    while coordinator.events().len() < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    let error = coordinator.member("Z", &[]).join_dump().unwrap_err();
    assert!(matches!(error, CoordinatorError::Connection { .. }), "{error}");
    drop(coordinator);
    for thread in waiting {
        thread.join().unwrap().unwrap_err();
    }
}

#[test]
fn a_silent_client_gives_way_before_one_that_is_answered() {
    let mut limits = Limits::default();
    (limits.first, limits.connections) = (Duration::from_secs(60), 2);
    let coordinator = Coordinator::start(Server::new().limits(limits));
    let mut answered = TcpStream::connect(coordinator.address).unwrap();
    answered.write_all(br#"{"id":"A","action":"pre-dump","dependencies":""}"#).unwrap();
    let mut text = String::new();
    answered.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ACK");
    let mut silent = TcpStream::connect(coordinator.address).unwrap();
    coordinator.member("B", &[]).join_dump().unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let read = silent.read(&mut [0]);
    assert!(!matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock), "{read:?}");
    drop(answered);
}

#[test]
fn a_member_that_goes_on_talking_has_failed() {
    let coordinator = Coordinator::plain();
    let mut socket = TcpStream::connect(coordinator.address).unwrap();
    socket.write_all(br#"{"id":"B","action":"pre-dump","dependencies":"A:C"}"#).unwrap();
    while coordinator.events().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    socket.write_all(b"more").unwrap();
    let has_failed =
        || coordinator.events().iter().any(|event| matches!(event, Event::Failed { .. }));
    assert!(criu_lab::soon(has_failed), "{:?}", coordinator.events());
    drop(socket);
}

#[test]
fn an_address_that_others_reach_needs_tls() {
    let any = "0.0.0.0:0".parse().unwrap();
    let error = Server::new().listen(any).unwrap_err();
    assert!(matches!(error, CoordinatorError::Exposed(_)), "{error}");
    drop(Server::new().exposed(true).listen(any).unwrap());
}

#[test]
fn a_coordinator_of_another_user_is_not_trusted() {
    criu_lab::needs_root();
    // Root's socket listens, and another user accepts the connections.
    let script = "import os, socket\nl = socket.create_server(('127.0.0.1', 0))\n\
                  os.setgroups([])\nos.setresgid(65534, 65534, 65534)\n\
                  os.setresuid(65534, 65534, 65534)\n\
                  print(l.getsockname()[1], flush=True)\nwhile 1:\n  c = l.accept()[0]\n  \
                  if c.recv(4096): c.sendall(b'ACK')\n  c.close()";
    let mut theirs = Command::new("python3");
    theirs.args(["-c", script]).stdout(Stdio::piped());
    let mut theirs = theirs.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(theirs.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let client = Client::new(format!("127.0.0.1:{}", port.trim()));
    let error = client.step("A", Step::PostDump, &[]).unwrap_err();
    let is_refused = matches!(error, CoordinatorError::Stranger { user: 65534, .. });
    let trusted = client.other_users(true).step("A", Step::PostDump, &[]);
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    assert!(is_refused, "{error}");
    trusted.unwrap();
}

#[test]
fn another_user_of_the_machine_is_refused() {
    criu_lab::needs_root();
    let ask = |coordinator: &Coordinator| {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf '{}' >&3; cat <&3",
            coordinator.address.port(),
            r#"{"id":"A","action":"pre-dump","dependencies":""}"#
        );
        let output = Command::new("bash").args(["-c", &script]).uid(65534).gid(65534).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let answer = ask(&Coordinator::plain());
    assert_eq!(answer, "refused: user 65534 may not connect: this server is for root");
    assert_eq!(ask(&Coordinator::start(Server::new().other_users(true))), "ACK");
}
