//! Rights, processes, namespaces and given resources that a restore wants and does not get.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use caps::{CapSet, Capability};
use criu_images::proto::{CoreEntry, TaskKobjIdsEntry};
use criu_lab::{Terminal, soon};
use criu_rs::preflight::Severity;
use criu_rs::{Cause, Dump, External, InheritFd, Restore};
use nix::sched::CloneFlags;
use nix::unistd::Pid as Id;

use super::host::{Undo, change, comes_back, each_breaks, ip};
use super::is_blocked;
use crate::causes::edit;
use crate::container::Container;
use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_a_capability_that_a_restore_lacks", rights),
    ("preflight_foresees_files_of_proc_that_a_restore_lacks", proc_files),
    ("preflight_foresees_images_that_no_host_restores", edited),
    ("preflight_foresees_the_session_of_the_restore_itself", session),
    ("preflight_foresees_an_empty_cpuset", cpuset),
    ("preflight_foresees_programs_and_peers_of_a_network", network_namespace),
    ("preflight_foresees_that_no_daemon_serves_pages", lazy),
    ("preflight_foresees_a_pipe_with_one_end", pipe),
    ("preflight_looks_below_the_new_root", new_root),
];

/// Saves and ends a process.
fn saved(lab: &Lab, target: &mut Target, images: &PathBuf) {
    let dump = Dump::new(target.pid, images);
    let report = dump.preflight(&lab.criu).unwrap();
    let dump = report.options().iter().fold(dump, |dump, need| need.set(dump));
    dump.run(&lab.criu).unwrap_or_else(|error| {
        panic!("{error}\n{:#?}\n{report}", error.failure());
    });
    target.is_gone();
}

/// Runs in a thread that has given up capabilities. A criu that the thread starts lacks them too.
fn without(caps: &[Capability], run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for set in [CapSet::Bounding, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted]
            {
                for &cap in caps {
                    caps::drop(None, set, cap).unwrap();
                }
            }
            run();
        });
        thread.join().unwrap();
    });
}

fn rights(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let mut user = lab.start(&["user"]);
    let (images, users) = (lab.dir("images"), lab.dir("users"));
    saved(lab, &mut target, &images);
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap() {
        saved(lab, &mut user, &users);
    }
    let restore = Restore::new(&images);
    let cases: [(&[Capability], Cause, &str); 4] = [
        (&[Capability::CAP_NET_RAW], Cause::CapabilityNotHeld, "cap_net_raw"),
        (&[Capability::CAP_CHOWN], Cause::CapabilityNotHeld, "cap_chown"),
        (&[Capability::CAP_SETUID, Capability::CAP_SETGID], Cause::CapabilityNotHeld, "cap_setgid"),
        (&[Capability::CAP_NET_ADMIN], Cause::MissingCapability, "CAP_NET_ADMIN"),
    ];
    for (caps, cause, about) in cases {
        without(caps, || {
            let report = restore.preflight(&lab.criu).unwrap();
            let error = restore.run(&lab.criu).unwrap_err();
            assert!(report.foresees(cause), "{caps:?}\n{report}\n{:#?}", error.failure());
            assert!(report.to_string().contains(about), "{caps:?}\n{report}");
            // Of a netlink message CRIU tells only that it was not permitted.
            let agrees = |cause| report.foresees(cause) || cause == Cause::NotPermitted;
            assert!(error.cause().is_none_or(agrees), "{error}\n{report}");
        });
    }
    comes_back(lab, &restore, &mut target);
}

