//! Records of checkpoints: which tool made a checkpoint, of what, on which machine.
//!
//! A [`Record`] is the file `criu-record.json` beside the checkpoints of one or several containers.
//! The directory may be in an archive. Whoever calls the tool writes the record: the pod, the tool
//! of each container with its version, each file with its size and digest, and the machine.
//!
//! ```text
//! directory or archive       read                       compare
//!
//! criu-record.json       ┐
//! checkpoint-manifest    ├▶ Holder ─▶ Record ┐
//! the files of the tools ┘    │              ├▶ verify ─▶ Finding, the worst first
//!                             └──────────────┤
//! /proc, PROGRAM --version ─▶ Host ──────────┘
//! ```
//!
//! # Example
//!
//! ```
//! use criu_archive::UNWATCHED;
//! use criu_archive::record::{
//!     Container, File, Holder, Host, Pod, Program, Record, Role, State, Tool, ToolKind,
//! };
//!
//! # let directory = std::env::temp_dir().join(format!("criu-record-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! // A tool has written this file.
//! std::fs::write(directory.join("web.tar"), b"the checkpoint")?;
//!
//! let mut record = Record::new("example 1.0");
//! record.pod = Some(Pod::new("shop", "default", "5a5a-6b6b"));
//! record.host = Some(Host::here());
//! let mut web = Container::new("web", "aa11", Tool::new(ToolKind::Criu, "4.3"));
//! let holder = Holder::open(&directory)?;
//! web.files.push(File::measured(&holder, "web.tar", Role::Archive, UNWATCHED)?);
//! record.containers.push(web);
//! record.state.advance(State::Complete)?;
//! record.write(&directory)?;
//!
//! // Later, and perhaps on another machine.
//! let record = Record::open(&directory)?;
//! let mut host = Host::here();
//! host.programs = Some(vec![Program::new(ToolKind::Criu, "4.1.1", "/usr/sbin/criu")]);
//! let findings = record.verify(&host, &Holder::open(&directory)?, UNWATCHED)?;
//! assert_eq!(
//!     findings[0].to_string(),
//!     "error: container web: criu 4.3 made the checkpoint, 4.1.1 is here; that version or a \
//!      newer one is wanted"
//! );
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Trust
//!
//! Records may come from anywhere. Whatever their bytes are, reading ends in a result or in an
//! [`Error`]. Sizes and numbers of values are bounded as those of all JSON
//! ([`METADATA`](crate::bounds::METADATA)). The paths of files lead to files beside the record, and
//! links are not followed. A digest tells that a file is the one that was recorded; who has
//! written the record itself is not proved.
//!
//! Fields that have no name here stay in the `other` of their object, and are written again when
//! the record is.

mod bytes;
mod container;
mod engines;
mod file;
mod finding;
mod gpu;
mod heads;
mod here;
mod hidden;
mod holder;
mod host;
mod pod;
mod program;
mod state;
mod tool;
mod verify;
mod words;

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::metadata::json::{self, is_empty};
use crate::metadata::{Other, Time};
use crate::write::NewFile;

pub use bytes::Wire;
pub use container::{Connection, Container, Image, Mount, Needs};
pub use file::{File, Role};
pub use finding::{About, Finding};
pub use gpu::{GpuDevice, GpuProcess, GpuStorage, Gpus};
pub use holder::Holder;
pub use host::{CgroupVersion, Cgroups, Cpu, Host, Lsm, Program};
pub use pod::Pod;
pub use state::{State, WrongState};
pub use tool::{Tool, ToolKind};

/// Name of the record's file.
pub const RECORD: &str = "criu-record.json";

/// Version of the form that this crate writes. Within a version, fields are only added.
pub const VERSION: u32 = 1;

