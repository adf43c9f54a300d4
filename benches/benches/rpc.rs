//! The cost of driving CRIU through this crate beside its command line, and the gain of the probe
//! cache.
//!
//! The ways take turns, so that a change of the machine's speed meets all of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{COUNTER, Counter, Result, count, crius, prepare, summary};
use criu_rs::{AfterDump, Criu, Dump, Pid, ProbeCache};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, file] = words.as_slice() {
        if word == COUNTER {
            return count(Path::new(file));
        }
    }
    prepare();
    println!("milliseconds, median (least..most)\n");
    println!("| CRIU | what | times | command line | this crate | difference of the medians |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (version, program) in crius()? {
        let criu = Criu::at(&program);
        row(
            &format!("{version} | version"),
            200,
            Box::new(|| run(Command::new(&program).arg("--version"))),
            Box::new(|| Ok(criu.version().map(drop)?)),
        )?;

        let folder = std::env::temp_dir().join(format!("criu-rpc-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder)?;
        let counter = Counter::start(&folder.join("count"))?;
        let pid = counter.pid();
        let line = || command_line_dump(&program, &folder, pid);
        row(
            &format!("{version} | dump of a small process"),
            300,
            Box::new(line),
            Box::new(|| dump(&criu, &folder, pid)),
        )?;
        let plain = in_a_row(&criu, &folder, pid)?;

        let cache = ProbeCache::make(&criu)?;
        let cached = criu.clone().with_probe_cache(&cache);
        row(
            &format!("{version} | the same with the probe cache"),
            300,
            Box::new(line),
            Box::new(|| dump(&cached, &folder, pid)),
        )?;
        let quick = in_a_row(&cached, &folder, pid)?;
        cache.remove()?;
        eprintln!(
            "CRIU {version}: 20 dumps in a row {plain:.1?}, with the probe cache {quick:.1?}: {:.1}x",
            plain.as_secs_f64() / quick.as_secs_f64()
        );
        drop(counter);
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

type Way<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// Measures two ways in turn.
fn row<'a>(what: &str, times: usize, command_line: Way<'a>, ours: Way<'a>) -> Result<()> {
    let mut ways = [command_line, ours];
    let mut measured = [Vec::new(), Vec::new()];
    for turn in 0..times * 2 {
        // Which one goes first changes as well.
        let which = (turn + turn / 2) % 2;
        let begun = Instant::now();
        (ways[which])()?;
        measured[which].push(begun.elapsed());
    }
    let [line, ours] = &mut measured;
    let (line_text, our_text) = (summary(line), summary(ours));
    let median = |times: &[Duration]| times[times.len() / 2].as_secs_f64() * 1e3;
    let difference = median(ours) - median(line);
    println!("| {what} | {times} | {line_text} | {our_text} | {difference:+.2} |");
    Ok(())
}

/// Twenty dumps, one after the other.
fn in_a_row(criu: &Criu, folder: &Path, pid: Pid) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..20 {
        dump(criu, folder, pid)?;
    }
    Ok(begun.elapsed())
}

fn dump(criu: &Criu, folder: &Path, pid: Pid) -> Result<()> {
    let images = fresh(folder)?;
    Dump::new(pid, &images).after_dump(AfterDump::LeaveRunning).run(criu)?;
    Ok(())
}

fn command_line_dump(program: &Path, folder: &Path, pid: Pid) -> Result<()> {
    let images = fresh(folder)?;
    let mut command = Command::new(program);
    command.args(["dump", "-R", "-o", "dump.log", "-t", &pid.to_string(), "-D"]).arg(images);
    run(&mut command)
}

/// An empty images directory.
fn fresh(folder: &Path) -> Result<std::path::PathBuf> {
    let images = folder.join("images");
    let _ = std::fs::remove_dir_all(&images);
    std::fs::create_dir(&images)?;
    Ok(images)
}

fn run(command: &mut Command) -> Result<()> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status()?.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}
