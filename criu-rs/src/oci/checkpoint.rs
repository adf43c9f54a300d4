//! A live container as its dump has to know it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use super::cgroups::Cgroups;
use super::container::{Bind, Container, Keys, NET_KEY, PID_KEY};
use super::descriptors::Descriptors;
use super::error::{Error, Result};
use super::freezer::Freezer;
use super::root::Root;
use crate::host::{MountInfo, tree};
use crate::operation::PreDump;
use crate::value::{Dir, External, Pid};

/// A container about to be saved: the values that its dump is made of.
///
/// The container is not touched before a [dump](Self::dump) is run.
///
/// ```no_run
/// use criu_rs::oci::Container;
/// use criu_rs::{AfterDump, Criu, Tcp};
///
/// let container = Container::open("/run/bundles/web")?;
/// let checkpoint = container.checkpoint("4711".parse()?)?;
/// for external in checkpoint.external() {
///     println!("left out: {external}");
/// }
/// let dump = checkpoint.dump("/ckpt/web").after_dump(AfterDump::LeaveRunning);
/// dump.tcp(Tcp::Established).run(&Criu::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is saved before a dump of this is run"]
pub struct ContainerCheckpoint {
    pub(super) pid: Pid,
    pub(super) external: Vec<External>,
    pub(super) freezer: Option<PathBuf>,
    descriptors: Descriptors,
    pub(super) config_file: Option<PathBuf>,
}

impl Container {
    /// Looks at the live container whose first process is `pid`, to save it. Nothing is done to it.
    ///
    /// # Errors
    /// When there is no such process, or `config.json` asks for something that CRIU cannot save.
    pub fn checkpoint(&self, pid: Pid) -> Result<ContainerCheckpoint> {
        ContainerCheckpoint::new(self, pid)
    }
}

impl ContainerCheckpoint {
    fn new(container: &Container, pid: Pid) -> Result<Self> {
        container.refuse_namespaces()?;
        let mut external = namespaces(container, pid)?;
        external.extend(mounts(container, pid)?);
        let cgroups = match &container.cgroups {
            Some(cgroups) => cgroups.clone(),
            // A container's first process may have moved further down.
            None => match container.linux().and_then(|linux| linux.cgroups_path().as_deref()) {
                Some(path) if path.is_absolute() => Cgroups::of(pid)?.widened_to(path),
                _ => Cgroups::of(pid)?,
            },
        };
        let freezer = match &container.freezer {
            Freezer::Container => cgroups.freezer()?,
            Freezer::At(directory) => Some(directory.clone()),
            Freezer::Off => None,
        };
        Ok(Self {
            pid,
            external,
            freezer,
            descriptors: Descriptors::of(pid)?,
            config_file: container.config_file(),
        })
    }

    /// The resources outside of the container, which are left out of the checkpoint.
    pub fn external(&self) -> &[External] {
        &self.external
    }

    /// The directory of the cgroup that freezes the container. Without such a cgroup CRIU stops the
    /// tasks one by one.
    pub fn freezer(&self) -> Option<&Path> {
        self.freezer.as_deref()
    }

    /// The files behind the container's standard streams. A [dump](Self::dump) records them in the
    /// images directory.
    pub fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Processes beside the tree of the first one, such as a runtime's `exec` adds. CRIU does not
    /// save them, and they end with the container. Empty if the container shares its pid namespace.
    pub fn beside(&self) -> Vec<Pid> {
        let namespace = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = namespace(self.pid).filter(|_| tree::is_first(self.pid)) else {
            return Vec::new();
        };
        let is_inside = |pid: &Pid| namespace(*pid).is_some_and(|other| other == own);
        let mut all: Vec<Pid> = tree::all().into_iter().filter(is_inside).collect();
        let descendants = tree::descendants(self.pid);
        all.retain(|pid| !descendants.contains(pid));
        if !all.is_empty() {
            // Some processes ended or got another parent meanwhile.
            let descendants = tree::descendants(self.pid);
            all.retain(|pid| !descendants.contains(pid) && is_inside(pid));
        }
        all
    }

    /// A pre-dump into the directory `images`, ahead of a [`dump`](Self::dump) whose
    /// [`parent_img`](super::ContainerDump::parent_img) is that directory.
    pub fn pre_dump<'a>(&self, images: impl Into<Dir<'a>>) -> PreDump<'a> {
        let mut pre_dump = PreDump::new(self.pid, images);
        for external in &self.external {
            pre_dump = pre_dump.external(external.clone());
        }
        if let Some(freezer) = &self.freezer {
            pre_dump = pre_dump.freeze_cgroup(freezer);
        }
        if let Some(file) = &self.config_file {
            pre_dump = pre_dump.config_file(file);
        }
        pre_dump
    }
}

