//! Headers of tar archives: the ustar form, with PAX records for what it has no room for.

/// Bytes of a header, and the unit that content is filled up to.
pub(super) const BLOCK: usize = 512;

/// A member as its headers describe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described<'d> {
    /// Name. That of a directory ends with a slash.
    pub(crate) name: &'d [u8],
    /// Target of a link.
    pub(crate) link: &'d [u8],
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) modified: u64,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u64, u64),
}

/// Kinds of members that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File = b'0' as isize,
    HardLink = b'1' as isize,
    SymbolicLink = b'2' as isize,
    CharacterDevice = b'3' as isize,
    BlockDevice = b'4' as isize,
    Directory = b'5' as isize,
    Fifo = b'6' as isize,
}

impl Described<'_> {
    /// Returns the blocks in front of the content.
    pub(crate) fn headers(&self) -> Vec<u8> {
        self.headers_with(&[])
    }

    /// Returns the blocks in front of the content, with PAX records of the caller's.
    pub(crate) fn headers_with(&self, more: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut records = Vec::new();
        for (key, value) in more {
            record(&mut records, key, value);
        }
        // Letters other than those of ASCII have no encoding in a header.
        if self.name.len() > NAME_LEN || !self.name.is_ascii() {
            record(&mut records, "path", self.name);
        }
        if self.link.len() > NAME_LEN || !self.link.is_ascii() {
            record(&mut records, "linkpath", self.link);
        }
        let numbers = [
            ("size", self.size, 11),
            ("uid", self.uid, 7),
            ("gid", self.gid, 7),
            ("mtime", self.modified, 11),
            ("SCHILY.devmajor", self.device.0, 7),
            ("SCHILY.devminor", self.device.1, 7),
        ];
        for (key, number, digits) in numbers {
            if !fits(number, digits) {
                record(&mut records, key, number.to_string().as_bytes());
            }
        }
        let mut blocks = Vec::with_capacity(3 * BLOCK);
        if !records.is_empty() {
            // Readers without PAX take the records for a file of this name.
            let name = self.name.strip_suffix(b"/").unwrap_or(self.name);
            let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let name = [b"PaxHeaders.0/", base].concat();
            let described = Described {
                name: &name,
                link: &[],
                kind: Kind::File,
                mode: 0o600,
                uid: 0,
                gid: 0,
                modified: self.modified,
                size: records.len() as u64,
                device: (0, 0),
            };
            blocks.extend(described.block(b'x'));
            blocks.extend(&records);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend(self.block(self.kind as u8));
        blocks
    }

    /// Makes a block. Text that does not fit is cut, and a number that does not fit is 0.
    fn block(&self, sort: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8], len: usize| {
            let room = block.iter_mut().skip(at).take(len);
            room.zip(bytes).for_each(|(to, from)| *to = *from);
        };
        let octal = |number: u64, digits: usize| {
            let number = if fits(number, digits) { number } else { 0 };
            format!("{number:0digits$o}")
        };
        // A name outside of ASCII is in the records; here its other bytes are replaced.
        let ascii = |text: &[u8]| -> Vec<u8> {
            text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'_' }).collect()
        };
        put(0, &ascii(self.name), NAME_LEN);
        put(100, octal(u64::from(self.mode & 0o7777), 7).as_bytes(), 7);
        put(108, octal(self.uid, 7).as_bytes(), 7);
        put(116, octal(self.gid, 7).as_bytes(), 7);
        put(124, octal(self.size, 11).as_bytes(), 11);
        put(136, octal(self.modified, 11).as_bytes(), 11);
        put(148, b"        ", 8);
        put(156, &[sort], 1);
        put(157, &ascii(self.link), NAME_LEN);
        put(257, b"ustar\x0000", 8);
        if matches!(self.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            put(329, octal(self.device.0, 7).as_bytes(), 7);
            put(337, octal(self.device.1, 7).as_bytes(), 7);
        }
        let sum: u64 = block.iter().copied().map(u64::from).sum();
        let sum = format!("{sum:06o}\0 ");
        let room = block.iter_mut().skip(148);
        room.zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
        block
    }
}

/// Returns the headers of an empty file: those of a whiteout.
pub(crate) fn empty_file(name: &[u8]) -> Vec<u8> {
    let (kind, mode, device) = (Kind::File, 0o600, (0, 0));
    let described =
        Described { name, link: &[], kind, mode, uid: 0, gid: 0, modified: 0, size: 0, device };
    described.headers()
}

/// Returns true for a number that has room in so many octal digits.
fn fits(number: u64, digits: usize) -> bool {
    number.checked_shr(u32::try_from(3 * digits).unwrap_or(u32::MAX)).unwrap_or(0) == 0
}

/// Adds a record: `LENGTH KEY=VALUE\n`, where the length is that of the whole record.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend([format!("{len} {key}=").as_bytes(), value, b"\n"].concat());
}

/// Bytes of a name, and of a target, in a header.
const NAME_LEN: usize = 100;
