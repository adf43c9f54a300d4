//! Mounts of every kind, saved and restored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use criu_lab::containers::Bundle;
use criu_rs::oci::Container;
use criu_rs::{Pid, Version};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::trip::{ALL, Alone, BOTH, Trip, Way, WeDoBoth, WeRestore, WeSave, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case { name: "a_plain_bind_mount", test: plain_bind, runtimes: BOTH, newest_only: true },
    Case { name: "a_mount_point_listed_twice", test: twice, runtimes: BOTH, newest_only: true },
    Case { name: "files_bound_below_other_mounts", test: files, runtimes: BOTH, newest_only: true },
    Case { name: "a_source_replaced_meanwhile", test: replaced, runtimes: BOTH, newest_only: true },
    Case { name: "a_tmpfs_over_content", test: tmpfs, runtimes: BOTH, newest_only: true },
    Case { name: "a_read_only_root", test: read_only_root, runtimes: BOTH, newest_only: false },
    Case { name: "mounts_that_propagate", test: propagation, runtimes: BOTH, newest_only: true },
    Case {
        name: "a_root_that_propagates",
        test: root_propagation,
        runtimes: BOTH,
        newest_only: true,
    },
    Case { name: "a_cgroup_namespace", test: cgroup_namespace, runtimes: BOTH, newest_only: true },
    Case { name: "devices", test: devices, runtimes: BOTH, newest_only: true },
    Case {
        name: "devices_in_a_user_namespace",
        test: devices_of_user,
        runtimes: BOTH,
        newest_only: true,
    },
    Case { name: "a_second_checkpoint", test: second, runtimes: BOTH, newest_only: false },
    Case { name: "a_network_not_its_own", test: host_network, runtimes: BOTH, newest_only: true },
];

const EVERY: &[Way] = &[WeDoBoth, WeSave, WeRestore, Alone];

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn inside(pid: Pid, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

fn said(pid: Pid, path: &str) -> String {
    fs::read_to_string(inside(pid, path)).unwrap_or_else(|error| format!("{error}"))
}

fn mountinfo(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
}

/// The line of the topmost mount at a place.
fn row(pid: Pid, point: &str) -> String {
    let all = mountinfo(pid);
    all.lines().rfind(|line| line.split(' ').nth(4) == Some(point)).unwrap_or_default().to_owned()
}

fn mount_tmpfs(at: &Path) {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

/// A mount with `bind` alone does not show the mounts below its source.
fn plain_bind(bed: &Bed) {
    let outside = bed.dir("outside");
    let below = outside.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("said"), "underneath").unwrap();
    let file = bed.dir.join("file");
    fs::write(&file, "a file").unwrap();
    mount_tmpfs(&below);
    fs::write(below.join("said"), "on top").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        for (source, point) in [(&outside, "/data"), (&file, "/data/below/new")] {
            let options = ["bind"];
            add(
                b,
                json!({"destination": point, "type": "bind", "source": source, "options": options}),
            );
        }
    });
    let look = |pid: Pid| {
        assert_eq!(said(pid, "/data/below/said"), "underneath");
        assert_eq!(said(pid, "/data/below/new"), "a file");
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    trip.go(&[WeDoBoth]);
    assert!(
        !below.join("new").exists(),
        "a mount point was made in a file system that is not shown"
    );
    trip.go(&[WeSave, WeRestore]);
    nix::mount::umount(&below).unwrap();
}

fn twice(bed: &Bed) {
    let (first, second) = (bed.dir("first"), bed.dir("second"));
    fs::write(first.join("said"), "first").unwrap();
    fs::write(second.join("said"), "second").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&first, "/data", &[]);
        b.bind(&second, "/data", &[]);
    });
    let look = |pid: Pid| assert_eq!(said(pid, "/data/said"), "second");
    Trip::new(bed, &bundle).look(&look).go(EVERY);
}

fn files(bed: &Bed) {
    let file = bed.dir.join("file");
    fs::write(&file, "a file").unwrap();
    let outside = bed.dir("outside");
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&file, "/dev/note", &[]);
        b.bind(&outside, "/data", &[]);
        b.bind(&file, "/data/deep/note", &["ro"]);
        b.bind(&file, "/new/place/note", &[]);
    });
    let look = |pid: Pid| {
        for path in ["/dev/note", "/data/deep/note", "/new/place/note"] {
            assert_eq!(said(pid, path), "a file", "{path}");
        }
        let written = fs::write(inside(pid, "/data/deep/note"), "x").unwrap_err();
        assert_eq!(written.raw_os_error(), Some(nix::libc::EROFS));
    };
    Trip::new(bed, &bundle).look(&look).go(EVERY);
}