/// The namespaces that `config.json` gives by path and CRIU leaves out: network and pid. CRIU saves
/// the other kinds, and a restore joins the namespaces at their paths instead.
fn namespaces(container: &Container, pid: Pid) -> Result<Vec<External>> {
    let inode = |kind: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        let meta = fs::metadata(&path).map_err(|source| Error::path("look at", &path, source))?;
        u32::try_from(meta.ino())
            .map_err(|_| Error::path("look at", path, nix::errno::Errno::EOVERFLOW))
    };
    let mut external = Vec::new();
    if container.shared(LinuxNamespaceType::Network).is_some() {
        external.push(External::NetNamespace { inode: inode("net")?, key: NET_KEY.into() });
    }
    if container.shared(LinuxNamespaceType::Pid).is_some() {
        external.push(External::PidNamespace { inode: inode("pid")?, key: PID_KEY.into() });
    }
    Ok(external)
}

/// The external mounts of a live container.
fn mounts(container: &Container, pid: Pid) -> Result<Vec<External>> {
    let of_process = |source| Error::path("look into the root of process", pid.to_string(), source);
    let root = Root::of_process(pid).map_err(of_process)?;
    let mounts = MountInfo::all(&pid.to_string()).map_err(of_process)?;
    // A path that does not exist is not a mount.
    let find = |path: &Path| root.find(path).and_then(|found| root.name(&found)).ok();
    external_mounts(container, &mounts, find)
}

