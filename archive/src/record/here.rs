//! Facts about the machine here, from `/proc` and `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};

use super::gpu::{GpuDevice, Gpus};
use super::host::{CgroupVersion, Cgroups, Cpu, Host, Lsm};

impl Host {
    /// Looks at this machine, as far as this process may. No program is started, and so
    /// [`programs`](Self::programs) is `None`.
    ///
    /// ```
    /// use criu_archive::record::Host;
    ///
    /// let host = Host::here();
    /// println!("{}: Linux {} on {}", host.name, host.kernel, host.architecture);
    /// assert!(host.features.contains_key("userfaultfd"));
    /// ```
    pub fn here() -> Self {
        let mut host = Self::default();
        if let Ok(names) = uname() {
            let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
            host.name = text(names.nodename());
            host.kernel = text(names.release());
            host.architecture = text(names.machine());
        }
        host.cpu = Cpu::parse(&text("/proc/cpuinfo").unwrap_or_default());
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        host.page_size = page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        host.cgroups = Cgroups::parse(
            &text("/proc/self/cgroup").unwrap_or_default(),
            &text("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default(),
        );
        host.lsm = Lsm::here();
        host.features = features();
        host.gpus = nvidia(Path::new("/proc/driver/nvidia"));
        host
    }
}

impl Cpu {
    /// Reads the first processor of `/proc/cpuinfo`, in the words of x86 and of Arm.
    pub(super) fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        let lines = text.lines().skip_while(|line| line.is_empty());
        for line in lines.take_while(|line| !line.is_empty()) {
            if let Some((key, value)) = line.split_once(':') {
                fields.entry(key.trim()).or_insert_with(|| value.trim());
            }
        }
        let field = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| fields.get(key));
            found.copied().unwrap_or_default().to_owned()
        };
        let number = |keys: &[&str]| {
            let text = field(keys);
            match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let numbers: Option<Vec<u64>> = [
            number(&["cpu family", "CPU architecture"]),
            number(&["model", "CPU part"]),
            number(&["stepping", "CPU revision"]),
        ]
        .into_iter()
        .collect();
        let features = field(&["flags", "Features", "features", "isa"]);
        let mut features: Vec<String> = features.split_whitespace().map(str::to_owned).collect();
        features.sort_unstable();
        Self {
            vendor: field(&["vendor_id", "CPU implementer", "mvendorid"]),
            name: field(&["model name", "Processor", "cpu", "uarch"]),
            model: numbers.unwrap_or_default(),
            features,
            ..Self::default()
        }
    }
}

impl Cgroups {
    /// Reads `/proc/self/cgroup`, and the controllers of version 2.
    pub(super) fn parse(own: &str, unified: &str) -> Self {
        let mut controllers: BTreeSet<&str> = unified.split_whitespace().collect();
        let (mut is_v1, mut is_v2) = (false, false);
        for line in own.lines() {
            match line.splitn(3, ':').collect::<Vec<_>>()[..] {
                ["0", "", _] => is_v2 = true,
                [_, names, _] => {
                    let names = names.split(',').filter(|name| !name.starts_with("name="));
                    let before = controllers.len();
                    controllers.extend(names.filter(|name| !name.is_empty()));
                    is_v1 |= controllers.len() > before;
                }
                _ => {}
            }
        }
        let version = match (is_v1, is_v2) {
            (true, true) => CgroupVersion::Hybrid,
            (true, false) => CgroupVersion::V1,
            (false, true) => CgroupVersion::V2,
            (false, false) => CgroupVersion::Other("".into()),
        };
        let controllers = controllers.into_iter().map(str::to_owned).collect();
        Self { version, controllers, ..Self::default() }
    }
}

impl Lsm {
    fn here() -> Self {
        let mut lsm = Self::default();
        let is_there = |path: &str| Path::new(path).exists();
        match text("/sys/kernel/security/lsm") {
            Some(list) => lsm.modules = list.trim().split(',').map(str::to_owned).collect(),
            // securityfs is not mounted, as in most containers.
            None => {
                let apparmor = text("/sys/module/apparmor/parameters/enabled");
                let active = [
                    ("capability", true),
                    ("selinux", is_there("/sys/fs/selinux/enforce")),
                    ("apparmor", apparmor.is_some_and(|text| text.starts_with('Y'))),
                    ("smack", is_there("/proc/self/attr/smack/current")),
                    ("yama", is_there("/proc/sys/kernel/yama/ptrace_scope")),
                ];
                let active = active.iter().filter(|(_, is_active)| *is_active);
                lsm.modules = active.map(|(name, _)| (*name).to_owned()).collect();
            }
        }
        if lsm.modules.iter().any(|name| name == "selinux") {
            lsm.selinux_enforcing = text("/sys/fs/selinux/enforce").map(|text| text.trim() == "1");
        }
        // A line is `NAME (MODE)`.
        lsm.profiles = text("/sys/kernel/security/apparmor/profiles").map(|list| {
            let names = list.lines().filter_map(|line| line.rsplit_once(" ("));
            names.map(|(name, _)| name.to_owned()).collect()
        });
        lsm
    }
}

