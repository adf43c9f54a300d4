//! Whole programs from start to end: `criu-rs` as it is installed, beside CRIU's crit, grep and dd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Random, Result, crius, image, mm, summary, task_with_pages};
use criu_images::kind;
use criu_images::proto::PstreeEntry;
use prost::Message;

const TASKS: u32 = 1000;
const ROUNDS: usize = 11;
/// Bytes of each searched memory.
const MEMORY: usize = 256 << 20;
/// Mappings of the encoded address space.
const MAPPINGS: u64 = 200_000;
/// The task of the sample that is copied.
const SAMPLE: &str = "10139";

fn main() -> Result<()> {
    let ours = match std::env::var_os("CRIU_RS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/criu-rs"),
    };
    if !ours.exists() {
        return Err("build the program first: cargo build --release -p criu-cli".into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("whole");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let own = |words: &[&str]| {
        let mut command = Command::new(&ours);
        command.args(words).current_dir(&folder);
        command
    };
    println!("| what | criu-rs: ms, median (least..most) | peer | ms |");
    println!("| --- | --- | --- | --- |");

    many_tasks(&folder.join("tree"))?;
    let what = |word: &str| format!("{word}, {TASKS} tasks");
    row(&what("inspect"), own(&["inspect", "tree"]), None)?;
    row(&what("crit check"), own(&["crit", "check", "tree"]), None)?;
    let peer = Some(("crit 4.3", crit(&folder, &["x", "tree", "ps"])?));
    row(&what("crit x ps"), own(&["crit", "x", "tree", "ps"]), peer)?;

    let address_space = image(kind::MM, &[mm(MAPPINGS)])?;
    fs::write(folder.join("mm.img"), address_space)?;
    finish(own(&["crit", "decode", "-i", "mm.img", "-o", "mm.json"]))?;
    let words = ["encode", "-i", "mm.json", "-o", "mm.back"];
    let encode = own(&[&["crit"], &words[..]].concat());
    let what = format!("crit encode, {MAPPINGS} mappings");
    row(&what, encode, Some(("crit 4.3", crit(&folder, &words)?)))?;

    let mut numbers = Random(7);
    let words = (0..MEMORY / 8).map(|_| numbers.below(u64::MAX));
    let random: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let line = b"user 000017 has a password that is not known, and the password is long; ";
    let text: Vec<u8> = line.iter().copied().cycle().take(MEMORY).collect();
    for (name, bytes) in [("random", random), ("text", text)] {
        fs::create_dir(folder.join(name))?;
        task_with_pages(&folder.join(name), &bytes)?;
    }
    let mib = MEMORY >> 20;
    for (what, name, pattern) in [
        ("a literal, random bytes", "random", "not in there"),
        ("`[0-9]{8}`, random bytes", "random", "[0-9]{8}"),
        ("`(?i)password=[a-z]+`, text full of \"password\"", "text", "(?i)password=[a-z]+"),
    ] {
        let pages = format!("{name}/pages-1.img");
        let is_literal = name == "random" && !pattern.contains('[');
        let mut words = vec!["crit", "search", name, pattern, "--count"];
        words.extend((!is_literal).then_some("--regex"));
        let peer = if is_literal {
            let input = format!("if={pages}");
            ("dd", program(&folder, "dd", &[&input, "of=/dev/null", "bs=1M"]))
        } else {
            let pattern = pattern.trim_start_matches("(?i)");
            ("grep -aicE", program(&folder, "grep", &["-aicE", pattern, &pages]))
        };
        row(&format!("crit search, {mib} MiB: {what}"), own(&words), Some(peer))?;
    }
    Ok(fs::remove_dir_all(&folder)?)
}

/// Measures the two in turn and prints a row.
fn row(what: &str, mut own: Command, peer: Option<(&str, Command)>) -> Result<()> {
    let (name, mut peer) = peer.map_or(("", None), |(name, peer)| (name, Some(peer)));
    let (mut times, mut others) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        times.push(once(&mut own)?);
        // crit takes seconds.
        if let Some(peer) = peer.as_mut().filter(|_| round < 3 || name != "crit 4.3") {
            others.push(once(peer)?);
        }
    }
    let others = if others.is_empty() { String::new() } else { summary(&mut others) };
    println!("| {what} | {} | {name} | {others} |", summary(&mut times));
    Ok(())
}

fn once(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let taken = begun.elapsed();
    // A search that finds nothing ends with 1, as grep does.
    if matches!(status.code(), Some(0 | 1)) {
        Ok(taken)
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn finish(mut command: Command) -> Result<()> {
    if command.status()?.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}

fn program(folder: &Path, name: &str, words: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(words).current_dir(folder).env("LC_ALL", "C");
    command
}

/// CRIU's own crit.
fn crit(folder: &Path, words: &[&str]) -> Result<Command> {
    let newest = crius()?.pop().ok_or("no CRIU")?.1;
    let packages = newest.ancestors().nth(3).map(|usr| usr.join("usr/lib/python3/dist-packages"));
    let mut command = program(folder, "/usr/bin/python3", &["-c", CRIT]);
    command.args(words).env("PYTHONPATH", packages.ok_or("no folder")?);
    Ok(command)
}

const CRIT: &str = "from crit.__main__ import main; main()";

/// Writes a set of many tasks: copies of a real one.
fn many_tasks(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline");
    for entry in fs::read_dir(sample)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| "a name that is not UTF-8")?;
        let bytes = fs::read(entry.path())?;
        if name.contains(SAMPLE) {
            for pid in 1..=TASKS {
                fs::write(directory.join(name.replace(SAMPLE, &pid.to_string())), &bytes)?;
            }
        } else {
            fs::write(directory.join(name), bytes)?;
        }
    }
    let entry = |pid: u32| {
        let ppid = u32::from(pid > 1);
        PstreeEntry { pid, ppid, pgid: 1, sid: 1, threads: vec![pid] }.encode_to_vec()
    };
    let tree: Vec<_> = (1..=TASKS).map(entry).collect();
    Ok(fs::write(directory.join(kind::PSTREE.file), image(kind::PSTREE, &tree)?)?)
}
