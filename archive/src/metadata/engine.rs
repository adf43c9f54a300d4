//! Engines: the programs that keep containers and export their checkpoints.

use std::fmt;

use criu_images::source::Source;
use serde::{Serialize, Serializer};

use super::config::ConfigDump;
use super::names::{
    BIND_MOUNTS, CONTAINERD_LOG, CRIO_LOG, MANAGER, NETWORK_STATUS, PODMAN_LOG, STATUS, STATUS_DUMP,
};
use super::spec::SpecDump;

/// Engine that exported a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Engine {
    /// Podman.
    Podman,
    /// CRI-O.
    CriO,
    /// containerd.
    Containerd,
    /// Another program, such as CRIU itself.
    Unknown,
}

impl Engine {
    /// Word for the engine on command lines and in JSON: `podman`, `cri-o`, `containerd` or
    /// `unknown`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::CriO => "cri-o",
            Self::Containerd => "containerd",
            Self::Unknown => "unknown",
        }
    }

    /// Recognises the engine: by the annotations of `spec.dump`, else by members that only one
    /// engine writes. `top` is the folder of `config.dump`.
    ///
    /// # Errors
    /// The errors of the source.
    pub fn of(
        top: &dyn Source,
        config: Option<&ConfigDump>,
        spec: Option<&SpecDump>,
    ) -> criu_images::Result<Self> {
        match spec.map_or(Self::Unknown, Self::of_spec) {
            Self::Unknown => Self::of_members(top, config),
            engine => Ok(engine),
        }
    }

    /// Recognises the engine by the annotations of `spec.dump`; [`Unknown`](Self::Unknown) if none
    /// of them is an engine's.
    pub(super) fn of_spec(spec: &SpecDump) -> Self {
        match spec.annotations.get(MANAGER).map(String::as_str) {
            Some("libpod") => return Self::Podman,
            Some("cri-o") => return Self::CriO,
            _ => {}
        }
        let has = |start: &str| spec.annotations.keys().any(|key| key.starts_with(start));
        let prefixes = [
            // Before CRI-O, which writes none: an archive of CRI-O that was made one of containerd
            // has both.
            ("io.kubernetes.cri.", Self::Containerd),
            ("io.kubernetes.cri-o.", Self::CriO),
            ("io.podman.annotations.", Self::Podman),
        ];
        let found = prefixes.iter().find(|(start, _)| has(start));
        found.map_or(Self::Unknown, |(_, engine)| *engine)
    }

    /// Recognises the engine by members that only that engine writes.
    fn of_members(top: &dyn Source, config: Option<&ConfigDump>) -> criu_images::Result<Self> {
        if config.is_some_and(ConfigDump::is_podman) {
            return Ok(Self::Podman);
        }
        let members = [
            (BIND_MOUNTS, Self::CriO),
            (CRIO_LOG, Self::CriO),
            (STATUS_DUMP, Self::Containerd),
            (STATUS, Self::Containerd),
            (CONTAINERD_LOG, Self::Containerd),
            (PODMAN_LOG, Self::Podman),
            (NETWORK_STATUS, Self::Podman),
        ];
        let names = top.names()?;
        let found = members.iter().find(|(member, _)| names.iter().any(|name| name == member));
        Ok(found.map_or(Self::Unknown, |(_, engine)| *engine))
    }
}

/// The name as its makers write it.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Podman => "Podman",
            Self::CriO => "CRI-O",
            Self::Containerd => "containerd",
            Self::Unknown => "unknown",
        })
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}
