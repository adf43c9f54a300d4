//! Looks into a checkpoint: everything that can be told about it, as one value.

mod comparison;
mod container;
mod findings;
mod gpu;
mod place;
mod rootfs;
mod sizes;

use std::collections::{BTreeMap, HashMap, HashSet};

use criu_images::source::Source;
use criu_images::view::{
    Fds, Mems, Mounts, Namespaces, Ps, Rss, Security, Sockets, Summary, Touches,
};
use criu_images::{Checkpoint, DumpStats, Task, Text};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Metadata;
pub use comparison::{Change, Comparison, ProcessChange};
pub use container::{Container, ContainerMount, Network, Pod};
pub use findings::Finding;
use findings::or_finding;
pub use gpu::{AmdGpu, AmdRender, AmdTask, Gpu};
pub use place::Place;
pub use rootfs::{ChangedFile, Rootfs};
pub use sizes::{Sizes, Volume};

/// A part of an inspection that is read only if asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Summary of the checkpoint, and the options that a restore needs.
    Summary,
    /// Process tree.
    Processes,
    /// Command lines. They are in the memory of the tasks: the only part with
    /// [`Environments`](Self::Environments) that reads pages.
    Commands,
    /// Environments of the tasks at their start. They may hold secrets.
    Environments,
    /// Open files.
    Files,
    /// Sockets.
    Sockets,
    /// Mounts of the mount namespaces.
    Mounts,
    /// Namespaces.
    Namespaces,
    /// Amounts of memory of the tasks.
    Memory,
    /// Mappings of the tasks.
    Mappings,
    /// Users, capabilities, labels and seccomp filters.
    Security,
    /// GPUs that the checkpoint used.
    Gpu,
    /// Changed files of the container's root file system.
    Rootfs,
    /// Findings of a check of all images, and of the members of the archive.
    Findings,
}

impl Part {
    /// All parts except environments.
    pub const ALL: &'static [Self] = &[
        Self::Summary,
        Self::Processes,
        Self::Commands,
        Self::Files,
        Self::Sockets,
        Self::Mounts,
        Self::Namespaces,
        Self::Memory,
        Self::Mappings,
        Self::Security,
        Self::Gpu,
        Self::Rootfs,
        Self::Findings,
    ];
}

/// Everything that can be told about a checkpoint. A part that was not asked for is `None`, and
/// absent from the JSON. All strings are harmless for a terminal, as [`Text`] makes them.
///
/// ```
/// use criu_archive::inspection::{Inspection, Part, Place};
///
/// let place = Place::directory("../images/tests/data/pipeline", "")?;
/// let inspection = Inspection::new(&place, Part::ALL)?;
/// println!("{}", inspection.sockets.expect("it was asked for"));
/// # Ok::<(), criu_archive::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Version of the form of the JSON. Within a version, fields are only added.
    pub schema: u32,
    /// Place of the checkpoint.
    pub source: Origin,
    /// Container of the checkpoint; `None` if there is no metadata of an engine.
    pub container: Option<Container>,
    /// Sizes of the parts.
    pub sizes: Sizes,
    /// Counters of the dump; `None` if CRIU's record is not there.
    pub statistics: Option<DumpStats>,
    /// The set is a pre-dump: memory alone, which a later dump builds on.
    pub pre_dump: bool,
    /// The working set that a lazy restore has recorded.
    pub working_set: Option<Touches>,
    /// The reason why a restore ignores the file of the working set.
    pub working_set_fault: Option<String>,
    /// Summary of the checkpoint. Its fields are at the top of the JSON.
    #[serde(flatten)]
    pub summary: Option<Summary>,
    /// Processes; `processes` in the JSON.
    #[serde(flatten)]
    pub ps: Option<Ps>,
    /// Open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<Fds>,
    /// Sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Sockets>,
    /// Mounts of the mount namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Mounts>,
    /// Namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// Amounts of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Rss>,
    /// Mappings of the tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mappings: Option<Mems>,
    /// Users, capabilities, labels and seccomp filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// GPUs that the checkpoint used; `None` also if nothing tells of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Changes of the container's root file system; `None` also if the archive has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Rootfs>,
    /// Findings, the worst first. Parts that could not be read are among them even if no findings
    /// were asked for.
    pub findings: Vec<Finding>,
}