fn proc_files(lab: &Lab) {
    let mut other = lab.start(&["count"]);
    let code = format!("f = open('/proc/{}/status')\ng = open('/proc/self/status')", other.pid);
    let mut target = lab.python(&code);
    let images = lab.dir("images");
    saved(lab, &mut target, &images);
    let restore = Restore::new(&images);
    let end = || -> Undo {
        nix::sys::signal::kill(Id::from_raw(other.pid.as_raw()), nix::sys::signal::SIGKILL)
            .unwrap();
        assert!(soon(|| {
            criu_lab::process::reap();
            !PathBuf::from(format!("/proc/{}", other.pid)).exists()
        }));
        Box::new(|| ())
    };
    let about = format!("there is no process {}", other.pid);
    let gone = change("the process has ended", Cause::ProcFileMissing, &about, end);
    each_breaks(lab, &restore, &[gone], &mut target);
    other.is_gone();
    let code = "\
def hold():
    global f
    f = open(f'/proc/self/task/{threading.get_native_id()}/schedstat')
    held.set()
    time.sleep(1000)
held = threading.Event()
threading.Thread(target=hold, daemon=True).start()
held.wait()";
    let mut target = lab.python(code);
    let images = lab.dir("threads");
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let thread = change("of a thread", Cause::ProcFileMissing, "a thread", || Box::new(|| ()));
    each_breaks(lab, &Restore::new(&images), &[thread], &mut target);
}

/// Changes an image, and puts it back.
fn edits<M: prost::Message + Default>(path: PathBuf, change: impl Fn(&mut M)) -> impl Fn() -> Undo {
    move || {
        let before = fs::read(&path).unwrap();
        edit(&path, 8, |message: &mut M| change(message));
        let path = path.clone();
        Box::new(move || fs::write(path, before).unwrap())
    }
}

fn edited(lab: &Lab) {
    let mut target = lab.start(&["tree", "1"]);
    let images = lab.dir("images");
    saved(lab, &mut target, &images);
    let set = criu_images::ImageSet::open(&images).unwrap();
    let child = set.checkpoint().unwrap().tasks().last().unwrap().pid();
    let core = images.join(format!("core-{}.img", target.pid));
    let ids = images.join(format!("ids-{child}.img"));
    let most: u64 = fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let changes = [
        change("a child with a mount namespace", Cause::NestedNamespace, "mnt", {
            edits(ids.clone(), |ids: &mut TaskKobjIdsEntry| ids.mnt_ns_id = Some(77))
        }),
        change("a child with a network namespace", Cause::NestedNamespace, "net", {
            edits(ids, |ids: &mut TaskKobjIdsEntry| ids.net_ns_id = Some(77))
        }),
    ];
    let restore = Restore::new(&images);
    each_breaks(lab, &restore, &changes, &mut target);
    // A finding without a cause.
    let undo = edits(core.clone(), |core: &mut CoreEntry| core.mtype = AARCH64)();
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(is_blocked(&report).what.contains("another architecture"), "{report}");
    restore.run(&lab.criu).unwrap_err();
    undo();
    // CRIU says nothing of a limit that it cannot set.
    let _stays = edits(core, move |core: &mut CoreEntry| {
        let task = core.tc.as_mut().unwrap();
        let limit = &mut task.rlimits.as_mut().unwrap().rlimits[7];
        (limit.cur, limit.max) = (most + 1, most + 1);
    })();
    let report = restore.preflight(&lab.criu).unwrap();
    let said = format!("nofile is {}, the sysctl fs.nr_open is {most}", most + 1);
    assert!(report.findings().iter().any(|finding| finding.detail == said), "{report}");
    comes_back(lab, &restore, &mut target);
    let limits = fs::read_to_string(format!("/proc/{}/limits", target.pid)).unwrap();
    assert!(!limits.contains(&(most + 1).to_string()), "{limits}");
}

