//! Records compared with machines and with files.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_archive::record::{
    About, CgroupVersion, File, Finding, GpuDevice, Gpus, Holder, Host, Program, RECORD, Record,
    Role, State, ToolKind,
};
use criu_archive::{ErrorKind, UNWATCHED};
use criu_images::Severity;

use super::made::{archive, directory};

/// The findings on a machine, each as one line.
fn lines(record: &Record, host: &Host) -> Vec<String> {
    record.verify_host(host).iter().map(ToString::to_string).collect()
}

/// Changes a record and a machine, and returns the only finding.
fn one(name: &str, change: impl FnOnce(&mut Record, &mut Host)) -> Finding {
    let (_, mut record, mut host) = directory(name);
    change(&mut record, &mut host);
    let findings = record.verify_host(&host);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    finding.clone()
}

#[test]
fn a_checkpoint_of_this_machine_has_no_findings() {
    let (directory, record, host) = directory("record-verified");
    let holder = Holder::open(&directory).unwrap();
    let most = AtomicU64::new(0);
    let watch = |bytes| {
        most.fetch_max(bytes, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    assert_eq!(record.verify(&host, &holder, &watch).unwrap(), []);
    let bytes: u64 = record.all_files().map(|file| file.size.unwrap()).sum();
    assert_eq!(most.into_inner(), bytes);
    // A record that was read says the same.
    let read = Record::read(&holder).unwrap();
    assert_eq!(read.verify(&host, &holder, UNWATCHED).unwrap(), []);
    let to = directory.with_extension("tar");
    archive(&directory, "shop/", &to);
    let holder = Holder::open(&to).unwrap();
    assert_eq!(Record::read(&holder).unwrap().verify(&host, &holder, UNWATCHED).unwrap(), []);
    let stop = |_| ControlFlow::Break(());
    let error = record.verify(&host, &holder, &stop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stopped), "{error}");
}

/// The findings on files, each as one line.
fn on_files(path: &Path) -> Vec<String> {
    let holder = Holder::open(path).unwrap();
    let found = Record::read(&holder).unwrap().verify_files(&holder, UNWATCHED).unwrap();
    assert!(found.iter().all(|finding| finding.about == About::Files));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn files_that_are_missing_changed_or_foreign_are_found() {
    let (directory, ..) = directory("record-files");
    let pages = directory.join("db/pages-1.img");
    let mut bytes = fs::read(&pages).unwrap();
    bytes[2 << 20] ^= 1;
    fs::write(&pages, &bytes).unwrap();
    fs::write(directory.join("db/core-1.img"), b"longer").unwrap();
    fs::remove_file(directory.join("web.tar")).unwrap();
    fs::write(directory.join("db/dump.log"), b"log").unwrap();
    let found = on_files(&directory);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0], "error: web.tar: is missing");
    assert_eq!(found[1], "error: db/core-1.img: has 6 bytes, the record says 4");
    assert!(found[2].starts_with("error: db/pages-1.img: has the digest "), "{found:?}");
    assert_eq!(found[3], "warning: db/dump.log: is not in the record");
    let to = directory.with_extension("tar");
    archive(&directory, "", &to);
    assert_eq!(on_files(&to), found);
    // In the place of a file there may be anything.
    fs::remove_file(&pages).unwrap();
    symlink("/dev/zero", &pages).unwrap();
    symlink(".", directory.join("db/\u{1b}[2J")).unwrap();
    let found = on_files(&directory);
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(found[2], "error: db/pages-1.img: is not a regular file");
    let last = "is no regular file, and no part of a checkpoint";
    assert!(found[3].starts_with("warning: db/") && found[3].ends_with(last), "{found:?}");
    assert!(!found[3].contains(char::is_control), "{found:?}");
    assert_eq!(found[5], format!("warning: db/pages-1.img: {last}"));
}

