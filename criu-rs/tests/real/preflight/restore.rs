//! Images beside a host: the report of a look at them beside the restore that follows.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use criu_images::proto::{CgroupEntry, CoreEntry, CpuinfoEntry, InventoryEntry, Lsmtype};
use criu_rs::preflight::{Need, Report};
use criu_rs::{
    AfterDump, Cause, CpuCap, CpuInfo, Dump, External, InheritFd, Restore, Tcp, Version,
};

use nix::sched::CloneFlags;

use super::{is_blocked, of_sockets};
use crate::causes::edit;
use crate::container::Container;
use crate::lab::{Lab, Target, TestFn, other};
use crate::stopping::Freezer;

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_of_images_that_go_with_the_host", plain),
    ("preflight_foresees_that_there_is_no_checkpoint", no_checkpoint),
    ("preflight_foresees_damaged_images", damaged),
    ("preflight_foresees_an_id_in_use", pid_in_use),
    ("preflight_foresees_files_that_are_gone_or_changed", files),
    ("preflight_foresees_another_build", another_build),
    ("preflight_foresees_images_of_a_newer_criu", version_skew),
    ("preflight_foresees_labels_of_another_module", labels),
    ("preflight_foresees_an_address_in_use", address_in_use),
    ("preflight_foresees_another_cpu", another_cpu),
    ("preflight_foresees_a_missing_hierarchy", cgroups),
    ("preflight_foresees_a_mount_that_a_restore_wants", external_mount),
    ("preflight_foresees_a_file_that_a_restore_wants", external_file),
    ("preflight_foresees_what_a_restore_wants", options),
    ("preflight_foresees_a_socket_that_wants_a_peer", unix_stream),
];

#[track_caller]
fn foreseen(lab: &Lab, restore: &Restore<'_>, cause: Cause) -> Report {
    let report = restore.preflight(&lab.criu).unwrap();
    let error = restore.run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(cause), "{error}\n{:#?}\n{report}", error.failure());
    assert!(report.foresees(cause), "not {cause:?}:\n{report}");
    report
}

#[track_caller]
fn works(lab: &Lab, restore: &Restore<'_>, target: &mut Target) {
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    let restored = restore
        .run(&lab.criu)
        .unwrap_or_else(|error| panic!("{error}\n{:#?}\n{report}", error.failure()));
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Dumps a process, which ends.
fn dumped(lab: &Lab, target: &mut Target) -> PathBuf {
    let images = lab.fresh("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    dump.with_preflight(&report).run(&lab.criu).unwrap();
    target.is_gone();
    images
}

fn plain(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let before = Dump::new(target.pid, lab.fresh("unused")).preflight(&lab.criu).unwrap();
    let images = dumped(lab, &mut target);
    // Both looks count the same.
    let after = Restore::new(&images).preflight(&lab.criu).unwrap();
    let counts = |report: &Report| [report.tasks(), report.threads(), report.descriptors()];
    assert_eq!(counts(&after), counts(&before));
    let before = criu_lab::names(&images);
    let restore = Restore::new(&images);
    let report = restore.preflight(&lab.criu).unwrap();
    assert_eq!(report.findings(), [], "{report}");
    assert_eq!((report.tasks(), report.threads()), (1, 1));
    assert!(report.memory() > 4096 && report.freeze_estimate().is_none());
    assert_eq!(criu_lab::names(&images), before, "a look leaves nothing behind");
    works(lab, &restore, &mut target);
}

fn no_checkpoint(lab: &Lab) {
    let images = lab.dir("empty");
    is_blocked(&foreseen(lab, &Restore::new(&images), Cause::NotCheckpoint));
    let report = Restore::new(lab.dir.join("nowhere")).preflight(&lab.criu).unwrap();
    is_blocked(&report);
}

fn damaged(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let images = dumped(lab, &mut target);
    let path = images.join("pstree.img");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 3, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let restore = Restore::new(&images);
        is_blocked(&restore.preflight(&lab.criu).unwrap());
        restore.run(&lab.criu).unwrap_err();
    }
}

fn pid_in_use(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.run(&lab.criu).unwrap();
    let report = foreseen(lab, &Restore::new(&images), Cause::PidInUse);
    assert_eq!(is_blocked(&report).subject.pid, Some(target.pid));
}

fn files(lab: &Lab) {
    let file = lab.dir.join("data");
    fs::write(&file, "hello").unwrap();
    let mut target = lab.start(&["open", file.to_str().unwrap()]);
    let images = dumped(lab, &mut target);
    let restore = Restore::new(&images);
    fs::write(&file, "hello!").unwrap();
    let report = foreseen(lab, &restore, Cause::FileChanged);
    assert_eq!(is_blocked(&report).subject.path.as_deref(), Some(file.as_path()));
    fs::remove_file(&file).unwrap();
    foreseen(lab, &restore, Cause::FileMissing);
    fs::write(&file, "hello").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let report = foreseen(lab, &restore, Cause::FileChanged);
    assert_eq!(report.options(), [Need::SkipFileRwxCheck]);
    works(lab, &restore.skip_file_rwx_check(true), &mut target);
}

fn another_build(lab: &Lab) {
    let program = lab.dir.join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut target = lab.start(&["open", program.to_str().unwrap()]);
    let images = dumped(lab, &mut target);
    let bytes = fs::read(&program).unwrap();
    let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = bytes.windows(note.len()).position(|window| window == note).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&program).unwrap();
    file.write_all_at(&[!bytes[at + 16]], u64::try_from(at).unwrap() + 16).unwrap();
    drop(file);
    let restore = Restore::new(&images);
    let report = foreseen(lab, &restore, Cause::FileChanged);
    assert!(is_blocked(&report).detail.contains("another build"), "{report}");
    fs::write(&program, bytes).unwrap();
    works(lab, &restore, &mut target);
}

