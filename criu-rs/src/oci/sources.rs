//! The sources of the mounts in images, chosen by `config.json` and never by the images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use criu_images::Checkpoint;
use criu_images::proto::{Fstype, MntEntry};
use nix::libc;
use oci_spec::runtime::LinuxNamespaceType;

use super::cgroups::Cgroups;
use super::container::{Bind, Container};
use super::error::{Error, Result};
use super::root::Root;
use crate::host::MountInfo;

/// A mount of the images that comes from outside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalMount {
    /// The mount point in the container.
    pub point: PathBuf,
    /// The key by which the images remember the mount.
    pub key: OsString,
    /// The path that is mounted there. Empty for a masked directory, over which an empty directory
    /// is mounted.
    pub source: PathBuf,
}

/// The search for the sources of external mounts. It refuses images that make CRIU mount anything
/// else of the machine.
pub(crate) struct Sources<'a> {
    container: &'a Container,
    cgroups: Option<&'a Cgroups>,
    /// Mounts of `config.json`: each mount point by its name and by the place where links lead,
    /// with its source.
    described: HashMap<PathBuf, Option<Bind>>,
    masked: HashSet<PathBuf>,
    /// Devices by their places in the container.
    devices: HashMap<PathBuf, PathBuf>,
    /// Mount points of this machine.
    machine: HashSet<PathBuf>,
}

/// The source of a mount, and how it is mounted.
struct MountSource {
    /// `None` for a masked directory, over which an empty directory is mounted.
    source: Option<PathBuf>,
    is_read_only: bool,
}

impl MountSource {
    fn path(source: impl Into<PathBuf>) -> Self {
        Self { source: Some(source.into()), is_read_only: false }
    }
}

/// The file systems of the images, with the directories of which other mounts may show parts.
type KnownFileSystems<'a> = HashMap<FileSystem<'a>, HashMap<&'a Path, ShownDirectory>>;

/// The fields by which CRIU tells file systems apart.
type FileSystem<'a> = (u32, u32, &'a [u8], &'a [u8], Option<&'a [u8]>);

/// The mounts that show one directory.
#[derive(Clone, Copy)]
struct ShownDirectory {
    is_root: bool,
    is_read_only: bool,
}

impl<'a> Sources<'a> {
    pub(crate) fn of(container: &'a Container, cgroups: Option<&'a Cgroups>) -> Result<Self> {
        let root = Root::open(container.rootfs());
        let root = root.map_err(|source| Error::path("open", container.rootfs(), source))?;
        // Links may lie under the container's own mounts: a name also counts as it is.
        let places = |path: &Path| {
            let plain = Path::new("/").join(path);
            let found = root.find(path).and_then(|found| root.name(&found));
            [found.unwrap_or_else(|_| plain.clone()), plain]
        };
        let described = container.mounts().flat_map(|(destination, bind)| {
            places(destination).into_iter().map(move |at| (at, bind.clone()))
        });
        let linux = container.linux();
        let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
        let masked = masked.into_iter().flatten().flat_map(|path| places(Path::new(path)));
        let devices = linux.and_then(|linux| linux.devices().as_ref());
        let devices = devices.into_iter().flatten().map(|device| device.path().as_path());
        // The source is the name in config.json, wherever a link in the container leads.
        let devices = devices.chain(DEFAULT_DEVICES.map(Path::new)).flat_map(|device| {
            places(device).into_iter().map(move |at| (at, device.to_path_buf()))
        });
        let machine = MountInfo::all("self");
        let machine =
            machine.map_err(|source| Error::path("read", "/proc/self/mountinfo", source))?;
        Ok(Self {
            container,
            cgroups,
            described: described.collect(),
            masked: masked.collect(),
            devices: devices.collect(),
            machine: machine.into_iter().map(|mount| mount.point).collect(),
        })
    }

    /// The external mounts with their sources.
    pub(crate) fn find_all(&self, checkpoint: Checkpoint<'_>) -> Result<Vec<ExternalMount>> {
        let first = checkpoint.root().pid();
        let mut tables = Vec::new();
        for namespace in checkpoint.namespaces()? {
            let is_first = namespace.pids().contains(&first);
            tables.extend(namespace.mounts()?.map(|mounts| (is_first, mounts)));
        }
        let (mut found, mut known, mut rest) =
            (ExternalMounts::default(), KnownFileSystems::new(), Vec::new());
        for (is_first, mount) in tables
            .iter()
            .flat_map(|(is_first, mounts)| mounts.iter().map(|mount| (*is_first, mount)))
        {
            let entry = mount.entry;
            let point = point(entry)?;
            let is_root = is_first && mount.depth == 0 && point == Path::new("/");
            let mut is_read_only = false;
            match key(entry) {
                // CRIU takes the root that it is given, whatever key of CRIU's own the images name.
                _ if is_root => {}
                Some(key) if key.as_bytes().starts_with(b"CRIU:") => {
                    self.untrusted(&point, || "CRIU would find on the machine by itself".into())?;
                }
                Some(key) => {
                    let wanted = self.find(entry, &point, key)?;
                    if entry.deleted.unwrap_or_default() {
                        let why = "showed a file that was removed or replaced outside before the \
                            dump: CRIU fails if there is one now; a dump by `ContainerDump` does \
                            not record that";
                        return Err(Error::Mount { point, why: why.into() });
                    }
                    is_read_only = wanted.is_read_only;
                    if is_read_only && !is_mounted_read_only(entry) {
                        let why = || "can be written to, although config.json says `ro`".into();
                        self.untrusted(&point, why)?;
                    }
                    found.add(point, key.to_owned(), wanted)?;
                }
                None if self.is_kernel_s(entry, &point) => {}
                None => {
                    rest.push((entry, point));
                    continue;
                }
            }
            let whole = known.entry(file_system(entry)).or_default().entry(root(entry));
            let whole = whole.or_insert(ShownDirectory { is_root, is_read_only });
            whole.is_root |= is_root;
            whole.is_read_only &= is_read_only;
        }
        rest.iter().try_for_each(|(entry, point)| self.check_part(entry, point, &known))?;
        Ok(found.mounts)
    }