#[test]
fn a_file_without_a_digest_is_noted() {
    let (directory, mut record, host) = directory("record-no-digest");
    let holder = Holder::open(&directory).unwrap();
    record.containers[0].files[0].sha256 = None;
    let [note] = &record.verify(&host, &holder, UNWATCHED).unwrap()[..] else { panic!() };
    let expected = "1 file has no digest in the record: the content was not compared";
    assert_eq!((note.severity, &*note.text), (Severity::Note, expected));
    record.containers[1].files[0].sha256 = None;
    let notes = record.verify(&host, &holder, UNWATCHED).unwrap();
    assert!(notes[0].text.starts_with("2 files have no digest"), "{notes:?}");
    // A file that is missing is no file that was not compared.
    for container in &mut record.containers {
        container.files[0].path += ".gone";
    }
    let found = record.verify_files(&holder, UNWATCHED).unwrap();
    assert!(found.iter().all(|finding| finding.severity != Severity::Note), "{found:?}");
}

#[test]
fn findings_on_files_have_a_bound() {
    let (directory, ..) = directory("record-many-files");
    for at in 0..1200 {
        fs::write(directory.join(format!("{at}.img")), b"").unwrap();
    }
    let found = on_files(&directory);
    assert_eq!(found.len(), 1001);
    assert_eq!(found[0], "error: 200 more findings on files are left out");
    let mut deep = directory.clone();
    for _ in 0..70 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let found = on_files(&directory);
    let [only] = &found[..] else { panic!("{found:?}") };
    assert!(only.ends_with("has more than 64 levels of directories"), "{only}");
    assert!(directory.join(RECORD).is_file());
}

#[test]
fn a_tool_is_missing_old_or_other() {
    let program = |kind, version: &str| Some(vec![Program::new(kind, version, "/bin/tool")]);
    let criu = one("record-criu", |_, host| host.programs = program(ToolKind::Criu, "4.2"));
    assert_eq!((criu.severity, criu.about), (Severity::Error, About::Tool));
    let expected = "error: containers web, db: criu 4.3 made the checkpoint, 4.2 is here; \
                    that version or a newer one is wanted";
    assert_eq!(criu.to_string(), expected);
    assert_eq!(criu.hint, "install criu 4.3 or newer");
    for newer in ["4.3", "4.3.1", "4.10", "5.0"] {
        let (_, record, mut host) = directory("record-newer");
        host.programs = program(ToolKind::Criu, newer);
        assert_eq!(lines(&record, &host), [""; 0], "{newer}");
    }
    let none = one("record-none", |_, host| host.programs = Some(Vec::new()));
    let expected = "error: containers web, db: criu made the checkpoint, and is not found here";
    assert_eq!(none.to_string(), expected);
    assert_eq!(none.hint, "install criu 4.3");
    let unasked = one("record-unasked", |_, host| host.programs = None);
    assert_eq!(unasked.severity, Severity::Note);
    // Only the very version restores.
    for kind in [ToolKind::Runsc, ToolKind::Firecracker] {
        let other = one("record-exact", |record, host| {
            record.containers.truncate(1);
            record.containers[0].tool.kind = kind.clone();
            record.containers[0].tool.version = "1.7.0".to_owned();
            host.programs = program(kind.clone(), "1.8.0");
        });
        let expected = format!(
            "error: container web: {kind} 1.7.0 made the checkpoint, 1.8.0 is here; \
             exactly that version is wanted"
        );
        assert_eq!(other.to_string(), expected);
        assert_eq!(other.hint, format!("install {kind} 1.7.0"));
    }
    let qemu = |here: &'static str| {
        let (_, mut record, mut host) = directory("record-qemu");
        for container in &mut record.containers {
            container.tool.kind = ToolKind::Qemu;
            container.tool.version = "7.2.9".to_owned();
        }
        host.programs = program(ToolKind::Qemu, here);
        lines(&record, &host)
    };
    assert_eq!(qemu("8.0.0"), [""; 0]);
    assert_eq!(qemu("7.2.8").len(), 1);
    let unknown = one("record-unknown", |record, _| {
        record.containers.truncate(1);
        record.containers[0].tool.kind = "cloud-hypervisor".into();
    });
    assert_eq!(unknown.severity, Severity::Warning);
    assert!(unknown.text.contains("`cloud-hypervisor` made the checkpoint"), "{unknown}");
    let unnamed = one("record-unnamed", |record, _| {
        for container in &mut record.containers {
            container.tool.version.clear();
        }
    });
    let expected = "the record does not say the version of criu; criu 4.3 is here";
    assert_eq!((unnamed.severity, &*unnamed.text), (Severity::Warning, expected));
}

