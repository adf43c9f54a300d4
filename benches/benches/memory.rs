//! Memory read, searched and shown: 512 MiB of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_benches::{Result, mapped, task_with_pages};
use criu_images::memory::{Hexdump, Memory, PageSource};
use criu_images::search::{Pattern, Search};
use criu_images::{ImageSet, Task};

const BYTES: usize = 512 << 20;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory");
    fs::create_dir_all(&directory)?;
    task_with_pages(&directory, &content())?;
    println!("| what | GiB/s, median (best) |");
    println!("| --- | --- |");
    let pages = directory.join("pages-1.img");
    let mut buf = vec![1; BYTES];
    {
        let set = mapped(&directory)?;
        let map = set.checkpoint()?;
        let memory = memory(map.root())?;
        let chunk = memory.chunk(BASE)?;
        let criu_images::memory::Content::Bytes(bytes) = chunk.content else {
            return Err("it is not mapped".into());
        };
        measure("memcpy of the mapped file", || {
            buf.copy_from_slice(bytes);
            Ok(())
        })?;
        measure("`read_at`, the file mapped", || Ok(memory.read_at(BASE, &mut buf)?))?;
        measure("`read_at`, the file mapped, a page a call", || by_page(&memory, &mut buf))?;
    }
    let set = ImageSet::open(&directory)?;
    let checkpoint = set.checkpoint()?;
    let memory = memory(checkpoint.root())?;
    let file = File::open(&pages)?;
    measure("pread of the file", || Ok(file.read_exact_at(&mut buf, 0)?))?;
    measure("`read_at`, pread", || Ok(memory.read_at(BASE, &mut buf)?))?;
    measure("`read_at`, pread, a page a call", || by_page(&memory, &mut buf))?;
    let patterns = [
        ("search for a literal", Pattern::literal(b"needle in a haystack")?),
        ("search for hex digits with wildcards", Pattern::hex("6e 65 ?? 64 6c 65 21")?),
        ("search for a regular expression", Pattern::regex("(?i)password=[a-z0-9]{8,}")?),
        ("search for e-mail addresses", Pattern::regex(r"[a-z0-9.]+@[a-z0-9.]+\.(com|org)")?),
    ];
    for (name, pattern) in patterns {
        let search = Search::new(pattern);
        measure(name, || match search.run(&memory).next() {
            Some(hit) => Err(format!("found {}", hit?).into()),
            None => Ok(()),
        })?;
    }
    memory.read_at(BASE, &mut buf)?;
    let shown = Hexdump { address: BASE, bytes: &buf };
    measure("hexdump", || Ok(shown.write_to(&mut io::sink())?))?;
    Ok(fs::remove_dir_all(&directory)?)
}

/// Words of text, every page another; none of what is searched for.
fn content() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while bytes.len() < BYTES {
        state = state.wrapping_mul(0xd129_42f9_72c5_0b35).wrapping_add(1);
        match state >> 62 {
            0 => bytes.extend(state.to_le_bytes()),
            1 => bytes.extend(b"some text, "),
            2 => bytes.extend((state & 0xffff).to_le_bytes()),
            _ => bytes.extend((0x7f12_3456_0000 | state >> 44).to_le_bytes()),
        }
    }
    bytes.truncate(BYTES);
    bytes
}

fn memory(task: Task<'_>) -> Result<Memory<'_>> {
    Ok(task.memory()?.ok_or("the task has no memory")?)
}

fn by_page(memory: &Memory<'_>, buf: &mut [u8]) -> Result<()> {
    for (address, page) in (BASE..).step_by(4096).zip(buf.chunks_mut(4096)) {
        memory.read_at(address, page)?;
    }
    Ok(())
}

fn measure(name: &str, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        run()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let rate = |time: Option<&Duration>| {
        let seconds = time.copied().unwrap_or_default().as_secs_f64();
        BYTES as f64 / f64::from(1 << 30) / seconds
    };
    println!("| {name} | {:.2} ({:.2}) |", rate(times.get(ROUNDS / 2)), rate(times.first()));
    Ok(())
}

/// The address at which the task's memory begins.
const BASE: u64 = criu_benches::BASE;
