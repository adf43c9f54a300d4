//! The bytes of a working set.
//!
//! | offset | bytes | contents |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic: `criu-wss` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | bytes of a page |
//! | 16 | 8 | fingerprint of the images |
//! | 24 | 8 | checksum: a digest of the bytes before and behind |
//! | 32 | | microseconds of the recording, the number of tasks, the tasks |
//!
//! Numbers at fixed offsets are little-endian. All others are varints. A task has its pid, the
//! number of its runs, and the runs. A run has these numbers:
//!
//! 1. the distance in pages from the end of the run before, which is 0 for the first run. The
//!    lowest bit says that the run has more than one page, the next bit that the distance is
//!    negative.
//! 2. the number of pages less 2, if the run has more than one page.
//! 3. the microseconds since the first touch of the run before, or since the beginning.

use std::time::Duration;

use super::digest::Digest;
use super::fingerprint::Fingerprint;
use super::{TaskTouches, Touched, WorkingSet};
use crate::error::{ErrorKind, Fault};
use crate::memory::PageSize;
use crate::wire::Reader;

pub(super) fn encode(set: &WorkingSet) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, micros(set.recorded));
    put(&mut body, set.tasks.len() as u64);
    let bytes = set.page_size.bytes();
    for task in &set.tasks {
        put(&mut body, task.pid.into());
        put(&mut body, task.runs.len() as u64);
        let (mut end, mut time) = (0, 0);
        for run in &task.runs {
            let page = run.start / bytes;
            let distance = page.abs_diff(end) << 2 | u64::from(page < end) << 1;
            put(&mut body, distance | u64::from(run.pages > 1));
            if run.pages > 1 {
                put(&mut body, run.pages - 2);
            }
            let after = micros(run.after);
            put(&mut body, after - time);
            (end, time) = (page + run.pages, after);
        }
    }
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    // A page has 256 KiB at most.
    head.extend(u32::try_from(bytes).unwrap_or(0).to_le_bytes());
    head.extend(set.fingerprint.number().to_le_bytes());
    let checksum = checksum(&head, &body);
    head.extend(checksum.to_le_bytes());
    head.extend(body);
    head
}

pub(super) fn parse(bytes: &[u8]) -> Result<WorkingSet, Fault> {
    let mut reader = Reader::new(bytes);
    if reader.take(8)? != MAGIC {
        return Err(ErrorKind::Malformed("is not a working set").at(0));
    }
    let version = fixed32(&mut reader)?;
    if version != VERSION {
        let (found, want) = (version.into(), "version 1");
        return Err(ErrorKind::Value { found, want }.at(8));
    }
    let size = u64::from(fixed32(&mut reader)?);
    let fingerprint = Fingerprint::from_number(reader.fixed64()?);
    let wanted = reader.fixed64()?;
    let body = reader.rest();
    let head = bytes.get(..HEAD).unwrap_or_default();
    if checksum(head, body) != wanted {
        return Err(ErrorKind::Malformed("is damaged: the checksum differs").into());
    }
    let want = "a power of two from 0x1000 to 0x40000";
    let page_size = PageSize::new(size).ok_or(ErrorKind::Value { found: size, want }.at(12))?;
    let base = (bytes.len() - body.len()) as u64;
    parse_body(body, fingerprint, page_size).map_err(|fault| fault.after(base))
}

/// Puts the right checksum into bytes.
pub(super) fn seal(bytes: &mut [u8]) {
    let Some((head, rest)) = bytes.split_at_mut_checked(HEAD) else { return };
    let Some((sum, body)) = rest.split_first_chunk_mut() else { return };
    *sum = checksum(head, body).to_le_bytes();
}

fn parse_body(
    body: &[u8],
    fingerprint: Fingerprint,
    page_size: PageSize,
) -> Result<WorkingSet, Fault> {
    let mut reader = Reader::new(body);
    let recorded = Duration::from_micros(reader.varint()?);
    let count = reader.varint()?;
    let mut tasks: Vec<TaskTouches> = Vec::new();
    for _ in 0..count {
        let at = reader.at();
        let found = reader.varint()?;
        let lowest = tasks.last().map_or(0, |last| u64::from(last.pid) + 1);
        let want = "a pid above those before";
        let pid = u32::try_from(found).ok().filter(|_| found >= lowest);
        let pid = pid.ok_or_else(|| ErrorKind::Value { found, want }.at(at))?;
        tasks.push(TaskTouches { pid, runs: parse_runs(&mut reader, page_size)? });
    }
    if !reader.is_empty() {
        return Err(ErrorKind::Malformed("goes on after the last task").at(reader.at()));
    }
    Ok(WorkingSet { fingerprint, page_size, recorded, tasks })
}

fn parse_runs(reader: &mut Reader<'_>, page_size: PageSize) -> Result<Vec<Touched>, Fault> {
    let bytes = page_size.bytes();
    // The last page of the address space is left out, so that no end passes 64 bits.
    let all_pages = u64::MAX / bytes;
    let (mut runs, mut spans) = (Vec::new(), Vec::new());
    let (mut end, mut time) = (0u64, 0u64);
    let beyond = || ErrorKind::Malformed("a run passes the address space");
    for _ in 0..reader.varint()? {
        let at = reader.at();
        let word = reader.varint()?;
        let page = match word >> 2 {
            back if word & 2 != 0 => end.checked_sub(back),
            forth => end.checked_add(forth),
        };
        let page = page.ok_or_else(|| beyond().at(at))?;
        let pages = match word & 1 {
            0 => Some(1),
            _ => reader.varint()?.checked_add(2),
        };
        let last = pages.and_then(|pages| page.checked_add(pages));
        end = last.filter(|last| *last <= all_pages).ok_or_else(|| beyond().at(at))?;
        let later = time.checked_add(reader.varint()?);
        time = later.ok_or_else(|| ErrorKind::Malformed("a time passes 64 bits").at(at))?;
        let (start, after) = (page * bytes, Duration::from_micros(time));
        runs.push(Touched { start, pages: end - page, after });
        spans.push(page..end);
    }
    spans.sort_unstable_by_key(|span| span.start);
    let is_twice =
        |pair: &[std::ops::Range<u64>]| matches!(pair, [before, after] if before.end > after.start);
    if spans.windows(2).any(is_twice) {
        return Err(ErrorKind::Malformed("a page is listed twice").at(reader.at()));
    }
    Ok(runs)
}

fn fixed32(reader: &mut Reader<'_>) -> Result<u32, Fault> {
    let bytes = reader.take(4)?;
    Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

fn put(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.add(head);
    digest.add(body);
    digest.finish()
}

const MAGIC: [u8; 8] = *b"criu-wss";
const VERSION: u32 = 1;

/// Bytes before the checksum, a multiple of 8.
const HEAD: usize = 24;
