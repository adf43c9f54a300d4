//! Checkpoints by CRIU: all containers at one moment, in runc's form.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use criu_images::ImageSet;
use criu_images::edit::{Edit, edit_directory, unmarked};
use criu_rs::oci::{Cgroups, Container, ContainerDump};
use criu_rs::{AfterDump, HookResult, Pod, PodHooks};

use super::options::{self, LAZY_MARKS};
use crate::engine::control::{After, Control, Moments};
use crate::engine::error::EngineError;
use crate::engine::options::Options;
use crate::engine::outcome::Saved;
use crate::engine::subject::{Running, Subject, is_folder};

/// Saves the containers of a subject, each into a folder of its name.
pub(super) fn checkpoint(
    criu: &criu_rs::Criu,
    what: &Subject,
    to: &Path,
    options: &Options,
    control: &Control<'_>,
) -> Result<Vec<Saved>, EngineError> {
    check(what)?;
    control.left()?;
    let mut folders = Folders::default();
    let (mut dumps, mut cgroups) = (Vec::new(), Vec::new());
    for running in &what.containers {
        let folder = to.join(&running.name);
        let (dump, freezer) = dump(running, &folder, options, control)
            .map_err(EngineError::container(&running.name))?;
        cgroups.extend(freezer);
        folders.make(folder)?;
        dumps.push(dump);
    }
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
    let dumped = pod.dump(criu, &mut Told(control.moments))?;
    if options.is_on(LAZY_MARKS) {
        folders.mark()?;
    }
    folders.keep();
    let arguments = options::arguments(options);
    let saved = dumped.containers.into_iter().map(|(name, _)| Saved {
        folder: PathBuf::from(&name),
        name,
        frozen: dumped.frozen,
        arguments: arguments.clone(),
    });
    Ok(saved.collect())
}

/// Refuses a subject that cannot be saved as a pod.
fn check(what: &Subject) -> Result<(), EngineError> {
    if what.containers.is_empty() {
        return Err(EngineError::invalid("a checkpoint", "no container, wanted one or more"));
    }
    let mut names = HashSet::new();
    for Running { name, .. } in &what.containers {
        let of = || format!("the container `{}`", name.escape_debug());
        if !is_folder(name) {
            return Err(EngineError::invalid(of(), "wanted a name that a folder can have"));
        }
        if !names.insert(name) {
            return Err(EngineError::invalid(of(), "another container has this name, too"));
        }
    }
    Ok(())
}

/// Returns the dump of a container, and the cgroup that it freezes.
fn dump(
    running: &Running,
    folder: &Path,
    options: &Options,
    control: &Control<'_>,
) -> criu_rs::oci::Result<(ContainerDump<'static>, Option<PathBuf>)> {
    let container = Container::open(&running.bundle)?.default_config_file(RUNC_CONFIG);
    let checkpoint = container.checkpoint(running.pid)?;
    let freezer = checkpoint.freezer().map(Path::to_path_buf);
    let dump = checkpoint.dump(folder.to_path_buf()).after_dump(match control.after {
        After::Resume => AfterDump::LeaveRunning,
        After::Stop => AfterDump::Kill,
    });
    Ok((options::on_dump(dump, options), freezer))
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

/// Folders that were made for images. They are removed with this value.
#[derive(Default)]
struct Folders(Vec<PathBuf>);

impl Folders {
    fn make(&mut self, folder: PathBuf) -> Result<(), EngineError> {
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(EngineError::io("make the directory", &folder))?;
        self.0.push(folder);
        Ok(())
    }

    /// Marks the memory that a lazy restore brings later, where CRIU has set no mark.
    fn mark(&self) -> Result<(), EngineError> {
        for folder in &self.0 {
            if !unmarked(&ImageSet::open(folder)?)?.is_empty() {
                edit_directory(folder, &[Edit::MarkLazy]).map_err(|error| {
                    EngineError::invalid(
                        format!("the images in {}", folder.display()),
                        error.to_string(),
                    )
                })?;
            }
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Hands the moments of a pod on.
struct Told<'a>(&'a dyn Moments);

impl PodHooks for Told<'_> {
    fn frozen(&mut self) -> HookResult {
        self.0.frozen()
    }

    fn saved(&mut self) -> HookResult {
        self.0.saved()
    }
}

/// The configuration file that runc gives CRIU.
pub(super) const RUNC_CONFIG: &str = "/etc/criu/runc.conf";
