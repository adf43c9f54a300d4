//! Options of `inspect`.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use criu_archive::Packing;
use criu_archive::inspection::{Part, Place};
use criu_images::search::Pattern;

use crate::crit::search::range;
use crate::fault::Fault;
use crate::keys::KeyArgs;
use crate::remote::RegistryArgs;

/// Options of `inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// Archives, directories of images, ARCHIVE:FOLDER, - for an archive on standard input, or
    /// images in a registry (HOST[:PORT]/NAME[:TAG][@DIGEST]) or a layout (oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG]); several make a table
    #[arg(required_unless_present = "list")]
    pub(super) checkpoints: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) sections: Sections,
    #[command(flatten)]
    pub(super) search: Search,
    /// Show only these tasks
    #[arg(short, long)]
    pub(super) pid: Vec<u32>,
    /// With --pid: show the descendants of these tasks, too
    #[arg(long, requires = "pid")]
    pub(super) descendants: bool,
    /// Form of the output. By default a table without sections, and a tree with sections
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Print JSON, on one line: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(super) json: bool,
    /// Write an HTML page about everything except environments and contents of memory. It needs
    /// no network. - for standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "Search", "since", "list", "output", "format", "json",
    ])]
    pub(super) html: Option<PathBuf>,
    /// Write the output to a file, with mode 0600; - for standard output
    #[arg(short, long)]
    pub(super) output: Option<PathBuf>,
    /// List the checkpoints in a directory
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = KUBELET,
        conflicts_with_all = ["checkpoints", "Sections", "Search", "pid"]
    )]
    pub(super) list: Option<PathBuf>,
    /// Show what has changed since this older checkpoint
    #[arg(long, value_name = "OLD", conflicts_with_all = ["Search", "pid"])]
    pub(super) since: Option<PathBuf>,
    /// With --since: show processes that have not changed, too
    #[arg(long, requires = "since")]
    pub(super) show_unchanged: bool,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
}

/// Sections that are shown instead of one screen.
#[derive(Args)]
#[group(multiple = true)]
pub(super) struct Sections {
    /// Everything except environments
    #[arg(long)]
    pub(super) all: bool,
    /// The process tree
    #[arg(long)]
    pub(super) ps_tree: bool,
    /// The process tree with command lines
    #[arg(long)]
    pub(super) ps_tree_cmd: bool,
    /// The process tree with environments; secrets may be in them
    #[arg(long)]
    pub(super) ps_tree_env: bool,
    /// Open files of the processes
    #[arg(long)]
    pub(super) files: bool,
    /// Sockets of the processes
    #[arg(long)]
    pub(super) sockets: bool,
    /// Mounts of the container and of mount namespaces
    #[arg(long)]
    pub(super) mounts: bool,
    /// Namespaces, and what is in them
    #[arg(long)]
    pub(super) namespaces: bool,
    /// Amounts of memory that the processes have
    #[arg(long)]
    pub(super) memory: bool,
    /// Mappings of the processes
    #[arg(long)]
    pub(super) mappings: bool,
    /// Users, capabilities, labels and seccomp filters of the processes
    #[arg(long)]
    pub(super) security: bool,
    /// Statistics of the dump
    #[arg(long)]
    pub(super) stats: bool,
    /// Everything that the engine says about the container
    #[arg(long)]
    pub(super) metadata: bool,
    /// Changed files of the container's root file system
    #[arg(long)]
    pub(super) rootfs: bool,
    /// GPUs that the checkpoint used
    #[arg(long)]
    pub(super) gpu: bool,
    /// Faults of the images, and unknown or missing members of the archive
    #[arg(long)]
    pub(super) findings: bool,
}

/// Options that look into memory.
#[derive(Args)]
#[group(multiple = true)]
pub(super) struct Search {
    /// Search memory for a text
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["search_regex", "secrets", "hexdump"])]
    pub(super) search: Option<String>,
    /// Search memory for a regular expression on bytes
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["secrets", "hexdump"])]
    pub(super) search_regex: Option<String>,
    /// With --search or --search-regex: show this many bytes before and after each match
    #[arg(short = 'C', long, value_name = "BYTES", conflicts_with_all = ["secrets", "hexdump"])]
    pub(super) context: Option<usize>,
    /// Search memory for keys, tokens and passwords; shows the beginnings of values
    #[arg(long, conflicts_with = "hexdump")]
    pub(super) secrets: bool,
    /// With --secrets: show whole values
    #[arg(long, requires = "secrets")]
    pub(super) reveal: bool,
    /// Show the memory of this task as hex
    #[arg(long, value_name = "PID", conflicts_with_all = ["pid", "json", "format"])]
    pub(super) hexdump: Option<u32>,
    /// With --hexdump: only these addresses, in hex: "7ffc1000-7ffc1100", "7ffc1000+100"
    #[arg(long, value_parser = range, requires = "hexdump")]
    pub(super) range: Option<Range<u64>>,
    /// With --hexdump: write the bytes themselves
    #[arg(long, requires = "hexdump")]
    pub(super) raw: bool,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, as tools show live processes
    Table,
    /// Processes with what belongs to them below
    Tree,
    /// JSON, on one line for each checkpoint
    Json,
}

