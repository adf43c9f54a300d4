//! Processes in namespaces of their own, and restores into existing ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use criu_lab::soon;
use criu_rs::pages::{Pool, Server};
use criu_rs::preflight::{Finding, Severity};
use criu_rs::{
    AfterDump, Cause, Dump, End, Error, External, InheritFd, JoinNs, JoinableNs, Pid, Restore,
};
use nix::sched::CloneFlags;

use crate::container::{Container, NEWTIME, Plan};
use crate::lab::{Lab, Target, TestFn};
use crate::pages::anywhere;

pub const TESTS: &[(&str, TestFn)] = &[
    ("own_pid_and_mnt_namespace", own_pid_and_mnt_namespace),
    ("own_net_namespace", own_net_namespace),
    ("own_uts_and_ipc_namespaces", own_uts_and_ipc_namespaces),
    ("own_time_namespace", own_time_namespace),
    ("own_user_namespace", own_user_namespace),
    ("pages_that_a_user_namespace_may_not_read_are_named", unreadable_pages),
    ("pages_for_a_user_namespace_are_readable_when_asked_for", readable_pages),
    ("a_tree_that_no_restore_brings_back_is_not_ended", nested),
    ("a_child_outside_the_namespaces_of_its_root_is_refused", left),
    ("mounts_and_network_of_a_child_in_a_container_come_back", nested_in_container),
    ("a_thread_in_a_namespace_of_its_own_is_told", thread_apart),
    ("a_process_joins_an_existing_net_namespace", joins_net),
    ("an_external_net_namespace_is_replaced_by_a_descriptor", external_net),
    ("an_external_mount_is_given_another_source", external_mount),
    ("found_mounts_need_no_names", found_mounts),
    ("an_external_file_is_replaced_by_a_descriptor", external_file),
    ("a_veth_pair_gets_a_new_outer_name", veth),
];

/// Dumps and restores a container, and looks at its namespaces before and after.
fn round_trip(lab: &Lab, namespaces: CloneFlags, kinds: &[&str]) {
    let images = lab.dir("images");
    let mut container = Container::start(lab, namespaces);
    let links = |container: &Container| -> Vec<String> {
        let pid = container.target.pid;
        let link = |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        kinds.iter().map(|kind| link(*kind).to_string_lossy().into_owned()).collect()
    };
    let before = links(&container);
    Dump::new(container.target.pid, &images).run(&lab.criu).unwrap();
    container.is_gone();
    let count = container.target.count();
    let restored = Restore::new(&images).root(&container.root).run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    assert!(container.target.goes_on() > count);
    let host = |kind: &&str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    for ((kind, old), new) in kinds.iter().zip(before).zip(links(&container)) {
        assert_ne!(Path::new(&new), host(kind), "{kind} is the host's");
        // Another one of the same kind: the old one ended with its tasks.
        println!("{kind}: {old} -> {new}");
    }
}

/// The child of a payload `nest`, which counts.
fn child_of(target: &Target) -> Target {
    let children = || criu_lab::process::children(target.pid);
    assert!(soon(|| children().len() == 1));
    Target::at(children()[0], target.file().with_extension("apart"))
}

/// Tests a child with namespaces of its own below a root in the namespaces of criu. CRIU 4.3 saves
/// such a tree and ends it, and restores it with no option.
fn nested(lab: &Lab) {
    let cases = [
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("user", CloneFlags::CLONE_NEWUSER),
        ("time_for_children", NEWTIME),
    ];
    for (kind, flags) in cases {
        let images = lab.dir(kind);
        let target = lab.start(&["nest", &flags.bits().to_string()]);
        let child = child_of(&target);
        child.goes_on();
        let refused = |dump: Dump<'_>| {
            let report = dump.preflight(&lab.criu).unwrap();
            let finding = report.blocks().next().unwrap();
            assert_eq!(finding.cause, Some(Cause::NestedNamespace), "{report}");
            assert_eq!(finding.subject.pid, Some(child.pid), "{report}");
            let error = dump.run(&lab.criu).unwrap_err();
            assert_eq!(error.cause(), Some(Cause::NestedNamespace));
            let Error::Nested(nested) = error else { panic!("{error}") };
            assert_eq!((nested.pid, nested.kind), (child.pid, kind));
            assert_eq!(Some(nested.inode), finding.subject.inode);
        };
        refused(Dump::new(target.pid, &images));
        let leave = AfterDump::LeaveRunning;
        refused(Dump::new(target.pid, &images).after_dump(leave));
        // Criu itself has not been asked: there is no log.
        assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
        target.goes_on();
        child.goes_on();
        // The child alone is a tree that can be saved and brought back.
        if flags == CloneFlags::CLONE_NEWNET {
            let alone = Dump::new(child.pid, &images).after_dump(leave).shell_job(true);
            alone.run(&lab.criu).unwrap();
        }
    }
}

