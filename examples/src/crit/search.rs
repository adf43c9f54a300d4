//! `crit search` and `crit memory`: show what was in memory.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use clap::Args;
use console::style;
use criu_images::memory::{Hexdump, Memory, PageSource, Vma};
use criu_images::search::{Hit, Pattern, Search as Run};
use criu_images::{ImageSet, Text};
use serde::{Serialize, Serializer};

use super::SetArg;
use crate::images::open_pages;
use crate::shown::write_json;
use crate::stdout::Stdout;
use crate::tool::Fallible;

#[derive(Args)]
pub(crate) struct Search {
    #[command(flatten)]
    set: SetArg,
    #[command(flatten)]
    query: Query,
}

/// Pattern to search for, the memory to search, and the form of the output.
#[derive(Args)]
pub(crate) struct Query {
    /// The pattern to search for
    pattern: String,
    /// The pattern is bytes in hex, "??" any: "de ad ?? ef"
    #[arg(short = 'x', long, conflicts_with = "regex")]
    hex: bool,
    /// The pattern is a regular expression on bytes, in the syntax of the crate regex
    #[arg(short = 'e', long)]
    regex: bool,
    /// Search only these tasks
    #[arg(short, long)]
    pub(crate) pid: Vec<u32>,
    /// Search only mappings with these permissions, "." any: "rw-p", ".w.."
    #[arg(long)]
    perm: Option<String>,
    /// Search only mappings whose file or name contains this: "heap", "libc"
    #[arg(long)]
    mapping: Option<String>,
    /// Search only these addresses, in hex: "7f0000000000-7f0000010000"
    #[arg(long, value_parser = range)]
    range: Option<Range<u64>>,
    /// Show this many bytes before and after each match
    #[arg(short = 'C', long, default_value_t = 0)]
    pub(crate) context: usize,
    /// Print the number of matches instead of the matches
    #[arg(short, long)]
    count: bool,
    /// Print each match as JSON, on a line
    #[arg(long, conflicts_with = "count")]
    pub(crate) json: bool,
}

impl Search {
    /// Runs the search, and tells if anything was found.
    pub(crate) fn run(self, name: &str) -> Fallible<bool> {
        self.query.run(name, &open_pages(&self.set.dir)?.into_set(), Stdout::lock())
    }
}

impl Query {
    /// Makes a query for a text or a regular expression in all memory.
    pub(crate) fn of(pattern: String, regex: bool) -> Self {
        Self {
            pattern,
            hex: false,
            regex,
            pid: Vec::new(),
            perm: None,
            mapping: None,
            range: None,
            context: 0,
            count: false,
            json: false,
        }
    }

    /// Runs the search, and tells if anything was found.
    pub(crate) fn run(&self, name: &str, set: &ImageSet, to: impl Write) -> Fallible<bool> {
        let checkpoint = set.checkpoint()?;
        for pid in &self.pid {
            checkpoint.task(*pid).ok_or_else(|| format!("no task {pid}"))?;
        }
        let run = self.search()?;
        let mut out = io::BufWriter::new(to);
        let (mut found, mut kept_back) = (0u64, 0u64);
        for task in checkpoint.tasks() {
            let listed = self.pid.is_empty() || self.pid.contains(&task.pid());
            let Some(memory) = task.memory()?.filter(|_| listed) else {
                continue;
            };
            let mut mappings = Mapping::default();
            let mut hits = run.run(&memory);
            for hit in hits.by_ref() {
                let hit = hit?;
                found += 1;
                if !self.count {
                    self.print(&mut out, task.pid(), &memory, &mut mappings, &hit)?;
                }
            }
            kept_back += hits.kept_back();
        }
        if self.count {
            writeln!(out, "{found}")?;
        }
        out.flush()?;
        if kept_back > 0 {
            eprintln!("{name}: not searched, because the dump kept them back: {kept_back} bytes");
        }
        Ok(found > 0)
    }

    fn search(&self) -> Fallible<Run> {
        let pattern = match (self.hex, self.regex) {
            (true, _) => Pattern::hex(&self.pattern),
            (_, true) => Pattern::regex(&self.pattern),
            _ => Pattern::literal(self.pattern.as_bytes()),
        };
        let mut run = Run::new(pattern?).context(self.context);
        if let Some(range) = &self.range {
            run = run.within(range.clone());
        }
        if self.perm.as_ref().is_some_and(|perm| perm.len() != 4) {
            return Err("--perm takes four letters, as \"rw-p\" or \".w..\"".into());
        }
        let (perm, mapping) = (self.perm.clone(), self.mapping.clone());
        Ok(run.mappings(move |vma| {
            let fits = |(want, is): (char, char)| want == '.' || want == is;
            let perm = perm.as_ref();
            perm.is_none_or(|perm| perm.chars().zip(vma.permissions().chars()).all(fits))
                && mapping.as_ref().is_none_or(|part| name(vma).contains(part))
        }))
    }