    /// Refuses a mount of images that are not trusted.
    fn untrusted(&self, point: &Path, why: impl FnOnce() -> String) -> Result<()> {
        if self.container.trusts_images {
            return Ok(());
        }
        let why = format!("{}: only trusted images may have such a mount", why());
        Err(Error::Mount { point: point.into(), why })
    }

    /// Says whether a mount shows only what is the container's own, or a file system of the
    /// kernel's that `config.json` describes there.
    fn is_kernel_s(&self, entry: &MntEntry, point: &Path) -> bool {
        let kind = i32::try_from(entry.fstype).ok().and_then(|kind| Fstype::try_from(kind).ok());
        let name = match kind {
            Some(
                Fstype::Proc | Fstype::Sysfs | Fstype::Tmpfs | Fstype::Devpts | Fstype::Mqueue,
            ) => return true,
            Some(Fstype::Cgroup | Fstype::Cgroup2) => {
                return self.has_cgroups_at(point)
                    || self.container.has(LinuxNamespaceType::Cgroup);
            }
            Some(Fstype::Devtmpfs) => "devtmpfs",
            Some(Fstype::BinfmtMisc) => "binfmt_misc",
            Some(Fstype::Pstore) => "pstore",
            Some(Fstype::Securityfs) => "securityfs",
            Some(Fstype::Fusectl) => "fusectl",
            Some(Fstype::Debugfs) => "debugfs",
            Some(Fstype::Tracefs) => "tracefs",
            _ => return false,
        };
        self.container.has_mount(point, |kind| kind == name)
    }

    fn has_cgroups_at(&self, point: &Path) -> bool {
        self.container.has_mount(point, |kind| kind == "cgroup" || kind == "cgroup2")
    }

    /// Refuses a mount that is not a part of another: CRIU would mount any device or directories
    /// that it names.
    fn check_part(
        &self,
        entry: &MntEntry,
        point: &Path,
        known: &KnownFileSystems<'_>,
    ) -> Result<()> {
        let is_unsupported = i32::try_from(entry.fstype) == Ok(i32::from(Fstype::Unsupported));
        // CRIU may mount the root of a file system that it knows a second time.
        let is_new = !is_unsupported && root(entry).components().count() <= 1;
        let all = known.get(&file_system(entry));
        let above = root(entry).ancestors().filter_map(|path| all?.get(path));
        let mut whole = above.filter(|whole| whole.is_root || !is_new).peekable();
        if whole.peek().is_none() {
            return self.untrusted(point, || {
                let name = entry.fsname.as_deref().unwrap_or(&entry.source);
                format!("config.json does not describe ({})", String::from_utf8_lossy(name))
            });
        }
        if whole.all(|whole| whole.is_read_only) && !is_mounted_read_only(entry) {
            return self.untrusted(point, || {
                "can be written to, although config.json says `ro` of all mounts that it is part of"
                    .into()
            });
        }
        Ok(())
    }

    fn find(&self, mount: &MntEntry, point: &Path, key: &OsStr) -> Result<MountSource> {
        if let Some(path) = self.container.sources.get(key) {
            return Ok(MountSource::path(path));
        }
        if let Some(wanted) = self.bound(point)? {
            return Ok(wanted);
        }
        if self.masked.contains(point) {
            let is_null = mount.root.ends_with(b"/null");
            let source = is_null.then(|| PathBuf::from("/dev/null"));
            return Ok(MountSource { source, is_read_only: false });
        }
        if let Some(device) = self.devices.get(point) {
            return Ok(MountSource::path(device));
        }
        if let Some(source) = self.cgroup(mount, point)? {
            return Ok(MountSource::path(source));
        }
        let key = key.to_string_lossy().into_owned();
        Err(Error::UnknownMount { point: point.into(), key })
    }