/// Tests a child that is in criu's namespaces, and its root is not: a program that was executed in
/// a restored container is in the time namespace of its host.
fn left(lab: &Lab) {
    for (kind, option) in [("time", "--time"), ("uts", "--uts"), ("net", "--net")] {
        let code = format!(
            "there = open('/proc/{}/ns/{kind}')\nr, w = os.pipe()\nif os.fork() == 0:\n  \
             assert libc.setns(there.fileno(), 0) == 0\n  there.close()\n  os.write(w, b'x')\n  \
             while True: time.sleep(1)\nthere.close()\nos.read(r, 1)",
            std::process::id()
        );
        let target = lab.python_in(&["unshare", option], &code);
        let images = lab.dir(kind);
        let dump = Dump::new(target.pid, &images);
        let report = dump.preflight(&lab.criu).unwrap();
        assert!(report.foresees(Cause::NestedNamespace), "{report}");
        let error = dump.run(&lab.criu).unwrap_err();
        let Error::Nested(nested) = error else { panic!("{error}") };
        assert_eq!(nested.kind, kind);
        target.goes_on();
    }
}

/// Tests what is allowed: CRIU brings back mounts and networks of a child whose root has a mount
/// and a network namespace of its own.
fn nested_in_container(lab: &Lab) {
    let images = lab.dir("images");
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let words = ["nest", &flags.bits().to_string()];
    let namespaces = Some(CloneFlags::CLONE_NEWNET);
    let plan = Plan { namespaces, payload: &words, ..Plan::default() };
    let mut container = Container::launch(lab, &plan);
    let child = child_of(&container.target);
    child.goes_on();
    let dump = Dump::new(container.target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
    container.is_gone();
    let restored = Restore::new(&images).root(&container.root).run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
    let child = child_of(&container.target);
    child.goes_on();
    for kind in ["mnt", "net"] {
        let of = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(of(child.pid), of(container.target.pid), "{kind}");
    }
}

/// Tests a thread that is in a namespace of its own: CRIU restores it in that of its process.
fn thread_apart(lab: &Lab) {
    let code = "\
def other():
    libc.unshare(0x40000000)
    ready.set()
    time.sleep(1000)
ready = threading.Event()
threading.Thread(target=other, daemon=True).start()
ready.wait()";
    let mut target = lab.python(code);
    let apart = |pid: Pid| {
        let tasks = procfs::process::Process::new(pid.as_raw()).unwrap().tasks().unwrap();
        let link = |tid| fs::read_link(format!("/proc/{pid}/task/{tid}/ns/net")).unwrap();
        tasks.flatten().filter(|task| link(task.tid) != net_of(pid)).count()
    };
    assert_eq!(apart(target.pid), 1);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let loses = |finding: &&Finding| finding.severity == Severity::Loses;
    let finding = report.findings().iter().find(loses).unwrap();
    assert!(finding.what.contains("thread") && finding.detail.contains("net"), "{report}");
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(apart(target.pid), 0, "this CRIU brings it back: the finding is not true");
}

fn own_pid_and_mnt_namespace(lab: &Lab) {
    round_trip(lab, CloneFlags::empty(), &["pid", "mnt"]);
}

fn own_net_namespace(lab: &Lab) {
    round_trip(lab, CloneFlags::CLONE_NEWNET, &["pid", "mnt", "net"]);
}

fn own_uts_and_ipc_namespaces(lab: &Lab) {
    let both = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    round_trip(lab, both, &["pid", "mnt", "uts", "ipc"]);
}

fn own_time_namespace(lab: &Lab) {
    round_trip(lab, NEWTIME, &["pid", "mnt", "time"]);
}

fn own_user_namespace(lab: &Lab) {
    round_trip(lab, CloneFlags::CLONE_NEWUSER, &["pid", "mnt", "user"]);
}

/// Dumps a container, with its pages to a page server of ours, into one directory.
fn dump_over(lab: &Lab, server: Server, container: &mut Container, images: &Path) {
    let server = server.directory(images).listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let dump = Dump::new(container.target.pid, images).page_server("127.0.0.1", port);
    dump.run(&lab.criu).unwrap();
    running.join().unwrap()[0].result.as_ref().unwrap();
    container.is_gone();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Tests images that root of the user namespace may not read: a restore and a look name the first,
/// and the advice helps.
fn unreadable_pages(lab: &Lab) {
    let images = lab.dir("images");
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWUSER);
    dump_over(lab, Server::new(), &mut container, &images);
    let restore = Restore::new(&images).root(&container.root);
    let refused = |seen: &str| {
        let error = restore.run(&lab.criu).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(seen) && text.contains("chmod a+r DIR/*.img"), "{text}");
        let Error::Failed(failure) = error else { panic!("{text}") };
        assert_eq!((failure.end, failure.cause), (End::NotAsked, Some(Cause::ImageUnreadable)));
        let report = restore.preflight(&lab.criu).unwrap();
        let finding = report.blocks().next().unwrap();
        assert_eq!(finding.cause, Some(Cause::ImageUnreadable), "{report}");
        assert!(finding.detail.contains(seen), "{report}");
    };
    let who = "belongs to user 0, and CRIU reads as user 100000";
    refused(&format!("pagemap-1.img has mode 0600 and {who}"));
    for entry in fs::read_dir(&images).unwrap().flatten() {
        chmod(&entry.path(), 0o644);
    }
    chmod(&images, 0o700);
    refused(&format!("the images directory has mode 0700 and {who}"));
    chmod(&images, 0o755);
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
}