    fn print(
        &self,
        out: &mut impl Write,
        pid: u32,
        memory: &Memory<'_>,
        mappings: &mut Mapping,
        hit: &Hit,
    ) -> io::Result<()> {
        let Hit { address, bytes, before, after, .. } = hit;
        let mapping = mappings.name(memory, *address);
        if self.json {
            write_json(
                &mut *out,
                &Line {
                    address: *address,
                    after: Hex(after),
                    before: Hex(before),
                    hex: Hex(bytes),
                    mapping,
                    pid,
                    text: Text(bytes),
                },
            )?;
            return out.write_all(b"\n");
        }
        let space = if mapping.is_empty() { "" } else { " " };
        let [before, after] = [before, after].map(|bytes| bytes.escape_ascii());
        let bytes = style(bytes.escape_ascii()).bold();
        writeln!(out, "{pid} {address:x}{space}{mapping}: {before}{bytes}{after}")
    }
}

/// A match as JSON. The members are in the order of their names.
#[derive(Serialize)]
struct Line<'h> {
    address: u64,
    after: Hex<'h>,
    before: Hex<'h>,
    hex: Hex<'h>,
    mapping: &'h str,
    pid: u32,
    #[serde(serialize_with = "shown")]
    text: Text<'h>,
}

fn shown<S: Serializer>(text: &Text<'_>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(text)
}

/// Bytes as hex digits.
struct Hex<'h>(&'h [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
        // In pieces: a call for each digit takes longer than the digit.
        for bytes in self.0.chunks(64) {
            let mut piece = String::with_capacity(2 * 64);
            piece.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
            f.write_str(&piece)?;
        }
        Ok(())
    }
}

/// Name of the mapping that the last match was in. The next match is mostly in the same.
#[derive(Default)]
struct Mapping {
    range: Range<u64>,
    name: String,
}

impl Mapping {
    fn name(&mut self, memory: &Memory<'_>, address: u64) -> &str {
        if !self.range.contains(&address) {
            let vma = memory.vma(address);
            self.range = vma.map_or(0..0, |vma| vma.start()..vma.end());
            self.name = vma.map(|vma| name(&vma)).unwrap_or_default();
        }
        &self.name
    }
}

fn name(vma: &Vma<'_>) -> String {
    vma.name().unwrap_or_default()
}

#[derive(Args)]
pub(crate) struct Bytes {
    #[command(flatten)]
    set: SetArg,
    /// The task
    pid: u32,
    /// The bytes to show, in hex: the first address and the one after the last, or the first and a
    /// number of bytes: "7ffc1000-7ffc1100", "7ffc1000+100"
    #[arg(value_parser = range)]
    range: Range<u64>,
    /// Write the bytes themselves
    #[arg(long)]
    raw: bool,
}

impl Bytes {
    pub(crate) fn run(self) -> Fallible<()> {
        let set = open_pages(&self.set.dir)?.into_set();
        let no_task = || format!("no task {}", self.pid);
        let task = set.checkpoint()?.task(self.pid).ok_or_else(no_task)?;
        let memory = task.memory()?.ok_or_else(|| format!("{task} has no memory"))?;
        let mut out = Stdout::lock();
        write_memory(&memory, self.range, self.raw, &mut out)?;
        Ok(out.flush()?)
    }
}

/// Writes bytes of a task's memory: as they are, or as hex.
pub(crate) fn write_memory(
    memory: &Memory<'_>,
    range: Range<u64>,
    raw: bool,
    out: &mut impl Write,
) -> Fallible<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = range.start;
    while at < range.end {
        let size = buffer.len().min(usize::try_from(range.end - at)?);
        let bytes = &mut buffer[..size];
        memory.read_at(at, bytes)?;
        if raw {
            out.write_all(bytes)?;
        } else {
            Hexdump { address: at, bytes }.write_to(out)?;
        }
        at += size as u64;
    }
    Ok(())
}

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Reads a range in hex: "A-B" or "A+SIZE".
pub(crate) fn range(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| {
        let digits = text.trim().trim_start_matches("0x");
        u64::from_str_radix(digits, 16).map_err(|error| format!("{text:?}: {error}"))
    };
    let (start, end) = match (text.split_once('-'), text.split_once('+')) {
        (Some((start, end)), _) => (number(start)?, number(end)?),
        (_, Some((start, size))) => {
            let start = number(start)?;
            let end = start.checked_add(number(size)?);
            (start, end.ok_or("ends past the last address")?)
        }
        _ => return Err("expected START-END or START+SIZE, in hex".to_owned()),
    };
    if start < end { Ok(start..end) } else { Err("has no bytes".to_owned()) }
}
