//! Jobs whose members are dumped and restored by processes of their own, at one moment.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use criu_lab::certs::{Authority, Wanted};
use criu_lab::payload::{self, Counter};
use criu_lab::{soon, within};
use criu_rs::{Pid, Version};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Ran, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_job_is_saved_at_one_moment_and_no_byte_is_lost", one_moment),
    ("what_is_saved_without_a_coordinator_does_not_fit_together", control),
    ("a_member_that_fails_leaves_all_running", failure),
    ("a_member_that_is_killed_leaves_all_running", killed),
    ("a_member_that_does_not_come_leaves_the_others_running", missing),
    ("a_coordinator_on_another_machine_needs_tls_or_a_word", away),
    ("a_member_with_a_wrong_certificate_runs_on", stranger),
    ("criu_itself_joins_a_job_by_its_action_script", script),
];

/// `FILE ADDRESS`: sends numbers over a connection, many before it reads the answers, and counts
/// the answers.
pub fn ask(words: &[&str]) {
    let mut peer = None;
    assert!(soon(|| {
        peer = TcpStream::connect(words[1]).ok();
        peer.is_some()
    }));
    let (mut peer, count) = (peer.unwrap(), Counter::into(words[0]));
    let mut answered = 0u64;
    loop {
        for n in answered..answered + AHEAD {
            sent(peer.write_all(&n.to_le_bytes()), &count);
        }
        for want in answered..answered + AHEAD {
            let mut bytes = [0; 8];
            sent(peer.read_exact(&mut bytes), &count);
            if u64::from_le_bytes(bytes) != want {
                count.fail(&format!("got {} instead of {want}", u64::from_le_bytes(bytes)));
            }
        }
        answered += AHEAD;
        count.at(answered);
        thread::sleep(Duration::from_micros(100));
    }
}

/// `FILE ADDRESS`: sends back numbers, each of which has to follow the one before.
pub fn answer(words: &[&str]) {
    let listener = TcpListener::bind(words[1]).unwrap();
    let count = Counter::into(words[0]);
    count.at(2);
    let mut peer = listener.accept().unwrap().0;
    drop(listener);
    for n in 0u64.. {
        let mut bytes = [0; 8];
        sent(peer.read_exact(&mut bytes), &count);
        if u64::from_le_bytes(bytes) != n {
            count.fail(&format!("got {} instead of {n}", u64::from_le_bytes(bytes)));
        }
        sent(peer.write_all(&bytes), &count);
        count.at(n);
    }
}

fn sent(result: std::io::Result<()>, count: &Counter) {
    if let Err(error) = result {
        count.fail(&error.to_string());
    }
}

/// Two nodes: network namespaces that a pair of veth devices joins.
struct Nodes(Vec<Child>);

impl Nodes {
    fn new() -> Self {
        let hold = |_| {
            let mut command = Command::new("unshare");
            command.args(["--net", "sleep", "1000"]).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let nodes = Self([0, 1].map(hold).into());
        let is_apart = |node: &Child| {
            let inode = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
            inode(&node.id().to_string()) != inode("self")
        };
        assert!(soon(|| nodes.0.iter().all(is_apart)));
        let [a, b] = [0, 1].map(|node: usize| nodes.0[node].id().to_string());
        done(&["ip", "link", "add", "na", "type", "veth", "peer", "name", "nb"]);
        for (name, pid, address) in [("na", &a, "10.66.0.1/24"), ("nb", &b, "10.66.0.2/24")] {
            done(&["ip", "link", "set", name, "netns", pid]);
            for words in [
                &["ip", "addr", "add", address, "dev", name][..],
                &["ip", "link", "set", name, "up"],
                &["ip", "link", "set", "lo", "up"],
            ] {
                done(&[&["nsenter", "--net", "--target", pid][..], words].concat());
            }
        }
        nodes
    }

    /// The file of a node's network.
    fn net(&self, node: usize) -> String {
        format!("/proc/{}/ns/net", self.0[node].id())
    }

    /// Starts a payload on a node.
    fn start(&self, lab: &Lab, node: usize, words: &[&str]) -> Target {
        let file = lab.dir.join(words[0]);
        let payload = payload::command(words, &file);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.net(node))).arg(payload.get_program());
        command.args(payload.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let target = Target::started(command.spawn().unwrap(), file);
        assert!(soon(|| target.count() > 1), "{words:?} does not start");
        target
    }

