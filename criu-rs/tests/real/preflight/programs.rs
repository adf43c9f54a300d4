//! Ordinary programs: no false alarm, and they need only the options of the report.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::place::Short;
use criu_lab::soon;
use criu_rs::{Cause, Dump, Restore};

use super::of_sockets;
use crate::container::Container;
use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_of_sleep", sleep),
    ("preflight_of_a_shell_pipeline", pipeline),
    ("preflight_of_perl", perl),
    ("preflight_of_a_locking_shell", flock),
    ("preflight_of_a_coprocess", coprocess),
    ("preflight_of_awk", awk),
    ("preflight_of_a_busy_shell", busy),
    ("preflight_of_timeout", timeout),
    ("preflight_of_xargs", xargs),
    ("preflight_of_python_asyncio", python_asyncio),
    ("preflight_of_python_processes", python_processes),
    ("preflight_of_python_threads", python_threads),
    ("preflight_of_python_http", python_http),
    ("preflight_of_busybox_httpd", busybox_httpd),
    ("preflight_of_redis", redis),
    ("preflight_of_redis_on_a_unix_socket", redis_on_unix),
    ("preflight_of_nginx", nginx),
    ("preflight_of_memcached", memcached),
    ("preflight_of_memcached_that_is_not_root", memcached_of_a_user),
    ("preflight_of_sshd", sshd),
];