/// Place of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Path of the archive or directory, or name of the image.
    pub name: String,
    /// "archive" or "directory".
    pub kind: &'static str,
    /// Form in which the archive is packed; `None` for a directory.
    pub packing: Option<&'static str>,
    /// Folder of the images, from the top of the archive or directory.
    pub folder: String,
    /// Number of members of the archive; `None` for a directory.
    pub members: Option<usize>,
    /// Annotations of the image that the archive is in.
    pub annotations: BTreeMap<String, String>,
}

impl Inspection {
    /// Looks into a checkpoint. Reads only what the parts need.
    ///
    /// A part that cannot be read is `None`, and the reason is among the findings.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if a part needs the process tree, and the tree cannot be read. A
    /// pre-dump does not have a tree, and no such parts.
    pub fn new(place: &Place, parts: &[Part]) -> Result<Self> {
        Self::of_tasks(place, parts, &[])
    }

    /// Looks into some tasks of a checkpoint. Parts that are not about tasks are of the whole
    /// checkpoint.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); [`ErrorKind::NoTask`] for a pid that no task has.
    pub fn of_tasks(place: &Place, parts: &[Part], pids: &[u32]) -> Result<Self> {
        let (top, images) = (place.top()?, place.images()?);
        let mut faults = Vec::new();
        let wants = |part: Part| parts.contains(&part);
        let pre_dump = place.is_pre_dump();
        // Findings are made without a tree, too.
        let needs_tree = parts.iter().any(|part| !matches!(part, Part::Rootfs | Part::Findings));
        let checkpoint = if needs_tree && !pre_dump { Some(checkpoint(place)?) } else { None };
        let mut inspection = Self {
            schema: SCHEMA,
            source: Origin::new(place),
            container: Container::new(&*top, &mut faults),
            sizes: Sizes::new(place, &*top, &*images),
            statistics: statistics(&*images, &*top, &mut faults),
            pre_dump,
            working_set: None,
            working_set_fault: None,
            summary: None,
            ps: None,
            open_files: None,
            sockets: None,
            mounts: None,
            namespaces: None,
            memory: None,
            mappings: None,
            security: None,
            gpu: None,
            rootfs: None,
            findings: Vec::new(),
        };
        if wants(Part::Rootfs) {
            inspection.rootfs = Rootfs::new(&*top, &mut faults);
        }
        if wants(Part::Gpu) {
            inspection.gpu = Gpu::new(&*images, checkpoint, &mut faults);
        }
        if let Some(checkpoint) = checkpoint {
            let tasks: Vec<Task<'_>> = if pids.is_empty() {
                checkpoint.tasks().collect()
            } else {
                if let Some(pid) = pids.iter().find(|pid| checkpoint.task(**pid).is_none()) {
                    return Err(Error::new(place.name(), ErrorKind::NoTask(*pid)));
                }
                // A parent comes before its children, whatever the order of the pids.
                let pids: HashSet<u32> = pids.iter().copied().collect();
                checkpoint.tasks().filter(|task| pids.contains(&task.pid())).collect()
            };
            inspection.look(place, checkpoint, &tasks, parts, &mut faults);
            inspection.keep(pids);
            inspection.lift(checkpoint, pids);
        }
        if wants(Part::Findings) {
            inspection.findings = findings::of_images(place.set());
            let container = inspection.container.as_ref();
            inspection.findings.extend(findings::of_members(place, container));
        }
        for fault in faults {
            if !inspection.findings.contains(&fault) {
                inspection.findings.push(fault);
            }
        }
        inspection.findings.sort_by_key(|finding| match finding.severity {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        });
        Ok(inspection)
    }

    /// Reads the parts that the images have.
    fn look(
        &mut self,
        place: &Place,
        checkpoint: Checkpoint<'_>,
        tasks: &[Task<'_>],
        parts: &[Part],
        faults: &mut Vec<Finding>,
    ) {
        let set = place.set();
        let wants = |part: Part| parts.contains(&part);
        let mut failed = |error| faults.push(Finding::unread_image("error", &error));
        macro_rules! part {
            ($part:ident, $read:expr) => {
                match wants(Part::$part).then(|| $read).transpose() {
                    Ok(read) => read,
                    Err(error) => {
                        failed(error);
                        None
                    }
                }
            };
        }
        let (commands, environments) = (wants(Part::Commands), wants(Part::Environments));
        let tasks = || tasks.iter().copied();
        self.summary = part!(Summary, {
            if commands { Summary::new(checkpoint) } else { Summary::without_pages(checkpoint) }
        });
        self.ps = part!(Processes, {
            if commands || environments {
                Ps::with_arguments(tasks(), environments)
            } else {
                Ok(Ps::new(tasks()))
            }
        });
        self.open_files = part!(Files, Fds::new(tasks()));
        self.sockets = part!(Sockets, Sockets::new(checkpoint));
        self.mounts = part!(Mounts, Mounts::new(checkpoint));
        self.namespaces = part!(Namespaces, Namespaces::new(checkpoint));
        self.memory = part!(Memory, Rss::new(tasks()));
        self.mappings = part!(Mappings, Mems::new(tasks()));
        self.security = part!(Security, Security::new(tasks()));
        if wants(Part::Summary) {
            let touches = set
                .working_set()
                .map(|found| found.map(|found| Touches::new(checkpoint, &found)).transpose());
            match touches {
                Ok(Ok(touches)) => self.working_set = touches,
                Ok(Err(error)) | Err(error) => self.working_set_fault = Some(error.to_string()),
            }
        }
        // Engines put the record of the dump beside the folder of the images.
        if let (Some(summary), Some(statistics)) = (&mut self.summary, &self.statistics) {
            let frozen = u64::try_from(statistics.frozen.as_micros()).unwrap_or(u64::MAX);
            summary.frozen_us.get_or_insert(frozen);
        }
    }

    /// Leaves out what belongs to other tasks alone.
    fn keep(&mut self, pids: &[u32]) {
        if pids.is_empty() {
            return;
        }
        let pids: HashSet<u32> = pids.iter().copied().collect();
        let listed = |pid: &u32| pids.contains(pid);
        if let Some(all) = &mut self.sockets {
            all.sockets.retain(|socket| socket.holders.iter().any(|at| listed(&at.pid)));
        }
        if let Some(all) = &mut self.mounts {
            all.namespaces.retain(|namespace| namespace.pids.iter().any(listed));
        }
        if let Some(all) = &mut self.namespaces {
            all.namespaces.retain(|namespace| namespace.pids.iter().any(listed));
        }
    }

    /// Counts depths from the tasks that are shown.
    fn lift(&mut self, checkpoint: Checkpoint<'_>, pids: &[u32]) {
        if pids.is_empty() {
            return;
        }
        let shown: HashSet<u32> = pids.iter().copied().collect();
        // Number of shown tasks above each task. A parent comes before its children.
        let mut above: HashMap<u32, usize> = HashMap::new();
        for task in checkpoint.tasks() {
            let parent = task.ppid();
            let depth = above.get(&parent).copied().unwrap_or(0);
            above.insert(task.pid(), depth + usize::from(shown.contains(&parent)));
        }
        for process in self.ps.iter_mut().flat_map(|ps| &mut ps.processes) {
            process.depth = above.get(&process.pid).copied().unwrap_or(0);
        }
    }
}

