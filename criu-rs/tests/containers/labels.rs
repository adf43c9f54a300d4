//! Containers that are restored into a pod with another label, in the guests whose kernels have
//! AppArmor or SELinux.
//!
//! A container of the first pod may read `/first` and may not read `/second`; a container of the
//! second pod may read `/second` alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_images::edit::{Edit, edit_directory};
use criu_lab::containers::Bundle;
use criu_lab::{names, soon};
use criu_rs::{NetworkLock, Pid};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

const APPARMOR: &[Case] = &[
    case("apparmor_of_another_pod", BOTH, |bed| other_pod(bed, &Module::apparmor())),
    case("apparmor_that_is_not_loaded", RUNC, |bed| {
        refused(
            bed,
            &Module::apparmor(),
            &[(
                "no such profile",
                |bundle| bundle.config["process"]["apparmorProfile"] = json!("third-pod"),
                "no AppArmor profile third-pod is loaded here; load it with apparmor_parser",
            )],
        );
    }),
    case("apparmor_is_not_changed_by_runtimes", BOTH, |bed| by_runtime(bed, &Module::apparmor())),
];

const SELINUX: &[Case] = &[
    case("libselinux_of_another_pod", BOTH, |bed| other_pod(bed, &Module::selinux())),
    case("libselinux_of_another_pod_with_sockets", RUNC, sockets),
    case("libselinux_that_the_policy_forbids", RUNC, |bed| {
        refused(
            bed,
            &Module::selinux(),
            &[
                (
                    "no such context",
                    |bundle| {
                        bundle.config["process"]["selinuxLabel"] = json!("u:r:nothing_t:s0:c2,c3")
                    },
                    "the policy of this machine has no context u:r:nothing_t:s0:c2,c3; load",
                ),
                (
                    "no such category",
                    |bundle| bundle.config["process"]["selinuxLabel"] = json!("u:r:pod_t:s0:c2,c9"),
                    "the policy of this machine has no context u:r:pod_t:s0:c2,c9",
                ),
                (
                    "no way to it",
                    |bundle| {
                        bundle.config["process"]["selinuxLabel"] = json!("u:r:locked_t:s0:c2,c3")
                    },
                    "criu's label u:r:free_t:s0-s0:c0.c3 change into it; allow it in the policy",
                ),
                (
                    "no such context of mounts",
                    |bundle| {
                        bundle.config["linux"]["mountLabel"] = json!("u:object_r:nothing_t:s0")
                    },
                    "a mount context must be one that the policy of this machine has, found",
                ),
            ],
        );
    }),
    case("libselinux_is_not_changed_by_runtimes", RUNC, |bed| by_runtime(bed, &Module::selinux())),
];

const fn case(name: &'static str, runtimes: &'static [&'static str], test: fn(&Bed)) -> Case {
    Case { name, test, runtimes, newest_only: true }
}

const RUNC: &[&str] = &["runc"];

/// A change of a bundle, and what the refusal of its restore says.
type Change = (&'static str, fn(&mut Bundle), &'static str);

/// The tests for the security module of the guest. Empty outside a guest.
pub fn of_guest() -> &'static [Case] {
    match std::env::var("CRIU_RS_TEST_GUEST").as_deref() {
        Ok("apparmor") => APPARMOR,
        Ok("libselinux") => SELINUX,
        _ => &[],
    }
}

