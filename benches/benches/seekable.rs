//! Size and speed of seekable archives beside `zstd -1` of the same tar, and the time to read one
//! page of an archive beside that to unpack it. The memory is that of a real process.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criu_archive::write::{Draft, Options, Pack};
use criu_archive::{Archive, UNWATCHED};
use criu_benches::{Result, crius, prepare, summary};
use criu_images::source::{Blob, Directory, ReadAt};
use criu_rs::{Criu, Dump, Pid};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// A program that fills memory with what programs have there: objects, text, numbers. Its second
/// argument is the share of bytes that do not compress, in percent.
const FILLER: &str = r#"
import os, random, signal, sys
os.setsid()
mib, share, ready = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
random.seed(1)
random_bytes = [os.urandom(1 << 20) for _ in range(mib * share // 100)]
words = [bytes(random.choices(b"etaoinshrdlu", k=random.randrange(3, 11))).decode() for _ in range(4000)]
objects, target = [], (mib * (100 - share) // 100) << 20
def used():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
start = used()
while used() - start < target:
    for _ in range(2000):
        n = random.getrandbits(32)
        objects.append({"id": n, "name": " ".join(random.choices(words, k=6)), "at": n * 1.5, "tags": [n % 7, n % 11, None]})
open(ready, "w").write("ready")
signal.pause()
"#;

fn main() -> Result<()> {
    prepare();
    let number = |name: &str, usual: usize| -> Result<usize> {
        Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
    };
    let (mib, rounds) = (number("MIB", 512)?, number("ROUNDS", 5)?);
    let directory = std::env::var("DIR").unwrap_or_else(|_| "/dev/shm".to_owned());
    let directory = Path::new(&directory).join(format!("criu-archives-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let result = measure(&directory, mib, rounds);
    fs::remove_dir_all(&directory)?;
    result
}

fn measure(directory: &Path, mib: usize, rounds: usize) -> Result<()> {
    println!(
        "| memory | packed by | size, MB | of `zstd -1` | ms, median (least..most) | MB/s | CPU, ms |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, share) in [("objects", 0), ("objects and random bytes, half each", 50)] {
        let lab = Lab::new(directory, mib, share)?;
        lab.tell_sizes(&format!("{mib} MiB of {name}"), rounds)?;
    }
    println!();
    println!("| archive | what | ms, median (least..most) | reads | bytes read |");
    println!("| --- | --- | ---: | ---: | ---: |");
    let lab = Lab::new(directory, 2 * mib, 25)?;
    lab.tell_page(rounds)
}

/// A dump, and a plain archive of it.
struct Lab {
    directory: PathBuf,
    draft: Draft,
    tar: PathBuf,
}

impl Lab {
    fn new(directory: &Path, mib: usize, share: usize) -> Result<Self> {
        let images = directory.join("img");
        let _ = fs::remove_dir_all(&images);
        fs::create_dir(&images)?;
        let ready = directory.join("ready");
        let _ = fs::remove_file(&ready);
        let mut process = Held(start(mib, share, &ready)?);
        let is_ready = || ready.exists();
        if !criu_lab::within(Duration::from_secs(120), is_ready) {
            return Err("the process does not fill its memory".into());
        }
        let (_, program) = crius()?.pop().ok_or("there is no CRIU")?;
        Dump::new(Pid::from(&process.0), &images).run(&Criu::at(&program))?;
        process.0.wait()?;
        let mut draft = Draft::new();
        let source = Directory::open(&images)?;
        draft.add_images("checkpoint", &images.to_string_lossy(), Arc::new(source))?;
        let lab = Self { directory: directory.into(), draft, tar: directory.join("plain.tar") };
        lab.write(&lab.tar, Pack::Plain, false)?;
        Ok(lab)
    }

    fn write(&self, path: &Path, pack: Pack, has_digests: bool) -> Result<()> {
        let mut options = Options::default();
        (options.pack, options.has_digests) = (pack, has_digests);
        let mut out = BufWriter::new(File::create(path)?);
        self.draft.write("bench", &mut out, &options, UNWATCHED)?;
        Ok(out.flush()?)
    }

    fn tell_sizes(&self, memory: &str, rounds: usize) -> Result<()> {
        let bytes = fs::metadata(&self.tar)?.len();
        let out = self.directory.join("packed");
        let zstd = |threads: &str| -> Result<()> {
            let mut command = Command::new("zstd");
            command.args(["-1", "-q", "-f", threads, "-o"]).arg(&out).arg(&self.tar);
            if command.status()?.success() { Ok(()) } else { Err("zstd fails".into()) }
        };
        let ours =
            |threads, digests| self.write(&out, Pack::Seekable { level: 1, threads }, digests);
        let ways: [(&str, &dyn Fn() -> Result<()>); 6] = [
            ("`zstd -1 -T1`", &|| zstd("-T1")),
            ("`zstd -1 --single-thread`", &|| zstd("--single-thread")),
            ("this crate, 1 thread", &|| ours(1, false)),
            ("`zstd -1 -T2`", &|| zstd("-T2")),
            ("this crate, 2 threads", &|| ours(2, false)),
            ("this crate, 2 threads, with all digests", &|| ours(2, true)),
        ];
        let mut times = vec![Vec::new(); ways.len()];
        let mut works = vec![Vec::new(); ways.len()];
        let mut sizes = vec![0; ways.len()];
        for round in 0..=rounds {
            for (way, (_, run)) in ways.iter().enumerate() {
                let _ = fs::remove_file(&out);
                let (begin, work) = (Instant::now(), worked()?);
                run()?;
                if round > 0 {
                    times[way].push(begin.elapsed());
                    works[way].push(worked()? - work);
                }
                sizes[way] = fs::metadata(&out)?.len();
            }
        }
        for (way, (name, _)) in ways.iter().enumerate() {
            let size = sizes[way] as f64 / 1e6;
            let ratio = sizes[way] as f64 / sizes[0] as f64;
            let mut sorted = times[way].clone();
            sorted.sort_unstable();
            let speed = bytes as f64 / 1e6 / sorted[sorted.len() / 2].as_secs_f64();
            let time = summary(&mut times[way]);
            works[way].sort_unstable();
            let work = works[way][rounds / 2].as_millis();
            println!(
                "| {memory} | {name} | {size:.1} | {ratio:.3} | {time} | {speed:.0} | {work} |"
            );
        }
        Ok(())
    }

    /// Measures a page of a compressed archive, opening included, and unpacking the archive.
    fn tell_page(&self, rounds: usize) -> Result<()> {
        let packed = self.directory.join("page.tar.zst");
        self.write(&packed, Pack::Seekable { level: 1, threads: 2 }, false)?;
        let plain = fs::metadata(&self.tar)?.len() >> 20;
        let size = fs::metadata(&packed)?.len() >> 20;
        let name = format!("{plain} MiB in {size} MiB");
        let (mut page_times, mut unpack_times) = (Vec::new(), Vec::new());
        let (reads, read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for round in 0..rounds * 20 {
            let counting = Counting {
                bytes: Blob::try_from(File::open(&packed)?)?,
                reads: Arc::clone(&reads),
                read: Arc::clone(&read),
            };
            let begin = Instant::now();
            let archive = Archive::new("page.tar.zst", Blob::new(counting))?;
            let pages = archive.bytes("checkpoint/pages-1.img")?;
            let mut page = [0; 4096];
            let count = pages.len() / 4096;
            pages.read_at((round as u64 * 7_919_993) % count * 4096, &mut page)?;
            page_times.push(begin.elapsed());
        }
        let all = (rounds * 20) as u64;
        let (reads, read) =
            (reads.load(Ordering::Relaxed) / all, read.load(Ordering::Relaxed) / all);
        println!(
            "| {name} | one page, opened anew | {} | {reads} | {read} |",
            summary(&mut page_times)
        );
        for _ in 0..rounds {
            let begin = Instant::now();
            let mut command = Command::new("zstd");
            let out = self.directory.join("unpacked");
            command.args(["-d", "-q", "-f", "-o"]).arg(&out).arg(&packed);
            if !command.status()?.success() {
                return Err("zstd fails".into());
            }
            unpack_times.push(begin.elapsed());
        }
        println!("| {name} | `zstd -d` | {} | | |", summary(&mut unpack_times));
        Ok(())
    }
}

/// Time that processors have worked for this process and for those that it has waited for.
fn worked() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            sum += Duration::from_micros(u64::try_from(time.num_microseconds())?);
        }
    }
    Ok(sum)
}

fn start(mib: usize, share: usize, ready: &Path) -> Result<Child> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", FILLER, &mib.to_string(), &share.to_string()]).arg(ready);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// A process that is killed at the end.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that count how they are read.
#[derive(Debug)]
struct Counting {
    bytes: Blob,
    reads: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, buf)
    }
}
