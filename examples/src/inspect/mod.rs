//! `inspect`: shows what a checkpoint holds.

mod many;
mod memory;
mod nodes;
mod protections;
mod since;
mod stopped;
mod table;
mod tables;
mod tree;

use std::collections::HashSet;
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use criu_archive::Packing;
use criu_archive::inspection::{Comparison, Container, Finding, Inspection, Part, Place};
use criu_archive::metadata::Engine;
use criu_archive::report::Report;
use criu_images::Task;
use criu_images::search::Pattern;

use crate::crit::search::{Query, range};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::{open_pages, open_place};
use crate::keys::KeyArgs;
use crate::new_file::NewFile;
use crate::output::Output;
use crate::remote::RegistryArgs;
use crate::shown::{Shown, write_json};
use crate::tool::{Fallible, Tool};
use crate::word;
use stopped::Watch;
use tables::Tables;

/// Options of `inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// Archives, directories of images, ARCHIVE:FOLDER, - for an archive on standard input, or
    /// images in a registry (HOST[:PORT]/NAME[:TAG][@DIGEST]) or a layout (oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG]); several make a table
    #[arg(required_unless_present = "list")]
    checkpoints: Vec<PathBuf>,
    #[command(flatten)]
    sections: Sections,
    #[command(flatten)]
    search: Search,
    /// Show only these tasks
    #[arg(short, long)]
    pid: Vec<u32>,
    /// With --pid: show the descendants of these tasks, too
    #[arg(long, requires = "pid")]
    descendants: bool,
    /// The form of the output; a table for one screen, a tree for sections unless given
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print JSON, on one line: the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write one HTML page about everything, which opens without a network; mode 0600. - for
    /// standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "Search", "since", "list", "output", "format", "json",
    ])]
    html: Option<PathBuf>,
    /// Write the output to a file, with mode 0600; - for standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// List the checkpoints in a directory
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = KUBELET,
        conflicts_with_all = ["checkpoints", "Sections", "Search", "pid"]
    )]
    list: Option<PathBuf>,
    /// Show what has changed since this older checkpoint
    #[arg(long, value_name = "OLD", conflicts_with_all = ["Search", "pid"])]
    since: Option<PathBuf>,
    /// With --since: show processes that have not changed, too
    #[arg(long, requires = "since")]
    show_unchanged: bool,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Sections that are shown instead of one screen.
#[derive(Args)]
#[group(multiple = true)]
struct Sections {
    /// Everything except environments
    #[arg(long)]
    all: bool,
    /// The process tree
    #[arg(long)]
    ps_tree: bool,
    /// The process tree with command lines
    #[arg(long)]
    ps_tree_cmd: bool,
    /// The process tree with environments; secrets may be in them
    #[arg(long)]
    ps_tree_env: bool,
    /// Open files of the processes
    #[arg(long)]
    files: bool,
    /// Sockets of the processes
    #[arg(long)]
    sockets: bool,
    /// Mounts of the container and of mount namespaces
    #[arg(long)]
    mounts: bool,
    /// Namespaces, and what is in them
    #[arg(long)]
    namespaces: bool,
    /// Amounts of memory that the processes have
    #[arg(long)]
    memory: bool,
    /// Mappings of the processes
    #[arg(long)]
    mappings: bool,
    /// Users, capabilities, labels and seccomp filters of the processes
    #[arg(long)]
    security: bool,
    /// Statistics of the dump
    #[arg(long)]
    stats: bool,
    /// Everything that the engine says about the container
    #[arg(long)]
    metadata: bool,
    /// Changed files of the container's root file system
    #[arg(long)]
    rootfs: bool,
    /// GPUs that the checkpoint used
    #[arg(long)]
    gpu: bool,
    /// Faults of the images, and unknown or missing members of the archive
    #[arg(long)]
    findings: bool,
}