#[test]
fn a_feature_that_is_lacking_is_found_and_an_unknown_one_is_not() {
    let lacking = one("record-feature", |record, host| {
        record.containers[0].tool.features = vec!["mem_compression".into(), "unheard_of".into()];
        let programs = host.programs.as_mut().unwrap();
        programs[0].features.insert("mem_compression".into(), false);
    });
    let expected = "error: container web: the checkpoint uses `mem_compression`, which criu 4.3 \
                    or the kernel here lacks";
    assert_eq!(lacking.to_string(), expected);
}

#[test]
fn a_processor_that_lacks_features_is_found() {
    let lose = |name: &str, lost: &[&str], kind: ToolKind| {
        let (_, mut record, mut host) = directory(name);
        for container in &mut record.containers {
            container.tool.kind = kind.clone();
        }
        host.programs = Some(vec![Program::new(kind, "4.3", "/bin/tool")]);
        let cpu = &mut record.host.as_mut().unwrap().cpu;
        cpu.features = ["avx2", "fpu", "gfni", "ibrs"].map(str::to_owned).into();
        host.cpu.features = cpu.features.clone();
        host.cpu.features.retain(|feature| !lost.contains(&&**feature));
        record.host.as_mut().unwrap().architecture = "x86_64".to_owned();
        host.architecture = "x86_64".to_owned();
        let found = record.verify_host(&host);
        assert!(found.iter().all(|finding| finding.about == About::Cpu), "{found:?}");
        found
    };
    let found = lose("record-cpu", &["avx2", "gfni", "ibrs"], ToolKind::Criu);
    let [grave, slight] = &found[..] else { panic!("{found:?}") };
    let expected = "the processor here lacks avx2: programs choose code by such features when they \
                    start, and die without them";
    assert_eq!((grave.severity, &*grave.text), (Severity::Error, expected));
    let expected = "the processor here lacks gfni: a program that uses them dies";
    assert_eq!((slight.severity, &*slight.text), (Severity::Warning, expected));
    // A switch of the kernel is no feature of programs.
    assert_eq!(lose("record-cpu", &["ibrs"], ToolKind::Criu), []);
    let found = lose("record-cpu", &["gfni"], ToolKind::Runsc);
    let [exact] = &found[..] else { panic!("{found:?}") };
    let expected = "error: the processor here lacks gfni: runsc restores only where all are there";
    assert_eq!(exact.to_string(), expected);
    let other = one("record-arch", |record, _| {
        let then = record.host.as_mut().unwrap();
        then.architecture = "aarch64".to_owned();
        then.cpu.features = vec!["asimd".to_owned()];
    });
    assert!(other.is_error() && other.text.starts_with("the checkpoint is of aarch64"), "{other}");
    let page = one("record-page", |record, _| record.host.as_mut().unwrap().page_size = 65_536);
    assert!(page.is_error() && page.text.contains("had 65536 bytes"), "{page}");
}

