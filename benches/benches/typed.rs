//! Messages as types: this crate's decoding, which checks, beside plain prost, which does not.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_benches::{Result, files, image, mm, pagemap};
use criu_images::Image;
use criu_images::kind::{self, Kind};
use criu_images::proto::{CoreEntry, FileEntry, MmEntry, PagemapEntry, PstreeEntry};
use criu_images::schema::Entry;
use prost::Message;

const ROUNDS: usize = 31;

fn main() -> Result<()> {
    println!("| image | size | this crate, ms, median (least) | prost | |");
    println!("| --- | --- | --- | --- | --- |");
    measure::<MmEntry>("mm of 200,000 mappings", kind::MM, &[mm(200_000)])?;
    // Its head goes for an entry that has two fields less.
    let runs = pagemap(400_000).split_off(1);
    measure::<PagemapEntry>("pagemap of 400,000 entries", kind::REG_FILES, &runs)?;
    measure::<FileEntry>("files of 50,000 files", kind::FILES, &files(50_000))?;
    let task = |pid| PstreeEntry { pid, ppid: 1, threads: vec![pid], ..Default::default() };
    let tree: Vec<_> = (1..=50_000).map(|pid| task(pid).encode_to_vec()).collect();
    measure::<PstreeEntry>("pstree of 50,000 tasks", kind::PSTREE, &tree)?;
    // One that CRIU has written, time and again.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline");
    let core = std::fs::read(data.join("core-10139.img"))?;
    let entry = Image::parse("core", &core, kind::CORE)?.next_entry()?.ok_or("no entry")?;
    measure::<CoreEntry>(
        "core of a real task, 2,000 times",
        kind::FILES,
        &vec![entry.bytes().to_vec(); 2000],
    )
}

/// The kind only has to have entries without anything between them.
fn measure<M: Entry>(what: &str, kind: &'static Kind, messages: &[Vec<u8>]) -> Result<()> {
    let bytes = image(kind, messages)?;
    let ours = || -> Result<usize> {
        let mut image = Image::parse("image", &bytes, kind)?;
        let mut count = 0;
        while let Some(entry) = image.next_entry()? {
            black_box(entry.decode::<M>()?);
            count += 1;
        }
        Ok(count)
    };
    let prost = || -> Result<usize> {
        let mut count = 0;
        let mut rest = bytes.get(8..).unwrap_or_default();
        while let Some((size, after)) = rest.split_first_chunk() {
            let size = usize::try_from(u32::from_le_bytes(*size))?;
            let (message, after) = after.split_at_checked(size).ok_or("cut")?;
            black_box(M::decode(message)?);
            count += 1;
            rest = after;
        }
        Ok(count)
    };
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // They take turns, and turns at being first.
        for way in [round % 2, 1 - round % 2] {
            let begun = Instant::now();
            let count = if way == 0 { ours()? } else { prost()? };
            if let Some(times) = times.get_mut(way) {
                times.push(begun.elapsed());
            }
            if count != messages.len() {
                return Err(format!("{what}: {count} entries").into());
            }
        }
    }
    let [ours, prost] = times.map(|mut times| {
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        (ms(times.get(ROUNDS / 2)), ms(times.first()))
    });
    println!(
        "| {what} | {:.1} MB | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.2}x |",
        bytes.len() as f64 / 1e6,
        ours.0,
        ours.1,
        prost.0,
        prost.1,
        prost.0 / ours.0,
    );
    Ok(())
}