/// A security module with the labels of two pods.
struct Module {
    /// The field of `process` in `config.json`.
    field: &'static str,
    labels: [&'static str; 2],
    /// The contexts of mounts.
    mounts: Option<[&'static str; 2]>,
    /// Prepares a sandbox, in which the file system of the module is not mounted.
    prepare: fn(&Bed),
}

impl Module {
    fn apparmor() -> Self {
        let prepare = |bed: &Bed| {
            mount_at("securityfs", "/sys/kernel/security");
            load(bed, "first-pod", "/second");
            load(bed, "second-pod", "/first");
        };
        let labels = ["first-pod", "second-pod"];
        Self { field: "apparmorProfile", labels, mounts: None, prepare }
    }

    fn selinux() -> Self {
        let labels = ["u:r:pod_t:s0:c0,c1", "u:r:pod_t:s0:c2,c3"];
        let mounts = Some(["u:object_r:file_t:s0:c0,c1", "u:object_r:file_t:s0:c2,c3"]);
        let prepare = |_: &Bed| mount_at("selinuxfs", "/sys/fs/selinux");
        Self { field: "selinuxLabel", labels, mounts, prepare }
    }

    /// Asserts that a container has the labels of a pod.
    #[track_caller]
    fn check(&self, pid: Pid, pod: usize) {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let label = read("attr/current");
        let label = label.trim_end_matches(['\0', '\n']);
        // A profile has its mode behind it.
        assert_eq!(label.split(" (").next(), Some(self.labels[pod]));
        if let Some(contexts) = self.mounts {
            let mounts = read("mountinfo");
            let has = |pod: usize| {
                mounts.contains(&format!("context={}", contexts[pod]))
                    || mounts.contains(&format!("context=\"{}\"", contexts[pod]))
            };
            assert!(has(pod) && !has(1 - pod), "{mounts}");
        }
    }

    /// Gives a container the label of a pod.
    fn label(&self, bundle: &mut Bundle, pod: usize) {
        bundle.config["process"][self.field] = json!(self.labels[pod]);
        if let Some(mounts) = self.mounts {
            bundle.config["linux"]["mountLabel"] = json!(mounts[pod]);
        }
        bundle.write();
    }
}

fn mount_at(kind: &str, at: &str) {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
}

/// Loads an AppArmor profile that forbids reading one file.
fn load(bed: &Bed, name: &str, forbidden: &str) {
    let text = format!(
        "profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{\n\
         file, capability, signal, ptrace, unix, network, mount, umount, change_profile,\n\
         deny {forbidden} r,\n}}\n"
    );
    let file = bed.dir.join(format!("{name}.profile"));
    fs::write(&file, text).unwrap();
    let mut parser = Command::new("apparmor_parser");
    let output = parser.args(["--replace", "--skip-cache", "--quiet"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A pod: a container whose network, IPC and UTS namespaces another one enters.
fn enter_pod(bed: &Bed, bundle: &mut Bundle, name: &str) {
    let sandbox = Bundle::new(bed, name, "count", &[]);
    let pid = bed.runtime.run(&sandbox, name, &[]);
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.namespace(kind, Some(Path::new(&format!("/proc/{pid}/ns/{file}"))));
    }
    // The host name is the sandbox's.
    bundle.config.as_object_mut().unwrap().remove("hostname");
}

/// A container of the first pod that was saved and ended, with its images.
fn saved(bed: &Bed, module: &Module, words: &[&str]) -> (Bundle, PathBuf) {
    (module.prepare)(bed);
    let words = [&["/first", "/second"], words].concat();
    let mut bundle = Bundle::new(bed, "bundle", "looks", &words);
    for (pod, name) in ["first", "second"].iter().enumerate() {
        // New files of this thread have this context.
        let created = |context: &str| fs::write("/proc/thread-self/attr/fscreate", context);
        module.mounts.iter().for_each(|contexts| created(contexts[pod]).unwrap());
        fs::write(bundle.root.join(name), name).unwrap();
        module.mounts.iter().for_each(|_| created("\n").unwrap());
    }
    enter_pod(bed, &mut bundle, "first");
    module.label(&mut bundle, 0);
    let pid = bed.runtime.run(&bundle, "c", &[]);
    module.check(pid, 0);
    sees(&bundle, &[&["/first"], &words[2..]].concat());
    let images = bed.dir("images");
    trip(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    bundle.stands_still();
    enter_pod(bed, &mut bundle, "second");
    module.label(&mut bundle, 1);
    (bundle, images)
}

/// The guests have no program that locks a network, and the containers have no connection.
fn trip<'a>(bed: &'a Bed, bundle: &'a Bundle) -> Trip<'a> {
    let mut trip = Trip::new(bed, bundle);
    trip.dump = |dump| dump.network_lock(NetworkLock::Skip);
    trip
}

/// Waits until the container says that it sees this.
#[track_caller]
fn sees(bundle: &Bundle, expected: &[&str]) {
    let (file, expected) = (bundle.root.join("count.seen"), expected.join(" "));
    let read = || fs::read_to_string(&file).unwrap_or_default();
    assert!(soon(|| read() == expected), "{} instead of {expected}", read());
}

fn other_pod(bed: &Bed, module: &Module) {
    let (bundle, images) = saved(bed, module, &[]);
    let restored = trip(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    module.check(restored, 1);
    sees(&bundle, &["/second"]);
    end(restored);
}

/// Tests that a runtime's own restore leaves the container with the label of the pod that it was
/// saved in, unless an option says otherwise: whoever lets a runtime restore has to compare labels.
fn by_runtime(bed: &Bed, module: &Module) {
    let (bundle, images) = saved(bed, module, &[]);
    let module_name = if module.mounts.is_some() { "selinux" } else { "apparmor" };
    let profile = format!("--lsm-profile={module_name}:{}", module.labels[1]);
    let context = module.mounts.map(|contexts| format!("--lsm-mount-context={}", contexts[1]));
    let mut asked = vec![profile.as_str()];
    asked.extend(context.as_deref());
    for (pod, options) in [(0, &[][..]), (1, &asked)] {
        fs::remove_file(bundle.root.join("count.seen")).unwrap();
        let restored = bed.runtime.restore(&bundle, "c", &images, options);
        bundle.goes_on();
        module.check(restored, pod);
        sees(&bundle, &[["/first"], ["/second"]][pod]);
        bed.runtime.delete("c");
        bundle.stands_still();
    }
}

/// Tests that CRIU leaves sockets with their label, so that the restore is refused, and that the
/// advice of the refusal helps.
fn sockets(bed: &Bed) {
    let module = Module::selinux();
    let (bundle, images) = saved(bed, &module, &["socket"]);
    let said = refusal(bed, &bundle, &images);
    let [old, new] = module.labels;
    for part in [&format!("were to get the SELinux label {new}"), old, "sockets (1)", "edit::Edit"]
    {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let edit = Edit::Label { from: Some(old.into()), to: new.into() };
    let edited = edit_directory(&images, &[edit]).unwrap();
    assert!(!edited.is_empty());
    let restored = trip(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    module.check(restored, 1);
    sees(&bundle, &["/second", "socket"]);
    end(restored);
}

/// Tests changes for which the restore is refused. The images are as good as before.
fn refused(bed: &Bed, module: &Module, changes: &[Change]) {
    let (mut bundle, images) = saved(bed, module, &[]);
    for (name, change, expected) in changes {
        let config = bundle.config.clone();
        change(&mut bundle);
        bundle.write();
        let said = refusal(bed, &bundle, &images);
        assert!(said.contains(expected), "{name}: {said}");
        bundle.config = config;
    }
    bundle.write();
    let restored = trip(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    module.check(restored, 1);
    end(restored);
}

/// The error of a restore that is foreseen to be refused, is refused, and leaves nothing.
#[track_caller]
fn refusal(bed: &Bed, bundle: &Bundle, images: &Path) -> String {
    let state = bed.dir.join("state-of-refusals");
    fs::create_dir_all(&state).unwrap();
    let container = trip(bed, bundle).container();
    let restore = container.restore(images).unwrap().prepare(&state).unwrap();
    let foreseen = restore.preflight(&bed.criu).unwrap();
    assert!(!foreseen.will_work(), "{foreseen}");
    let error = restore.run(&bed.criu).unwrap_err().to_string();
    drop(restore);
    assert_eq!(names(&state), [""; 0]);
    let runs = |process: procfs::process::Process| {
        process.cmdline().is_ok_and(|words| words.iter().any(|word| word == "looks"))
    };
    assert!(!procfs::process::all_processes().unwrap().flatten().any(runs), "a task is left");
    bundle.stands_still();
    error
}