#[test]
fn an_older_kernel_and_other_cgroups_are_found() {
    let old = one("record-kernel", |record, _| {
        record.host.as_mut().unwrap().kernel = "99.1.0-later".to_owned();
    });
    assert_eq!((old.severity, old.about), (Severity::Warning, About::Kernel));
    let newer = |record: &mut Record| record.host.as_mut().unwrap().kernel = "2.6.32".to_owned();
    let lost = one("record-kernel", |record, host| {
        newer(record);
        record.host.as_mut().unwrap().features.insert("userfaultfd".into(), true);
        host.features.insert("userfaultfd".into(), false);
    });
    assert_eq!((lost.severity, lost.about), (Severity::Warning, About::Kernel));
    let versions = |there: CgroupVersion, here: CgroupVersion| {
        one("record-cgroups", |record, host| {
            record.host.as_mut().unwrap().cgroups.version = there;
            host.cgroups.version = here;
        })
    };
    let found = versions(CgroupVersion::V2, CgroupVersion::V1);
    let expected = "error: the cgroups of the checkpoint have version v2, those here v1";
    assert_eq!((&*found.to_string(), found.about), (expected, About::Cgroups));
    let found = versions(CgroupVersion::V1, CgroupVersion::Hybrid);
    assert_eq!(found.severity, Severity::Warning);
    // Other tools bring their own kernel.
    let (_, mut record, mut host) = directory("record-cgroups");
    for container in &mut record.containers {
        container.tool.kind = ToolKind::Qemu;
    }
    host.programs = Some(vec![Program::new(ToolKind::Qemu, "4.3", "/bin/qemu")]);
    record.host.as_mut().unwrap().cgroups.version = CgroupVersion::V2;
    record.host.as_mut().unwrap().kernel = "99.1".to_owned();
    host.cgroups.version = CgroupVersion::V1;
    assert_eq!(lines(&record, &host), [""; 0]);
}

#[test]
fn a_label_that_is_not_known_here_is_found() {
    let label = |module: &str, label: &str, modules: &[&str]| {
        let (_, mut record, mut host) = directory("record-labels");
        record.containers[1].labels.insert(module.to_owned(), label.to_owned());
        host.lsm.modules = modules.iter().map(|name| (*name).to_owned()).collect();
        host.lsm.profiles = Some(BTreeSet::from(["docker-default".to_owned()]));
        lines(&record, &host)
    };
    let found = label("apparmor", "docker-default (enforce)", &["capability", "yama"]);
    let expected = "error: container db: its label `docker-default (enforce)` is of apparmor, which \
                    is not active here; restored, nothing would confine it";
    assert_eq!(found, [expected]);
    let found = label("apparmor", "other//&docker-default", &["apparmor"]);
    let expected = "error: container db: AppArmor here has no profile `other//&docker-default`";
    assert_eq!(found, [expected]);
    for (module, own) in [
        ("apparmor", "docker-default (enforce)"),
        ("apparmor", "docker-default//&unconfined"),
        ("apparmor", "unconfined"),
        ("selinux", "system_u:system_r:container_t:s0"),
    ] {
        assert_eq!(label(module, own, &["apparmor", "selinux"]), [""; 0], "{own}");
    }
    assert_eq!(label("selinux", "a:b:c", &["apparmor"]).len(), 1);
    // Nobody has looked.
    assert_eq!(label("selinux", "a:b:c", &[]), [""; 0]);
    let lax = one("record-labels", |record, host| {
        record.host.as_mut().unwrap().lsm.selinux_enforcing = Some(true);
        host.lsm.selinux_enforcing = Some(false);
    });
    assert_eq!((lax.severity, lax.about), (Severity::Warning, About::Labels));
}

#[test]
fn a_checkpoint_that_is_not_complete_is_found() {
    for (state, severity) in [
        (State::Capturing, Severity::Error),
        (State::Failed, Severity::Error),
        (State::Restoring, Severity::Warning),
        (State::Other("hibernating".into()), Severity::Warning),
    ] {
        let found = one("record-state", |record, _| record.state = state.clone());
        assert_eq!((found.severity, found.about), (severity, About::Record), "{found}");
        assert!(found.text.contains(&format!("`{state}`")), "{found}");
    }
}

