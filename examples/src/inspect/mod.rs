//! `inspect`: shows what a checkpoint holds.

mod many;
mod memory;
mod nodes;
mod options;
mod protections;
mod screen;
mod since;
mod table;
mod tables;
mod tree;

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;

use criu_archive::inspection::{Inspection, Part, Place};
use criu_archive::report::Report;

pub(crate) use options::Inspect;
pub(crate) use table::Table;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::{open_pages, open_place};
use crate::new_file::NewFile;
use crate::output::Output;
use crate::shown::{Shown, write_json};
use crate::target::Target;
use crate::tool::{Fallible, Tool};
use crate::word;
use crate::work::Watch;
use many::several;
use options::Format;
use screen::{NAMES_ALONE, Screen};
use tables::Tables;

impl Tool for Inspect {
    const WORD: &'static str = "inspect";
    const ABOUT: &'static str = "Shows what a checkpoint holds, and what a restore of it needs.";
    const MORE: &'static str = MORE;

    fn run(self, name: &str, _: &word::Table) -> Fallible<ExitCode> {
        self.keys.hold()?;
        self.registry.hold();
        self.check()?;
        if let Some(path) = &self.html {
            return self.report(name, &Target::of(path));
        }
        let target = self.output.as_deref().map_or(Target::Stdout, Target::of);
        let (watch, mut out) = self.begin(name, &target)?;
        let exit = self.show(name, &mut out)?;
        let _ending = watch.end();
        out.keep()?;
        Ok(exit.into())
    }
}

impl Inspect {
    /// Begins the output. A signal removes what there is of a file, and ends the program.
    fn begin(&self, name: &str, target: &Target) -> Fallible<(Watch, NewFile)> {
        let output = Output::new(name, Self::WORD, self.json);
        Watch::begin(output, || NewFile::create(target.path()))
    }

    fn show(&self, name: &str, out: &mut impl Write) -> Fallible<Exit> {
        let format = if self.json { Some(Format::Json) } else { self.format };
        if let Some(directory) = &self.list {
            let paths = many::below(directory)?;
            return several(name, &paths, format, out, |all| many::list(all).to_string());
        }
        if let Some(old) = &self.since {
            return self.compare(old, format, out);
        }
        let [path] = &self.checkpoints[..] else {
            let table = |all: &[Inspection]| many::table(all).to_string();
            return several(name, &self.checkpoints, format, out, table);
        };
        let needs_pages = self.search.any() || self.sections.reads_pages();
        let place = if needs_pages { open_pages(path)? } else { open_place(path)? };
        if self.search.any() {
            with_processes(&place)?;
            return self.look(name, &place, format, out);
        }
        let parts = self.sections.parts(&place);
        let inspection = self.inspection(&place, &parts)?;
        let sections = &self.sections;
        match format {
            Some(Format::Json) => write_json(&mut *out, &inspection)?,
            Some(Format::Table) if sections.any() => {
                write!(out, "{}", Shown(Tables(&inspection, sections)))?;
            }
            Some(Format::Table) => write!(out, "{}", Shown(Screen(&inspection)))?,
            None if !sections.any() => {
                write!(out, "{}", Shown(Screen(&inspection)))?;
                if inspection.ps.is_some() && !parts.contains(&Part::Commands) {
                    write!(out, "\n\n{NAMES_ALONE}")?;
                }
            }
            _ => {
                let (metadata, stats) = (sections.metadata, sections.stats);
                let (metadata, stats) = (metadata || sections.all, stats || sections.all);
                write!(out, "{}", Shown(nodes::tree(&inspection, metadata, stats)))?;
            }
        }
        writeln!(out)?;
        Ok(Exit::Done)
    }

    /// Reads parts of a checkpoint, of the tasks that were asked for.
    fn inspection(&self, place: &Place, parts: &[Part]) -> Fallible<Inspection> {
        let found = Inspection::of_tasks(place, parts, &self.pids(place)?);
        Ok(found.map_err(|error| said(&error))?)
    }

    /// Tasks that were asked for; empty for all.
    fn pids(&self, place: &Place) -> Fallible<Vec<u32>> {
        let mut pids = self.pid.clone();
        if self.descendants {
            // A parent comes before its children.
            let mut below: HashSet<u32> = pids.iter().copied().collect();
            for task in place.set().checkpoint()?.tasks() {
                if below.contains(&task.ppid()) && below.insert(task.pid()) {
                    pids.push(task.pid());
                }
            }
        }
        Ok(pids)
    }

    /// Writes the HTML page.
    fn report(&self, name: &str, target: &Target) -> Fallible<ExitCode> {
        let [checkpoint] = &self.checkpoints[..] else {
            return Err(
                Fault::usage("--html is about one checkpoint, and several are named").into()
            );
        };
        let place = open_pages(checkpoint)?;
        let mut parts = Part::ALL.to_vec();
        if self.sections.ps_tree_env {
            parts.push(Part::Environments);
        }
        let inspection = self.inspection(&place, &parts)?;
        let (watch, mut file) = self.begin(name, target)?;
        let written = Report::new(&inspection).with_pages(place.set()).write(&mut file);
        written.map_err(|error| target.fault(error))?;
        let _ending = watch.end();
        file.keep()?;
        Ok(Exit::Done.into())
    }
}

/// Refuses a pre-dump, which has no processes to look at.
fn with_processes(place: &Place) -> Result<(), String> {
    if place.is_pre_dump() {
        let name = place.name();
        return Err(format!("{name}: is a pre-dump, which has memory and no processes"));
    }
    Ok(())
}

/// Says an error as a person reads it: the fault of a task's pid needs no name of an archive.
fn said(error: &criu_archive::Error) -> String {
    match error.kind() {
        criu_archive::ErrorKind::NoTask(pid) => format!("no task {pid}"),
        _ => error.to_string(),
    }
}

const MORE: &str = "\
Examples:
  criu-rs inspect img
  criu-rs inspect --json checkpoint.tar | jq .needs
  criu-rs inspect checkpoint.tar --ps-tree-cmd --files --sockets
  criu-rs inspect checkpoint.tar --ps-tree --pid 7 --descendants
  criu-rs inspect checkpoint.tar --all --format json -o all.json
  criu-rs inspect registry.example.org/counter:v1
  criu-rs inspect oci-archive:image.tar:v1
  ssh host cat checkpoint.tar | criu-rs inspect -
  criu-rs inspect a.tar b.tar c.tar          a table of several checkpoints
  criu-rs inspect --list                     the kubelet's checkpoints
  criu-rs inspect checkpoint.tar --secrets   keys, tokens and passwords in memory
  criu-rs inspect checkpoint.tar --search-regex 'user=[a-z]+' --context 16
  criu-rs inspect checkpoint.tar --hexdump 4711 -o memory.txt
  criu-rs inspect new.tar --since old.tar    what has changed
  criu-rs inspect checkpoint.tar --html checkpoint.html
  criu-rs crit x img fds      a closer look
  criu-rs crit check img      tells if the checkpoint is whole

Exit status:
  0  done
  1  a checkpoint cannot be read; with --search: nothing was found
  2  wrong usage
  4  stopped by a signal while it wrote a file; the old file is as it was";
