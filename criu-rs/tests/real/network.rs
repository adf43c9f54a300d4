//! TCP connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use criu_rs::{
    AfterDump, Cancel, Cause, Dump, Error, HookResult, Hooks, NetworkLock, Pid, Restore, Tcp,
    Version,
};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};

use crate::container::Container;
use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("tcp_established_with_iptables", |lab| established(lab, NetworkLock::Iptables)),
    ("tcp_established_with_nftables", |lab| established(lab, NetworkLock::Nftables)),
    ("tcp_close", close),
    ("a_dump_ended_at_any_time_keeps_its_connections", |lab| ended(lab, NetworkLock::Iptables)),
    ("a_dump_ended_at_any_time_leaves_no_table", |lab| ended(lab, NetworkLock::Nftables)),
    ("a_killed_criu_leaves_no_rules", |lab| killed(lab, NetworkLock::Iptables)),
    ("a_killed_criu_leaves_no_table", |lab| killed(lab, NetworkLock::Nftables)),
    ("a_container_is_left_no_rules", |lab| killed_in_its_network(lab, NetworkLock::Iptables)),
    ("a_container_is_left_no_table", |lab| killed_in_its_network(lab, NetworkLock::Nftables)),
];

/// A payload connected to us. CRIU 4.1 cannot dump inet sockets on kernels since 6.16: there the
/// test sees to it that we are told so, and is over.
fn connected(lab: &Lab) -> Option<(Target, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let target = lab.start(&["tcp-echo", &port]);
    let mut peer = listener.accept().unwrap().0;
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(talk(&mut peer, b"before"), b"before");
    if lab.version >= Version::new(4, 2, 0) {
        return Some((target, peer));
    }
    let images = lab.dir("too-old");
    let error = Dump::new(target.pid, &images).tcp(Tcp::Established).run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::CriuTooOld), "{error}");
    target.goes_on();
    assert_eq!(talk(&mut peer, b"still"), b"still");
    None
}

fn talk(peer: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    peer.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    peer.read_exact(&mut answer).unwrap();
    answer
}

fn established(lab: &Lab, lock: NetworkLock) {
    let Some((mut target, mut peer)) = connected(lab) else { return };
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established).network_lock(lock);
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    // Sent while nobody is there: it must arrive after the restore.
    peer.write_all(b"meanwhile").unwrap();
    let restored = Restore::new(&images).tcp(Tcp::Established).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    let mut answer = [0; 9];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"meanwhile");
    assert_eq!(talk(&mut peer, b"after"), b"after");
}

fn close(lab: &Lab) {
    let Some((mut target, mut peer)) = connected(lab) else { return };
    let images = lab.dir("images");
    Dump::new(target.pid, &images).tcp(Tcp::Close).run(&lab.criu).unwrap();
    target.is_gone();
    let before = target.count();
    let restored = Restore::new(&images).tcp(Tcp::Close).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    // It reads the end of the connection, and counts on.
    assert!(target.goes_on() > before);
    assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
}

/// CRIU's rules or tables in the network of a process.
fn held(pid: Pid, lock: NetworkLock) -> Vec<String> {
    let words: &[&str] = match lock {
        NetworkLock::Iptables => &["iptables", "-w", "5", "-S"],
        _ => &["nft", "list", "ruleset"],
    };
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &pid.to_string()]).args(words);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    let (parts, mark) = match lock {
        NetworkLock::Iptables => (text.split("\n"), ["0xc114", "CRIU"]),
        _ => (text.split("\n}\n"), ["table inet CRIU"; 2]),
    };
    parts.filter(|part| mark.iter().any(|mark| part.contains(mark))).map(str::to_owned).collect()
}

/// Lists the rules that keep packets of a connection away.
fn held_of(peer: &TcpStream, lock: NetworkLock) -> Vec<String> {
    let port = peer.local_addr().unwrap().port();
    let is_of = [format!("port {port} "), format!(". {port}")];
    let all = held(Pid::this(), lock).into_iter();
    all.filter(|held| is_of.iter().any(|part| held.contains(part))).collect()
}

fn ended(lab: &Lab, lock: NetworkLock) {
    let Some((target, mut peer)) = connected(lab) else { return };
    for delay in (0..60).map(|n| Duration::from_millis(2 * n)) {
        let images = lab.dir(&delay.as_millis().to_string());
        let cancel = Cancel::new().unwrap();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(delay);
            other.cancel();
        });
        let dump = Dump::new(target.pid, &images).tcp(Tcp::Established).network_lock(lock);
        let dump = dump.after_dump(AfterDump::LeaveRunning).cancel(&cancel).grace(Duration::ZERO);
        let result = dump.run(&lab.criu);
        assert!(matches!(result, Ok(_) | Err(Error::Stopped(_))), "{result:?}");
        thread.join().unwrap();
        assert_eq!(talk(&mut peer, b"still"), b"still");
        assert_eq!(held_of(&peer, lock), Vec::<String>::new());
    }
    target.goes_on();
}

/// Kills criu when all is saved, and everything still held.
struct Kill<'t> {
    criu: Option<Pid>,
    look: &'t dyn Fn() -> Vec<String>,
    held: Vec<String>,
}

impl<'t> Kill<'t> {
    /// Dumps, and says what was held when criu was killed. Over libcriu it is not killed.
    fn dump(lab: &Lab, dump: &Dump<'_>, look: &'t dyn Fn() -> Vec<String>) -> Option<Vec<String>> {
        let session = dump.start(&lab.criu).unwrap();
        let mut hooks = Self { criu: session.pid(), look, held: Vec::new() };
        hooks.criu?;
        let error = session.finish(&mut hooks).unwrap_err();
        assert!(error.to_string().contains("SIGKILL"), "{error}");
        Some(hooks.held)
    }
}

impl Hooks for Kill<'_> {
    fn post_dump(&mut self) -> HookResult {
        self.held = (self.look)();
        kill(nix::unistd::Pid::from_raw(self.criu.unwrap().as_raw()), Signal::SIGKILL)?;
        Ok(())
    }
}

fn killed(lab: &Lab, lock: NetworkLock) {
    // The task tries again where it cannot read: it goes on before its socket is out of repair
    // mode.
    let Some((target, mut peer)) = connected(lab) else { return };
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established).network_lock(lock);
    let Some(held) = Kill::dump(lab, &dump, &|| held_of(&peer, lock)) else { return };
    assert!(!held.is_empty());
    assert_eq!(held_of(&peer, lock), Vec::<String>::new());
    assert_eq!(talk(&mut peer, b"after"), b"after");
}

fn killed_in_its_network(lab: &Lab, lock: NetworkLock) {
    let container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images).network_lock(lock);
    let look = || held(container.target.pid, lock);
    let Some(held) = Kill::dump(lab, &dump, &look) else { return };
    assert!(!held.is_empty());
    assert_eq!(look(), Vec::<String>::new());
    container.target.goes_on();
}