/// Tests a capture, which knows the tree, and a page server that is told.
fn readable_pages(lab: &Lab) {
    let (captured, served) = (lab.dir("captured"), lab.dir("served"));
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWUSER);
    let dump = Dump::new(container.target.pid, &captured).after_dump(AfterDump::LeaveRunning);
    let capture = dump.capture(&lab.criu, Pool::new(8 << 20).unwrap(), &mut ()).unwrap();
    capture.writing.wait().1.unwrap();
    dump_over(lab, Server::new().others_read(true), &mut container, &served);
    let restore = |images: &Path| Restore::new(images).root(&container.root).run(&lab.criu);
    let restored = restore(&captured).unwrap();
    let mut target = Target::at(restored.pid, container.target.file().to_owned());
    target.goes_on();
    target.end();
    container.target.restored_as(restore(&served).unwrap().pid);
    container.target.goes_on();
}

/// The network namespace of a process.
fn net_of(pid: Pid) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

fn joins_net(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let holder = lab.start(&["netns"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let place = format!("/proc/{}/ns/net", holder.pid);
    let join = JoinNs::path(JoinableNs::Net, place);
    let restored = Restore::new(&images).join_ns(join).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(net_of(target.pid), net_of(holder.pid));
    assert_ne!(net_of(target.pid), net_of(Pid::this()));
}

fn external_net(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["netns"]);
    let holder = lab.start(&["count-netns"]);
    let inode = fs::metadata(format!("/proc/{}/ns/net", target.pid)).unwrap().ino();
    let inode = u32::try_from(inode).unwrap();
    let external = External::NetNamespace { inode, key: "extNet".into() };
    Dump::new(target.pid, &images).external(external).run(&lab.criu).unwrap();
    target.is_gone();
    let namespace = fs::File::open(format!("/proc/{}/ns/net", holder.pid)).unwrap();
    let inherit = InheritFd::new("extNet", &namespace);
    let restored = Restore::new(&images).inherit_fd(inherit).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(net_of(target.pid), net_of(holder.pid));
}

fn external_mount(lab: &Lab) {
    let images = lab.dir("images");
    let (old, new) = (lab.dir("old"), lab.dir("new"));
    fs::write(old.join("name"), "old").unwrap();
    fs::write(new.join("name"), "new").unwrap();
    let binds: &[(&Path, &str)] = &[(&old, "/data")];
    let mut container = Container::start_with(lab, CloneFlags::empty(), binds);
    let pid = container.target.pid;
    let seen = |pid| fs::read_to_string(format!("/proc/{pid}/root/data/name")).unwrap();
    assert_eq!(seen(pid), "old");

    let refused = Dump::new(pid, &images).run(&lab.criu).unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::ExternalMount), "{refused}");
    container.target.goes_on();

    let named = External::mount("/data", "the-data");
    Dump::new(pid, &images).external(named).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root);
    let refused = restore.run(&lab.criu).unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::ExternalMount), "{refused}");

    let given = External::mount("the-data", &new);
    let restored = restore.external(given).run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
    assert_eq!(seen(restored.pid), "new");
}

