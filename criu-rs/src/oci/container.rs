//! A container as its bundle describes it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Spec};

use super::cgroups::Cgroups;
use super::error::{Error, Result};
use crate::bounds;
use crate::value::{LsmProfile, MountContext};

/// A container as its bundle describes it: `config.json` and a root file system.
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
    pub(crate) keys: Keys,
    pub(crate) sources: BTreeMap<OsString, PathBuf>,
    pub(crate) trusts_images: bool,
    config_files: Vec<PathBuf>,
}

/// Under which keys a checkpoint remembers its external mounts.
///
/// It matters to the runtime that restores: this crate reads the keys in the images and takes either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keys {
    /// runc's and youki's: masked files as `/dev/null`, everything else by its mount point.
    #[default]
    Runc,
    /// crun's: everything by its mount point.
    Crun,
}

impl Container {
    /// Reads the bundle in a directory.
    ///
    /// # Errors
    /// When `config.json` cannot be read, or names no root file system that is there.
    pub fn open(bundle: impl AsRef<Path>) -> Result<Self> {
        let path = bundle.as_ref().join("config.json");
        let read = || -> std::result::Result<Spec, OciSpecError> {
            let (mut bytes, limit) = (Vec::new(), bounds::CONFIG.get());
            File::open(&path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            if u64::try_from(bytes.len()).map_or(true, |len| len > limit) {
                return Err(OciSpecError::Other(format!("it is longer than {limit} bytes")));
            }
            Ok(serde_json::from_slice(&bytes)?)
        };
        let spec = read().map_err(|source| Error::Config { path: path.clone(), source })?;
        Self::new(spec, bundle)
    }

    /// A container of this specification. Relative paths in it begin at `bundle`.
    ///
    /// # Errors
    /// When it names no root file system that is there.
    pub fn new(spec: Spec, bundle: impl AsRef<Path>) -> Result<Self> {
        let bundle = bundle.as_ref();
        let full = |path: &Path| {
            path.canonicalize().map_err(|source| Error::path("find the directory", path, source))
        };
        let bundle = full(bundle)?;
        let root = spec.root().as_ref();
        let root = root.ok_or_else(|| Error::unsupported("root", "is missing"))?;
        let rootfs = full(&bundle.join(root.path()))?;
        let (cgroups, keys, sources, config_files) = Default::default();
        let trusts_images = false;
        Ok(Self { spec, bundle, rootfs, cgroups, keys, sources, trusts_images, config_files })
    }

    /// The cgroups that the container is in, or is to be in after a restore. Unless set a checkpoint takes those
    /// of the process, and a restore `linux.cgroupsPath` where it is an absolute path.
    pub fn cgroups(mut self, cgroups: Cgroups) -> Self {
        self.cgroups = Some(cgroups);
        self
    }

    /// The keys of external mounts in a checkpoint. [`Keys::Runc`] unless set.
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// What a restore mounts for an external mount of the images that `config.json` does not describe, by its
    /// key. Call it once for each.
    pub fn source(mut self, key: impl Into<OsString>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // CRIU need not be where this process is.
        let path = std::path::absolute(&path).unwrap_or(path);
        self.sources.insert(key.into(), path);
        self
    }

    /// Whether a restore takes the images' word for what they mount.
    ///
    /// Unless it does, images are refused with [`Error::Mount`] that have CRIU mount file systems which
    /// `config.json` does not describe, as a device or an overlay of any directories, or writable what it calls
    /// `ro`; with [`Error::Unsupported`] those that have tasks in a namespace of the machine's where it asks for one
    /// of the container's own. A container that may mount has such mounts of its own making.
    pub fn trust_images(mut self, on: bool) -> Self {
        self.trusts_images = on;
        self
    }

    /// A configuration file that CRIU is to read unless the annotation `org.criu.config` says otherwise, as
    /// `/etc/criu/runc.conf`. Call it once for each: the first that is a file counts.
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

    /// The configuration file that CRIU is to read: the annotation `org.criu.config`, where an empty text means
    /// none, or else the first [default](Self::default_config_file) that is a file.
    pub fn config_file(&self) -> Option<PathBuf> {
        let annotations = self.spec.annotations().as_ref();
        match annotations.and_then(|all| all.get("org.criu.config")) {
            Some(path) if path.is_empty() => None,
            Some(path) => Some(path.into()),
            None => self.config_files.iter().find(|path| path.is_file()).cloned(),
        }
    }

    /// The label or profile of its processes, if it has one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for two, or for one that is no label.
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

    /// The SELinux context of its mounts, if it has one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for one that is no context.
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

    /// The mounts, in their order: where, and what is bound there if it is a bind mount.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = (&Path, Option<Bind>)> {
        let all = self.spec.mounts().iter().flatten();
        all.map(|mount| (mount.destination().as_path(), Bind::of(mount, &self.bundle)))
    }

    /// Whether a mount other than a bind mount, of a type that `is_kind` accepts, is described at a place or above it.
    pub(crate) fn has_mount(&self, point: &Path, is_kind: impl Fn(&str) -> bool) -> bool {
        self.spec.mounts().iter().flatten().any(|mount| {
            let is_above = point.starts_with(Path::new("/").join(mount.destination()));
            is_above && mount.typ().as_deref().is_some_and(&is_kind)
        })
    }

    /// The path of a namespace that exists already.
    pub(crate) fn shared(&self, kind: LinuxNamespaceType) -> Option<&Path> {
        self.namespaces().find(|(found, _)| *found == kind).and_then(|(_, path)| path)
    }

    /// Whether a namespace is not the machine's.
    pub(crate) fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.namespaces().any(|(found, _)| found == kind)
    }

    /// The namespaces, with the paths of those that exist already.
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
    /// With the mounts below its source.
    pub(crate) is_recursive: bool,
    pub(crate) is_read_only: bool,
}

impl Bind {
    fn of(mount: &Mount, bundle: &Path) -> Option<Self> {
        let has = |name: &str| mount.options().iter().flatten().any(|option| option == name);
        let is_bind = mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind");
        let source = mount.source().as_deref().filter(|_| is_bind)?;
        let is_empty = source.as_os_str().is_empty();
        let is_recursive = has("rbind");
        let mut options = mount.options().iter().flatten().map(String::as_str);
        let access = options.rfind(|option| ["ro", "rw"].contains(option));
        let is_read_only = access == Some("ro");
        (!is_empty).then(|| Self { source: bundle.join(source), is_recursive, is_read_only })
    }
}

/// Under which runtimes remember a network namespace that is left out.
pub(crate) const NET_KEY: &str = "extRootNetNS";

/// Under which runtimes remember a pid namespace that is left out.
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
    fn what_is_bound_is_as_its_options_say() {
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "/"}, "mounts": [
            {"destination": "/a", "type": "bind", "source": "x"},
            {"destination": "/b", "source": "/y", "options": ["rbind", "ro", "rw"]},
            {"destination": "/c", "type": "none", "source": "/z", "options": ["bind", "rw", "ro"]},
            {"destination": "/d", "type": "bind", "source": ""},
            {"destination": "/e", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}]}"#;
        let container = container(config);
        let binds: Vec<_> = container
            .mounts()
            .map(|(_, bind)| bind.map(|b| (b.source, b.is_recursive, b.is_read_only)))
            .collect();
        let expected = [
            Some(("/x".into(), false, false)),
            Some(("/y".into(), true, false)),
            Some(("/z".into(), false, true)),
            None,
            None,
        ];
        assert_eq!(binds, expected);
    }
}
