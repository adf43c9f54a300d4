//! The record of a checkpoint that an engine has made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use criu_archive::UNWATCHED;
use criu_archive::metadata::Time;
use criu_archive::record::{Container, File, Holder, Host, Record, Role};

use super::Engine;
use super::error::EngineError;
use super::outcome::Saved;
use super::seen::gpus;
use super::subject::Subject;

/// Makes the record of a checkpoint: its tool, its containers, their files with sizes and digests,
/// and this machine. The state of the record is `capturing`, and it is not written.
///
/// Files in a folder that several containers share are files of the pod.
///
/// # Errors
/// When the tool does not answer, or a file cannot be read.
pub fn describe(
    made_by: &str,
    engine: &dyn Engine,
    what: &Subject,
    saved: &[Saved],
    directory: &Path,
) -> Result<Record, EngineError> {
    let own = engine.tool()?;
    let holder = Holder::open(directory)?;
    let mut record = Record::new(made_by);
    record.time = now();
    let mut host = Host::here();
    host.programs = Some(vec![engine.program()?]);
    record.gpus = gpus(saved, &host);
    record.host = Some(host);
    let mut owners: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (n, one) in saved.iter().enumerate() {
        let id = what.containers.iter().find(|running| running.name == one.name);
        let id = id.map(|running| running.id.as_str()).unwrap_or_default();
        let mut container = Container::new(one.name.as_str(), id, own.clone());
        one.describe(&mut container);
        record.containers.push(container);
        record.order.push(one.name.clone());
        owners.entry(&one.folder).or_default().push(n);
    }
    for (folder, owners) in owners {
        let files = files(&holder, directory, folder)?;
        match owners[..] {
            [only] if what.sandbox.is_none() || folder == Path::new(&saved[only].name) => {
                if let Some(container) = record.containers.get_mut(only) {
                    container.files = files;
                }
            }
            _ => record.files.extend(files),
        }
    }
    Ok(record)
}

/// Measures the files of a folder.
fn files(holder: &Holder, directory: &Path, folder: &Path) -> Result<Vec<File>, EngineError> {
    let path = directory.join(folder);
    let failed = |error| EngineError::io("read the directory", path.clone())(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let measure = |name: String| {
        let file = format!("{}/{name}", folder.display());
        Ok(File::measured(holder, file, role(&name), UNWATCHED)?)
    };
    names.into_iter().map(measure).collect()
}

/// Returns the use of a file of a tool.
fn role(name: &str) -> Role {
    let is = |ending: &str| name.ends_with(ending);
    match name {
        _ if is(".log") || name.starts_with("stats-") => Role::Log,
        "descriptors.json" => Role::Config,
        _ if name.starts_with("pages-") || name == "pages.img" => Role::Pages,
        _ => Role::Image,
    }
}

fn now() -> Option<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Time::new(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos())
}