#[test]
fn gpus_that_are_missing_or_of_another_model_are_found() {
    let gpus = |models: &[&str], driver: &str| {
        let mut gpus = Gpus::default();
        gpus.driver = driver.to_owned();
        for (at, model) in models.iter().enumerate() {
            let mut device = GpuDevice::default();
            device.uuid = format!("GPU-{at}");
            device.model = (*model).to_owned();
            gpus.devices.push(device);
        }
        gpus
    };
    let compare = |there: Gpus, here: Option<Gpus>| {
        let (_, mut record, mut host) = directory("record-gpus");
        (record.gpus, host.gpus) = (Some(there), here);
        let found = record.verify_host(&host);
        assert!(found.iter().all(|finding| finding.about == About::Gpus), "{found:?}");
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let two = || gpus(&["NVIDIA H200", "NVIDIA H200"], "580.65.06");
    assert_eq!(compare(two(), Some(two())), [""; 0]);
    assert_eq!(compare(two(), Some(gpus(&["NVIDIA H200"; 3], "610.1"))), [""; 0]);
    let lacks = "error: the checkpoint used GPUs of the model `NVIDIA H200`: 2, here: ";
    assert_eq!(compare(two(), None), [format!("{lacks}0")]);
    let found = compare(two(), Some(gpus(&["NVIDIA H200", "NVIDIA A10G"], "570.1")));
    let old = "warning: the driver of the GPUs here is 570.1, older than 580.65.06";
    assert_eq!(found, [format!("{lacks}1"), old.to_owned()]);
    let mut part = two();
    part.devices[0].uuid = "MIG-0".to_owned();
    assert!(compare(part, Some(two()))[0].starts_with("warning: `MIG-0` is a part of a GPU"));
}

#[test]
fn files_of_another_tool_than_the_record_says_are_found() {
    let (directory, mut record, _) = directory("record-heads");
    let map = br#"{"compression":"none","container_count":"1"}"#;
    let head = [&b"gVisorSF"[..], &(map.len() as u64).to_be_bytes(), map, b"state"].concat();
    fs::write(directory.join("db/core-1.img"), &head).unwrap();
    let holder = Holder::open(&directory).unwrap();
    let core = &mut record.containers[1].files[0];
    *core = File::measured(&holder, "db/core-1.img", Role::Image, UNWATCHED).unwrap();
    let on_files = |record: &Record| {
        let found = record.verify_files(&holder, UNWATCHED).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // CRIU's images have other heads, and are not looked at.
    assert_eq!(on_files(&record), [""; 0]);
    assert!(record.heads(&holder).is_empty());
    record.containers[1].tool.kind = ToolKind::Runsc;
    assert_eq!(on_files(&record), [""; 0]);
    let heads = record.heads(&holder);
    let [(path, Ok(head))] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!((*path, head.tool()), ("db/core-1.img", "runsc"));
    assert!(head.facts().contains(&("compression".into(), "none".into())), "{head:?}");
    record.containers[1].tool.kind = ToolKind::Qemu;
    assert_eq!(on_files(&record), ["error: db/core-1.img: is of runsc, the record says qemu"]);
    let core = record.containers[1].files.remove(0);
    let expected = [
        "error: container db: none of its images is of qemu",
        "warning: db/core-1.img: is not in the record",
    ];
    assert_eq!(on_files(&record), expected);
    // Containers of one sandbox share its files.
    record.containers[1].tool.kind = ToolKind::Runsc;
    record.files = vec![core, record.containers[1].files.remove(0)];
    assert_eq!(on_files(&record), [""; 0]);
    assert_eq!(record.heads(&holder).len(), 1);
    record.containers[1].tool.kind = ToolKind::Criu;
    let files = std::mem::take(&mut record.files);
    let expected = "warning: container db: the record names no file of it";
    assert_eq!(on_files(&record)[0], expected);
    record.files = files;
}