    /// Starts two payloads that talk from node to node.
    fn talking(&self, lab: &Lab) -> [Target; 2] {
        let answer = self.start(lab, 0, &["answer", "10.66.0.1:7000"]);
        let ask = self.start(lab, 1, &["ask", "10.66.0.1:7000"]);
        answer.goes_on();
        [answer, ask]
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }
}

#[track_caller]
fn done(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// A running coordinator.
struct Coordinator {
    child: Child,
    address: String,
    said: Arc<Mutex<String>>,
    lines: thread::JoinHandle<()>,
}

impl Coordinator {
    fn start(lab: &Lab, words: &[&str]) -> Self {
        let words = [&["coordinator", "serve", "--port", "0", "--json"][..], words].concat();
        let mut child = lab.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let first: serde_json::Value = serde_json::from_str(&first).unwrap();
        let address = first["address"].as_str().unwrap().to_owned();
        let said = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&said);
        let lines = thread::spawn(move || {
            for line in lines.lines() {
                *told.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        Self { child, address, said, lines }
    }

    /// Waits until a member has come to a step.
    #[track_caller]
    fn waits(&self, id: &str, step: &str) {
        let has_come = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["outcome"] == "came" && event["id"] == id && event["step"] == step
        };
        let came = || self.said.lock().unwrap().lines().any(has_come);
        assert!(soon(came), "{id} does not come to {step}: {}", self.said.lock().unwrap());
    }

    /// Stops it. Returns the events that it has told.
    fn stop(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.lines.join().unwrap();
        Arc::into_inner(self.said).unwrap().into_inner().unwrap()
    }
}

/// A directory of certificates for an id, as a secret of Kubernetes has them.
fn certs(lab: &Lab, authority: &Authority, number: u64, ids: &[&str]) -> String {
    let signed = authority.sign(number, &Wanted { names: ids, ..Wanted::default() });
    let dir = lab.dir(&format!("certs-{number}"));
    for (from, name) in
        [(&signed.ca, "ca.crt"), (&signed.certificate, "tls.crt"), (&signed.key, "tls.key")]
    {
        fs::copy(from, Path::new(&dir).join(name)).unwrap();
    }
    dir
}

/// A member: its id, and that of the other.
const MEMBERS: [(&str, &str); 2] = [("answer", "ask"), ("ask", "answer")];

/// Runs a command for each of both members side by side. The second comes later.
fn both(command: impl Fn(usize) -> Command + Sync) -> [Ran; 2] {
    thread::scope(|scope| {
        let threads = [0, 1].map(|node| {
            let command = &command;
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(100) * u32::try_from(node).unwrap());
                run(command(node))
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

/// The dump of a member that talks, which runs on afterwards.
fn dump(lab: &Lab, nodes: &Nodes, pid: Pid, node: usize) -> Command {
    let (pid, images) = (pid.to_string(), lab.path(MEMBERS[node].0) + "-images");
    let inode = fs::metadata(nodes.net(node)).unwrap().ino();
    let external = format!("net[{inode}]:extNet");
    let words = ["dump", "-R", "-t", &pid, "-D", &images, "--tcp-established", "--external"];
    lab.command(&[&words[..], &[&external]].concat())
}

/// The restore of a member into a node.
fn restore(lab: &Lab, nodes: &Nodes, node: usize) -> Command {
    let script = "exec 9<$0; exec \"$@\" --inherit-fd fd[9]:extNet";
    let program = lab.command(&["restore", "-d", "--tcp-established"]);
    let images = lab.path(MEMBERS[node].0) + "-images";
    let net = nodes.net(node);
    let mut command = lab.program("bash", &["-c", script, &net]);
    command.arg(program.get_program()).args(program.get_args()).args(["-D", &images]);
    command.args(["--pidfile", "pid"]);
    command
}

/// Ends both payloads, and takes them over from their restores.
fn restored(lab: &Lab, targets: &mut [Target; 2]) {
    for (target, (id, _)) in targets.iter_mut().zip(MEMBERS) {
        let path = lab.path(id) + "-images/pid";
        target.restored_as(fs::read_to_string(path).unwrap().trim().parse().unwrap());
    }
}

#[track_caller]
fn all_go_on(targets: &[Target; 2]) {
    for target in targets {
        target.goes_on();
    }
}

fn end(targets: &mut [Target; 2]) {
    targets.iter().for_each(|target| target.signal(Signal::SIGKILL));
    targets.iter_mut().for_each(Target::is_gone);
}

fn can_save_sockets(lab: &Lab) -> bool {
    lab.version >= Version::new(4, 2, 0)
}

/// A coordinator that asks for certificates, and what its members show.
struct Secured {
    coordinator: Coordinator,
    certs: [String; 2],
}

impl Secured {
    fn start(lab: &Lab) -> Self {
        let authority = Authority::new(Path::new(&lab.path("authority")));
        let serving = certs(lab, &authority, 1, &["127.0.0.1"]);
        let certs =
            [0, 1].map(|node: usize| certs(lab, &authority, [2, 3][node], &[MEMBERS[node].0]));
        Self { coordinator: Coordinator::start(lab, &["--certs", &serving]), certs }
    }

    /// Makes a command a member of the job.
    fn join(&self, mut command: Command, node: usize) -> Command {
        let (id, other) = MEMBERS[node];
        command.args(["--coordinator", &self.coordinator.address]);
        command.args(["--coordinator-certs", &self.certs[node]]);
        command.args(["--coordinator-id", id, "--coordinator-deps", other]);
        command
    }
}

impl Secured {
    /// Makes a restore a member whose network is shut until both are restored.
    fn join_shut(&self, command: Command, nodes: &Nodes, node: usize) -> Command {
        let mut command = self.join(command, node);
        command.args(["--coordinator-net", &nodes.net(node)]);
        command
    }
}

fn one_moment(lab: &Lab) {
    let job = Secured::start(lab);
    let nodes = Nodes::new();
    let mut targets = nodes.talking(lab);
    let pids = [targets[0].pid, targets[1].pid];
    let dumps = both(|node| job.join(dump(lab, &nodes, pids[node], node), node));
    if !can_save_sockets(lab) {
        // This CRIU cannot save sockets of today's kernels: no member is saved, and all run on.
        assert!(dumps.iter().all(|ran| ran.code != Some(0)), "{dumps:?}");
        all_go_on(&targets);
        job.coordinator.stop();
        return targets.iter_mut().for_each(Target::end);
    }
    dumps.iter().for_each(Ran::done);
    // Both run on and are ahead of what is saved.
    all_go_on(&targets);
    end(&mut targets);
    drop(nodes);
    let nodes = Nodes::new();
    both(|node| job.join_shut(restore(lab, &nodes, node), &nodes, node)).iter().for_each(Ran::done);
    restored(lab, &mut targets);
    for _ in 0..3 {
        all_go_on(&targets);
    }
    let said = job.coordinator.stop();
    let passed = |step: &str| {
        said.lines().filter(|line| line.contains("passed") && line.contains(step)).count()
    };
    for step in ["pre-dump", "network-lock", "post-dump", "post-restore", "network-unlock"] {
        assert_eq!(passed(step), 1, "{step}: {said}");
    }
    targets.iter_mut().for_each(Target::end);
}

/// The counterpart that shows that the test above can fail.
fn control(lab: &Lab) {
    let nodes = Nodes::new();
    let mut targets = nodes.talking(lab);
    let first = run(dump(lab, &nodes, targets[0].pid, 0));
    if !can_save_sockets(lab) {
        assert_ne!(first.code, Some(0));
        return targets.iter_mut().for_each(Target::end);
    }
    first.done();
    all_go_on(&targets);
    run(dump(lab, &nodes, targets[1].pid, 1)).done();
    end(&mut targets);
    drop(nodes);
    let (job, nodes) = (Secured::start(lab), Nodes::new());
    both(|node| job.join_shut(restore(lab, &nodes, node), &nodes, node)).iter().for_each(Ran::done);
    restored(lab, &mut targets);
    let before = targets[1].count();
    let goes_on = within(Duration::from_secs(1), || targets[1].count() > before);
    assert!(!goes_on, "both go on: {}", targets[1].count());
    targets.iter_mut().for_each(Target::end);
    job.coordinator.stop();
}

/// The dump of a payload that counts, as a member.
fn member(lab: &Lab, coordinator: &Coordinator, target: &Target, id: &str, other: &str) -> Command {
    let images = lab.path(id);
    let mut command = lab.command(&["dump", "-R", "-t", &target.pid(), "-D", &images]);
    command.args(["--coordinator", &coordinator.address]);
    command.args(["--coordinator-id", id, "--coordinator-deps", other]);
    command
}

/// A payload with a file and a name of its own.
fn counting(lab: &Lab, name: &str, words: &[&str]) -> Target {
    Target::start(words, &lab.dir.join(name), |command| command)
}

#[track_caller]
fn runs_on(lab: &Lab, target: &Target, id: &str) {
    target.goes_on();
    let left = criu_lab::names(lab.path(id));
    assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
}

fn failure(lab: &Lab) {
    let coordinator = Coordinator::start(lab, &[]);
    let whole = counting(lab, "whole-count", &["count"]);
    // CRIU does not save a lock without --file-locks.
    let file = lab.path("locked");
    fs::write(&file, "").unwrap();
    let broken = counting(lab, "broken-count", &["lock", &file]);
    let [fails, waits] = both(|node| match node {
        0 => member(lab, &coordinator, &broken, "broken", "whole"),
        _ => member(lab, &coordinator, &whole, "whole", "broken"),
    });
    assert_eq!(fails.code, Some(1), "{fails:?}");
    assert!(fails.err.contains("lock"), "{fails:?}");
    waits.fails(1, &["failed: broken: its connection has ended after pre-dump"]);
    runs_on(lab, &broken, "broken");
    runs_on(lab, &whole, "whole");
    coordinator.stop();
}

fn killed(lab: &Lab) {
    let coordinator = Coordinator::start(lab, &[]);
    let target = counting(lab, "count", &["count"]);
    let other = counting(lab, "other-count", &["count"]);
    let third = ["coordinator", "join", "--coordinator", &coordinator.address, "-i", "C"];
    let mut dump = member(lab, &coordinator, &target, "A", "B").spawn().unwrap();
    let waits = thread::scope(|scope| {
        let waits = scope.spawn(|| run(member(lab, &coordinator, &other, "B", "A:C")));
        lab.done(&[&third[..], &["--action", "pre-dump"]].concat());
        // Both are saved and stand still, and wait for the third member.
        let stands_still = |target: &Target| {
            let before = target.count();
            thread::sleep(Duration::from_millis(50));
            target.count() == before
        };
        assert!(soon(|| stands_still(&target) && stands_still(&other)));
        coordinator.waits("A", "post-dump");
        coordinator.waits("B", "post-dump");
        dump.kill().unwrap();
        dump.wait().unwrap();
        waits.join().unwrap()
    });
    waits.fails(1, &["failed: A: its connection has ended while it waited at post-dump"]);
    target.goes_on();
    runs_on(lab, &other, "B");
    coordinator.stop();
}

fn missing(lab: &Lab) {
    let coordinator = Coordinator::start(lab, &["--wait-timeout", "0.5"]);
    let target = counting(lab, "count", &["count"]);
    let ran = run(member(lab, &coordinator, &target, "A", "B"));
    ran.fails(1, &["timeout: B has not come to pre-dump within 0.5 s"]);
    runs_on(lab, &target, "A");
    // The member's own limit, and that of the whole dump.
    coordinator.stop();
    let coordinator = Coordinator::start(lab, &[]);
    for limit in [&["--coordinator-timeout", "0.3"], &["--deadline", "0.3"]] {
        let mut command = member(lab, &coordinator, &target, "A", "B");
        let ran = run(command.args(limit).arg("--overwrite"));
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.err.contains("no answer of the coordinator at pre-dump within 300ms"),
            "{ran:?}"
        );
        runs_on(lab, &target, "A");
    }
    coordinator.stop();
    // Nobody listens there any more.
    let nobody = ["coordinator", "join", "-i", "A", "--action", "pre-dump", "--coordinator"];
    let ran = lab.run(&[&nobody[..], &["127.0.0.1:9"]].concat());
    ran.fails(1, &["cannot reach the coordinator at 127.0.0.1:9"]);
    lab.done(&[&nobody[..], &["127.0.0.1:9", "--or-alone"]].concat());
}

fn away(lab: &Lab) {
    const AWAY: &str = "192.0.2.1:9";
    let target = counting(lab, "count", &["count"]);
    let dump = |more: &[&str]| {
        let words = ["dump", "-R", "-t", &target.pid(), "-D", &lab.path("A"), "--overwrite"];
        let job = ["--coordinator", AWAY, "--coordinator-id", "A", "--coordinator-timeout", "0.3"];
        lab.run(&[&words[..], &job, more].concat())
    };
    let way = "or allow it with --coordinator-expose";
    dump(&[]).fails(1, &["192.0.2.1:9: this coordinator is on another machine", way]);
    let ran = dump(&["--coordinator-expose"]);
    assert!(ran.code == Some(1) && !ran.err.contains("without TLS"), "{ran:?}");
    runs_on(lab, &target, "A");
    let join = ["coordinator", "join", "-i", "A", "--action", "pre-dump", "--coordinator", AWAY];
    let join = |more: &[&str]| lab.run(&[&join[..], &["--timeout", "0.3"], more].concat());
    join(&[]).fails(1, &["without TLS", "or give --expose"]);
    let ran = join(&["--expose"]);
    assert!(ran.code == Some(1) && !ran.err.contains("without TLS"), "{ran:?}");
    // Dependencies with an id that no member can have.
    let file = lab.path("dependencies.json");
    fs::write(&file, r#"{"A": ["B:C"]}"#).unwrap();
    let ran = lab.run(&["coordinator", "serve", "--port", "0", "--dependencies", &file]);
    ran.fails(2, &["--dependencies: ", "dependencies.json: \"B:C\" is no id"]);
}

fn stranger(lab: &Lab) {
    let authority = Authority::new(Path::new(&lab.path("authority")));
    let serving = certs(lab, &authority, 1, &["127.0.0.1"]);
    let theirs = Authority::new(Path::new(&lab.path("stranger")));
    let coordinator = Coordinator::start(lab, &["--certs", &serving]);
    let target = counting(lab, "count", &["count"]);
    for (certs, why) in [
        (certs(lab, &authority, 2, &["B"]), "the certificate names B, and not A"),
        (certs(lab, &theirs, 3, &["A"]), "UnknownIssuer"),
    ] {
        let mut command = member(lab, &coordinator, &target, "A", "");
        let ran = run(command.args(["--coordinator-certs", &certs, "--overwrite"]));
        ran.fails(1, &[why]);
        runs_on(lab, &target, "A");
    }
    coordinator.stop();
}

fn script(lab: &Lab) {
    let coordinator = Coordinator::start(lab, &[]);
    let ours = counting(lab, "ours", &["count"]);
    let theirs = counting(lab, "theirs", &["count"]);
    let images = lab.dir("B");
    let (_, port) = coordinator.address.rsplit_once(':').unwrap();
    let config = format!(r#"{{"id": "B", "dependencies": "A", "port": "{port}"}}"#);
    fs::write(Path::new(&images).join("criu-coordinator.json"), config).unwrap();
    let links = lab.dir("links");
    lab.done(&["links", &links]);
    let script = format!("{links}/coordinator");
    let criu = || {
        let words = ["dump", "-R", "-t", &theirs.pid(), "-D", &images, "--action-script", &script];
        lab.program(&lab.criu, &words)
    };
    let [dumped, by_criu] = both(|node| match node {
        0 => member(lab, &coordinator, &ours, "A", "B"),
        _ => criu(),
    });
    dumped.done();
    by_criu.done();
    ours.goes_on();
    theirs.goes_on();
    let said = coordinator.stop();
    assert_eq!(said.matches("\"passed\"").count(), 2, "{said}");
    // Without a coordinator criu fails, and the process runs on.
    let ran = run(criu());
    assert_ne!(ran.code, Some(0), "{ran:?}");
    theirs.goes_on();
}

/// Numbers that are on their way at one time.
const AHEAD: u64 = 256;
