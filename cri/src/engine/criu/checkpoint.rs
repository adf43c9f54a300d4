//! Checkpoints by CRIU: all containers at one moment, in runc's form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criu_images::ImageSet;
use criu_images::edit::{Edit, edit_directory, unmarked};
use criu_rs::oci::{Cgroups, Container, ContainerDump};
use criu_rs::{AfterDump, Pod};

use super::Criu;
use super::beside::Looked;
#[cfg(feature = "instant")]
use super::instant;
#[cfg(feature = "instant")]
use super::options::INSTANT;
use super::options::{self, LAZY_MARKS};
use super::told::Told;
use crate::engine::control::{After, Control};
use crate::engine::error::EngineError;
use crate::engine::folders::Folders;
use crate::engine::options::Options;
use crate::engine::outcome::Saved;
#[cfg(feature = "instant")]
use crate::engine::outcome::SavedInstantly;
use crate::engine::seen::Seen;
use crate::engine::subject::{Running, Subject};

/// Saves the containers of a subject, each into a folder of its name.
pub(super) fn checkpoint(
    engine: &Criu,
    what: &Subject,
    to: &Path,
    options: &Options,
    control: &Control<'_>,
) -> Result<Vec<Saved>, EngineError> {
    what.check()?;
    #[cfg(feature = "instant")]
    instant::check(options)?;
    control.left()?;
    let mut folders = Folders::default();
    let (mut dumps, mut cgroups, mut looked) = (Vec::new(), Vec::new(), Vec::new());
    for running in &what.containers {
        let folder = to.join(&running.name);
        let (dump, look) = dump(running, &folder, options, control)
            .map_err(EngineError::container(&running.name))?;
        look.check()?;
        cgroups.extend(look.checkpoint.freezer().map(Path::to_path_buf));
        looked.push(look);
        folders.make(folder)?;
        dumps.push(dump);
    }
    // The processes may not run on.
    let look = |running: &Running| (running.name.clone(), Seen::of(running));
    let mut seen: BTreeMap<String, Seen> = what.containers.iter().map(look).collect();
    let above = above(what)?;
    cgroups.extend(above.clone());
    control.moments.freezing(&cgroups).map_err(EngineError::Hook)?;

    let mut plain: Vec<()> = vec![(); dumps.len()];
    let mut parts = Vec::new();
    for ((running, dump), own) in what.containers.iter().zip(&dumps).zip(&mut plain) {
        let part = dump.parts(own);
        parts.push(part.map_err(EngineError::container(&running.name))?);
    }
    let mut pod = Pod::new();
    for (running, (dump, hooks)) in what.containers.iter().zip(&mut parts) {
        pod = pod.container_with(&running.name, dump.clone(), hooks);
    }
    if let Some(above) = above {
        pod = pod.freeze_cgroup(above);
    }
    if let Some(left) = control.left()? {
        pod = pod.deadline(left);
    }
    if let Some(cancel) = control.cancel {
        pod = pod.cancel(cancel);
    }
    let mut told = Told::new(control, looked);
    let dumped = save(engine, pod, options, control, &mut told)?;
    if options.is_on(LAZY_MARKS) {
        mark(&folders)?;
    }
    folders.keep();
    let arguments = options::arguments(options);
    let saved = dumped.containers.into_iter().map(|container| Saved {
        folder: PathBuf::from(&container.name),
        seen: seen.remove(&container.name).unwrap_or_default(),
        name: container.name,
        frozen: dumped.frozen,
        arguments: arguments.clone(),
        features: options::features(options),
        #[cfg(feature = "instant")]
        instant: container.instant,
    });
    Ok(saved.collect())
}

/// A pod whose images are complete.
pub(super) struct Dumped {
    pub(super) containers: Vec<DumpedContainer>,
    /// Time for which all containers stood still.
    pub(super) frozen: Duration,
}

pub(super) struct DumpedContainer {
    pub(super) name: String,
    #[cfg(feature = "instant")]
    pub(super) instant: Option<SavedInstantly>,
}

/// Dumps a pod in the way that the options ask for, until its images are complete.
fn save(
    engine: &Criu,
    pod: Pod<'_>,
    options: &Options,
    control: &Control<'_>,
    told: &mut Told<'_>,
) -> Result<Dumped, EngineError> {
    #[cfg(feature = "instant")]
    if options.is_on(INSTANT) {
        return instant::save(engine, pod, control, told);
    }
    let dumped = pod.dump(&engine.criu, told).map_err(|error| told.reason(error))?;
    let containers = dumped.containers.into_iter().map(|(name, _)| DumpedContainer {
        name,
        #[cfg(feature = "instant")]
        instant: None,
    });
    Ok(Dumped { containers: containers.collect(), frozen: dumped.frozen })
}

/// Returns the dump of a container, and the container for a look at its processes.
fn dump(
    running: &Running,
    folder: &Path,
    options: &Options,
    control: &Control<'_>,
) -> criu_rs::oci::Result<(ContainerDump<'static>, Looked)> {
    let container = Container::open(&running.bundle)?.default_config_file(RUNC_CONFIG);
    let checkpoint = container.checkpoint(running.pid)?;
    let dump = checkpoint.dump(folder.to_path_buf()).after_dump(match control.after {
        After::Resume => AfterDump::LeaveRunning,
        After::Stop => AfterDump::Kill,
    });
    let mut dump = options::on_dump(dump, options);
    if let Some(deadline) = control.deadline {
        // A criu that does not answer is ended soon, so that the containers run on at the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        dump = dump.grace((left / 10).min(GRACE));
    }
    let looked = Looked { name: running.name.clone(), first: running.pid, checkpoint };
    Ok((dump, looked))
}

/// Returns the directory of the pod's freezer, if the pod has a cgroup of its own.
fn above(what: &Subject) -> Result<Option<PathBuf>, EngineError> {
    let Some(cgroup) = &what.cgroup else { return Ok(None) };
    let found = Cgroups::at(cgroup).and_then(|cgroups| cgroups.freezer());
    let invalid =
        |why: String| EngineError::invalid(format!("the cgroup {}", cgroup.display()), why);
    match found {
        Ok(Some(directory)) => Ok(Some(directory)),
        Ok(None) => {
            let why = "has no freezer here, or this process is in it, too";
            Err(invalid(why.into()))
        }
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// Marks the memory that a lazy restore brings later, where CRIU has set no mark.
fn mark(folders: &Folders) -> Result<(), EngineError> {
    for folder in folders.all() {
        if !unmarked(&ImageSet::open(folder)?)?.is_empty() {
            edit_directory(folder, &[Edit::MarkLazy]).map_err(|error| {
                let what = format!("the images in {}", folder.display());
                EngineError::invalid(what, error.to_string())
            })?;
        }
    }
    Ok(())
}

/// Longest time that a dump which is stopped may take to undo its work by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The configuration file that runc gives CRIU.
pub(super) const RUNC_CONFIG: &str = "/etc/criu/runc.conf";