/// A job of a terminal: the restore has to be in another session than the job's processes, and its
/// standard input has to be a terminal.
fn session(lab: &Lab) {
    let Terminal { master, slave, path } = Terminal::open();
    let leader = lab.start(&["terminal", &path]);
    let mut target = lab.start_with(&["count"], |command| command.stdin(slave));
    let images = lab.dir("images");
    Dump::new(target.pid, &images).shell_job(true).run(&lab.criu).unwrap();
    target.is_gone();
    drop((leader, master));
    let restore = Restore::new(&images);
    let nothing = || -> Undo { Box::new(|| ()) };
    let as_job = restore.clone().shell_job(true);
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.foresees(Cause::ForeignTerminal), "{report}");
    restore.run(&lab.criu).unwrap_err();
    let input = change("no terminal", Cause::NoTerminal, "pts/", nothing);
    each_breaks(lab, &as_job, &[input], &mut target);
    // A member of the session of this very process.
    let mut member = lab.start(&["member"]);
    let images = lab.dir("member");
    Dump::new(member.pid, &images).shell_job(true).run(&lab.criu).unwrap();
    member.is_gone();
    let restore = Restore::new(&images).shell_job(true);
    comes_back(lab, &restore, &mut member);
    // The images say that the session which restores is one of theirs.
    let own = nix::unistd::getsid(None).unwrap().as_raw();
    member.end();
    let pstree = images.join("pstree.img");
    let before = fs::read(&pstree).unwrap();
    edit(&pstree, 8, |entry: &mut criu_images::proto::PstreeEntry| {
        entry.sid = 4_000_000;
        entry.pgid = u32::try_from(own).unwrap();
    });
    let report = restore.preflight(&lab.criu).unwrap();
    let error = restore.run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::SessionIdInUse), "{:#?}", error.failure());
    assert!(report.foresees(Cause::SessionIdInUse), "{report}");
    fs::write(pstree, before).unwrap();
}

/// A cpuset cgroup that was made anew has neither processors nor memory nodes.
fn cpuset(lab: &Lab) {
    let root = PathBuf::from("/sys/fs/cgroup/cpuset");
    if !root.join("cpuset.cpus").exists() {
        // Cgroups of version 2 take the values of their parent.
        return;
    }
    let cgroup = root.join(format!("criu-rs-host-{}", std::process::id()));
    let fill = |cgroup: &PathBuf| {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(cgroup.join(file), fs::read(root.join(file)).unwrap()).unwrap();
        }
    };
    fs::create_dir(&cgroup).unwrap();
    fill(&cgroup);
    let mut target = lab.start(&["count"]);
    fs::write(cgroup.join("cgroup.procs"), target.pid.to_string()).unwrap();
    let images = lab.dir("images");
    saved(lab, &mut target, &images);
    fs::remove_dir(&cgroup).unwrap();
    let restore = Restore::new(&images);
    let empty = change("an empty cpuset", Cause::EmptyCpuset, "cpuset.cpus is empty", || {
        fs::create_dir(&cgroup).unwrap();
        let cgroup = cgroup.clone();
        Box::new(move || fs::remove_dir(cgroup).unwrap())
    });
    each_breaks(lab, &restore, &[empty], &mut target);
    comes_back(lab, &restore, &mut target);
    target.end();
    assert!(soon(|| fs::remove_dir(&cgroup).is_ok()));
}

fn network_namespace(lab: &Lab) {
    let mut target = lab.start(&["netns"]);
    let name = format!("w{}", std::process::id());
    let pid = target.pid;
    ip(&format!("link add {name} type veth peer name inner netns {pid}"));
    let images = lab.dir("images");
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    // The pair goes with the namespace, some time after it.
    assert!(soon(|| nix::net::if_::if_nametoindex(&name[..]).is_err() || gone(&name)));
    let nothing = || -> Undo { Box::new(|| ()) };
    let peer = change("a peer is missing", Cause::VethPeer, "veth[inner]", nothing);
    let restore = Restore::new(&images);
    each_breaks(lab, &restore, &[peer], &mut target);
    let outer = External::Veth { inner: "inner".into(), outer: (&name).into(), bridge: None };
    let restore = restore.external(outer);
    let poor = Lab {
        criu: lab.criu.clone().env("PATH", "/nonexistent"),
        program: lab.program.clone(),
        version: lab.version,
        dir: lab.dir.clone(),
    };
    let program = change("no ip", Cause::MissingProgram, "ip, for addresses", nothing);
    each_breaks(&poor, &restore, &[program], &mut target);
    assert!(soon(|| nix::net::if_::if_nametoindex(&name[..]).is_err() || gone(&name)));
    comes_back(lab, &restore, &mut target);

    // A namespace that the caller has named as external.
    let mut target = lab.start(&["count-netns"]);
    let inode = fs::read_link(format!("/proc/{}/ns/net", target.pid)).unwrap();
    let inode = inode.to_str().unwrap()[5..].trim_end_matches(']').parse().unwrap();
    let net = File::open(format!("/proc/{}/ns/net", target.pid)).unwrap();
    let images = lab.dir("external");
    let outside = External::NetNamespace { inode, key: "web".into() };
    Dump::new(target.pid, &images).external(outside).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    let missing = change("not given", Cause::ExternalNotGiven, "fd[FD]:web", nothing);
    each_breaks(lab, &restore, &[missing], &mut target);
    let file = File::open("/dev/null").unwrap();
    let wrong = restore.clone().inherit_fd(InheritFd::new("web", &file));
    let report = wrong.preflight(&lab.criu).unwrap();
    wrong.run(&lab.criu).unwrap_err();
    let found = is_blocked(&report);
    assert!(found.detail.contains("web is a net namespace, given is /dev/null"), "{report}");
    comes_back(lab, &restore.inherit_fd(InheritFd::new("web", &net)), &mut target);
}