impl Inspect {
    /// Refuses options that would do nothing together.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.search.check()?;
        let sections = self.sections.names();
        let unseen = |seen: &[&str]| sections.iter().find(|name| !seen.contains(*name)).copied();
        let format = |format, name| (self.format == Some(format)).then_some(name);
        let tree = || format(Format::Tree, "--format tree");
        let pid = (!self.pid.is_empty()).then_some("--pid");
        let (several, is_search) = (self.checkpoints.len() > 1, self.search.any());
        let search = is_search.then_some("a search");
        let (since, list) = (self.since.is_some(), self.list.is_some());
        let rows = [
            (several, unseen(&[]), OF_ONE),
            (several, search, OF_ONE),
            (several, pid, OF_ONE),
            (several, tree(), "several checkpoints are shown as a table"),
            (list, tree(), "--list prints a table"),
            (list, since.then_some("--since"), "--list compares nothing"),
            (since, unseen(SINCE), "--since does not show this section"),
            (since, format(Format::Table, "--format table"), "--since prints a tree"),
            (is_search, unseen(&[]), "is shown without a search in memory"),
            (is_search, tree(), "a search in memory prints lines"),
            (self.html.is_some(), unseen(HTML), "--html has everything except environments"),
        ];
        match rows.iter().find(|(is_on, option, _)| *is_on && option.is_some()) {
            Some((_, Some(option), why)) => Err(Fault::usage(format!("{option}: {why}"))),
            _ => Ok(()),
        }
    }
}

impl Sections {
    pub(super) fn any(&self) -> bool {
        !self.names().is_empty()
    }

    /// Options that were given.
    fn names(&self) -> Vec<&'static str> {
        self.rows().iter().filter(|(on, ..)| *on).map(|(_, name, _)| *name).collect()
    }

    fn chosen(&self) -> Vec<Part> {
        let rows = self.rows();
        rows.iter().filter(|(on, ..)| *on).flat_map(|(.., parts)| parts.iter().copied()).collect()
    }

    /// Each section: given or not, its option, and the parts that it needs.
    fn rows(&self) -> [(bool, &'static str, &'static [Part]); 16] {
        [
            (self.all, "--all", Part::ALL),
            (self.ps_tree, "--ps-tree", &[Part::Processes]),
            (self.ps_tree_cmd, "--ps-tree-cmd", &[Part::Processes, Part::Commands]),
            (
                self.ps_tree_env,
                "--ps-tree-env",
                &[Part::Processes, Part::Commands, Part::Environments],
            ),
            (self.files, "--files", &[Part::Processes, Part::Files]),
            (self.sockets, "--sockets", &[Part::Processes, Part::Sockets]),
            (self.mounts, "--mounts", &[Part::Mounts]),
            (self.namespaces, "--namespaces", &[Part::Namespaces]),
            (self.memory, "--memory", &[Part::Processes, Part::Memory]),
            (self.mappings, "--mappings", &[Part::Processes, Part::Mappings]),
            (self.security, "--security", &[Part::Processes, Part::Security]),
            (self.stats, "--stats", &[]),
            (self.metadata, "--metadata", &[]),
            (self.rootfs, "--rootfs", &[Part::Rootfs]),
            (self.gpu, "--gpu", &[Part::Gpu]),
            (self.findings, "--findings", &[Part::Findings]),
        ]
    }

    /// Returns true for sections that show what is in memory: command lines and environments.
    pub(super) fn reads_pages(&self) -> bool {
        self.all || self.ps_tree_cmd || self.ps_tree_env
    }

    /// Parts to read: those of the sections, or those of one screen.
    pub(super) fn parts(&self, place: &Place) -> Vec<Part> {
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

    pub(super) fn any(&self) -> bool {
        let Self { search, search_regex, secrets, hexdump, .. } = self;
        search.is_some() || search_regex.is_some() || *secrets || hexdump.is_some()
    }
}

/// Reason why an option does not go with several checkpoints.
const OF_ONE: &str = "is of one checkpoint, and several are named";

/// Sections that `--since` knows.
const SINCE: &[&str] = &["--all", "--ps-tree-env", "--files", "--sockets", "--mappings"];

/// The section that `--html` has only if it is asked for.
const HTML: &[&str] = &["--ps-tree-env"];

/// Directory in which the kubelet keeps checkpoints of containers.
const KUBELET: &str = "/var/lib/kubelet/checkpoints";