/// A source replaced by a new file that takes its name, as happens to /etc/resolv.conf.
fn replaced(bed: &Bed) {
    let file = bed.dir.join("file");
    fs::write(&file, "old").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.bind(&file, "/note", &[]));
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    fs::write(bed.dir.join("new"), "new").unwrap();
    fs::rename(bed.dir.join("new"), &file).unwrap();
    assert!(row(pid, "/note").contains("//deleted "));
    assert_eq!(said(pid, "/note"), "old");
    let theirs = bed.dir("their-images");
    bed.runtime.checkpoint("c", &theirs, &["--leave-running"]);
    let trip = Trip::new(bed, &bundle);
    trip.save(pid, &images);
    bed.runtime.delete("c");
    let restored = trip.bring_back(WeDoBoth, &images);
    assert_eq!(said(restored, "/note"), "new");
    end(restored);
    // Nobody can restore the runtimes' own checkpoints.
    let error = Container::open(&bundle.dir).unwrap().restore(&theirs).unwrap_err();
    assert!(error.to_string().contains("replaced outside"), "{error}");
    let mut command = bed.runtime.command("restore");
    command.args(["--detach", "--image-path"]).arg(&theirs).arg("--bundle").arg(&bundle.dir);
    assert!(!bed.runtime.finish(command.arg("c")).0);
}

fn tmpfs(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        fs::create_dir_all(b.root.join("tmp/sub")).unwrap();
        fs::write(b.root.join("tmp/old"), "hidden").unwrap();
        add(
            b,
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "mode=1777", "size=1m"]}),
        );
    });
    let look = |pid: Pid| {
        assert!(!inside(pid, "/tmp/old").exists());
        let new = inside(pid, "/tmp/new");
        let text = fs::read_to_string(&new).unwrap_or_default();
        assert!(text.is_empty() || text == "kept", "{text}");
        fs::write(new, "kept").unwrap();
        let row = row(pid, "/tmp");
        assert!(row.contains("size=1024k") && row.contains("nosuid,nodev"), "{row}");
    };
    Trip::new(bed, &bundle).look(&look).go(EVERY);
    assert_eq!(fs::read_to_string(bundle.root.join("tmp/old")).unwrap(), "hidden");
    assert!(!bundle.root.join("tmp/new").exists());
}

fn read_only_root(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        fs::write(b.root.join("count"), "").unwrap();
        b.config["root"]["readonly"] = json!(true);
        let count = b.root.join("count");
        b.bind(&count, "/count", &[]);
    });
    let look = |pid: Pid| {
        let written = fs::write(inside(pid, "/data/x"), "x").unwrap_err();
        assert_eq!(written.raw_os_error(), Some(nix::libc::EROFS));
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    if bed.criu.version().unwrap() < Version::new(4, 2, 0) {
        // The runtimes leave the root to CRIU, and this CRIU makes it writable.
        trip.go(&[WeDoBoth, WeRestore]);
        trip.fails_alone("unwrap_err()");
    } else {
        trip.go(EVERY);
    }
}

/// A directory bound to itself, and shared.
fn shared(bed: &Bed, name: &str) -> PathBuf {
    let dir = bed.dir(name);
    let none = None::<&str>;
    mount(Some(&dir), &dir, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &dir, none, MsFlags::MS_SHARED, none).unwrap();
    dir
}

fn propagation(bed: &Bed) {
    let (slave, peer) = (shared(bed, "slave"), shared(bed, "peer"));
    fs::create_dir(slave.join("later")).unwrap();
    fs::create_dir(peer.join("later")).unwrap();
    let is_crun = bed.runtime.name == "crun";
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&slave, "/slave", &["rslave"]);
        b.bind(&peer, "/peer", &["rshared"]);
        if is_crun {
            // By default crun makes all mounts private, also these two.
            b.config["linux"]["rootfsPropagation"] = json!("rshared");
        }
    });
    let look = |pid: Pid| {
        assert!(row(pid, "/slave").contains(" master:"), "{}", row(pid, "/slave"));
        assert!(row(pid, "/peer").contains(" shared:"), "{}", row(pid, "/peer"));
        for (outside, place) in [(&slave, "/slave/later"), (&peer, "/peer/later")] {
            // crun's mount is a peer of the one outside. CRIU restores it without peers.
            if is_crun && place == "/peer/later" {
                continue;
            }
            let later = outside.join("later");
            mount_tmpfs(&later);
            fs::write(later.join("said"), "later").unwrap();
            let found = said(pid, &format!("{place}/said"));
            nix::mount::umount(&later).unwrap();
            assert_eq!(found, "later", "{place}");
        }
    };
    Trip::new(bed, &bundle).look(&look).go(EVERY);
    for dir in [slave, peer] {
        nix::mount::umount(&dir).unwrap();
    }
}

