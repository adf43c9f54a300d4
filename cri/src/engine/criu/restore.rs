//! Restores by CRIU: all containers or none, and all run from one moment on.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use criu_archive::record::Record;
use criu_rs::PodRestore;
use criu_rs::oci::{Container, ContainerRestore};

use super::checkpoint::RUNC_CONFIG;
use super::options;
use super::told::Told;
use crate::engine::control::Control;
use crate::engine::error::EngineError;
use crate::engine::options::Options;
use crate::engine::outcome::Started;
use crate::engine::subject::{Place, Target};

/// Restores each container from the folder of its name.
pub(super) fn restore(
    criu: &criu_rs::Criu,
    from: &Path,
    record: &Record,
    into: &Place,
    options: &Options,
    control: &Control<'_>,
) -> Result<Vec<Started>, EngineError> {
    into.check(record)?;
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
    let mut told = Told::new(control, Vec::new());
    let restored = pod.restore(criu, &mut told).map_err(|error| told.reason(error))?;
    let restored = restored.containers.into_iter().zip(&into.containers);
    Ok(restored
        .map(|((name, restored), target)| Started {
            name,
            id: target.id.clone(),
            pid: Some(restored.pid),
        })
        .collect())
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
