//! Files and pipes that the tasks of a snapshot print to.

use std::collections::BTreeSet;
use std::path::Path;

use criu_images::ImageSet;
use criu_images::files::{File, OpenFile};
use criu_images::requirements::RestoreOption;

/// Returns the keys, as `--inherit-fd` has them, of the files and pipes that are standard output
/// and standard error of a task in the images. Images that cannot be read have none: criu will say
/// why.
pub(super) fn keys(images: &Path) -> Vec<String> {
    let found = || {
        let set = ImageSet::open(images)?;
        let mut keys = BTreeSet::new();
        let checkpoint = set.checkpoint()?;
        let lost = checkpoint.half_pipes()?;
        for task in checkpoint.tasks().filter(|task| task.is_alive()) {
            let streams = task.files()?.into_iter().filter(|fd| [1, 2].contains(&fd.number));
            keys.extend(streams.filter_map(|fd| key(fd.file)));
        }
        let is_lost = |key: &String| {
            let same = |option: &RestoreOption| match option {
                RestoreOption::InheritFd { key: lost, .. } => lost == key,
                _ => false,
            };
            !key.starts_with("pipe:") || lost.iter().any(same)
        };
        keys.retain(is_lost);
        Ok::<_, criu_images::Error>(keys.into_iter().collect())
    };
    found().unwrap_or_default()
}

/// Returns the key of a file that is not a device, or of a pipe.
fn key(file: OpenFile<'_>) -> Option<String> {
    match file.file() {
        File::Pipe(pipe) => Some(format!("pipe:[{}]", pipe.pipe_id)),
        File::Regular(_) if !file.is_deleted() => {
            let path = std::str::from_utf8(file.path()?).ok()?;
            let path = path.strip_prefix('/').unwrap_or(path);
            (!path.starts_with("dev/")).then(|| path.to_owned())
        }
        _ => None,
    }
}
