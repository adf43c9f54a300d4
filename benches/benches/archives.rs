//! Looks into archives of checkpoints, beside checkpointctl: a process of 512 MiB, and a tree of
//! 2,000 processes.
//!
//! CRIU dumps both. The archives are as podman writes them. The two programs take turns. Each run
//! is a process whose times and largest memory are told by whoever started it alone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Random, Result, crius, prepare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some(MEMORY) => hold_memory(words[2].parse()?),
        Some(TREE) => grow_tree(words[2].parse()?),
        Some(ALONE) => return alone(&words[2..]),
        _ => {}
    }
    prepare();
    let (ours, theirs) = programs()?;
    let rounds = number("ROUNDS", 5);
    let (mib, processes) = (number("MIB", 512), number("PROCESSES", 2000));
    let only = std::env::var("LOOK").unwrap_or_default();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archives");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    println!(
        "| archive | what | checkpointctl, ms | CPU | MiB | criu-rs, ms | CPU | MiB | ratio | CPU |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, word, size) in
        [(format!("{mib} MiB"), MEMORY, mib), (format!("{processes} processes"), TREE, processes)]
    {
        let (plain, pid) = make(&folder, word, size)?;
        for archive in packed(&plain, &ours)? {
            let kind = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = fs::metadata(&archive)?.len() >> 20;
            for look in LOOKS {
                let is_chosen = only.split(',').any(|part| look.name.contains(part));
                if !is_chosen || (look.memory_only && word == TREE) {
                    continue;
                }
                let mut runs = [Vec::new(), Vec::new()];
                for turn in 0..rounds * 2 {
                    // A hexdump by checkpointctl takes minutes: one of each is enough.
                    let is_slow = runs.iter().flatten().any(|run: &Run| run.time > SLOW);
                    if is_slow && turn % 2 == 0 {
                        break;
                    }
                    let which = usize::try_from((turn + turn / 2) % 2)?;
                    let (program, words) = [(&theirs, look.theirs), (&ours, look.ours)][which];
                    let words = words.replace("PID", &pid);
                    let words: Vec<&str> = words.split(' ').collect();
                    let result = run(program, &words, &archive)?;
                    runs[which].push(result);
                }
                let [theirs, ours] = runs.map(middle);
                let cells = |run: Run| {
                    let (ms, mib) = (run.time.as_secs_f64() * 1e3, run.memory >> 10);
                    format!("{ms:.1} | {:.0} | {mib}", run.cpu.as_secs_f64() * 1e3)
                };
                println!(
                    "| {name}, {kind} ({bytes} MiB) | {} | {} | {} | {:.1}x | {:.1}x |",
                    look.name,
                    cells(theirs),
                    cells(ours),
                    theirs.time.as_secs_f64() / ours.time.as_secs_f64(),
                    theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64(),
                );
            }
        }
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A question to both programs. The archive comes last.
struct Look {
    name: &'static str,
    theirs: &'static str,
    ours: &'static str,
    memory_only: bool,
}

const LOOKS: &[Look] = &[
    Look { name: "show", theirs: "show", ours: "inspect --metadata", memory_only: false },
    // Our screen has the process tree, and what a restore needs.
    Look { name: "show; our screen", theirs: "show", ours: "inspect", memory_only: false },
    Look {
        name: "inspect with everything",
        theirs: "inspect --all --ps-tree-cmd --ps-tree-env --files --sockets",
        ours: "inspect --all --ps-tree-cmd --ps-tree-env --files --sockets",
        memory_only: false,
    },
    Look { name: "memparse", theirs: "memparse", ours: "inspect --memory", memory_only: false },
    Look {
        name: "search",
        theirs: "memparse --pid PID --search correct-horse-battery-staple",
        ours: "inspect --pid PID --search correct-horse-battery-staple",
        memory_only: true,
    },
    Look {
        name: "search, regular expression",
        theirs: "memparse --pid PID --search-regex correct-[a-z]+-battery",
        ours: "inspect --pid PID --search-regex correct-[a-z]+-battery",
        memory_only: true,
    },
    Look {
        name: "hexdump of all memory",
        theirs: "memparse --pid PID",
        ours: "inspect --hexdump PID",
        memory_only: true,
    },
];

/// A run of a program.
#[derive(Clone, Copy, Debug)]
struct Run {
    time: Duration,
    /// Time of processors, of the program and of the kernel for it.
    cpu: Duration,
    /// The largest resident memory, in KiB.
    memory: i64,
}

/// Runs a program by a process that starts nothing else.
fn run(program: &Path, words: &[&str], archive: &Path) -> Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ALONE).arg(program).args(words).arg(archive).stdin(Stdio::null());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} {}: {why}", program.display(), words.join(" ")).into());
    }
    let mut numbers = text.split_whitespace();
    let mut next = || numbers.next().ok_or("a run without numbers");
    Ok(Run {
        time: Duration::from_nanos(next()?.parse()?),
        cpu: Duration::from_micros(next()?.parse()?),
        memory: next()?.parse()?,
    })
}