/// Removes a network interface.
fn gone(name: &str) -> bool {
    let mut delete = Command::new("ip");
    delete.args(["link", "del", name]).stderr(Stdio::null());
    delete.status().unwrap().success()
}

fn lazy(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let images = lab.dir("images");
    saved(lab, &mut target, &images);
    let restore = Restore::new(&images);
    let nothing = || -> Undo { Box::new(|| ()) };
    let daemon = change("no daemon", Cause::NoLazyPagesDaemon, "lazy-pages.socket", nothing);
    each_breaks(lab, &restore.clone().lazy_pages(true), &[daemon], &mut target);
    comes_back(lab, &restore, &mut target);
}

fn pipe(lab: &Lab) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut target = lab.start_with(&["count"], |command| command.stdin(reader));
    let images = lab.dir("images");
    saved(lab, &mut target, &images);
    drop(writer);
    let restore = Restore::new(&images);
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    let lost: Vec<_> =
        report.findings().iter().filter(|of| of.severity == Severity::Loses).collect();
    let key = lost[0].detail.split(':').next().unwrap().to_owned();
    assert!(lost[0].what.contains("the other end of a pipe"), "{report}");
    assert!(report.to_string().contains("pipe:["), "{report}");
    let key = format!("{key}:{}", lost[0].detail.split(':').nth(1).unwrap());
    let (reader, _writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let restore = restore.inherit_fd(InheritFd::new(key, &reader));
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.findings().iter().all(|of| of.severity != Severity::Loses), "{report}");
    comes_back(lab, &restore, &mut target);
}

/// A tree with a mount namespace of its own: its files are looked for below the new root.
fn new_root(lab: &Lab) {
    let outside = lab.dir("outside");
    let mut container = Container::start_with(lab, CloneFlags::empty(), &[(&outside, "/data")]);
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    report.options().iter().fold(dump, |dump, need| need.set(dump)).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root);
    let mount = |path: &PathBuf| External::mount("data", path.as_os_str());
    let nowhere = restore.clone().external(mount(&lab.dir.join("nowhere")));
    let nothing = || -> Undo { Box::new(|| ()) };
    let missing = change("the mount's directory", Cause::MountSourceMissing, "nowhere", nothing);
    each_breaks(lab, &nowhere, &[missing], &mut container.target);
    let restore = restore.external(mount(&outside));
    let count = container.root.join("count");
    let gone = change("a file below the root", Cause::FileMissing, "/count", || {
        let (from, to) = (count.clone(), count.with_extension("aside"));
        fs::rename(&from, &to).unwrap();
        Box::new(move || fs::rename(to, from).unwrap())
    });
    each_breaks(lab, &restore, &[gone], &mut container.target);
    comes_back(lab, &restore, &mut container.target);
}

/// The number of 64-bit Arm in core images.
const AARCH64: i32 = 3;
