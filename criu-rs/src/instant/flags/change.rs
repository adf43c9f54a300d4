//! Differences between flags, and what they are in an image.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use criu_images::ErrorKind;
use criu_images::edit::{Patch, Value, rewrite};
use criu_images::memory::VmaStatus;
use criu_images::proto::VmaEntry;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use prost::Message;

use super::super::error::InstantError;
use super::FLAGS;
use crate::value::Pid;

/// A mapping whose flags in the images are not those of the freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bits of advice to set, and to clear.
    pub(super) advice: (u64, u64),
    /// `MAP_` bits to set, and to clear.
    pub(super) flags: (u64, u64),
}

/// Compares the flags that CRIU has been told with those of the holder. In the freeze both had the
/// same mappings. The path of a file may have changed since then, because somebody has removed it.
pub(super) fn changes(task: Pid, told: &[u8], now: &[u8]) -> Result<Vec<Change>, InstantError> {
    let differs = |why: String| InstantError::Flags { task, why };
    let mut changes = Vec::new();
    let mut lines = told.split(|byte| *byte == b'\n');
    let mut others = now.split(|byte| *byte == b'\n');
    loop {
        let (mapping, other) = (lines.next(), others.next());
        if mapping.map(range) != other.map(range) {
            let [one, other] =
                [mapping, other].map(|line| String::from_utf8_lossy(line.unwrap_or_default()));
            return Err(differs(format!("\"{one}\" is \"{other}\" in the holder")));
        }
        let Some(mapping) = mapping.filter(|line| !line.is_empty()) else { return Ok(changes) };
        let (was, is) = (lines.next().unwrap_or_default(), others.next().unwrap_or_default());
        if was == is {
            continue;
        }
        let mapping = String::from_utf8_lossy(mapping);
        let change = change(&mapping, was, is);
        match change {
            Ok(Some(change)) => changes.push(change),
            Ok(None) => {}
            Err(code) => {
                return Err(differs(format!("flag {code} of the mapping {mapping}")));
            }
        }
    }
}

/// The first word in the line of a mapping.
fn range(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// Compares the flags of one mapping. Returns `None` if no difference matters.
///
/// # Errors
/// The code of a flag that cannot be corrected.
fn change(mapping: &str, was: &[u8], is: &[u8]) -> Result<Option<Change>, String> {
    let lost = codes(was).filter(|code| codes(is).all(|other| other != *code));
    let gained = codes(is).filter(|code| codes(was).all(|other| other != *code));
    let range = mapping.split(' ').next().and_then(|range| range.split_once('-'));
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let range = range.and_then(|(start, end)| number(start).zip(number(end)));
    let (start, end) = range.ok_or("of an unknown kind")?;
    let mut change = Change { start, end, ..Change::default() };
    for (code, is_gained) in lost.map(|code| (code, false)).chain(gained.map(|code| (code, true))) {
        let advice = ADVICE.iter().find(|(known, _)| *known == code);
        let (sides, bit) = match (advice, code) {
            (Some((_, advice)), _) => (&mut change.advice, 1 << advice),
            (None, b"nr") => (&mut change.flags, MAP_NORESERVE),
            _ => return Err(String::from_utf8_lossy(code).into_owned()),
        };
        *(if is_gained { &mut sides.0 } else { &mut sides.1 }) |= bit;
    }
    let is_change = change != Change { start, end, ..Change::default() };
    Ok(is_change.then_some(change))
}

/// Writes changes into the image of a task's mappings. The images are not complete yet.
pub(super) fn apply(
    task: Pid,
    changes: &[Change],
    directory: BorrowedFd<'_>,
    name: &str,
) -> Result<(), InstantError> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let failed = InstantError::system("correct the flags in an image");
    let edit = || -> io::Result<Option<Vec<u8>>> {
        let mut file = File::from(openat(directory, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        let corrected = corrected(name, &bytes, changes).map_err(io::Error::other)?;
        if let Some(corrected) = &corrected {
            file.write_all_at(corrected, 0)?;
            file.set_len(corrected.len() as u64)?;
            file.sync_all()?;
        }
        Ok(corrected)
    };
    match edit().map_err(failed)? {
        Some(_) => Ok(()),
        None => {
            let why = format!("{name} has not all {} mappings with other flags", changes.len());
            Err(InstantError::Flags { task, why })
        }
    }
}

/// Returns an image with changes. `None` if it has not all the mappings.
pub(super) fn corrected(
    name: &str,
    bytes: &[u8],
    changes: &[Change],
) -> Result<Option<Vec<u8>>, criu_images::Error> {
    let mut found = 0;
    let mut correct = |patch: &mut Patch, bytes: &[u8]| {
        if patch.message() != "vma_entry" {
            return Ok(());
        }
        let entry =
            VmaEntry::decode(bytes).map_err(|_| ErrorKind::Malformed("cannot be decoded"))?;
        let is_it = |change: &&Change| (change.start, change.end) == (entry.start, entry.end);
        let is_guard = VmaStatus::from_bits_retain(entry.status).contains(VmaStatus::GUARD);
        let Some(change) = changes.iter().find(is_it).filter(|_| !is_guard) else { return Ok(()) };
        found += 1;
        let advice = entry.madv.unwrap_or(0) & !change.advice.1 | change.advice.0;
        // CRIU leaves the field out where there is none.
        patch.set("madv", (advice != 0).then_some(Value::Number(advice)));
        let flags = u64::from(entry.flags) & !change.flags.1 | change.flags.0;
        patch.set("flags", [Value::Number(flags)]);
        Ok(())
    };
    let new = rewrite(name, bytes, &mut correct)?;
    Ok(Some(new.unwrap_or_else(|| bytes.to_vec())).filter(|_| found == changes.len()))
}

/// The codes in a line of flags, without those of no account here.
pub(super) fn codes(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let codes = line.strip_prefix(FLAGS).unwrap_or_default();
    let words = codes.split(u8::is_ascii_whitespace);
    words.filter(|code| !code.is_empty() && !NOT_INHERITED.contains(code))
}

/// Flags that stand for advice of madvise(2), and its number, which is a bit in the images.
const ADVICE: &[(&[u8], u32)] = &[
    (b"rr", 1),
    (b"sr", 2),
    (b"dc", 10),
    (b"mg", 12),
    (b"hg", 14),
    (b"nh", 15),
    (b"dd", 16),
    (b"wf", 18),
];

/// Flags that a fork does not inherit, or that come and go with writing. CRIU looks at none of them
/// but `lo`, which no task has whose flags are read early.
const NOT_INHERITED: &[&[u8]] = &[b"lf", b"sd", b"ui", b"um", b"uw"];

const MAP_NORESERVE: u64 = 0x4000;