/// Features of the kernel that can be seen without a test.
fn features() -> BTreeMap<String, bool> {
    let is_there = |paths: &[&str]| paths.iter().any(|path| Path::new(path).exists());
    let seen: [(&str, &[&str]); 5] = [
        // Timers of a process are listed for checkpoints alone.
        ("checkpoint_restore", &["/proc/self/timers"]),
        ("userfaultfd", &["/proc/sys/vm/unprivileged_userfaultfd", "/dev/userfaultfd"]),
        ("seccomp", &["/proc/sys/kernel/seccomp/actions_avail"]),
        ("ipv6", &["/proc/net/if_inet6"]),
        ("kvm", &["/dev/kvm"]),
    ];
    let seen = seen.iter().map(|(name, paths)| ((*name).to_owned(), is_there(paths)));
    let namespaces = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let namespaces = namespaces
        .iter()
        .map(|kind| (format!("{kind}_namespaces"), is_there(&[&format!("/proc/self/ns/{kind}")])));
    seen.chain(namespaces).collect()
}

/// Reads what NVIDIA's driver tells; `None` without the driver, or without GPUs.
pub(super) fn nvidia(driver: &Path) -> Option<Gpus> {
    let mut gpus = Gpus::default();
    let mut entries: Vec<_> = fs::read_dir(driver.join("gpus")).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Some(text) = text(entry.path().join("information")) else { continue };
        let field = |key: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(name, _)| name.trim() == key);
            found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let minor = field("Device Minor");
        let path = if minor.is_empty() { minor } else { format!("/dev/nvidia{minor}") };
        let (uuid, model, pci) = (field("GPU UUID"), field("Model"), field("Bus Location"));
        let device = GpuDevice { uuid, model, pci, path, ..GpuDevice::default() };
        gpus.devices.push(device);
    }
    // NVRM version: NVIDIA UNIX ... Kernel Module  580.65.06  Tue ...
    let version = text(driver.join("version")).unwrap_or_default();
    let is_version = |word: &&str| {
        word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let first = version.lines().next().unwrap_or_default();
    gpus.driver = first.split_whitespace().find(is_version).unwrap_or_default().to_owned();
    (!gpus.devices.is_empty()).then_some(gpus)
}

/// Reads a file of the kernel's.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Most bytes read of a file. `/proc/cpuinfo` has 1.5 KiB for each of some 1,000 processors.
const LONGEST: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_x86_and_of_arm_are_read() {
        let x86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n\
                   model name\t: Intel(R) Xeon(R)\nstepping\t: 8\nflags\t\t: fpu avx2 aes\n\n\
                   processor\t: 1\nvendor_id\t: Other\n";
        let cpu = Cpu::parse(x86);
        assert_eq!((&*cpu.vendor, &*cpu.name), ("GenuineIntel", "Intel(R) Xeon(R)"));
        assert_eq!((cpu.model, cpu.features.join(" ")), (vec![6, 143, 8], "aes avx2 fpu".into()));
        let arm = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\n\
                   CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n\
                   CPU part\t: 0xd0c\nCPU revision\t: 1\n";
        let cpu = Cpu::parse(arm);
        assert_eq!((&*cpu.vendor, &*cpu.name), ("0x41", ""));
        assert_eq!((cpu.model, cpu.features.join(" ")), (vec![8, 0xd0c, 1], "asimd fp".into()));
        assert_eq!(Cpu::parse(""), Cpu::default());
    }

    #[test]
    fn versions_of_cgroups_are_told_apart() {
        let parse = |own: &str, unified: &str| {
            let found = Cgroups::parse(own, unified);
            (found.version.to_string(), found.controllers.join(" "))
        };
        let text = |version: &str, controllers: &str| (version.to_owned(), controllers.to_owned());
        assert_eq!(parse("0::/user.slice\n", "cpu memory pids"), text("v2", "cpu memory pids"));
        let v1 = "5:cpu,cpuacct:/\n4:memory:/a:b\n1:name=systemd:/\n";
        assert_eq!(parse(v1, ""), text("v1", "cpu cpuacct memory"));
        let both = format!("{v1}0::/\n");
        assert_eq!(parse(&both, ""), text("hybrid", "cpu cpuacct memory"));
        // Named hierarchies have no controllers.
        assert_eq!(parse("1:name=systemd:/\n0::/\n", "pids"), text("v2", "pids"));
        assert_eq!(parse("", ""), text("", ""));
    }

    #[test]
    fn gpus_are_read_as_nvidia_s_driver_lists_them() {
        let driver = std::env::temp_dir().join(format!("criu-archive-gpus-{}", std::process::id()));
        assert_eq!(nvidia(&driver), None);
        let gpu = driver.join("gpus/0000:65:00.0");
        fs::create_dir_all(&gpu).unwrap();
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n\
                       GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        fs::write(driver.join("version"), version).unwrap();
        let information = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 45\n\
                           GPU UUID: \t GPU-12345678-1234-1234-1234-123456789abc\n\
                           Bus Location: \t 0000:65:00.0\nDevice Minor: \t 3\n";
        fs::write(gpu.join("information"), information).unwrap();
        let found = nvidia(&driver).unwrap();
        fs::remove_dir_all(&driver).unwrap();
        assert_eq!(found.driver, "580.65.06");
        let [device] = &found.devices[..] else { panic!("{found:?}") };
        assert_eq!((&*device.model, &*device.path), ("NVIDIA H200", "/dev/nvidia3"));
        assert_eq!(device.uuid, "GPU-12345678-1234-1234-1234-123456789abc");
        assert_eq!(device.pci, "0000:65:00.0");
    }
}
