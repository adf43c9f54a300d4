//! `crit x`: a set of images as people look at processes.

use std::io::{self, Write};

use clap::ValueEnum;
use criu_images::files::File;
use criu_images::memory::PageSource;
use criu_images::{ImageSet, Task, Text};

use crate::Fallible;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The processes.
    Ps,
    /// Their open files.
    Fds,
    /// Their mappings.
    Mems,
    /// How much memory they have, and where it is.
    Rss,
    /// Their sockets.
    Sk,
}

/// Prints it.
pub(crate) fn explore(set: &ImageSet, what: What) -> Fallible<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if what == What::Ps {
        writeln!(
            out,
            "{:>7} {:>7} {:>7} {:>7} {:8} COMM",
            "PID", "PGID", "SID", "THREADS", "STATE"
        )?;
    }
    for task in set.checkpoint()?.tasks() {
        match what {
            What::Ps => process(&task, &mut out)?,
            What::Fds => files(&task, &mut out)?,
            What::Mems => mappings(&task, &mut out)?,
            What::Rss => memory(&task, &mut out)?,
            What::Sk => sockets(&task, &mut out)?,
        }
    }
    Ok(out.flush()?)
}

fn process(task: &Task<'_>, out: &mut impl Write) -> Fallible<()> {
    let indent = task.depth().min(MAX_INDENT) * 2;
    let state = task.state().to_string();
    write!(out, "{:7} {:7} {:7} ", task.pid(), task.pgid(), task.sid())?;
    writeln!(out, "{:7} {state:8} {:indent$}{}", task.tids().len(), "", task.name())?;
    Ok(())
}

fn files(task: &Task<'_>, out: &mut impl Write) -> Fallible<()> {
    writeln!(out, "{task}")?;
    let places = [("exe", task.exe()?), ("cwd", task.cwd()?), ("root", task.root_dir()?)];
    for (what, file) in places {
        if let Some(path) = file.and_then(|file| file.path()) {
            writeln!(out, "  {what:>5}: {}", Text(path))?;
        }
    }
    for fd in task.files()? {
        let cloexec = if fd.cloexec { " (cloexec)" } else { "" };
        writeln!(out, "  {:5}: {}{cloexec}", fd.number, fd.file)?;
    }
    Ok(())
}

fn mappings(task: &Task<'_>, out: &mut impl Write) -> Fallible<()> {
    writeln!(out, "{task}")?;
    if let Some(memory) = task.memory()? {
        for vma in memory.vmas() {
            writeln!(out, "  {vma}")?;
        }
    }
    Ok(())
}

fn memory(task: &Task<'_>, out: &mut impl Write) -> Fallible<()> {
    match task.memory()? {
        Some(memory) => {
            let page = memory.page_size();
            writeln!(out, "{task}: {}, of {page} bytes each", memory.totals())?;
        }
        None => writeln!(out, "{task}")?,
    }
    Ok(())
}

fn sockets(task: &Task<'_>, out: &mut impl Write) -> Fallible<()> {
    let fds = task.files()?;
    let is_socket = |file: &File| {
        matches!(file, File::Inet(_) | File::Unix(_) | File::Packet(_) | File::Netlink(_))
    };
    let mut sockets = fds.iter().filter(|fd| is_socket(fd.file.file())).peekable();
    if sockets.peek().is_some() {
        writeln!(out, "{task}")?;
    }
    for fd in sockets {
        writeln!(out, "  {:5}: {}", fd.number, fd.file)?;
    }
    Ok(())
}

/// A tree that is deeper stays readable.
const MAX_INDENT: usize = 30;
