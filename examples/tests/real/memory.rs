//! Memory that goes elsewhere: to page servers, and on demand.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use criu_lab::soon;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("memory_goes_to_a_page_server", page_server),
    ("memory_goes_through_a_socket", socket),
    ("memory_is_captured", captured),
    ("a_lazy_dump_listens_where_it_is_told", lazy_dump),
    ("a_lazy_restore", lazy_restore),
    ("a_lazy_restore_from_a_page_server_that_another_user_cannot_use", lazy_from_server),
];

/// A port that nobody listens on.
pub fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Waits until a page server's log names the port that the kernel has chosen, and returns it.
pub fn port_in(log: &str) -> String {
    let port = || {
        let said = fs::read_to_string(log).ok()?;
        let (_, rest) = said.rsplit_once("listens on 127.0.0.1 port ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    };
    assert!(soon(|| port().is_some()), "no port in {log}");
    port().unwrap()
}

/// Returns the addresses that listen on a port, as /proc/net/tcp writes them.
pub fn listeners(port: &str) -> Vec<String> {
    let port = format!(":{:04X}", port.parse::<u16>().unwrap());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = fields.filter(|fields| fields[3] == "0A" && fields[1].ends_with(&port));
    listening.map(|fields| fields[1].trim_end_matches(&port).to_owned()).collect()
}

fn send(child: &Child, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn captured(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "32"]);
    let words = ["dump", "-t", &target.pid(), "-D", &images, "--capture"];
    // First a pool that cannot be; then one that is too small, and does.
    lab.run(&[&words[..], &["99999999G"]].concat()).fails(1, &["capture memory"]);
    lab.coded(&[&words[..], &["1X"]].concat()).fails(2, &["--capture"]);
    lab.coded(&[&words[..], &["1M", "--lazy-pages"]].concat()).fails(2, &["cannot be used with"]);
    target.goes_on();
    let before = target.count();
    let ran = lab.done(&[&words[..], &["8M"]].concat());
    assert!(ran.err.contains("do not fit into 8.00 MiB"), "{ran:?}");
    target.is_gone();
    lab.done(&["restore", "-D", &images, "-d"]);
    assert!(target.goes_on() > before);
}

fn page_server(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "4"]);
    let loopback = ["--address", "127.0.0.1", "--port"];
    let server = ["page-server", "-D", &images, "-o", "ps.log", "--address", "127.0.0.1"];
    let mut server = lab.command(&server).spawn().unwrap();
    let port = port_in(&format!("{images}/ps.log"));
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "--page-server"];
    lab.done(&[&dump[..], &loopback, &[&port]].concat());
    assert!(server.wait().unwrap().success());
    target.is_gone();
    lab.done(&["restore", "-d", "-D", &images]);
    target.goes_on();
}

fn socket(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "4"]);
    let (server_end, dump_end) = UnixStream::pair().unwrap();
    for end in [&server_end, &dump_end] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let number = server_end.as_raw_fd().to_string();
    let server = ["page-server", "-D", &images, "-o", "ps.log", "--ps-socket", &number];
    let mut server = lab.command(&server).spawn().unwrap();
    let number = dump_end.as_raw_fd().to_string();
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--page-server"];
    lab.done(&[&dump[..], &["--ps-socket", &number]].concat());
    drop((server_end, dump_end));
    assert!(server.wait().unwrap().success());
    target.goes_on();
}

fn lazy_dump(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "4"]);
    let port = free_port();
    let place = ["--lazy-pages", "--address", "127.0.0.1", "--port", &port, "--status-fd", "1"];
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images];
    let mut dump = lab.coded_command(&[&dump[..], &place].concat());
    let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut byte = [1];
    dump.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(byte, [0]);
    // CRIU before 4.3 would listen on all addresses.
    assert_eq!(listeners(&port), ["0100007F"]);
    send(&dump, Signal::SIGINT);
    assert_eq!(dump.wait().unwrap().code(), Some(4));
    target.goes_on();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
}

fn lazy_restore(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "4"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let daemon = ["lazy-pages", "-D", &images, "-o", "lazy.log"];
    let mut daemon = lab.command(&daemon).spawn().unwrap();
    assert!(soon(|| fs::exists(format!("{images}/lazy-pages.socket")).unwrap()));
    assert_eq!(run(lab.command(&["restore", "-d", "-D", &images, "--lazy-pages"])).code, Some(0));
    target.goes_on();
    assert!(daemon.wait().unwrap().success());
}

/// A server for one session: what is no session, and who may not connect, does not end it.
fn lazy_from_server(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "4"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let content = || {
        let names = criu_lab::names(&images).into_iter().filter(|name| name.ends_with(".img"));
        names.map(|name| fs::read(format!("{images}/{name}")).unwrap()).collect::<Vec<_>>()
    };
    let before = content();
    let words = ["page-server", "-D", &images, "--lazy-pages", "-o", "ps.log", "--json"];
    let server = lab.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let port = port_in(&format!("{images}/ps.log"));
    // A connection that says nothing is no session.
    drop(TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
    // A request for a page, and an OPEN2, as nobody.
    let header = |words: [u64; 4]| words.map(u64::to_le_bytes).concat();
    let pid: u64 = target.pid().parse().unwrap();
    for message in [header([7, 1, 0x40_0000, pid]), header([4, 0, 0, pid << 8 | 1])] {
        let script = r#"
            use IO::Socket::INET; local $/; my $message = <STDIN>;
            my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => shift) or die;
            print $socket $message; $socket->flush; sysread($socket, my $answer, 99);
            print length $answer;
        "#;
        let mut nobody = Command::new("/usr/bin/perl");
        let nobody = nobody.args(["-e", script, &port]).uid(65534).gid(65534);
        let mut nobody = nobody.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        nobody.stdin.take().unwrap().write_all(&message).unwrap();
        let heard = nobody.wait_with_output().unwrap();
        assert!(heard.status.success() && [&b""[..], b"0"].contains(&&heard.stdout[..]));
    }
    let daemon = ["lazy-pages", "-D", &images, "-o", "lazy.log", "--page-server"];
    let place = ["--address", "127.0.0.1", "--port", &port];
    let mut daemon = lab.command(&[&daemon[..], &place].concat()).spawn().unwrap();
    assert!(soon(|| fs::exists(format!("{images}/lazy-pages.socket")).unwrap()));
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.goes_on();
    assert!(daemon.wait().unwrap().success());
    let ended = server.wait_with_output().unwrap();
    assert!(ended.status.success());
    let said = fs::read_to_string(format!("{images}/ps.log")).unwrap();
    assert_eq!(said.matches("user 65534 may not connect: this server is for root").count(), 2);
    let session: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(session["served"].as_u64().unwrap() > 0, "{session}");
    assert!(content() == before);
}
