//! Facts about a container that its record names, seen just before its checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use criu_archive::record::{Container, GpuProcess, Gpus, Host, Mount, Needs};
use criu_rs::Pid;
use criu_rs::labels::{self, Attribute, SecurityModule};
use nix::sys::stat::{major, minor};
use serde_json::Value;

use super::outcome::Saved;
use super::subject::Running;

/// Facts about a container, seen just before its checkpoint. What cannot be read is left out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// Security labels of the first process, by the module: `apparmor`, `selinux`. AppArmor's
    /// `unconfined` is left out.
    pub labels: BTreeMap<String, String>,
    /// Namespaces of the sandbox and of the host, and mounts from the host, as the runtime's
    /// specification has them.
    pub needs: Needs,
    /// Processes that have a GPU of NVIDIA open, by their ids in the container, with the numbers
    /// of the GPUs.
    pub gpus: BTreeMap<u32, BTreeSet<u64>>,
}

impl Seen {
    /// Looks at the specification and the processes of a container.
    pub(super) fn of(running: &Running) -> Self {
        let labels = labels(running.pid);
        let processes = descendants(running.pid);
        let gpus = processes.into_iter().filter_map(gpus_of).collect();
        Self { labels, gpus, ..Self::outside(running) }
    }

    /// Looks at the specification of a container alone.
    pub(super) fn outside(running: &Running) -> Self {
        let spec = read(&running.bundle.join("config.json"));
        let spec: Option<Value> = spec.and_then(|spec| serde_json::from_slice(&spec).ok());
        Self { needs: spec.as_ref().map(needs).unwrap_or_default(), ..Self::default() }
    }
}

impl Saved {
    /// Writes into the entry of a record what is known of the container and of its checkpoint.
    pub fn describe(&self, entry: &mut Container) {
        entry.tool.arguments.clone_from(&self.arguments);
        entry.tool.features.clone_from(&self.features);
        entry.labels.clone_from(&self.seen.labels);
        entry.needs.clone_from(&self.seen.needs);
    }
}

/// Returns the GPUs that saved containers used, of those that this machine has. `None` if the
/// containers used no GPU.
pub fn gpus(saved: &[Saved], host: &Host) -> Option<Gpus> {
    let mut gpus = Gpus::default();
    let mut open = BTreeSet::new();
    for one in saved {
        for (pid, numbers) in &one.seen.gpus {
            let mut process = GpuProcess::default();
            process.container.clone_from(&one.name);
            process.pid = *pid;
            gpus.processes.push(process);
            open.extend(numbers.iter().map(|number| format!("/dev/nvidia{number}")));
        }
    }
    if let Some(here) = &host.gpus {
        gpus.driver.clone_from(&here.driver);
        gpus.cuda.clone_from(&here.cuda);
        let used = here.devices.iter().filter(|device| open.contains(&device.path));
        gpus.devices = used.cloned().collect();
    }
    (!gpus.processes.is_empty()).then_some(gpus)
}

/// Reads the labels of a process.
fn labels(pid: Pid) -> BTreeMap<String, String> {
    let carried = labels::of_tree(pid).unwrap_or_default();
    let own = carried.into_iter().filter(|carried| {
        (carried.pid, carried.tid, carried.attribute) == (pid, pid, Attribute::Current)
    });
    let named = own.filter_map(|carried| {
        let module = match carried.label.module() {
            SecurityModule::Apparmor => "apparmor",
            SecurityModule::Selinux => "selinux",
            _ => return None,
        };
        let label = String::from_utf8(carried.label.as_bytes().to_vec()).ok()?;
        Some((module.to_owned(), label))
    });
    named.collect()
}

/// Returns what a specification takes from outside of the container.
fn needs(spec: &Value) -> Needs {
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let list = |at: &str| spec.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let own: BTreeSet<String> = list("/linux/namespaces")
        .filter(|namespace| text(namespace, "path").is_none_or(|path| path.is_empty()))
        .filter_map(|namespace| text(namespace, "type"))
        .collect();
    let mut needs = Needs::default();
    let foreign = NAMESPACES.iter().filter(|(kind, _)| !own.contains(*kind));
    needs.namespaces = foreign.map(|(_, name)| (*name).to_owned()).collect();
    needs.mounts = list("/mounts")
        .filter(|mount| {
            let options = mount.get("options").and_then(Value::as_array).into_iter().flatten();
            let mut words = options.chain(mount.get("type")).filter_map(Value::as_str);
            words.any(|word| matches!(word, "bind" | "rbind"))
        })
        .filter_map(|mount| Some(Mount::new(text(mount, "destination")?, text(mount, "source")?)))
        .collect();
    needs
}