fn found_mounts(lab: &Lab) {
    let images = lab.dir("images");
    let outside = lab.dir("outside");
    let binds: &[(&Path, &str)] = &[(&outside, "/data")];
    let mut container = Container::start_with(lab, CloneFlags::empty(), binds);
    let found = External::FoundMounts(None);
    Dump::new(container.target.pid, &images).external(found.clone()).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root).external(found);
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
}

fn external_file(lab: &Lab) {
    let images = lab.dir("images");
    let (old, new) = (lab.dir.join("old"), lab.dir.join("new"));
    fs::write(&old, "old").unwrap();
    fs::write(&new, "new").unwrap();
    let mut container = Container::start_holding(lab, &old);
    let pid = container.target.pid;
    // Its number inside, and how CRIU names it.
    let inode = fs::metadata(&old).unwrap().ino();
    let is_it = |fd: &String| {
        fs::metadata(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|meta| meta.ino() == inode)
    };
    let fds = criu_lab::names(Path::new(&format!("/proc/{pid}/fd")));
    let fd = fds.into_iter().find(is_it).unwrap();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap();
    let external = External::File { mount: mount.trim().parse().unwrap(), inode };

    let refused = Dump::new(pid, &images).run(&lab.criu).unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::FileOutsideMounts), "{refused}");
    container.target.goes_on();
    Dump::new(pid, &images).external(external.clone()).run(&lab.criu).unwrap();
    container.is_gone();
    let file = fs::File::open(&new).unwrap();
    let restore = Restore::new(&images)
        .root(&container.root)
        .inherit_fd(InheritFd::new(external.to_string(), &file));
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
    let inside = fs::metadata(format!("/proc/{}/fd/{fd}", restored.pid)).unwrap();
    assert_eq!(inside.ino(), fs::metadata(&new).unwrap().ino());
}

fn veth(lab: &Lab) {
    let images = lab.dir("images");
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    let pid = container.target.pid.to_string();
    let name = |end: &str| format!("cr{end}{pid}");
    let ip = |words: &[&str]| {
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        output.status.success()
    };
    let (old, new) = (name("a"), name("b"));
    assert!(ip(&["link", "add", &old, "type", "veth", "peer", "name", "eth0", "netns", &pid]));
    Dump::new(container.target.pid, &images).run(&lab.criu).unwrap();
    container.is_gone();
    let pair = External::Veth { inner: "eth0".into(), outer: new.clone().into(), bridge: None };
    let restore = Restore::new(&images).root(&container.root).external(pair);
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
    assert!(ip(&["link", "show", &new]));
}
