//! Several checkpoints as a table, and the checkpoints of a directory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use criu_archive::inspection::Inspection;
use criu_archive::metadata::Engine;

use super::options::Format;
use super::said;
use super::screen::size;
use super::table::Table;
use crate::archive::Form;
use crate::exit::Exit;
use crate::images::open_place;
use crate::shown::{Shown, write_json};
use crate::tool::Fallible;

/// Paths of the files and directories in a directory that may be checkpoints, by name.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(super) fn below(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(named)? {
        let entry = entry.map_err(named)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A link is left out: it may lead anywhere.
        let kind = entry.file_type().map_err(named)?;
        let is_archive = Form::of_name(&name).is_some() || name.ends_with(".age");
        if kind.is_dir() || (kind.is_file() && is_archive) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Shows several checkpoints. A faulty one is told on standard error, and the others are shown.
pub(super) fn several(
    name: &str,
    paths: &[PathBuf],
    format: Option<Format>,
    out: &mut impl Write,
    table: impl Fn(&[Inspection]) -> String,
) -> Fallible<Exit> {
    let (mut all, mut exit) = (Vec::new(), Exit::Done);
    for path in paths {
        let found = open_place(path)
            .and_then(|place| Inspection::new(&place, &[]).map_err(|error| said(&error)));
        match found {
            Ok(found) if format == Some(Format::Json) => {
                write_json(&mut *out, &found)?;
                writeln!(out)?;
            }
            Ok(found) => all.push(found),
            Err(fault) => {
                eprintln!("{name}: {}", Shown(fault));
                exit = Exit::Failed;
            }
        }
    }
    if format != Some(Format::Json) {
        writeln!(out, "{}", Shown(table(&all)))?;
    }
    Ok(exit)
}

/// Makes the table of several checkpoints.
pub(super) fn table(all: &[Inspection]) -> Table<9> {
    let head = [
        "CONTAINER",
        "IMAGE",
        "ID",
        "RUNTIME",
        "CREATED",
        "ENGINE",
        ">CHECKPOINT",
        ">ROOT FS DIFF",
        "FROM",
    ];
    let mut table = Table::new(head);
    for inspection in all {
        let container = inspection.container.clone().unwrap_or_default();
        let known = |fact: Option<String>| fact.unwrap_or_else(|| "-".to_owned());
        // As many digits as engines show.
        let id = container.id.map(|id| id.chars().take(12).collect());
        table.row([
            known(container.name),
            known(container.image),
            known(id),
            known(container.runtime),
            known(container.created),
            container.engine.map_or("-", Engine::word).to_owned(),
            size(inspection.sizes.checkpoint),
            known(inspection.sizes.rootfs_diff.map(size)),
            inspection.source.name.clone(),
        ]);
    }
    table
}

/// Makes the table of the checkpoints in a directory.
pub(super) fn list(all: &[Inspection]) -> Table<7> {
    let head = ["NAMESPACE", "POD", "CONTAINER", "ENGINE", "CHECKPOINTED", ">SIZE", "NAME"];
    let mut table = Table::new(head);
    for inspection in all {
        let container = inspection.container.clone().unwrap_or_default();
        let pod = container.pod.unwrap_or_default();
        let known = |fact: Option<String>| fact.unwrap_or_else(|| "-".to_owned());
        // The name of a directory ends with the folder of the images.
        let (name, folder) = (Path::new(&inspection.source.name), &inspection.source.folder);
        let is_below = inspection.source.kind == "directory" && !folder.is_empty();
        let name = if is_below { name.parent().unwrap_or(name) } else { name }.file_name();
        table.row([
            known(pod.namespace),
            known(pod.name),
            known(container.name),
            container.engine.map_or("-", Engine::word).to_owned(),
            known(container.checkpointed),
            size(inspection.sizes.unpacked.unwrap_or(inspection.sizes.checkpoint)),
            name.unwrap_or_default().to_string_lossy().into_owned(),
        ]);
    }
    table
}