/// Returns a process and its descendants.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            // A process can get another parent meanwhile, and would be found again.
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
        }
    }
    found
}

/// Returns the GPUs that a process has open, if it has any, with the id that it knows of itself.
fn gpus_of(pid: Pid) -> Option<(u32, BTreeSet<u64>)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let numbers: BTreeSet<u64> = open
        .filter_map(|file| fs::metadata(file.path()).ok())
        .filter(|file| file.file_type().is_char_device() && major(file.rdev()) == NVIDIA)
        .map(|file| minor(file.rdev()))
        .filter(|number| *number < CONTROL)
        .collect();
    if numbers.is_empty() {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some((ids.split_whitespace().last()?.parse().ok()?, numbers))
}

/// Reads a specification, if its size is that of one.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_SPEC + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_SPEC).then_some(bytes)
}

/// Namespaces by their names in specifications and in `/proc/PID/ns`.
const NAMESPACES: &[(&str, &str)] = &[
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// Major number of NVIDIA's devices.
const NVIDIA: u64 = 195;

/// Minor numbers from here on are not GPUs: `/dev/nvidia-modeset` has 254, `/dev/nvidiactl` 255.
const CONTROL: u64 = 254;

/// Largest specification, in bytes. The largest ones have some 100 KiB.
const MAX_SPEC: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use criu_archive::record::GpuDevice;
    use serde_json::json;

    use super::*;

    fn saved(name: &str) -> Saved {
        Saved {
            name: name.into(),
            folder: name.into(),
            frozen: std::time::Duration::ZERO,
            arguments: Vec::new(),
            features: Vec::new(),
            seen: Seen::default(),
            #[cfg(feature = "instant")]
            instant: None,
        }
    }

    #[test]
    fn foreign_namespaces_and_bind_mounts_are_needs() {
        let spec = json!({
            "linux": {"namespaces": [
                {"type": "pid"}, {"type": "mount", "path": ""}, {"type": "cgroup"},
                {"type": "network", "path": "/proc/1/ns/net"},
            ]},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/etc/hosts", "type": "bind", "source": "/var/hosts"},
                {"destination": "/data", "source": "/srv/data", "options": ["rbind", "ro"]},
            ],
        });
        let found = needs(&spec);
        assert_eq!(found.namespaces, ["ipc", "net", "time", "user", "uts"]);
        let mounts = [Mount::new("/etc/hosts", "/var/hosts"), Mount::new("/data", "/srv/data")];
        assert_eq!(found.mounts, mounts);
        for odd in [json!(null), json!({"linux": [], "mounts": {}}), json!({"mounts": [1, {}]})] {
            assert!(needs(&odd).mounts.is_empty(), "{odd}");
        }
    }

    #[test]
    fn gpus_of_containers_are_those_of_the_machine() {
        let mut host = Host::default();
        let mut here = Gpus::default();
        here.driver = "580.65.06".into();
        for number in 0..3 {
            let mut device = GpuDevice::default();
            (device.uuid, device.path) = (format!("GPU-{number}"), format!("/dev/nvidia{number}"));
            here.devices.push(device);
        }
        host.gpus = Some(here);
        let mut web = saved("web");
        assert_eq!(gpus(&[web.clone()], &host), None);
        web.seen.gpus.insert(7, BTreeSet::from([2, 9]));
        let found = gpus(&[saved("log"), web], &host).unwrap();
        assert_eq!(found.driver, "580.65.06");
        let uuids: Vec<&str> = found.devices.iter().map(|device| &*device.uuid).collect();
        assert_eq!(uuids, ["GPU-2"]);
        let [process] = &found.processes[..] else { panic!("{found:?}") };
        assert_eq!((&*process.container, process.pid), ("web", 7));
    }

    #[test]
    fn descendants_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = Pid::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let id = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let found = descendants(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.first() == Some(&own) && found.contains(&id), "{found:?}");
        assert_eq!(gpus_of(own), None);
    }
}
