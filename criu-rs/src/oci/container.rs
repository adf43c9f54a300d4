//! A container, as its bundle describes it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Spec};

use super::cgroups::Cgroups;
use super::error::{Error, Result};
use super::freezer::Freezer;
use crate::bounds;
use crate::value::{LsmProfile, MountContext};

/// A container, described by its bundle: `config.json` and a root file system.
///
/// Whoever writes `config.json` has the rights of this process: the file names hooks to execute,
/// paths to bind, namespaces to join and a configuration file for CRIU. The root file system is not
/// trusted, nor are images: see [`trust_images`](Self::trust_images). Links in the root lead
/// nowhere outside, mount points are made in the root's own mount alone, and nothing in the root is
/// opened for reading or executed.
///
/// ```no_run
/// use criu_rs::Criu;
/// use criu_rs::oci::Container;
///
/// let container = Container::open("/run/bundles/web")?;
/// let checkpoint = container.checkpoint("4711".parse()?)?;
/// checkpoint.dump("/ckpt/web").run(&Criu::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Container {
    spec: Spec,
    bundle: PathBuf,
    rootfs: PathBuf,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) freezer: Freezer,
    pub(crate) keys: Keys,
    pub(crate) sources: BTreeMap<OsString, PathBuf>,
    pub(crate) trusts_images: bool,
    config_files: Vec<PathBuf>,
}

/// The keys by which a checkpoint remembers its external mounts.
///
/// The choice matters to a runtime that restores. This crate reads the keys in the images and takes
/// either kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keys {
    /// Keys of runc and youki: `/dev/null` for masked files, the mount point for everything else.
    #[default]
    Runc,
    /// Keys of crun: the mount point for everything.
    Crun,
}