fn version_skew(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let is_newer = lab.version >= Version::new(4, 2, 0);
    let images = dumped(lab, &mut target);
    let restore = Restore::new(&images);
    let suite = if is_newer { "trixie" } else { "experimental" };
    let another = other(lab, suite);
    let report = restore.preflight(&another).unwrap();
    assert_eq!(report.foresees(Cause::VersionSkew), is_newer, "{report}");
    let result = restore.run(&another);
    assert_eq!(report.will_work(), result.is_ok(), "{report}");
    match result {
        Ok(restored) => target.restored_as(restored.pid),
        Err(error) => assert_eq!(error.cause(), Some(Cause::VersionSkew)),
    }
}

fn labels(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let images = dumped(lab, &mut target);
    let asked = criu_rs::LsmProfile::selinux("a:b:c").unwrap();
    foreseen(lab, &Restore::new(&images).lsm_profile(asked), Cause::LsmMismatch);
    // Makes the images look like those of a host with SELinux.
    edit(&images.join("inventory.img"), 4, |inventory: &mut InventoryEntry| {
        inventory.lsmtype = Some(Lsmtype::Selinux.into());
    });
    edit(&images.join(format!("core-{}.img", target.pid)), 8, |core: &mut CoreEntry| {
        let creds = core.thread_core.as_mut().unwrap().creds.as_mut().unwrap();
        creds.lsm_profile = Some(b"system_u:system_r:container_t:s0".to_vec());
    });
    foreseen(lab, &Restore::new(&images), Cause::LsmMismatch);
}

fn address_in_use(lab: &Lab) {
    let mut target = lab.python(
        "s = socket.create_server(('127.0.0.1', 0))\n\
         open('PORT', 'w').write(str(s.getsockname()[1]))"
            .replace("PORT", lab.dir.join("port").to_str().unwrap())
            .as_str(),
    );
    let port: u16 = fs::read_to_string(lab.dir.join("port")).unwrap().parse().unwrap();
    if of_sockets(lab, Cause::AddressInUse) == Cause::CriuTooOld {
        super::foreseen(lab, &target, Cause::CriuTooOld);
        return;
    }
    let images = dumped(lab, &mut target);
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let restore = Restore::new(&images);
    is_blocked(&foreseen(lab, &restore, Cause::AddressInUse));
    drop(other);
    works(lab, &restore, &mut target);
}

fn another_cpu(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let images = dumped(lab, &mut target);
    CpuInfo::new(&images).dump(&lab.criu).unwrap();
    fs::remove_file(images.join("cpuinfo.log")).ok();
    let before = criu_lab::names(&images);
    assert!(Restore::new(&images).preflight(&lab.criu).unwrap().will_work());
    edit(&images.join("cpuinfo.img"), 8, |info: &mut CpuinfoEntry| {
        for word in &mut info.x86_entry[0].capability {
            *word = u32::MAX;
        }
    });
    let restore = Restore::new(&images);
    let compared = restore.clone().cpu_cap(CpuCap::CPU | CpuCap::INS | CpuCap::FPU);
    is_blocked(&foreseen(lab, &compared, Cause::CpuMismatch));
    fs::remove_file(images.join("restore.log")).unwrap();
    // CRIU compares only when it is asked to.
    let report = restore.preflight(&lab.criu).unwrap();
    assert_eq!(report.findings()[0].cause, Some(Cause::CpuMismatch), "{report}");
    assert_eq!(criu_lab::names(&images), before);
    works(lab, &restore, &mut target);
}

fn external_mount(lab: &Lab) {
    let outside = lab.dir("outside");
    let mut container = Container::start_with(lab, CloneFlags::empty(), &[(&outside, "/data")]);
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images);
    // The directory is in the file system of the root, below another directory.
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.foresees(Cause::ExternalMount), "{report}");
    assert!(report.is_possible(), "{report}");
    assert_eq!(dump.run(&lab.criu).unwrap_err().cause(), Some(Cause::ExternalMount));
    let dump = report.options().iter().fold(dump, |dump, need| need.set(dump));
    assert!(dump.preflight(&lab.criu).unwrap().will_work());
    dump.run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root);
    let report = foreseen(lab, &restore, Cause::ExternalMount);
    assert!(report.is_possible(), "{report}");
    let restore = restore.external(External::mount("data", outside.as_os_str()));
    works(lab, &restore, &mut container.target);
}

