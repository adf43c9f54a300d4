//! Walking a large pagemap, beside plain prost and a bare loop over the same bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criu_benches::{Result, image, pagemap};
use criu_images::kind;
use criu_images::memory::{PageSize, Pagemap};
use criu_images::proto::PagemapEntry;
use prost::Message;

const RUNS: u64 = 400_000;
const ROUNDS: usize = 31;

fn main() -> Result<()> {
    let bytes = image(kind::PAGEMAP, &pagemap(RUNS))?;
    type Way = (&'static str, fn(&[u8]) -> Result<(u64, u64)>);
    let ways: [Way; 3] = [
        ("this crate: framing, every check", ours),
        ("prost, an entry at a time, no checks", by_prost),
        ("a bare loop over the varints, nothing but sums", bare),
    ];
    let mut times = ways.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (times, (_, way)) in times.iter_mut().zip(&ways) {
            let begun = Instant::now();
            let sums = black_box(way(black_box(&bytes))?);
            times.push(begun.elapsed());
            if sums.0 != RUNS {
                return Err(format!("{} pages, wanted {RUNS}", sums.0).into());
            }
        }
    }
    println!("| way | milliseconds, median (least) | million entries a second |");
    println!("| --- | --- | --- |");
    for (times, (name, _)) in times.iter_mut().zip(&ways) {
        times.sort_unstable();
        let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
        let least = times.first().copied().unwrap_or_default();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = RUNS as f64 / median.as_secs_f64() / 1e6;
        println!("| {name} | {:.2} ({:.2}) | {rate:.0} |", ms(median), ms(least));
    }
    Ok(())
}

fn ours(bytes: &[u8]) -> Result<(u64, u64)> {
    let pagemap = Pagemap::parse("pagemap-1.img", bytes, kind::PAGEMAP, PageSize::K4)?;
    let mut sums = (0, 0u64);
    for run in pagemap.runs() {
        let run = run?;
        sums = (sums.0 + run.pages, sums.1.wrapping_add(run.start));
    }
    Ok(sums)
}

fn by_prost(bytes: &[u8]) -> Result<(u64, u64)> {
    let mut sums = (0, 0u64);
    for entry in entries(bytes) {
        let entry = PagemapEntry::decode(entry)?;
        let pages = entry.nr_pages.unwrap_or(entry.compat_nr_pages.into());
        sums = (sums.0 + pages, sums.1.wrapping_add(entry.vaddr));
    }
    Ok(sums)
}

fn bare(bytes: &[u8]) -> Result<(u64, u64)> {
    let mut sums = (0, 0u64);
    for mut entry in entries(bytes) {
        while let [key, rest @ ..] = entry {
            let (mut value, mut shift) = (0u64, 0);
            entry = rest;
            while let [byte, rest @ ..] = entry {
                entry = rest;
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if *byte < 0x80 {
                    break;
                }
            }
            match key {
                0x08 => sums.1 = sums.1.wrapping_add(value),
                0x28 => sums.0 += value,
                _ => {}
            }
        }
    }
    Ok(sums)
}

/// The entries, without the head.
fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    let next = move || {
        let (size, after) = rest.split_first_chunk()?;
        let (entry, after) = after.split_at_checked(u32::from_le_bytes(*size) as usize)?;
        rest = after;
        Some(entry)
    };
    std::iter::from_fn(next).skip(1)
}
