//! A checkpoint of 2,000 tasks: opened, and its process tree printed. Whole processes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Result, set, summary, task};
use criu_images::proto::PstreeEntry;
use criu_images::{ImageSet, view};
use prost::Message;

const TASKS: u32 = 2000;
const ROUNDS: usize = 21;
/// The argument that makes this program print a tree: `--tree DIR`.
const TREE: &str = "--tree";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, directory] = words.as_slice() {
        if word == TREE {
            let set = ImageSet::open(directory)?;
            let ps = view::Ps::new(set.checkpoint()?.tasks());
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            writeln!(out, "{ps}")?;
            return Ok(out.flush()?);
        }
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tree");
    _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    // Each has ten children.
    let entry = |pid: u32| PstreeEntry {
        pid,
        ppid: if pid == 1 { 0 } else { (pid - 2) / 10 + 1 },
        pgid: 1,
        sid: 1,
        threads: vec![pid],
    };
    let tree: Vec<_> = (1..=TASKS).map(|pid| entry(pid).encode_to_vec()).collect();
    set(&directory, &tree)?;
    // As large as a real one is.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline");
    let core = fs::read(data.join("core-10139.img"))?;
    for pid in 1..=TASKS {
        task(&directory, pid, 0, b"task")?;
        fs::write(directory.join(format!("core-{pid}.img")), &core)?;
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(TREE).arg(&directory).stdin(Stdio::null());
        let begun = Instant::now();
        let output = command.output()?;
        times.push(begun.elapsed());
        let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        if !output.status.success() || lines != 1 + TASKS as usize {
            return Err(format!("{output:?}").into());
        }
    }
    println!("| what | milliseconds, median (least..most) |");
    println!("| --- | --- |");
    println!("| {TASKS} tasks, opened and printed | {} |", summary(&mut times));
    let limit = Duration::from_millis(34);
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("\nwithin {limit:?}: {}", if median <= limit { "yes" } else { "no" });
    Ok(fs::remove_dir_all(&directory)?)
}