fn external_file(lab: &Lab) {
    let file = lab.dir.join("file");
    fs::write(&file, "hello").unwrap();
    let mut container = Container::start_holding(lab, &file);
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.foresees(Cause::FileOutsideMounts), "{report}");
    assert_eq!(dump.run(&lab.criu).unwrap_err().cause(), Some(Cause::FileOutsideMounts));
    report.options().iter().fold(dump, |dump, need| need.set(dump)).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root);
    let report = restore.preflight(&lab.criu).unwrap();
    let options = report.options();
    let [Need::InheritFd(key)] = &options[..] else { panic!("{report}") };
    restore.run(&lab.criu).unwrap_err();
    let again = fs::File::open(&file).unwrap();
    works(lab, &restore.inherit_fd(InheritFd::new(key, &again)), &mut container.target);
}

/// Tests a cgroup hierarchy that is not mounted.
fn cgroups(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let freezer = Freezer::with(target.pid);
    let own = format!("/criu-rs-{}", target.pid).into_bytes();
    let images = dumped(lab, &mut target);
    drop(freezer);
    assert!(Restore::new(&images).preflight(&lab.criu).unwrap().will_work());
    edit(&images.join("cgroup.img"), 8, |cgroups: &mut CgroupEntry| {
        let members = cgroups.sets.iter_mut().flat_map(|set| &mut set.ctls);
        let mut names = Vec::new();
        for member in members.filter(|member| member.path == own) {
            names.push(std::mem::replace(&mut member.name, b"frob".to_vec()));
        }
        for controller in &mut cgroups.controllers {
            for name in controller.cnames.iter_mut().filter(|name| names.contains(name)) {
                *name = b"frob".to_vec();
            }
        }
    });
    let restore = Restore::new(&images);
    let report = foreseen(lab, &restore, Cause::CgroupMissing);
    assert_eq!(report.options(), [Need::IgnoreCgroups]);
    works(lab, &Need::IgnoreCgroups.set_on_restore(restore), &mut target);
}

/// Tests that a restore needs the options of the dump, and that the report names them.
fn options(lab: &Lab) {
    let lock = lab.dir.join("lock");
    let mut cases = vec![(
        vec![Need::FileLocks],
        format!("f = open('{}', 'w')\nfcntl.flock(f, 2)", lock.display()),
    )];
    if of_sockets(lab, Cause::ConnectedTcp) == Cause::ConnectedTcp {
        let tcp = "s = socket.create_server(('127.0.0.1', 0))\n\
                   c = socket.create_connection(s.getsockname())\na, _ = s.accept()";
        cases.push((vec![Need::TcpEstablished], tcp.to_owned()));
        cases.push((vec![Need::TcpClose], tcp.to_owned()));
    }
    for (needs, code) in cases {
        let mut target = lab.python(&code);
        let images = lab.fresh("images");
        let dump = Dump::new(target.pid, &images);
        let report = dump.preflight(&lab.criu).unwrap();
        let dump = if needs == [Need::TcpClose] { dump.tcp(Tcp::Close) } else { dump };
        let given = if needs == [Need::TcpClose] { Vec::new() } else { report.options() };
        given.iter().fold(dump, |dump, need| need.set(dump)).run(&lab.criu).unwrap();
        target.is_gone();
        let restore = Restore::new(&images);
        let report = restore.preflight(&lab.criu).unwrap();
        let named: Vec<&Need> =
            report.findings().iter().flat_map(|finding| &finding.needs).collect();
        assert_eq!(named, needs.iter().collect::<Vec<_>>(), "{report}");
        let result = restore.run(&lab.criu);
        assert_eq!(report.will_work(), result.is_ok(), "{needs:?}: {report}\n{result:#?}");
        if let Ok(restored) = result {
            target.restored_as(restored.pid);
            target.goes_on();
            continue;
        }
        let restore = needs.iter().fold(restore, |restore, need| need.set_on_restore(restore));
        works(lab, &restore, &mut target);
    }
}

fn unix_stream(lab: &Lab) {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut target = lab.start_with(&["count"], |command| command.stdin(OwnedFd::from(theirs)));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let inode = report.needs().next().unwrap().subject.inode.unwrap();
    report.options().iter().fold(dump, |dump, need| need.set(dump)).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(!report.will_work(), "{report}");
    restore.run(&lab.criu).unwrap_err();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let restore = restore.ext_unix_sk(true);
    let restore = restore.inherit_fd(InheritFd::new(format!("socket:[{inode}]"), &theirs));
    works(lab, &restore, &mut target);
    ours.write_all(b"x").unwrap();
    let _: &Path = &images;
}
