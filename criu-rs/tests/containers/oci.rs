//! Containers of real runtimes, saved and restored by this crate alone, or with the runtime doing
//! one half.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::containers::{Bundle, seccomp_profile};
use criu_lab::place::Short;
use criu_rs::oci::{Container, Error, RestoreHooks};
use criu_rs::{LogLevel, Pid, Tcp};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::trip::{ALL, BOTH, Trip, WeDoBoth, WeRestore};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case { name: "oci_plain", test: plain, runtimes: BOTH, newest_only: false },
    Case {
        name: "oci_filters_and_capabilities",
        test: filters,
        runtimes: BOTH,
        newest_only: false,
    },
    Case { name: "oci_bind_mounts", test: bind_mounts, runtimes: BOTH, newest_only: false },
    Case {
        name: "oci_bind_mounts_behind_links",
        test: bind_mounts_behind_links,
        runtimes: BOTH,
        newest_only: true,
    },
    Case { name: "oci_recursive_bind_mount", test: recursive, runtimes: BOTH, newest_only: true },
    Case { name: "oci_terminal", test: terminal, runtimes: BOTH, newest_only: true },
    Case { name: "oci_masked_paths", test: masked_paths, runtimes: BOTH, newest_only: false },
    Case { name: "oci_joined_network", test: joined_network, runtimes: BOTH, newest_only: true },
    Case { name: "oci_user_namespace", test: user_namespace, runtimes: BOTH, newest_only: true },
    Case { name: "oci_pod_namespaces", test: pod_namespaces, runtimes: BOTH, newest_only: true },
    Case {
        name: "oci_tcp_in_its_own_network",
        test: own_network,
        runtimes: BOTH,
        newest_only: true,
    },
    Case { name: "oci_empty_network", test: empty_network, runtimes: BOTH, newest_only: true },
    Case { name: "oci_cgroups", test: cgroups, runtimes: BOTH, newest_only: false },
    Case { name: "oci_hooks", test: hooks, runtimes: BOTH, newest_only: true },
    Case { name: "oci_guide", test: guide, runtimes: BOTH, newest_only: false },
    Case { name: "oci_unknown_mount", test: unknown_mount, runtimes: BOTH, newest_only: true },
];

fn plain(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    Trip::new(bed, &bundle).go(ALL);
}

fn filters(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]).with(|b| {
        b.seccomp(seccomp_profile(&["SECCOMP_FILTER_FLAG_LOG"]));
        b.capabilities(&["CAP_KILL", "CAP_SYS_CHROOT"]);
    });
    let threads = Trip::new(bed, &bundle).go(ALL);
    let of = |name: &str| -> Vec<String> {
        let mut all: Vec<_> = threads.values().map(|status| status[name].clone()).collect();
        all.sort();
        all
    };
    assert_eq!(of("Seccomp_filters"), ["1", "2", "3", "4"]);
    assert_eq!(of("CapEff"), ["0000000000040020"; 4]);
    assert_eq!(of("NoNewPrivs"), ["1"; 4]);
}

fn bind_mounts(bed: &Bed) {
    let (outside, inner) = (bed.dir("outside"), bed.dir("inner"));
    fs::write(outside.join("said"), "from outside").unwrap();
    fs::write(inner.join("said"), "from further in").unwrap();
    fs::create_dir(outside.join("inner")).unwrap();
    let file = bed.dir.join("hosts");
    fs::write(&file, "127.0.0.1 bed\n").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        fs::create_dir_all(b.root.join("etc")).unwrap();
        b.bind(&outside, "/data", &["ro"]);
        b.bind(&inner, "/data/inner", &[]);
        b.bind(&file, "/etc/hosts", &[]);
    });
    let look = |pid: Pid| {
        let said = |path: &str| fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap();
        assert_eq!(said("/data/said"), "from outside");
        assert_eq!(said("/data/inner/said"), "from further in");
        assert_eq!(said("/etc/hosts"), "127.0.0.1 bed\n");
    };
    Trip::new(bed, &bundle).look(&look).go(ALL);
}