impl Container {
    /// Reads the bundle in a directory. `config.json` is read once, here: later changes of the file
    /// have no effect.
    ///
    /// # Errors
    /// When `config.json` cannot be read, or the root file system that it names does not exist.
    pub fn open(bundle: impl AsRef<Path>) -> Result<Self> {
        let path = bundle.as_ref().join("config.json");
        let read = || -> std::result::Result<Spec, OciSpecError> {
            let (mut bytes, limit) = (Vec::new(), bounds::CONFIG.get());
            // Opened without a wait: it may be a FIFO.
            let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(OciSpecError::Other("it is not a regular file".into()));
            }
            file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            if u64::try_from(bytes.len()).map_or(true, |len| len > limit) {
                return Err(OciSpecError::Other(format!(
                    "the file is longer than the limit of {limit} bytes"
                )));
            }
            Ok(serde_json::from_slice(&bytes)?)
        };
        let spec = read().map_err(|source| {
            let source = source.into();
            Error::Config { path: path.clone(), source }
        })?;
        Self::new(spec, bundle)
    }

    /// A container with this specification. Relative paths in it begin at `bundle`.
    ///
    /// # Errors
    /// When the root file system that it names does not exist.
    pub fn new(spec: Spec, bundle: impl AsRef<Path>) -> Result<Self> {
        let bundle = bundle.as_ref();
        let full = |path: &Path| {
            path.canonicalize().map_err(|source| Error::path("find the directory", path, source))
        };
        let bundle = full(bundle)?;
        let root = spec.root().as_ref();
        let root = root.ok_or_else(|| Error::unsupported("root", "is missing"))?;
        let rootfs = full(&bundle.join(root.path()))?;
        let (cgroups, freezer, keys, sources, config_files) = Default::default();
        Ok(Self {
            spec,
            bundle,
            rootfs,
            cgroups,
            freezer,
            keys,
            sources,
            trusts_images: false,
            config_files,
        })
    }

    /// Sets the cgroups of the container, now or after a restore. By default a checkpoint takes the
    /// cgroups of the first process, and a restore takes `linux.cgroupsPath` if that is an absolute
    /// path.
    pub fn cgroups(mut self, cgroups: Cgroups) -> Self {
        self.cgroups = Some(cgroups);
        self
    }

    /// Sets the cgroup that stops the container during a dump. The default is the container's own,
    /// [`Freezer::Container`].
    pub fn freezer(mut self, freezer: Freezer) -> Self {
        self.freezer = freezer;
        self
    }

    /// Sets the keys of external mounts in a checkpoint. The default is [`Keys::Runc`].
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Names the source of an external mount of the images, by its key, for a mount that
    /// `config.json` does not describe. Call it once for each mount.
    pub fn source(mut self, key: impl Into<OsString>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // CRIU need not be where this process is.
        let path = std::path::absolute(&path).unwrap_or(path);
        self.sources.insert(key.into(), path);
        self
    }

    /// Allows a restore to mount whatever the images say. Containers that mount file systems
    /// themselves need it.
    ///
    /// By default a restore refuses images
    ///
    /// * with [`Error::Mount`], if CRIU would mount a file system that `config.json` does not
    ///   describe, such as a device or an overlay of any directories, or if it would mount writable
    ///   what `config.json` calls `ro`;
    /// * with [`Error::Unsupported`], if tasks are in a namespace of the machine and `config.json`
    ///   asks for a namespace of the container's own.
    pub fn trust_images(mut self, on: bool) -> Self {
        self.trusts_images = on;
        self
    }

    /// Adds a configuration file for CRIU, such as `/etc/criu/runc.conf`. CRIU reads the first of
    /// them that is a file, unless the annotation `org.criu.config` names another.
    pub fn default_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_files.push(path.into());
        self
    }

    /// The specification.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The bundle's directory.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The directory that is the container's root.
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The configuration file that CRIU is to read: the one in the annotation `org.criu.config`, or
    /// else the first [default](Self::default_config_file) that is a file. An empty annotation
    /// means no file.
    pub fn config_file(&self) -> Option<PathBuf> {
        let annotations = self.spec.annotations().as_ref();
        match annotations.and_then(|all| all.get("org.criu.config")) {
            Some(path) if path.is_empty() => None,
            Some(path) => Some(path.into()),
            None => self.config_files.iter().find(|path| path.is_file()).cloned(),
        }
    }

    /// The security label of the container's processes: an SELinux label or an AppArmor profile.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `config.json` has both, or a text that is not a label.
    pub fn lsm_profile(&self) -> Result<Option<LsmProfile>> {
        let process = self.spec.process().as_ref();
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let selinux = process.and_then(|process| some(process.selinux_label()));
        let apparmor = process.and_then(|process| some(process.apparmor_profile()));
        let invalid = |field| {
            move |error: crate::value::InvalidValue| Error::unsupported(field, error.to_string())
        };
        match (selinux, apparmor) {
            (Some(_), Some(_)) => {
                let why = "and process.apparmorProfile: CRIU restores one of them";
                Err(Error::unsupported("process.selinuxLabel", why))
            }
            (Some(label), None) => {
                LsmProfile::selinux(label).map(Some).map_err(invalid("process.selinuxLabel"))
            }
            (None, Some(profile)) => {
                LsmProfile::apparmor(profile).map(Some).map_err(invalid("process.apparmorProfile"))
            }
            (None, None) => Ok(None),
        }
    }

    /// The SELinux context of the container's mounts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a text that is not a context.
    pub fn mount_context(&self) -> Result<Option<MountContext>> {
        let label = self.linux().and_then(|linux| linux.mount_label().as_deref());
        let label = label.filter(|label| !label.is_empty());
        let context = label.map(str::parse).transpose();
        context.map_err(|error: crate::value::InvalidValue| {
            Error::unsupported("linux.mountLabel", error.to_string())
        })
    }

    pub(crate) fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }

    /// The mounts, in their order: each mount point, and what is bound there if it is a bind mount.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = (&Path, Option<Bind>)> {
        let all = self.spec.mounts().iter().flatten();
        all.map(|mount| (mount.destination().as_path(), Bind::of(mount, &self.bundle)))
    }

    /// Says whether `config.json` describes a mount at `point` or above it that is not a bind mount
    /// and has a type that `is_kind` accepts.
    pub(crate) fn has_mount(&self, point: &Path, is_kind: impl Fn(&str) -> bool) -> bool {
        self.spec.mounts().iter().flatten().any(|mount| {
            let is_above = point.starts_with(Path::new("/").join(mount.destination()));
            is_above && mount.typ().as_deref().is_some_and(&is_kind)
        })
    }

    /// The path of a namespace that the container shares.
    pub(crate) fn shared(&self, kind: LinuxNamespaceType) -> Option<&Path> {
        self.namespaces().find(|(found, _)| *found == kind).and_then(|(_, path)| path)
    }

    /// Says whether the container has a namespace other than the machine's.
    pub(crate) fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|(found, _)| found == kind)
    }

    /// The namespaces, with the paths of the shared ones.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (LinuxNamespaceType, Option<&Path>)> {
        let all = self.linux().and_then(|linux| linux.namespaces().as_ref());
        all.into_iter().flatten().map(|namespace| {
            let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
            (namespace.typ(), path)
        })
    }

    /// Refuses namespaces that CRIU can neither leave out nor join.
    pub(crate) fn refuse_namespaces(&self) -> Result<()> {
        for kind in [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup] {
            if let Some(path) = self.shared(kind) {
                let why = format!(
                    "CRIU cannot have a container share the {kind} namespace at {}",
                    path.display()
                );
                return Err(Error::unsupported("linux.namespaces", why));
            }
        }
        Ok(())
    }
}

