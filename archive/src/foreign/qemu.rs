//! The migration stream of QEMU.

use criu_images::source::Blob;

use super::cursor::{Cursor, text};
use crate::error::{ErrorKind, Fault};

/// Head of a migration stream of QEMU, as `migrate` writes it to a program or a file. Pages and the
/// states of devices follow in the order in which QEMU sent them.
///
/// ```text
/// QEVM | version | 7 machine type | ... | 1 section: "ram", its blocks with their sizes | ...
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QemuStream {
    /// Version of the stream: 3.
    pub version: u32,
    /// Type of the machine with its version: `pc-q35-7.2`. Empty if the stream does not say it.
    pub machine: String,
    /// Blocks of memory, if memory is what the stream begins with.
    pub ram: Vec<RamBlock>,
    /// Bytes of the file.
    pub size: u64,
}

/// A block of memory of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// Name: `pc.ram`.
    pub name: String,
    /// Bytes of the block.
    pub size: u64,
}

impl QemuStream {
    /// Returns the bytes of memory of the virtual machine, read-only memory with it.
    pub fn memory(&self) -> u64 {
        self.ram.iter().map(|block| block.size).fold(0, u64::saturating_add)
    }

    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("stream version".into(), self.version.to_string()),
            ("machine".into(), self.machine.clone()),
        ];
        let blocks = self.ram.iter();
        facts.extend(
            blocks.map(|block| (format!("memory {}", block.name), format!("{} bytes", block.size))),
        );
        facts.push(("bytes".into(), self.size.to_string()));
        facts
    }
}

pub(super) fn read(file: &Blob) -> Result<Option<QemuStream>, Fault> {
    let mut cursor = Cursor::new(file);
    if !cursor.goes_on_with(MAGIC)? {
        return Ok(None);
    }
    let at = cursor.offset();
    let version = cursor.be32()?;
    if version != VERSION {
        let want = "3, the version of the stream since 2009";
        return Err(Fault::from(ErrorKind::Value { found: version.into(), want }).at(at));
    }
    let mut next = cursor.byte()?;
    let mut machine = String::new();
    if next == CONFIGURATION {
        let length = cursor.be32()?;
        machine = text(cursor.block(length.into(), MAX_MACHINE)?)?;
        next = cursor.byte()?;
    }
    // Parts of the configuration, which name what the stream was made with, come before the
    // memory. Their form depends on their names.
    let ram = if next == SECTION_START { ram(&mut cursor)? } else { Vec::new() };
    Ok(Some(QemuStream { version, machine, ram, size: file.len() }))
}

/// Reads the blocks of memory at the beginning of a section, if the section is that of memory.
fn ram(cursor: &mut Cursor<'_>) -> Result<Vec<RamBlock>, Fault> {
    let _section = cursor.be32()?;
    let is_ram = cursor.short_text()? == "ram";
    let (_instance, _version) = (cursor.be32()?, cursor.be32()?);
    if !is_ram {
        return Ok(Vec::new());
    }
    let word = cursor.be64()?;
    if word & FLAGS != MEMORY_SIZE {
        return Ok(Vec::new());
    }
    let (total, mut found) = (word & !FLAGS, 0);
    let mut blocks = Vec::new();
    while found < total {
        let at = cursor.offset();
        if blocks.len() == MOST_BLOCKS {
            let limit = MOST_BLOCKS as u64;
            return Err(Fault::from(ErrorKind::TooMany { what: "blocks of memory", limit }).at(at));
        }
        let (name, size) = (cursor.short_text()?, cursor.be64()?);
        found = match size.checked_add(found) {
            Some(sum) if size != 0 && sum <= total => sum,
            _ => {
                let why = "the blocks of memory have more bytes than all memory, or one has none";
                return Err(Fault::from(ErrorKind::Malformed(why)).at(at));
            }
        };
        blocks.push(RamBlock { name, size });
    }
    Ok(blocks)
}

const MAGIC: &[u8] = b"QEVM";

const VERSION: u32 = 3;

/// Begins the type of the machine.
const CONFIGURATION: u8 = 7;

/// Begins the first part of a section.
const SECTION_START: u8 = 1;

/// The flags of a word of the section of memory: the bits below a page.
const FLAGS: u64 = 0xfff;

/// The flag of the size of all memory.
const MEMORY_SIZE: u64 = 4;

/// Longest type of a machine. QEMU's longest has some 30 bytes.
const MAX_MACHINE: u64 = 256;

/// Most blocks of memory: one for each part that a device has, and some.
const MOST_BLOCKS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a stream.
    fn stream(machine: &[u8], blocks: &[(&str, u64)], total: u64) -> Vec<u8> {
        let mut bytes = [MAGIC, &3u32.to_be_bytes(), &[7]].concat();
        bytes.extend(u32::try_from(machine.len()).unwrap().to_be_bytes());
        bytes.extend(machine);
        bytes
            .extend([&[1], &2u32.to_be_bytes()[..], &[3], b"ram", &[0; 4], &[0, 0, 0, 4]].concat());
        bytes.extend((total | MEMORY_SIZE).to_be_bytes());
        for (name, size) in blocks {
            bytes.push(u8::try_from(name.len()).unwrap());
            bytes.extend(name.as_bytes());
            bytes.extend(size.to_be_bytes());
        }
        bytes
    }

    fn said(bytes: Vec<u8>) -> String {
        crate::Error::new("a", read(&bytes.into()).unwrap_err()).to_string()
    }

    #[test]
    fn the_machine_and_its_memory_are_read() {
        let blocks = [("pc.ram", 0x100_0000), ("pc.bios", 0x4_0000)];
        let bytes = stream(b"pc-q35-7.2", &blocks, 0x104_0000);
        let found = read(&bytes.into()).unwrap().unwrap();
        assert_eq!((&*found.machine, found.memory()), ("pc-q35-7.2", 0x104_0000));
        assert_eq!(found.ram[1], RamBlock { name: "pc.bios".into(), size: 0x4_0000 });
        assert_eq!(read(&b"QEV".to_vec().into()).unwrap(), None);
    }

    #[test]
    fn streams_that_break_the_form_are_refused_with_their_place() {
        let old = [MAGIC, &2u32.to_be_bytes()].concat();
        assert!(said(old).starts_with("a: byte 4: is 0x2, wanted 3"));
        let long = [MAGIC, &3u32.to_be_bytes(), &[7], &u32::MAX.to_be_bytes()].concat();
        assert!(said(long).contains("has 4294967295 bytes, at most 256 are read"));
        let more = stream(b"m", &[("a", 0x3000)], 0x2000);
        assert!(said(more).contains("more bytes than all memory"));
        let none = stream(b"m", &[("a", 0)], 0x2000);
        assert!(said(none).contains("one has none"));
        let early = stream(b"m", &[("a", 0x1000)], 0x2000);
        assert!(said(early).contains("ends early"));
        let many: Vec<(&str, u64)> = vec![("a", 1); MOST_BLOCKS + 1];
        assert!(said(stream(b"m", &many, 0x1000_0000)).contains("more than 4096 blocks"));
    }
}
