//! Checkpoints a real process tree, shows what was saved, brings it back, and proves that it goes
//! on.

mod counters;
mod payload;
mod proof;
mod saved;
mod stage;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use console::style;
use criu_cli::{Exit, Fault, Output, Pause, criu_program};
use criu_rs::{Criu, Dump, Restore};
use serde_json::json;

use proof::Proof;
use saved::Saved;
use stage::Images;
use tree::Tree;

/// Checkpoints a small process tree, shows what was saved, brings it back, and proves that it goes
/// on counting. It takes root and two seconds.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Options {
    /// The criu to use; else the variable CRIU, else `criu` in PATH
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
    /// Keep the images for a look at them
    #[arg(long)]
    keep: bool,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|word| word == payload::WORD) {
        return match payload::run(args.get(1..).unwrap_or_default()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let options = Options::parse();
    let output = Output::new("demo", "demo", options.json);
    match demo(&options, &output) {
        Ok(exit) => exit.into(),
        Err(fault) => output.fault(&fault),
    }
}

fn demo(options: &Options, output: &Output) -> Result<Exit, Fault> {
    let criu = Criu::at(criu_program(options.criu.as_deref())?);
    stage::prepare()?;
    let pause = Pause::new()?;
    let mut images = Images::new()?;
    let version = criu.version()?;

    let tree = Tree::start(&pause)?;
    let (root, size) = (tree.root, tree.size());
    pause.sleep(COUNTING)?;
    let begun = Instant::now();
    let dumped = Dump::new(root, images.path()).run(&criu)?;
    let elapsed = begun.elapsed();
    tree.bury();
    let saved = Saved::read(images.path()).map_err(criu_rs::Error::from)?;
    show(output, format_args!("CRIU {version} saves {size} processes that count, and ends them"));
    for line in saved.lines() {
        output.print(line);
    }
    output.print(format_args!("{}\n", saved.summary(&dumped, elapsed)));

    let begun = Instant::now();
    let restored = Restore::new(images.path()).rst_sibling(true).run(&criu)?;
    let elapsed = begun.elapsed();
    let tree = Tree::restored(restored.pid);
    let first = tree.counters()?;
    pause.sleep(COUNTING)?;
    let last = tree.counters()?;
    let proof = Proof { saved: saved.counters, first, last, is_whole: tree.size() == size };
    show(output, format_args!("CRIU brings them back in {elapsed:.1?}, and they go on"));
    for line in proof.lines() {
        output.print(line);
    }
    drop(tree);

    if options.keep {
        images.keep();
        output.print(format_args!("\nThe images are in {}", images.path().display()));
    }
    output.object(
        if proof.holds() { "done" } else { "failed" },
        json!({
            "criu": version.to_string(),
            "saved": saved.to_json(),
            "dump": dumped.stats.as_ref().ok(),
            "restore": restored.stats.as_ref().ok(),
            "counters": proof.to_json(),
            "images": options.keep.then(|| images.path().to_string_lossy()),
        }),
    );
    Ok(if proof.holds() { Exit::Done } else { Exit::Failed })
}

fn show(output: &Output, heading: std::fmt::Arguments<'_>) {
    output.print(style(heading).bold());
}

/// The time for which the processes count before something happens to them.
const COUNTING: Duration = Duration::from_millis(400);