/// Starts a program, and prints its time in nanoseconds, its time of processors in microseconds,
/// and its memory in KiB. The output of the program goes through a pipe, as it does to a pager.
fn alone(words: &[String]) -> Result<()> {
    let begun = Instant::now();
    let mut command = Command::new(&words[0]);
    let mut child = command.args(&words[1..]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let bytes = std::io::copy(&mut output, &mut std::io::sink())?;
    let status = child.wait()?;
    let time = begun.elapsed();
    if !status.success() || bytes == 0 {
        return Err(format!("{status}, {bytes} bytes").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
    println!("{} {cpu} {}", time.as_nanos(), usage.max_rss());
    Ok(())
}

/// The medians of the times, and the largest memory.
fn middle(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.time);
    let memory = runs.iter().map(|run| run.memory).max().unwrap_or(0);
    let mut cpu: Vec<Duration> = runs.iter().map(|run| run.cpu).collect();
    cpu.sort_unstable();
    Run { memory, cpu: cpu[cpu.len() / 2], ..runs[runs.len() / 2] }
}

/// Dumps a process of this program, and makes of the images a folder as podman packs it. Returns
/// the folder and the number of the process.
fn make(folder: &Path, word: &str, size: u32) -> Result<(PathBuf, String)> {
    let plain = folder.join(word.trim_start_matches('-'));
    let images = plain.join("checkpoint");
    fs::create_dir_all(&images)?;
    let up = folder.join("up");
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).arg(word).arg(size.to_string());
    command.env("SECRET", "hunter2").stdin(Stdio::null()).stdout(Stdio::null());
    command.env(UP, &up).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if !criu_lab::within(Duration::from_secs(60), || up.exists()) {
        return Err("the process to dump does not start".into());
    }
    fs::remove_file(up)?;
    let pid = child.id().to_string();
    // checkpointctl 1.3.0 sees no memory in images of CRIU 4.3, which count pages in a new field.
    let (_, criu) = crius()?.into_iter().next().ok_or("no CRIU")?;
    let mut dump = Command::new(criu);
    dump.args(["dump", "--tree", &pid, "--shell-job", "-v0", "--images-dir"]).arg(&images);
    let output = dump.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        child.kill()?;
        return Err(format!("the dump failed: {output:?}").into());
    }
    child.wait()?;
    criu_lab::process::reap();
    fs::rename(images.join("stats-dump"), plain.join("stats-dump"))?;
    for (name, text) in METADATA {
        fs::write(plain.join(name), text)?;
    }
    Ok((plain, pid))
}