/// Mount points behind links in the root file system. One of the links would lead out of it.
fn bind_mounts_behind_links(bed: &Bed) {
    let (linked, dots) = (bed.dir("linked"), bed.dir("dots"));
    fs::write(linked.join("said"), "behind an absolute link").unwrap();
    fs::write(dots.join("said"), "behind dots").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        fs::create_dir_all(b.root.join("var/lib")).unwrap();
        symlink("/var/lib", b.root.join("lib")).unwrap();
        symlink("../../../var", b.root.join("out")).unwrap();
        b.bind(&linked, "/lib/linked", &[]);
        b.bind(&dots, "/out/dots", &[]);
    });
    let look = |pid: Pid| {
        let said = |path: &str| fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap();
        assert_eq!(said("/var/lib/linked/said"), "behind an absolute link");
        assert_eq!(said("/var/dots/said"), "behind dots");
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    match bed.runtime.name {
        // crun names the links to CRIU.
        "crun" => {
            trip.go(&[WeDoBoth]);
            trip.fails_alone("doesn't have a proper root mount");
        }
        _ => drop(trip.go(ALL)),
    }
}

/// Mounts below the source of a recursive bind mount come along. The runtimes name only the top
/// mount to CRIU, which turns a tmpfs below it into a file system of the container's own.
fn recursive(bed: &Bed) {
    let outside = bed.dir("outside");
    let below = outside.join("below");
    fs::create_dir(&below).unwrap();
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::write(below.join("said"), "from below").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.bind(&outside, "/data", &[]));
    let look = |pid: Pid| {
        let said = fs::read_to_string(format!("/proc/{pid}/root/data/below/said")).unwrap();
        assert_eq!(said, "from below");
        let device = |path: PathBuf| fs::metadata(path).unwrap().dev();
        let inside = device(format!("/proc/{pid}/root/data/below").into());
        assert_eq!(inside, device(below.clone()), "one file system, here and there");
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    trip.go(&[WeDoBoth]);
    trip.fails_alone("one file system, here and there");
    nix::mount::umount(&below).unwrap();
}

fn terminal(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "echo", &[]).with(Bundle::terminal);
    let mut trip = Trip::new(bed, &bundle);
    let folder = Short::folder();
    trip.console = Some(folder.join("console"));
    trip.go(ALL);
}

fn masked_paths(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.mask(&["/proc/keys", "/proc/acpi", "/proc/timer_list", "/sys/firmware", "/proc/none"]);
        b.readonly(&["/proc/bus", "/proc/fs", "/proc/sys"]);
    });
    let look = |pid: Pid| {
        let at = |path: &str| PathBuf::from(format!("/proc/{pid}/root{path}"));
        assert_eq!(fs::read(at("/proc/keys")).unwrap(), b"");
        assert_eq!(fs::read_dir(at("/sys/firmware")).unwrap().count(), 0);
        let written = fs::write(at("/proc/sys/kernel/hostname"), "x").unwrap_err();
        assert_eq!(written.raw_os_error(), Some(nix::libc::EROFS));
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    match bed.runtime.name {
        "crun" => {
            trip.go(&[WeDoBoth, WeRestore]);
            trip.fails_alone("No mapping for");
        }
        _ => drop(trip.go(ALL)),
    }
}

fn inode(path: &str) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn joined_network(bed: &Bed) {
    run("ip", &["netns", "add", "joined"]);
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let bundle = bundle.with(|b| b.namespace("network", Some(Path::new("/run/netns/joined"))));
    let look = |pid: Pid| {
        assert_eq!(inode(&format!("/proc/{pid}/ns/net")), inode("/run/netns/joined"));
    };
    Trip::new(bed, &bundle).look(&look).go(ALL);
}

fn user_namespace(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.user_namespace(100_000);
        b.cgroups_path("/bed/user");
    });
    let look = |pid: Pid| {
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    match bed.runtime.name {
        "crun" => {
            trip.go(&[WeDoBoth]);
            trip.fails_alone("./dev/urandom doesn't have a proper root mount");
        }
        _ => drop(trip.go(ALL)),
    }
}