/// The record of a directory or archive with checkpoints of one or several containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Record {
    /// Version of the form: 1.
    pub version: u32,
    /// Program that wrote the record, and its version: `criu-cri 0.1.0`.
    pub made_by: String,
    /// Time of the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// State of the checkpoint.
    pub state: State,
    /// The pod; `None` for containers outside of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The containers, in the order in which they were saved.
    pub containers: Vec<Container>,
    /// Files of the pod as a whole: the checkpoint of a tool that saves a whole sandbox.
    #[serde(skip_serializing_if = "is_empty")]
    pub files: Vec<File>,
    /// Namespaces that the containers share, by the names of `/proc/PID/ns`.
    #[serde(skip_serializing_if = "is_empty")]
    pub shared_namespaces: Vec<String>,
    /// Names of the containers in the order in which they started. A restore starts them so.
    #[serde(skip_serializing_if = "is_empty")]
    pub order: Vec<String>,
    /// Names of init containers that had ended, and do not run again.
    #[serde(skip_serializing_if = "is_empty")]
    pub completed_init: Vec<String>,
    /// The machine, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// GPUs that the containers used, if they used any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Record {
    /// Makes the record of a checkpoint that begins.
    pub fn new(made_by: impl Into<String>) -> Self {
        Self { version: VERSION, made_by: made_by.into(), ..Self::default() }
    }

    /// Opens the record in a directory or archive.
    ///
    /// # Errors
    /// The errors of [`Holder::open`] and of [`read`](Self::read).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::read(&Holder::open(path)?)
    }

    /// Reads the record of a directory or archive.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`]; the errors of [`Holder::bytes`] and of [`parse`](Self::parse).
    pub fn read(holder: &Holder) -> Result<Self> {
        let blob = holder.bytes(RECORD)?.ok_or_else(|| holder.fault(RECORD, ErrorKind::Missing))?;
        let parsed = json::bytes(&blob, crate::bounds::METADATA.get());
        let parsed = parsed.and_then(|bytes| parse(&bytes));
        parsed.map_err(|fault| holder.fault(RECORD, fault))
    }

    /// Parses a record.
    ///
    /// # Errors
    /// [`ErrorKind::TooMany`], [`ErrorKind::Json`]; [`ErrorKind::Value`] for a newer version;
    /// [`ErrorKind::Refused`] for a path that leads out of the directory, and for two files or two
    /// containers of one name.
    pub fn parse(json: &[u8]) -> Result<Self> {
        parse(json).map_err(|fault| Error::new(RECORD, fault))
    }

    /// Writes the record into a directory, as a new file that takes the place of an older record
    /// when it is complete and on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Write`]; the errors of [`parse`](Self::parse) for a record that could not be
    /// read.
    pub fn write(&self, directory: impl AsRef<Path>) -> Result<()> {
        let path = directory.as_ref().join(RECORD);
        let fail = |fault: Fault| Error::new(path.to_string_lossy(), fault);
        let json = self.to_json().map_err(|error| fail(error.into_fault()))?;
        let write = || {
            let mut file = NewFile::create(&path)?;
            file.write_all(&json)?;
            file.keep()
        };
        write().map_err(|error| fail(ErrorKind::Write(error).into()))
    }

    /// Returns the record as JSON on several lines.
    ///
    /// # Errors
    /// The errors of [`parse`](Self::parse) for a record that could not be read.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let fail = |fault: Fault| Error::new(RECORD, fault);
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|error| fail(json::fault(&error).into()))?;
        json.push(b'\n');
        let limit = crate::bounds::METADATA.get();
        if json.len() as u64 > limit {
            return Err(fail(ErrorKind::TooLarge { size: json.len() as u64, limit }.into()));
        }
        parse(&json).map_err(fail)?;
        Ok(json)
    }

    /// Finds a container by its name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// All files: those of the pod, then those of each container.
    pub fn all_files(&self) -> impl Iterator<Item = &File> {
        let own = self.containers.iter().flat_map(|container| &container.files);
        self.files.iter().chain(own)
    }

    /// Fails for a record that nobody may act upon.
    fn check(&self) -> Result<(), Fault> {
        if self.version != VERSION {
            let want = "1, the version of the record";
            return Err(ErrorKind::Value { found: self.version.into(), want }.into());
        }
        let limit = MOST_CONTAINERS;
        if self.containers.len() > limit {
            return Err(ErrorKind::TooMany { what: "containers", limit: limit as u64 }.into());
        }
        let mut names = HashSet::new();
        for container in &self.containers {
            let name = &*container.name;
            if name.is_empty() || !names.insert(name) {
                return Err(ErrorKind::Refused(NAMES).into());
            }
        }
        let mut paths = HashSet::new();
        for file in self.all_files() {
            if !file::is_local(&file.path) || file.path == RECORD {
                return Err(Fault::from(ErrorKind::Refused(PLACE)).of(&*file.path));
            }
            if !paths.insert(&*file.path) {
                return Err(Fault::from(ErrorKind::Refused(TWICE)).of(&*file.path));
            }
        }
        Ok(())
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            version: 0,
            made_by: String::new(),
            time: None,
            state: State::Capturing,
            pod: None,
            containers: Vec::new(),
            files: Vec::new(),
            shared_namespaces: Vec::new(),
            order: Vec::new(),
            completed_init: Vec::new(),
            host: None,
            gpus: None,
            other: Other::new(),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Record, Fault> {
    let record: Record = json::parse(bytes)?;
    record.check()?;
    Ok(record)
}

/// Most containers of a record. containerd has the same limit.
const MOST_CONTAINERS: usize = 1024;
const NAMES: &str = "two of its containers have one name, or a container has none";
const PLACE: &str = "the path of a file does not lead to a file beside the record";
const TWICE: &str = "the record names the file twice";