/// The archives of a folder: with zstd as podman packs them by default, not packed, and as the
/// program packs.
fn packed(plain: &Path, ours: &Path) -> Result<Vec<PathBuf>> {
    let folder = plain.parent().ok_or("no folder")?;
    let mut archives = Vec::new();
    for (name, option) in [("zstd.tar", "--zstd"), ("plain.tar", "--no-auto-compress")] {
        let archive = folder.join(name);
        let mut tar = Command::new("tar");
        // Podman sorts the folder of the images.
        tar.env("ZSTD_CLEVEL", "3").args([option, "--sort=name", "-cf"]);
        tar.arg(&archive).arg("-C").arg(plain);
        let made = tar.args(["config.dump", "spec.dump", "network.status", "stats-dump"]);
        if !made.args(["checkpoint"]).status()?.success() {
            return Err("tar failed".into());
        }
        archives.push(archive);
    }
    let seekable = folder.join("seekable.tar");
    let _ = fs::remove_file(&seekable);
    let mut convert = Command::new(ours);
    convert.args(["archive", "convert", "--to", "podman"]).arg(&archives[0]).arg(&seekable);
    let output = convert.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("archive convert: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    archives.push(seekable);
    Ok(archives)
}

/// Our program of a release build, and checkpointctl.
fn programs() -> Result<(PathBuf, PathBuf)> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).ok_or("this program lies in no folder")?;
    let ours = folder.join("criu-rs");
    if !ours.exists() {
        return Err("build the program first: cargo build --release -p criu-cli".into());
    }
    Ok((ours, criu_lab::place::engine("checkpointctl")))
}

/// Fills memory: a quarter random, half like text, a quarter zero; and waits.
fn hold_memory(mib: usize) {
    let mut random = Random(1);
    let mut bytes = vec![0_u8; mib << 20];
    for (number, page) in bytes.chunks_exact_mut(4096).enumerate() {
        match number % 4 {
            0 => page.chunks_exact_mut(8).for_each(|part| {
                part.copy_from_slice(&random.below(u64::MAX).to_le_bytes());
            }),
            1 | 2 => page.chunks_exact_mut(16).for_each(|part| {
                let _ = write!(&mut &mut *part, "user{:08};name", random.below(100_000_000));
            }),
            _ => {}
        }
    }
    let at = bytes.len() / 5 * 4;
    bytes[at..at + SECRET.len()].copy_from_slice(SECRET);
    wait(&bytes);
}

/// Starts so many processes: shells with a hundred children each; and waits.
fn grow_tree(processes: u32) {
    let group = "n=$1; while [ $n -gt 1 ]; do sleep 100000 & n=$((n-1)); done; wait";
    let mut left = processes - 1;
    let mut children = Vec::new();
    while left > 0 {
        let size = left.min(100);
        let mut shell = Command::new("sh");
        children.push(shell.args(["-c", group, "sh", &size.to_string()]).spawn().ok());
        left -= size;
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let is_grown = || criu_lab::process::descendants(own).len() == processes as usize;
    if criu_lab::within(Duration::from_secs(60), is_grown) {
        wait(&children);
    }
}

fn wait<T>(held: &T) {
    if let Some(up) = std::env::var_os(UP) {
        let _ = File::create(up);
    }
    loop {
        std::hint::black_box(held);
        std::thread::sleep(Duration::from_secs(1000));
    }
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The argument that makes this program a process with memory: `--memory MIB`.
const MEMORY: &str = "--memory";

/// The argument that makes this program a tree: `--tree PROCESSES`.
const TREE: &str = "--tree";

/// The argument that makes this program start another one: `--alone PROGRAM WORDS`.
const ALONE: &str = "--alone";

/// Longest run that is repeated.
const SLOW: Duration = Duration::from_secs(20);

/// Names the file that says that a process to dump is up.
const UP: &str = "ARCHIVES_UP";

/// The text to search.
const SECRET: &[u8] = b"password=correct-horse-battery-staple";

/// The least of metadata with which checkpointctl shows an archive of podman.
const METADATA: &[(&str, &str)] = &[
    (
        "config.dump",
        r#"{"id": "29a03077e789957833c9b8314ef68c5e6bdf9598c797c2ab933280a0b0d28a82",
"name": "figures", "rootfsImageName": "localhost/count:1", "runtime": "runc",
"createdTime": "2026-11-30T04:42:39.498411726Z",
"checkpointedAt": "2026-11-30T04:42:40.498411726Z"}"#,
    ),
    (
        "spec.dump",
        r#"{"ociVersion": "1.2.1", "hostname": "figures", "annotations": {}, "mounts": []}"#,
    ),
    ("network.status", "null"),
];
