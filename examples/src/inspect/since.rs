//! Differences between two checkpoints, as a tree with marks.

use std::io::Write;
use std::path::Path;

use criu_archive::inspection::{Change, Comparison, Origin, ProcessChange};
use criu_images::{Changes, TaskDiff};

use super::options::{Format, Inspect, Sections};
use super::tree::Tree;
use super::{said, with_processes};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::open_place;
use crate::shown::{Shown, write_json};
use crate::tool::Fallible;

impl Inspect {
    /// Shows what has changed since an older checkpoint.
    pub(super) fn compare(
        &self,
        old: &Path,
        format: Option<Format>,
        out: &mut impl Write,
    ) -> Fallible<Exit> {
        let [new] = &self.checkpoints[..] else {
            return Err(Fault::usage("--since compares with one checkpoint").into());
        };
        let (old, new) = (open_place(old)?, open_place(new)?);
        with_processes(&old)?;
        with_processes(&new)?;
        let Sections { ps_tree_env, files, sockets, mappings, all, .. } = self.sections;
        let found = Comparison::new(&old, &new, ps_tree_env).map_err(|error| said(&error))?;
        // Without a choice, all but single mappings is shown.
        let is_chosen = files || sockets || mappings;
        let choice = Choice {
            files: files || all || !is_chosen,
            sockets: sockets || all || !is_chosen,
            mappings: mappings || all,
            unchanged: self.show_unchanged,
        };
        match format {
            Some(Format::Json) => write_json(&mut *out, &found)?,
            _ => write!(out, "{}", Shown(tree(&found, choice)))?,
        }
        writeln!(out)?;
        Ok(Exit::Done)
    }
}

/// Differences that are shown.
#[derive(Clone, Copy, Debug)]
struct Choice {
    files: bool,
    sockets: bool,
    mappings: bool,
    unchanged: bool,
}

/// Makes the tree. "+" marks what is new, "-" what is gone, "~" what has changed.
fn tree(found: &Comparison, choice: Choice) -> Tree {
    let mut tree = Tree::default();
    let (new, old) = (&found.new, &found.old);
    let is_one = new.name == old.name && new.folder != old.folder;
    let name = |origin: &Origin| match &*origin.folder {
        folder if is_one && !folder.is_empty() => format!("{}:{folder}", origin.name),
        _ => origin.name.clone(),
    };
    tree.add(0, format!("{} since {}", name(new), name(old)));
    if !found.container.is_empty() {
        tree.add(1, "container");
        found.container.iter().for_each(|change| tree.add(2, line(change)));
    }
    if found.is_empty() && !choice.unchanged {
        tree.add(1, "nothing has changed");
        return tree;
    }
    let lines = lines(&found.processes, choice.unchanged);
    if lines.contains(&true) {
        tree.add(1, "processes");
    }
    for (process, _) in found.processes.iter().zip(lines).filter(|(_, shown)| *shown) {
        let depth = process.depth.saturating_add(2);
        tree.add(depth, headline(process));
        process.changes.iter().for_each(|change| tree.add(depth + 1, line(change)));
        if let Some(task) = found.diff.changed.iter().find(|task| task.pid == process.pid) {
            differences(&mut tree, depth + 1, task, choice);
        }
    }
    if choice.sockets && !found.diff.sockets.is_empty() {
        tree.add(1, "sockets");
        items(&mut tree, 2, "", &found.diff.sockets);
    }
    if !found.rootfs.is_empty() {
        tree.add(1, "root file system");
        found.rootfs.iter().for_each(|change| tree.add(2, line(change)));
    }
    tree
}

/// Returns for each process whether it is shown: it has changed, or a process below it has.
fn lines(processes: &[ProcessChange], all: bool) -> Vec<bool> {
    let mut shown = vec![all; processes.len()];
    // Depth of the nearest line below that is shown and needs its parent.
    let mut wanted = 0;
    for (process, shown) in processes.iter().zip(&mut shown).rev() {
        *shown |= process.change != "unchanged" || process.depth + 1 == wanted;
        if *shown {
            wanted = process.depth;
        }
    }
    shown
}

fn headline(process: &ProcessChange) -> String {
    let mark = match process.change {
        "added" => "+ ",
        "removed" => "- ",
        "changed" => "~ ",
        _ => "",
    };
    let command = match &process.command {
        Some(command) if !command.is_empty() => command.join(" "),
        _ => process.name.clone(),
    };
    let pages = match process.pages {
        0 => String::new(),
        1 => " (1 page differs)".to_owned(),
        pages => format!(" ({pages} pages differ)"),
    };
    format!("{mark}[{}] {command}{pages}", process.pid)
}

fn differences(tree: &mut Tree, depth: usize, task: &TaskDiff, choice: Choice) {
    items(tree, depth, "", &task.task);
    items(tree, depth, "thread ", &task.threads);
    if choice.files {
        items(tree, depth, "fd ", &task.fds);
    }
    if choice.mappings {
        items(tree, depth, "mapping ", &task.mappings);
        task.dirty.iter().for_each(|dirty| tree.add(depth, format!("~ {dirty}")));
    }
}

fn items<T: std::fmt::Display>(tree: &mut Tree, depth: usize, what: &str, changes: &Changes<T>) {
    changes.removed.iter().for_each(|old| tree.add(depth, format!("- {what}{old}")));
    changes.added.iter().for_each(|new| tree.add(depth, format!("+ {what}{new}")));
    let changed = changes.changed.iter();
    changed.for_each(|(old, new)| tree.add(depth, format!("~ {what}{old} -> {new}")));
}

fn line(change: &Change) -> String {
    let what = &change.what;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => format!("~ {what}: {old} -> {new}"),
        (None, Some(new)) => format!("+ {what}: {new}"),
        (Some(old), None) => format!("- {what}: {old}"),
        (None, None) => what.clone(),
    }
}