impl Origin {
    fn new(place: &Place) -> Self {
        let archive = place.in_archive();
        let shown = |text: &str| Text(text.as_bytes()).to_string();
        let annotations = place.annotations().iter();
        Self {
            name: shown(place.name()),
            kind: if archive.is_some() { "archive" } else { "directory" },
            packing: archive.map(|archive| archive.packing().name()),
            folder: shown(place.folder()),
            members: archive.map(|archive| archive.members().count()),
            annotations: annotations.map(|(name, value)| (shown(name), shown(value))).collect(),
        }
    }
}

fn checkpoint(place: &Place) -> Result<Checkpoint<'_>> {
    let checkpoint = place.set().checkpoint();
    checkpoint.map_err(|error| Error::new(place.name(), ErrorKind::Images(error)))
}

/// Reads CRIU's record of the dump: beside the images, or above them.
fn statistics(
    images: &dyn Source,
    top: &dyn Source,
    findings: &mut Vec<Finding>,
) -> Option<DumpStats> {
    let read = |place| Metadata::of("", place).dump_stats();
    let stats = read(images).and_then(|found| match found {
        Some(stats) => Ok(Some(stats)),
        None => read(top),
    });
    or_finding(stats, findings)
}

/// Version of the form of the JSON.
const SCHEMA: u32 = 1;