/// Looks into memory.
#[derive(Args)]
#[group(multiple = true)]
struct Search {
    /// Search memory for a text
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["search_regex", "secrets", "hexdump"])]
    search: Option<String>,
    /// Search memory for a regular expression on bytes
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["secrets", "hexdump"])]
    search_regex: Option<String>,
    /// With --search or --search-regex: show this many bytes before and after each match
    #[arg(short = 'C', long, value_name = "BYTES", conflicts_with_all = ["secrets", "hexdump"])]
    context: Option<usize>,
    /// Search memory for keys, tokens and passwords; shows the beginnings of values
    #[arg(long, conflicts_with = "hexdump")]
    secrets: bool,
    /// With --secrets: show whole values
    #[arg(long, requires = "secrets")]
    reveal: bool,
    /// Show the memory of this task as hex
    #[arg(long, value_name = "PID", conflicts_with_all = ["pid", "json", "format"])]
    hexdump: Option<u32>,
    /// With --hexdump: only these addresses, in hex: "7ffc1000-7ffc1100", "7ffc1000+100"
    #[arg(long, value_parser = range, requires = "hexdump")]
    range: Option<Range<u64>>,
    /// With --hexdump: write the bytes themselves
    #[arg(long, requires = "hexdump")]
    raw: bool,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns, as tools show live processes
    Table,
    /// Processes with what belongs to them below
    Tree,
    /// JSON, on one line for each checkpoint
    Json,
}

impl Tool for Inspect {
    const WORD: &'static str = "inspect";
    const ABOUT: &'static str = "Shows what a checkpoint holds, and what a restore of it needs.";
    const MORE: &'static str = MORE;

    fn run(self, name: &str, _: &word::Table) -> Fallible<ExitCode> {
        self.keys.hold()?;
        self.registry.hold();
        self.search.check()?;
        if let Some(path) = &self.html {
            return self.report(name, file(path));
        }
        let (watch, mut out) = self.begin(name, self.output.as_deref().and_then(file))?;
        let exit = self.show(name, &mut out)?;
        let _ending = watch.end();
        out.keep()?;
        Ok(exit.into())
    }
}

