//! Containers that are restored into a pod with another label, in the guests whose kernels have
//! AppArmor or SELinux.
//!
//! A container of the first pod may read `/first` and may not read `/second`; a container of the
//! second pod may read `/second` alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::containers::Bundle;
use criu_lab::soon;
use criu_rs::{NetworkLock, Pid};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::trip::{BOTH, Trip, WeDoBoth, end};
use crate::{Bed, Case};

const APPARMOR: &[Case] = &[Case {
    name: "apparmor_of_another_pod",
    test: |bed| other_pod(bed, &Module::apparmor()),
    runtimes: BOTH,
    newest_only: true,
}];

const SELINUX: &[Case] = &[Case {
    name: "libselinux_of_another_pod",
    test: |bed| other_pod(bed, &Module::selinux()),
    runtimes: BOTH,
    newest_only: true,
}];

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
fn saved(bed: &Bed, module: &Module) -> (Bundle, PathBuf) {
    (module.prepare)(bed);
    let mut bundle = Bundle::new(bed, "bundle", "looks", &["/first", "/second"]);
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
    assert_eq!(label_of(pid), module.labels[0]);
    sees(&bundle, "/first socket");
    let images = bed.dir("images");
    trip(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    bundle.stands_still();
    (bundle, images)
}

/// The label of a process, without the mode of a profile.
fn label_of(pid: Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    let text = text.trim_end_matches(['\0', '\n']);
    text.split_once(" (").map_or(text, |(label, _)| label).to_owned()
}

/// Waits until the container says that it sees this.
#[track_caller]
fn sees(bundle: &Bundle, expected: &str) {
    let file = bundle.root.join("count.seen");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    assert!(soon(|| read() == expected), "{} instead of {expected}", read());
}

/// The guests have no program that locks a network, and the containers have no connection.
fn trip<'a>(bed: &'a Bed, bundle: &'a Bundle) -> Trip<'a> {
    let mut trip = Trip::new(bed, bundle);
    trip.dump = |dump| dump.network_lock(NetworkLock::Skip);
    trip
}

fn other_pod(bed: &Bed, module: &Module) {
    let (mut bundle, images) = saved(bed, module);
    enter_pod(bed, &mut bundle, "second");
    module.label(&mut bundle, 1);
    let restored = trip(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    assert_eq!(label_of(restored), module.labels[1]);
    sees(&bundle, "/second socket");
    end(restored);
}