/// A container in the namespaces of a second container, and then of a third.
fn pod_namespaces(bed: &Bed) {
    let kinds = ["network", "ipc", "uts", "pid"];
    let link = |pid: Pid, kind: &str| {
        let file = if kind == "network" { "net" } else { kind };
        format!("/proc/{pid}/ns/{file}")
    };
    let sandbox = |name: &str| {
        let bundle = Bundle::new(bed, name, "count", &[]);
        let bundle = bundle.with(|b| b.config["hostname"] = json!(name));
        bed.runtime.run(&bundle, name, &[])
    };
    let shares = |bundle: &mut Bundle, pid: Pid| {
        for kind in kinds {
            bundle.namespace(kind, Some(Path::new(&link(pid, kind))));
        }
        // The host name is the sandbox's.
        bundle.config.as_object_mut().unwrap().remove("hostname");
    };
    let first = sandbox("first");
    let mut bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| shares(b, first));
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let trip = Trip::new(bed, &bundle);
    trip.save(pid, &images);
    bed.runtime.delete("c");
    let counted = bundle.stands_still();

    let second = sandbox("second");
    shares(&mut bundle, second);
    bundle.write();
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    assert!(bundle.goes_on() > counted);
    for kind in kinds {
        let (new, old) = (inode(&link(second, kind)), inode(&link(first, kind)));
        assert_ne!(new, old);
        assert_eq!(inode(&link(restored, kind)), new, "{kind}");
    }
    let inside = fs::read_to_string(format!("/proc/{restored}/status")).unwrap();
    println!("{inside}");
    kill(nix::unistd::Pid::from_raw(restored.as_raw()), Signal::SIGKILL).unwrap();
}

/// A connection inside the container's own network. runc's restore makes an empty network, and
/// fails.
fn own_network(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "tcp", &[]);
    let mut trip = Trip::new(bed, &bundle);
    trip.dump = |dump| dump.tcp(Tcp::Established);
    trip.restore = |restore| restore.tcp(Tcp::Established);
    trip.options = &["--tcp-established"];
    match bed.runtime.name {
        "runc" => {
            trip.go(&[WeDoBoth]);
            trip.fails_alone("Network is unreachable");
        }
        _ => drop(trip.go(ALL)),
    }
}

fn empty_network(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let mut trip = Trip::new(bed, &bundle);
    trip.dump = |dump| dump.empty_net_ns(true);
    trip.restore = |restore| restore.empty_net_ns(true);
    trip.options = &["--empty-ns=network"];
    let ways = if bed.runtime.name == "crun" { &[WeDoBoth][..] } else { ALL };
    trip.go(ways);
}

fn cgroups(bed: &Bed) {
    let mut bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.cgroups_path("/bed/old");
        let cgroup = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]});
        b.config["mounts"].as_array_mut().unwrap().push(cgroup);
    });
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let container = Container::open(&bundle.dir).unwrap();
    let checkpoint = container.checkpoint(pid).unwrap();
    let freezer = checkpoint.freezer().expect("a freezer");
    assert!(freezer.ends_with("bed/old"), "{}", freezer.display());
    let dump = checkpoint.dump(&images).log_level(LogLevel::Debug);
    dump.run(&bed.criu).unwrap();
    bed.runtime.delete("c");
    let counted = bundle.stands_still();

    bundle.cgroups_path("/bed/new");
    bundle.write();
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    assert!(bundle.goes_on() > counted);
    let seen = fs::read_to_string(format!("/proc/{restored}/cgroup")).unwrap();
    println!("{seen}");
    assert!(
        seen.lines().any(|line| line.ends_with(":/bed/new")) && !seen.contains("old"),
        "{seen}"
    );
    let mounts = fs::read_to_string(format!("/proc/{restored}/mountinfo")).unwrap();
    let shown: Vec<_> = mounts.lines().filter(|line| line.contains(" - cgroup")).collect();
    println!("{shown:#?}");
    assert!(!shown.is_empty() && !mounts.contains("/bed/old"), "{mounts}");
    // The container finds itself in the cgroups that it is shown.
    for line in shown {
        let mut words = line.split(' ').skip(3);
        let (root, point) = (words.next().unwrap(), words.next().unwrap());
        let below = if root == "/" { "/bed/new" } else { "" };
        let file = format!("/proc/{restored}/root{point}{below}/cgroup.procs");
        let there = fs::read_to_string(&file).unwrap_or_else(|error| format!("{file}: {error}"));
        assert!(there.lines().any(|line| line == restored.to_string()), "{line}: {there}");
    }
    kill(nix::unistd::Pid::from_raw(restored.as_raw()), Signal::SIGKILL).unwrap();
}