/// The mounts that come from outside: bind mounts of `config.json`, and every other mount that
/// shows a directory of a file system whose root is not in the container. `find` follows the links
/// of a path.
fn external_mounts(
    container: &Container,
    mounts: &[MountInfo],
    find: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<Vec<External>> {
    let described: HashMap<PathBuf, Option<Bind>> = container
        .mounts()
        .filter_map(|(destination, bind)| Some((find(destination)?, bind)))
        .collect();
    let masked = container.linux().and_then(|linux| linux.masked_paths().as_ref());
    let masked = masked.into_iter().flatten();
    let masked: Vec<PathBuf> = masked.filter_map(|path| find(Path::new(path))).collect();

    let known = mounts.iter().map(|mount| (&mount.device[..], mount.root.as_path())).collect();
    let (mut external, mut points) = (Vec::new(), HashSet::new());
    for mount in mounts.iter().filter(|mount| mount.point != Path::new("/")) {
        let is_null = || masked.contains(&mount.point) && mount.root.ends_with("null");
        let key = if is_bound(mount, &described) {
            mount.point.as_path()
        } else if !is_foreign(mount, &known) || is_own_cgroup(container, mount) {
            continue;
        } else if container.keys == Keys::Runc && is_null() {
            Path::new("/dev/null")
        } else {
            &mount.point
        };
        if mount.point.as_os_str().as_bytes().contains(&b']') {
            let why = "CRIU cannot name a mount point with a bracket";
            return Err(Error::unsupported(format!("mounts: {}", mount.point.display()), why));
        }
        // Mounts over one another have one name for CRIU.
        if points.insert(&mount.point) {
            external.push(External::mount(&mount.point, key));
        }
    }
    Ok(external)
}

/// Says whether `config.json` binds a mount, or the mount came along below such a bind mount.
fn is_bound(mount: &MountInfo, described: &HashMap<PathBuf, Option<Bind>>) -> bool {
    match mount.point.ancestors().find_map(|point| described.get_key_value(point)) {
        Some((point, Some(bind))) => mount.point == *point || bind.is_recursive,
        _ => false,
    }
}

/// Says whether a mount shows a part of a file system, and no other mount of the container shows
/// more of it.
fn is_foreign(mount: &MountInfo, all: &HashSet<(&[u8], &Path)>) -> bool {
    let mut wider = mount.root.ancestors().skip(1);
    mount.root != Path::new("/") && !wider.any(|root| all.contains(&(&mount.device[..], root)))
}

/// Says whether CRIU itself mounts a cgroup hierarchy. In a cgroup namespace its root is the
/// container's cgroup, and version 2 is always mounted whole.
fn is_own_cgroup(container: &Container, mount: &MountInfo) -> bool {
    let is_version_1 = mount.kind == b"cgroup";
    let is_cgroup = is_version_1 || mount.kind == b"cgroup2";
    is_cgroup && (container.has(LinuxNamespaceType::Cgroup) || !is_version_1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Common;
    use crate::transport::Handed;

    fn container(config: &str) -> Container {
        Container::new(serde_json::from_str(config).unwrap(), "/").unwrap()
    }

    fn row(id: u32, device: &str, root: &str, point: &str, kind: &str) -> MountInfo {
        let (root, point, options) = (root.into(), point.into(), Vec::new());
        let (device, kind, parent) = (device.into(), kind.into(), 0);
        MountInfo { id, parent, device, root, point, kind, options, shared: None, master: None }
    }

    fn named(container: &Container, rows: &[MountInfo]) -> Vec<String> {
        // In this container /var/run is a link to /run.
        let find = |path: &Path| match path.strip_prefix("/var/run") {
            Ok(rest) => Some(Path::new("/run").join(rest)),
            Err(_) => Some(path.to_path_buf()),
        };
        let external = external_mounts(container, rows, find).unwrap();
        external.iter().map(External::to_string).collect()
    }

    #[test]
    fn what_comes_from_outside_is_named_and_nothing_else() {
        let container = container(
            r#"{"ociVersion": "1.0.2", "root": {"path": "/"},
                "mounts": [
                    {"destination": "/proc", "type": "proc", "source": "proc"},
                    {"destination": "/data", "type": "bind", "source": "/srv",
                     "options": ["rbind"]},
                    {"destination": "/data/own", "type": "tmpfs", "source": "tmpfs"},
                    {"destination": "/one", "type": "none", "source": "/srv",
                     "options": ["bind"]},
                    {"destination": "/var/run/x", "type": "bind", "source": "/x",
                     "options": ["bind"]}],
                "linux": {"maskedPaths": ["/proc/kcore", "/proc/acpi", "/proc/none"],
                          "namespaces": [{"type": "mount"}]}}"#,
        );
        let mut rows = vec![
            row(1, "8:1", "/bundle/rootfs", "/", "ext4"),
            row(2, "0:50", "/", "/proc", "proc"),
            row(3, "0:50", "/sys", "/proc/sys", "proc"),
            row(4, "8:2", "/srv", "/data", "ext4"),
            row(5, "0:51", "/", "/data/from-outside", "tmpfs"),
            row(6, "0:52", "/", "/data/own", "tmpfs"),
            row(7, "8:2", "/srv", "/one", "ext4"),
            row(8, "8:2", "/x", "/run/x", "ext4"),
            row(9, "0:5", "/null", "/proc/kcore", "devtmpfs"),
            row(10, "0:53", "/", "/proc/acpi", "tmpfs"),
            row(11, "0:5", "/fuse", "/dev/fuse", "devtmpfs"),
            row(12, "0:30", "/a", "/sys/fs/cgroup/memory", "cgroup"),
            row(13, "0:31", "/a", "/sys/fs/cgroup/unified", "cgroup2"),
        ];
        let expected = [
            "mnt[/data]:/data",
            "mnt[/data/from-outside]:/data/from-outside",
            "mnt[/one]:/one",
            "mnt[/run/x]:/run/x",
            "mnt[/proc/kcore]:/dev/null",
            "mnt[/dev/fuse]:/dev/fuse",
            "mnt[/sys/fs/cgroup/memory]:/sys/fs/cgroup/memory",
        ];
        assert_eq!(named(&container, &rows), expected);

        let crun = container.clone().keys(Keys::Crun);
        assert!(named(&crun, &rows).contains(&"mnt[/proc/kcore]:/proc/kcore".into()));

        rows.push(row(14, "8:2", "/x", "/a]b", "ext4"));
        let refused = external_mounts(&container, &rows, |path| Some(path.into())).unwrap_err();
        assert!(refused.to_string().contains("/a]b"), "{refused}");
    }

    #[test]
    fn a_pre_dump_is_told_what_a_dump_is() {
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "/"},
            "annotations": {"org.criu.config": "/etc/criu/special.conf"}}"#;
        let checkpoint = ContainerCheckpoint {
            pid: Pid::this(),
            external: vec![External::mount("/data", "/data")],
            freezer: Some("/sys/fs/cgroup/it".into()),
            descriptors: Descriptors::default(),
            config_file: container(config).config_file(),
        };
        let told = |common: &Common<'_>| {
            let message = common.opts.fill(&mut Handed::default()).unwrap().message;
            (message.external, message.freeze_cgroup, message.config_file)
        };
        let expected = (
            vec![b"mnt[/data]:/data".to_vec()],
            Some(b"/sys/fs/cgroup/it".to_vec()),
            Some(b"/etc/criu/special.conf".to_vec()),
        );
        assert_eq!(told(&checkpoint.pre_dump("/").common), expected);
        assert_eq!(told(&checkpoint.dump("/").operation.common), expected);
    }

    #[test]
    fn cgroups_in_a_namespace_of_their_own_are_criu_s() {
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "/"},
            "linux": {"namespaces": [{"type": "cgroup"}]}}"#;
        let rows = [
            row(1, "8:1", "/bundle/rootfs", "/", "ext4"),
            row(2, "0:30", "/a", "/sys/fs/cgroup/memory", "cgroup"),
        ];
        assert!(named(&container(config), &rows).is_empty());
    }

    #[test]
    fn a_mount_namespace_by_path_is_refused() {
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "/"},
            "linux": {"namespaces": [{"type": "mount", "path": "/proc/1/ns/mnt"}]}}"#;
        let refused = container(config).checkpoint(Pid::this()).unwrap_err().to_string();
        assert!(refused.contains("linux.namespaces") && refused.contains("/proc/1/ns/mnt"));
    }
}