fn root_propagation(bed: &Bed) {
    // On many machines everything is shared from the start.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).unwrap();
    let outside = bed.dir("outside");
    for (n, kind) in ["rprivate", "rslave", "rshared"].into_iter().enumerate() {
        println!("{kind}");
        let bundle = Bundle::new(bed, &format!("bundle-{n}"), "count", &[]).with(|b| {
            b.config["linux"]["rootfsPropagation"] = json!(kind);
            b.bind(&outside, "/data", &[]);
        });
        let shares = kind == "rshared";
        let look = |pid: Pid| assert_eq!(row(pid, "/").contains(" shared:"), shares, "{kind}");
        let trip = Trip::new(bed, &bundle).look(&look);
        trip.go(&[WeDoBoth]);
        fs::remove_dir_all(bed.dir.join("images-WeDoBoth")).unwrap();
    }
}

fn cgroup_namespace(bed: &Bed) {
    let mut bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.namespace("cgroup", None);
        b.cgroups_path("/bed/old");
        add(
            b,
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        );
    });
    // Every hierarchy begins at the container's cgroup.
    let look = |pid: Pid| {
        let mounts = mountinfo(pid);
        let rows: Vec<_> = mounts.lines().filter(|line| line.contains(" - cgroup")).collect();
        assert!(!rows.is_empty(), "{mounts}");
        for row in rows {
            let point = row.split(' ').nth(4).unwrap();
            let there = said(pid, &format!("{point}/cgroup.procs"));
            assert!(there.lines().any(|line| line == pid.to_string()), "{row}: {there}");
        }
    };
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    look(pid);
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    bundle.cgroups_path("/bed/new");
    bundle.write();
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    look(restored);
    let cgroups = fs::read_to_string(format!("/proc/{restored}/cgroup")).unwrap();
    assert!(cgroups.contains(":/bed/new") && !cgroups.contains("old"), "{cgroups}");
    end(restored);
}

fn with_devices(bundle: &mut Bundle) {
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
         "fileMode": 0o666, "uid": 0, "gid": 0},
    ]);
    bundle.config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
}

fn devices(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(with_devices);
    let look = |pid: Pid| {
        let fuse = fs::metadata(inside(pid, "/dev/fuse")).unwrap();
        assert_eq!(fuse.rdev(), nix::sys::stat::makedev(10, 229));
    };
    Trip::new(bed, &bundle).look(&look).go(EVERY);
}

fn devices_of_user(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        with_devices(b);
        b.user_namespace(100_000);
        b.cgroups_path("/bed/user");
    });
    let look = |pid: Pid| {
        let fuse = fs::metadata(inside(pid, "/dev/fuse")).unwrap();
        assert_eq!(fuse.rdev(), nix::sys::stat::makedev(10, 229));
    };
    let ways = if bed.runtime.name == "crun" { &[WeDoBoth][..] } else { ALL };
    Trip::new(bed, &bundle).look(&look).go(ways);
}

/// A restored container is saved and restored again.
fn second(bed: &Bed) {
    let outside = bed.dir("outside");
    fs::write(outside.join("said"), "from outside").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&outside, "/data", &["ro"]);
        b.mask(&["/proc/keys", "/proc/acpi", "/sys/firmware"]);
        b.cgroups_path("/bed/it");
        add(
            b,
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        );
    });
    let look = |pid: Pid| {
        assert_eq!(said(pid, "/data/said"), "from outside");
        assert_eq!(fs::read(inside(pid, "/proc/keys")).unwrap(), b"");
        assert_eq!(fs::read_dir(inside(pid, "/sys/firmware")).unwrap().count(), 0);
        println!("{}", mountinfo(pid));
    };
    let trip = Trip::new(bed, &bundle);
    let mut pid = bed.runtime.run(&bundle, "c", &[]);
    for n in 0..3 {
        println!("{n}");
        look(pid);
        let before = crate::baseline::threads(pid);
        let images = bed.dir(&format!("images-{n}"));
        trip.save(pid, &images);
        if n == 0 {
            bed.runtime.delete("c");
        }
        let counted = bundle.stands_still();
        pid = trip.bring_back(WeDoBoth, &images);
        assert!(bundle.goes_on() > counted);
        assert_eq!(crate::baseline::threads(pid), before);
    }
    look(pid);
    end(pid);
}

fn host_network(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.without_namespace("network");
        b.user_namespace(100_000);
        b.cgroups_path("/bed/user");
        for mount in b.config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys" {
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
        }
    });
    let look = |pid: Pid| {
        let below = row(pid, "/sys/fs/cgroup");
        assert!(below.contains(" - tmpfs ") || below.contains(" - cgroup2 "), "{}", mountinfo(pid));
        assert!(inside(pid, "/sys/kernel").exists());
    };
    let trip = Trip::new(bed, &bundle).look(&look);
    trip.go(&[WeDoBoth]);
    trip.fails_alone("");
}