impl Inspect {
    /// Begins the output. A signal removes what there is of a file, and ends the program.
    fn begin(&self, name: &str, path: Option<&Path>) -> Fallible<(Watch, NewFile)> {
        let output = Output::new(name, Self::WORD, self.json);
        Watch::begin(output, || NewFile::create(path))
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
            if self.sections.any() || self.search.any() || !self.pid.is_empty() {
                let what = "sections and searches are of one checkpoint, and several are named";
                return Err(Fault::usage(what).into());
            }
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
        let inspection = Inspection::of_tasks(&place, &parts, &self.pids(&place)?);
        let inspection = inspection.map_err(|error| said(&error))?;
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
    fn report(&self, name: &str, path: Option<&Path>) -> Fallible<ExitCode> {
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
        let inspection = Inspection::of_tasks(&place, &parts, &self.pids(&place)?);
        let inspection = inspection.map_err(|error| said(&error))?;
        let (watch, mut file) = self.begin(name, path)?;
        let written = Report::new(&inspection).with_pages(place.set()).write(&mut file);
        written.map_err(|error| match path {
            Some(path) => format!("{}: {error}", path.display()).into(),
            None => Box::<dyn std::error::Error>::from(error),
        })?;
        let _ending = watch.end();
        file.keep()?;
        Ok(Exit::Done.into())
    }

    /// Looks into memory.
    fn look(
        &self,
        name: &str,
        place: &Place,
        format: Option<Format>,
        out: &mut impl Write,
    ) -> Fallible<Exit> {
        let (set, json) = (place.set(), format == Some(Format::Json));
        let Search { search, search_regex, context, hexdump, range, raw, reveal, .. } =
            &self.search;
        if let Some(pid) = hexdump {
            memory::dump(set, *pid, range.clone(), *raw, out)?;
            return Ok(Exit::Done);
        }
        if let Some(pattern) = search.as_ref().or(search_regex.as_ref()) {
            let query = Query {
                pattern: pattern.clone(),
                hex: false,
                regex: search_regex.is_some(),
                pid: self.pids(place)?,
                perm: None,
                mapping: None,
                range: None,
                context: context.unwrap_or_default(),
                count: false,
                json,
            };
            return Ok(if query.run(name, set, out)? { Exit::Done } else { Exit::Failed });
        }
        let checkpoint = set.checkpoint()?;
        let tasks: Vec<Task<'_>> = match &self.pids(place)?[..] {
            [] => checkpoint.tasks().collect(),
            pids => {
                let find =
                    |pid: &u32| checkpoint.task(*pid).ok_or_else(|| format!("no task {pid}"));
                pids.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        memory::secrets(name, tasks, *reveal, json, out)?;
        Ok(Exit::Done)
    }

    fn compare(&self, old: &Path, format: Option<Format>, out: &mut impl Write) -> Fallible<Exit> {
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
        let shown = since::Shown {
            files: files || all || !is_chosen,
            sockets: sockets || all || !is_chosen,
            mappings: mappings || all,
            unchanged: self.show_unchanged,
        };
        match format {
            Some(Format::Json) => write_json(&mut *out, &found)?,
            _ => write!(out, "{}", Shown(since::tree(&found, shown)))?,
        }
        writeln!(out)?;
        Ok(Exit::Done)
    }
}

impl Sections {
    fn any(&self) -> bool {
        !self.chosen().is_empty() || self.stats || self.metadata
    }

    fn chosen(&self) -> Vec<Part> {
        let rows: [(bool, &[Part]); 14] = [
            (self.all, Part::ALL),
            (self.ps_tree, &[Part::Processes]),
            (self.ps_tree_cmd, &[Part::Processes, Part::Commands]),
            (self.ps_tree_env, &[Part::Processes, Part::Commands, Part::Environments]),
            (self.files, &[Part::Processes, Part::Files]),
            (self.sockets, &[Part::Processes, Part::Sockets]),
            (self.mounts, &[Part::Mounts]),
            (self.namespaces, &[Part::Namespaces]),
            (self.memory, &[Part::Processes, Part::Memory]),
            (self.mappings, &[Part::Processes, Part::Mappings]),
            (self.security, &[Part::Processes, Part::Security]),
            (self.rootfs, &[Part::Rootfs]),
            (self.gpu, &[Part::Gpu]),
            (self.findings, &[Part::Findings]),
        ];
        rows.iter().filter(|(on, _)| *on).flat_map(|(_, parts)| parts.iter().copied()).collect()
    }

    /// Returns true for sections that show what is in memory: command lines and environments.
    fn reads_pages(&self) -> bool {
        self.all || self.ps_tree_cmd || self.ps_tree_env
    }

    /// Parts to read: those of the sections, or those of one screen.
    fn parts(&self, place: &Place) -> Vec<Part> {
        if self.any() {
            return self.chosen();
        }
        let mut parts = vec![Part::Summary, Part::Processes, Part::Gpu];
        // Command lines are in memory, which a compressed archive would have to be unpacked for.
        let packing = place.in_archive().map(criu_archive::Archive::packing);
        if matches!(packing, None | Some(Packing::Plain | Packing::Seekable)) {
            parts.push(Part::Commands);
        }
        parts
    }
}

impl Search {
    /// Refuses a search for nothing, a pattern that is none, and options without a search.
    fn check(&self) -> Result<(), Fault> {
        if let Some(text) = &self.search {
            Pattern::literal(text.as_bytes())
                .map_err(|error| Fault::usage(format!("--search: {error}")))?;
        }
        if let Some(regex) = &self.search_regex {
            Pattern::regex(regex)
                .map_err(|error| Fault::usage(format!("--search-regex: {error}")))?;
        }
        if self.context.is_some() && self.search.is_none() && self.search_regex.is_none() {
            return Err(Fault::usage("--context goes with --search or --search-regex"));
        }
        Ok(())
    }

    fn any(&self) -> bool {
        let Self { search, search_regex, secrets, hexdump, .. } = self;
        search.is_some() || search_regex.is_some() || *secrets || hexdump.is_some()
    }
}

/// Path of a file that is written; `None` for `-`, which is standard output.
fn file(path: &Path) -> Option<&Path> {
    (path != Path::new("-")).then_some(path)
}

/// Shows several checkpoints. A faulty one is told on standard error, and the others are shown.
fn several(
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

/// Screen about a checkpoint.
struct Screen<'a>(&'a Inspection);

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { container, summary, ps, working_set, .. } = self.0;
        if let Some(container) = container {
            head(container, self.0, f)?;
        }
        if self.0.pre_dump {
            let sizes = &self.0.sizes;
            let (all, memory) = (size(sizes.checkpoint), size(sizes.memory));
            writeln!(f, "pre-dump    memory alone, for a later dump: {all}, memory {memory}")?;
            return write!(f, "parents     {}", sizes.parents.len());
        }
        if let Some(summary) = summary {
            write!(f, "{summary}")?;
        }
        if let Some(gpu) = &self.0.gpu {
            let mut facts = gpu.plugins.clone();
            facts.extend(gpu.devices.iter().cloned());
            if gpu.amd_images > 0 {
                facts.push(format!("{} images of AMD's plugin", gpu.amd_images));
            }
            write!(f, "\nGPU         {}", facts.join(", "))?;
        }
        if let Some(ps) = ps {
            write!(f, "\n\n{ps}")?;
        }
        if let Some(set) = working_set {
            write!(f, "\n\n{set}")?;
        }
        if let Some(fault) = &self.0.working_set_fault {
            write!(f, "\n\nworking set ignored: {fault}")?;
        }
        for finding in &self.0.findings {
            write!(f, "\n\n{}", line(finding))?;
        }
        Ok(())
    }
}