    /// The source of a bind mount at a place, or of the mount below a recursive bind mount.
    fn bound(&self, point: &Path) -> Result<Option<MountSource>> {
        let best = point.ancestors().find_map(|at| self.described.get_key_value(at));
        let Some((at, Some(bind))) = best else { return Ok(None) };
        let below = point.strip_prefix(at).unwrap_or(Path::new(""));
        if below.as_os_str().is_empty() {
            let is_read_only = bind.is_read_only;
            return Ok(Some(MountSource { source: Some(bind.source.clone()), is_read_only }));
        }
        if !bind.is_recursive {
            return Ok(None);
        }
        // A link below the source could lead anywhere. The kernel's name of a mount has no links.
        let place = bind.source.canonicalize();
        let place = place
            .map_err(|error| Error::path("find the source of a mount", &bind.source, error))?;
        let place = place.join(below);
        if self.machine.contains(&place) {
            let is_read_only = bind.is_read_only_below;
            return Ok(Some(MountSource { source: Some(place), is_read_only }));
        }
        let why = format!(
            "came along with what config.json binds at {}; nothing is mounted at {} now: \
             mount it, or name a source",
            at.display(),
            place.display()
        );
        Err(Error::Mount { point: point.into(), why })
    }

    /// The container's directory in a hierarchy of version 1, which runtimes bind one by one.
    fn cgroup(&self, mount: &MntEntry, point: &Path) -> Result<Option<PathBuf>> {
        let is_cgroup = [Fstype::Cgroup, Fstype::Cgroup2]
            .iter()
            .any(|kind| i32::try_from(mount.fstype) == Ok(i32::from(*kind)));
        let is_described = is_cgroup && self.has_cgroups_at(point);
        let (true, Some(cgroups)) = (is_described, self.cgroups) else { return Ok(None) };
        let options = String::from_utf8_lossy(&mount.options).into_owned();
        let name = point.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let words = options.split(',').chain(name.split(','));
        for word in words.filter(|word| !word.is_empty()) {
            if let Some(dir) = cgroups.directory_of(word)? {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }
}

/// The external mounts found so far.
#[derive(Default)]
struct ExternalMounts {
    mounts: Vec<ExternalMount>,
    known: HashSet<(PathBuf, OsString)>,
    /// The source of each key: CRIU takes one source for a key.
    sources: BTreeMap<OsString, PathBuf>,
}

impl ExternalMounts {
    fn add(&mut self, point: PathBuf, key: OsString, wanted: MountSource) -> Result<()> {
        let refused = |why: String| Err(Error::Mount { point: point.clone(), why });
        // CRIU reads `mnt[KEY]:SOURCE`.
        if key.is_empty() || key.as_bytes().contains(&b']') {
            return refused(format!(
                "has the key `{}`, which no dump writes",
                key.to_string_lossy()
            ));
        }
        let source = wanted.source.unwrap_or_default();
        let first = self.sources.entry(key.clone()).or_insert_with(|| source.clone());
        if *first != source {
            let key = key.to_string_lossy();
            return refused(format!("has the key {key} of another mount, with another source"));
        }
        if self.known.insert((point.clone(), key.clone())) {
            self.mounts.push(ExternalMount { point, key, source });
        }
        Ok(())
    }
}

/// The key of an external mount.
fn key(entry: &MntEntry) -> Option<&OsStr> {
    // Old images have the key in another field.
    let old = entry.ext_mount.unwrap_or_default().then_some(&entry.root);
    entry.ext_key.as_ref().or(old).map(|key| OsStr::from_bytes(key))
}

/// The mount point of a mount.
///
/// # Errors
/// [`Error::Mount`] for paths that lead elsewhere than they say.
fn point(entry: &MntEntry) -> Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(&entry.mountpoint));
    let refused = |why: &str| Error::Mount { point: path.into(), why: why.into() };
    let texts = [&entry.mountpoint, &entry.root, &entry.source, &entry.options];
    let keys = [&entry.ext_key, &entry.fsname];
    if texts.into_iter().chain(keys.into_iter().flatten()).any(|text| text.contains(&0)) {
        return Err(refused("has a zero byte in its description"));
    }
    let up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if up(path) || up(Path::new(OsStr::from_bytes(&entry.root))) {
        return Err(refused("has `..` in a path, which could lead anywhere"));
    }
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Ok(Path::new("/").join(parts.collect::<PathBuf>()))
}

/// Says whether CRIU makes a mount read-only. In images from before CRIU 2.9, CRIU takes the
/// read-only flag for a flag of the file system, not of the mount.
fn is_mounted_read_only(entry: &MntEntry) -> bool {
    let read_only = u32::try_from(libc::MS_RDONLY).unwrap_or(1);
    entry.flags & read_only != 0 && entry.sb_flags.is_some()
}

fn file_system(entry: &MntEntry) -> FileSystem<'_> {
    let MntEntry { root_dev, fstype, source, options, fsname, .. } = entry;
    (*root_dev, *fstype, source, options, fsname.as_deref())
}

/// The directory of the file system that a mount shows.
fn root(entry: &MntEntry) -> &Path {
    Path::new(OsStr::from_bytes(&entry.root))
}

/// Devices that runtimes bind if they may not make device files, as in a user namespace.
const DEFAULT_DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom"];