/// A bind mount of a specification.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    /// Set for a mount that shows the mounts below its source, too.
    pub(crate) is_recursive: bool,
    pub(crate) is_read_only: bool,
    /// Set for a mount that is read-only with the mounts below its source.
    pub(crate) is_read_only_below: bool,
}

impl Bind {
    fn of(mount: &Mount, bundle: &Path) -> Option<Self> {
        let has = |name: &str| mount.options().iter().flatten().any(|option| option == name);
        let is_bind = mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind");
        let source = mount.source().as_deref().filter(|_| is_bind)?;
        let is_empty = source.as_os_str().is_empty();
        let is_recursive = has("rbind");
        let last = |words: [&str; 2]| {
            let mut options = mount.options().iter().flatten().map(String::as_str);
            options.rfind(|option| words.contains(option))
        };
        let is_read_only_below = last(["rro", "rrw"]) == Some("rro");
        let is_read_only = is_read_only_below || last(["ro", "rw"]) == Some("ro");
        let source = bundle.join(source);
        (!is_empty).then_some(Self { source, is_recursive, is_read_only, is_read_only_below })
    }
}

/// The key by which runtimes remember a network namespace that is left out.
pub(crate) const NET_KEY: &str = "extRootNetNS";

/// The key by which runtimes remember a pid namespace that is left out.
pub(crate) const PID_KEY: &str = "extRootPidNS";

#[cfg(test)]
mod tests {
    use super::*;

    fn container(config: &str) -> Container {
        Container::new(serde_json::from_str(config).unwrap(), "/").unwrap()
    }

    #[test]
    fn a_configuration_file_is_that_of_the_annotation_or_the_first_default_there_is() {
        let with = |annotations: &str| {
            let start = r#"{"ociVersion": "1.0.2", "root": {"path": "/"}, "annotations": "#;
            let container = container(&format!("{start}{annotations}}}"));
            let container = container.default_config_file("/no/such/file");
            container.default_config_file("/proc/self/status").config_file()
        };
        assert_eq!(with("{}"), Some("/proc/self/status".into()));
        assert_eq!(with(r#"{"org.criu.config": ""}"#), None);
        assert_eq!(with(r#"{"org.criu.config": "/x"}"#), Some("/x".into()));
    }

    #[test]
    fn a_configuration_that_is_no_file_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("criu-rs-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&dir.join("config.json"), mode).unwrap();
        let error = Container::open(&dir).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let said = format!("{error}: {source:?}");
        assert!(said.contains("not a regular file"), "{said}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_bound_is_as_its_options_say() {
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "/"}, "mounts": [
            {"destination": "/a", "type": "bind", "source": "x"},
            {"destination": "/b", "source": "/y", "options": ["rbind", "ro", "rw"]},
            {"destination": "/c", "type": "none", "source": "/z", "options": ["bind", "rw", "ro"]},
            {"destination": "/d", "type": "bind", "source": ""},
            {"destination": "/e", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]},
            {"destination": "/f", "source": "/f", "options": ["rbind", "rw", "rro"]},
            {"destination": "/g", "source": "/g", "options": ["rbind", "rro", "rrw"]}]}"#;
        let container = container(config);
        let binds: Vec<_> = container
            .mounts()
            .map(|(_, bind)| {
                bind.map(|b| (b.source, b.is_recursive, b.is_read_only, b.is_read_only_below))
            })
            .collect();
        let expected = [
            Some(("/x".into(), false, false, false)),
            Some(("/y".into(), true, false, false)),
            Some(("/z".into(), false, true, false)),
            None,
            None,
            Some(("/f".into(), true, true, true)),
            Some(("/g".into(), true, false, false)),
        ];
        assert_eq!(binds, expected);
    }
}