fn hooks(bed: &Bed) {
    let said = bed.dir.join("said");
    let hook = |words: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", words], "timeout": 5});
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");

    let bundle = bundle.with(|b| {
        let write = format!("cat > {}; echo said >&2", said.display());
        b.config["hooks"] =
            json!({"prestart": [hook(&write)], "createRuntime": [hook("echo no >&2; exit 3")]});
    });
    let container = Container::open(&bundle.dir).unwrap();
    let state = bed.dir("state-of-hooks");
    let restore = container.restore(&images).unwrap().prepare(&state).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let restore = restore.stdio([null.as_fd(); 3]);
    let mut inner = ();
    let mut hooks = RestoreHooks::new(&container, "web", &mut inner);
    let error = restore.run_with(&bed.criu, &mut hooks).unwrap_err().to_string();
    assert!(error.contains("createRuntime hook /bin/sh failed (exit status: 3): no"), "{error}");
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&said).unwrap()).unwrap();
    assert_eq!((&told["id"], &told["status"]), (&json!("web"), &json!("creating")));
    assert_eq!(told["bundle"], json!(bundle.dir.canonicalize().unwrap()));
    assert!(told["pid"].as_i64().unwrap() > 0, "{told}");
    bundle.stands_still();

    let bundle = bundle.with(|b| b.config["hooks"] = json!({"createRuntime": [hook("sleep 100")]}));
    let container = Container::open(&bundle.dir).unwrap();
    let mut spec = container.spec().clone();
    let slow = spec.hooks_mut().as_mut().unwrap().create_runtime_mut().as_mut().unwrap();
    slow[0].set_timeout(Some(1));
    let container = Container::new(spec, &bundle.dir).unwrap();
    let mut hooks = RestoreHooks::new(&container, "web", &mut inner);
    let error = restore.run_with(&bed.criu, &mut hooks).unwrap_err().to_string();
    assert!(error.contains("did not end in 1 s"), "{error}");
    bundle.stands_still();
}

fn unknown_mount(bed: &Bed) {
    let outside = bed.dir("outside");
    fs::write(outside.join("said"), "old").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.bind(&outside, "/data", &[]));
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    let bundle = bundle.with(|b| {
        b.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/data");
    });
    let container = Container::open(&bundle.dir).unwrap();
    let error = container.restore(&images).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownMount { point, .. } if point == Path::new("/data")),
        "{error}"
    );

    let other = bed.dir("other");
    fs::write(other.join("said"), "new").unwrap();
    let container = container.source("/data", &other);
    let restore = container.restore(&images).unwrap().prepare(bed.dir("state-of-it")).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let restored = restore.stdio([null.as_fd(); 3]).run(&bed.criu).unwrap();
    let said = fs::read_to_string(format!("/proc/{}/root/data/said", restored.pid)).unwrap();
    assert_eq!(said, "new");
    restored.signal(nix::libc::SIGKILL).unwrap();
}

/// The example of the guide, with its whole output.
fn guide(bed: &Bed) {
    let outside = bed.dir("outside");
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.bind(&outside, "/data", &[]));
    let pid = bed.runtime.run(&bundle, "c", &[]).to_string();
    let (images, state) = (bed.dir("images"), bed.dir("our-state"));
    let criu = bed.criu.program().unwrap().unwrap();
    let path = format!("{}:{}", criu.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let example = |words: &[&str]| {
        let mut command = Command::new("/proc/self/exe");
        command.arg("--own-example").args(words).env("PATH", &path);
        let (is_done, said) = bed.runtime.finish(&mut command);
        assert!(is_done, "{said}");
        said
    };
    let (dir, images) = (bundle.dir.to_str().unwrap(), images.to_str().unwrap());
    let said = example(&["checkpoint", dir, &pid, images]);
    assert!(
        said.contains("stays outside: mnt[/data]:/data") && said.contains("frozen for"),
        "{said}"
    );
    bed.runtime.delete("c");
    let counted = bundle.stands_still();
    let said = example(&["restore", dir, "mine", images, state.to_str().unwrap()]);
    assert!(said.contains(&format!("/data comes from {}", outside.display())), "{said}");
    let adopted: Pid = fs::read_to_string(state.join("pid")).unwrap().parse().unwrap();
    assert!(said.contains(&format!("mine runs again as process {adopted}")), "{said}");
    assert!(bundle.goes_on() > counted);
    let cgroups = fs::read_to_string(format!("/proc/{adopted}/cgroup")).unwrap();
    assert!(cgroups.lines().any(|line| line.ends_with(":/runtime/mine")), "{cgroups}");
    kill(nix::unistd::Pid::from_raw(adopted.as_raw()), Signal::SIGKILL).unwrap();
}

#[track_caller]
fn run(program: &str, words: &[&str]) {
    assert!(Command::new(program).args(words).status().unwrap().success());
}
