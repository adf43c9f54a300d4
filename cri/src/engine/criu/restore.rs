//! Restores by CRIU: all containers or none, and all run from one moment on.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use criu_rs::oci::{Container, ContainerRestore};
use criu_rs::{HookResult, PodHooks, PodRestore};

use super::checkpoint::RUNC_CONFIG;
use super::options;
use crate::engine::control::{Control, Moments};
use crate::engine::error::EngineError;
use crate::engine::options::Options;
use crate::engine::outcome::Started;
use crate::engine::record::Record;
use crate::engine::subject::{Place, Target, is_folder};

/// Restores each container from the folder of its name.
pub(super) fn restore(
    criu: &criu_rs::Criu,
    from: &Path,
    record: &Record,
    into: &Place,
    options: &Options,
    control: &Control<'_>,
) -> Result<Vec<Started>, EngineError> {
    check(record, into)?;
    control.left()?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(EngineError::io("open", "/dev/null"))?;
    let mut prepared = Vec::new();
    for target in &into.containers {
        let images = from.join(&target.name);
        let restore = prepare(target, &images, &into.state, options, null.as_fd());
        prepared.push(restore.map_err(EngineError::container(&target.name))?);
    }
    let mut pod = PodRestore::new();
    for (target, restore) in into.containers.iter().zip(&prepared) {
        pod = pod.container(
            &target.name,
            restore.for_pod().map_err(EngineError::container(&target.name))?,
        );
    }
    if let Some(left) = control.left()? {
        pod = pod.deadline(left);
    }
    if let Some(cancel) = control.cancel {
        pod = pod.cancel(cancel);
    }
    let restored = pod.restore(criu, &mut Told(control.moments))?;
    let restored = restored.containers.into_iter().zip(&into.containers);
    Ok(restored
        .map(|((name, restored), target)| Started {
            name,
            id: target.id.clone(),
            pid: Some(restored.pid),
        })
        .collect())
}

/// Refuses a place that does not name exactly the containers of the record.
fn check(record: &Record, into: &Place) -> Result<(), EngineError> {
    let saved: BTreeSet<&str> = record.containers.iter().map(|(name, _)| name.as_str()).collect();
    let wanted: BTreeSet<&str> =
        into.containers.iter().map(|target| target.name.as_str()).collect();
    let names = |names: &BTreeSet<&str>| {
        let shown: Vec<_> = names.iter().map(|name| name.escape_debug().to_string()).collect();
        if shown.is_empty() { "none".into() } else { shown.join(", ") }
    };
    if saved != wanted || wanted.len() != into.containers.len() {
        let why = format!("found {}, wanted {}", names(&wanted), names(&saved));
        return Err(EngineError::invalid("the containers to restore", why));
    }
    match into.containers.iter().find(|target| !is_folder(&target.name)) {
        Some(target) => {
            let what = format!("the container `{}`", target.name.escape_debug());
            Err(EngineError::invalid(what, "wanted a name that a folder can have"))
        }
        None => Ok(()),
    }
}

/// Makes what the restore of a container needs to find. Pipes of its standard streams lead to
/// `null`.
fn prepare<'a>(
    target: &Target,
    images: &Path,
    state: &Path,
    options: &Options,
    null: BorrowedFd<'a>,
) -> criu_rs::oci::Result<ContainerRestore<'a>> {
    let container = Container::open(&target.bundle)?.default_config_file(RUNC_CONFIG);
    let restore = container.restore(images)?.prepare(state)?;
    Ok(options::on_restore(restore.stdio([null; 3]), options))
}

/// Hands the moments of a pod on.
struct Told<'a>(&'a dyn Moments);

impl PodHooks for Told<'_> {
    fn restored(&mut self) -> HookResult {
        self.0.restored()
    }
}