/// Writes the lines about the container.
fn head(container: &Container, all: &Inspection, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "?".to_owned());
    let id: String = known(&container.id).chars().take(12).collect();
    let engine = container.engine.map_or("an unknown engine", Engine::word);
    let runtime = known(&container.runtime);
    writeln!(f, "container   {} ({id}) of {engine}, {runtime}", known(&container.name))?;
    writeln!(f, "image       {}", known(&container.image))?;
    if let Some(pod) = &container.pod {
        writeln!(f, "pod         {}/{}", known(&pod.namespace), known(&pod.name))?;
    }
    write!(f, "created     {}", known(&container.created))?;
    if let Some(time) = &container.checkpointed {
        write!(f, ", checkpointed {time}")?;
    }
    writeln!(f)?;
    for network in container.networks.iter().filter(|network| !network.addresses.is_empty()) {
        write!(f, "network     {}", network.addresses.join(", "))?;
        match &network.mac {
            Some(mac) => writeln!(f, ", {mac}")?,
            None => writeln!(f)?,
        }
    }
    let sizes = &all.sizes;
    let (images, memory) = (size(sizes.checkpoint), size(sizes.memory));
    write!(f, "sizes       checkpoint {images}, memory {memory}")?;
    if let Some(diff) = sizes.rootfs_diff {
        write!(f, ", root FS diff {}", size(diff))?;
    }
    for volume in &sizes.volumes {
        write!(f, ", volume {} {}", volume.name, size(volume.bytes))?;
    }
    writeln!(f)
}

/// Formats a finding in one line.
fn line(finding: &Finding) -> String {
    let Finding { severity, place, text, .. } = finding;
    if place.is_empty() {
        format!("{severity}: {text}")
    } else {
        format!("{severity}: {place}: {text}")
    }
}

/// Formats a number of bytes for a person.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut scale, mut unit) = (1024, 0);
    let tenths = |scale: u128| (u128::from(bytes) * 10 + scale / 2) / scale;
    while tenths(scale) >= 10_240 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    let tenths = tenths(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

const NAMES_ALONE: &str = "\
COMMAND has names: command lines are in memory, which this archive packs as a whole; --ps-tree-cmd
shows them";

/// Directory in which the kubelet keeps checkpoints of containers.
const KUBELET: &str = "/var/lib/kubelet/checkpoints";

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

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let rows = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB")];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        // As many tools do, the last digit is the nearest.
        assert_eq!(size(8_555_000), "8.2 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