/// Starts a program in a session of its own, looks at it, dumps and restores it, and asserts that
/// it goes on.
#[track_caller]
fn round_trip(lab: &Lab, words: &[&str], lives: impl Fn(&Target) -> bool) {
    let mut command = Command::new("setsid");
    command.args(words).current_dir(&lab.dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut target = Target::started(command.spawn().unwrap(), lab.dir.join("count"));
    assert!(soon(|| lives(&target)), "{words:?} does not start");
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    // A connection of this test may last for a moment.
    let mut report = dump.preflight(&lab.criu).unwrap();
    soon(|| {
        report = dump.preflight(&lab.criu).unwrap();
        !report.foresees(Cause::ConnectedTcp) && !report.foresees(Cause::TcpInFlight)
    });
    if !report.is_possible() {
        let cause = of_sockets(lab, Cause::ConnectedTcp);
        assert_eq!(cause, Cause::CriuTooOld, "{words:?}: {report}");
        assert!(report.blocks().all(|finding| finding.cause == Some(cause)), "{report}");
        assert_eq!(dump.run(&lab.criu).unwrap_err().cause(), Some(cause));
        return;
    }
    assert_eq!(report.options(), report.safe_options(), "{words:?}: {report}");
    let dump = dump.with_preflight(&report);
    let again = dump.preflight(&lab.criu).unwrap();
    assert!(again.will_work(), "{again}");
    dump.run(&lab.criu)
        .unwrap_or_else(|error| panic!("{words:?}: {error}\n{:#?}\n{report}", error.failure()));
    target.is_gone();
    let restore = Restore::new(&images).with_preflight(&report);
    let look = restore.preflight(&lab.criu).unwrap();
    assert!(look.will_work(), "{words:?}: {look}");
    let restored = restore
        .run(&lab.criu)
        .unwrap_or_else(|error| panic!("{words:?}: {error}\n{:#?}", error.failure()));
    target.restored_as(restored.pid);
    assert!(soon(|| lives(&target)), "{words:?} does not go on");
}

fn counts(lab: &Lab, words: &[&str]) {
    let before = std::cell::Cell::new(0);
    round_trip(lab, words, |target| {
        let now = target.count();
        let grew = now > before.get() && before.get() > 0;
        before.set(now);
        grew
    });
}

fn sleep(lab: &Lab) {
    round_trip(lab, &["sleep", "1000"], |target| {
        let stat = procfs::process::Process::new(target.pid.as_raw()).and_then(|p| p.stat());
        // setsid has executed sleep.
        stat.is_ok_and(|stat| stat.comm == "sleep" && stat.session == stat.pid)
    });
}

fn pipeline(lab: &Lab) {
    let script = "seq 1 100000 | while read n; do echo $n; sleep 0.01; done | \
                  while read n; do echo $n > count.new; mv count.new count; done";
    counts(lab, &["sh", "-c", script]);
}

fn perl(lab: &Lab) {
    let script = "open(F, '>', 'count'); while (1) { seek(F, 0, 0); printf F '%020d', ++$n; \
                  F->flush; select(undef, undef, undef, 0.002) }";
    counts(lab, &["perl", "-MIO::Handle", "-e", script]);
}

fn flock(lab: &Lab) {
    let script =
        "exec 9> lock; flock 9; while :; do n=$((n + 1)); echo $n > count; sleep 0.01; done";
    counts(lab, &["sh", "-c", script]);
}

fn coprocess(lab: &Lab) {
    let script = "coproc cat; while :; do echo $((++n)) >&${COPROC[1]}; read -u ${COPROC[0]} m; \
                  echo $m > count.new; mv count.new count; done";
    counts(lab, &["bash", "-c", script]);
}

fn awk(lab: &Lab) {
    let script = "BEGIN { while (1) { print ++n > \"count\"; close(\"count\"); \
                  system(\"sleep 0.01\") } }";
    counts(lab, &["awk", script]);
}

/// Tests a shell whose children and pipes come and go.
fn busy(lab: &Lab) {
    let script = "while :; do seq 100 | sort -r | head -1 > /dev/null; n=$((n + 1)); \
                  echo $n > count.new; mv count.new count; done";
    counts(lab, &["sh", "-c", script]);
}

fn timeout(lab: &Lab) {
    let script = "while :; do n=$((n + 1)); echo $n > count; sleep 0.01; done";
    counts(lab, &["timeout", "1000", "sh", "-c", script]);
}

fn xargs(lab: &Lab) {
    let script = "yes | xargs -P 3 -I y sh -c 'sleep 0.02; n=$(cat count 2>/dev/null); \
                  echo $((${n:-0} + 1)) > count.$$; mv count.$$ count'";
    counts(lab, &["sh", "-c", script]);
}

/// Runs a Python program that counts into a file with `count(n)`.
fn python(lab: &Lab, code: &str) {
    let head = "import os\ndef count(n):\n  open('new', 'w').write(str(n))\n  os.rename('new', \
                'count')\n";
    counts(lab, &["/usr/bin/python3", "-c", &format!("{head}{code}")]);
}

fn python_asyncio(lab: &Lab) {
    let code = "\
import asyncio
async def main():
    server = await asyncio.start_unix_server(lambda r, w: None, 'socket')
    n = 0
    while True:
        n += 1
        await asyncio.to_thread(count, n)
        await asyncio.sleep(0.01)
asyncio.run(main())";
    python(lab, code);
}

fn python_processes(lab: &Lab) {
    let code = "\
import multiprocessing, time
pool = multiprocessing.get_context('fork').Pool(3)
n = 0
while True:
    n += len(pool.map(abs, range(9)))
    count(n)
    time.sleep(0.01)";
    python(lab, code);
}

fn python_threads(lab: &Lab) {
    let code = "\
import queue, threading, time
done = queue.Queue()
def work(k):
    while True:
        done.put(k)
        time.sleep(0.01)
for k in range(20): threading.Thread(target=work, args=(k,), daemon=True).start()
n = 0
while True:
    done.get()
    n += 1
    count(n)";
    python(lab, code);
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Tests a server that answers `say` with `want`.
fn serves(lab: &Lab, port: u16, words: &[&str], say: &str, want: &str) {
    round_trip(lab, words, |_| {
        let Ok(mut peer) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut answer = [0; 64];
        let length = peer.write_all(say.as_bytes()).and_then(|()| peer.read(&mut answer));
        let length = length.unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).starts_with(want)
    });
}

fn python_http(lab: &Lab) {
    let port = port();
    let words = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()];
    serves(lab, port, &words, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.");
}

fn busybox_httpd(lab: &Lab) {
    let port = port();
    let words = ["busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h", "."];
    serves(lab, port, &words, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.");
}

fn redis(lab: &Lab) {
    let port = port();
    let words = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()];
    serves(lab, port, &words, "PING\r\n", "+PONG");
}

fn redis_on_unix(lab: &Lab) {
    let words = ["redis-server", "--port", "0", "--save", "", "--unixsocket", "s"];
    round_trip(lab, &words, |_| {
        let link = Short::link(&lab.dir);
        let Ok(mut peer) = UnixStream::connect(link.join("s")) else { return false };
        peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut answer = [0; 5];
        peer.write_all(b"PING\r\n").and_then(|()| peer.read_exact(&mut answer)).is_ok()
            && &answer == b"+PONG"
    });
}

fn nginx(lab: &Lab) {
    let port = port();
    let config = format!(
        "daemon off; user root; pid nginx.pid; error_log error.log; events {{}} \
         http {{ access_log off; client_body_temp_path t1; proxy_temp_path t2; \
         fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5; \
         server {{ listen 127.0.0.1:{port}; }} }}"
    );
    fs::write(lab.dir.join("nginx.conf"), config).unwrap();
    let prefix = format!("{}/", lab.dir.display());
    let words = ["nginx", "-p", &prefix, "-c", "nginx.conf"];
    serves(lab, port, &words, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.");
}

fn memcached(lab: &Lab) {
    let port = port();
    let words = ["memcached", "-u", "root", "-l", "127.0.0.1", "-U", "0", "-p", &port.to_string()];
    serves(lab, port, &words, "version\r\n", "VERSION");
}

/// Tests memcached, which refuses to run as root. A criu without `CAP_SYS_RESOURCE` may not read
/// another user's limits, except in a user namespace of its own.
fn memcached_of_a_user(lab: &Lab) {
    let words = ["-s", "/socket", "-a", "777"];
    let mut container = Container::start_program(lab, Path::new("/usr/bin/memcached"), &words);
    let lives = |container: &Container| {
        let peer = UnixStream::connect(Short::link(&container.root).join("socket"));
        let mut answer = [0; 7];
        let ask = |mut peer: UnixStream| {
            peer.set_read_timeout(Some(Duration::from_millis(500)))?;
            peer.write_all(b"version\r\n")?;
            peer.read_exact(&mut answer)
        };
        peer.and_then(ask).is_ok() && &answer == b"VERSION"
    };
    assert!(soon(|| lives(&container)));
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images);
    let mut report = dump.preflight(&lab.criu).unwrap();
    // The server takes a moment to close the last connection of this test.
    soon(|| {
        report = dump.preflight(&lab.criu).unwrap();
        report.will_work()
    });
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap_or_else(|error| panic!("{error}\n{:#?}", error.failure()));
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root).with_preflight(&report);
    let look = restore.preflight(&lab.criu).unwrap();
    assert!(look.will_work(), "{look}");
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    assert!(soon(|| lives(&container)), "it does not go on");
}

fn sshd(lab: &Lab) {
    let port = port();
    let key = lab.dir.join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(keygen.stdin(Stdio::null()).status().unwrap().success());
    fs::create_dir_all("/run/sshd").unwrap();
    let key = key.display().to_string();
    let port_word = port.to_string();
    let words = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", &key, "-p", &port_word];
    let pid_file = format!("PidFile={}/sshd.pid", lab.dir.display());
    let words = [&words[..], &["-o", &pid_file, "-o", "ListenAddress=127.0.0.1"]].concat();
    serves(lab, port, &words, "", "SSH-2.0");
}
