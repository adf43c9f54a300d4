//! The page server's protocol as bytes: both layouts of its header, commands, ids.
//!
//! ```text
//! CRIU 4.1 and before   command u32  pages u32              address u64  id u64      24 bytes
//! CRIU 4.2 and later    command u32  (4 bytes)  pages u64   address u64  id u64      32 bytes
//! ```
//!
//! All in the byte order of the machine, here little endian. Neither side says which layout it speaks.

use criu_images::memory::PageObject;

use crate::value::Version;

/// Which of the two headers a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 24 bytes: CRIU 4.1 and before.
    Narrow,
    /// 32 bytes: CRIU 4.2 and later.
    Wide,
}

/// What a header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// 1: pages follow. What CRIUs of long ago send.
    Add,
    /// 2: pages are the parent's. Likewise.
    Hole,
    /// 3: an object begins; no answer. Likewise.
    Open,
    /// 4: an object begins; the answer is a byte: whether the parent set has it.
    Open2,
    /// 5: whether the parent set has an object; the answer is four bytes.
    Parent,
    /// 6: what the flags say.
    AddF,
    /// 7: wants pages.
    Get,
    /// 0x1023: everything has been sent; the answer is four bytes.
    Close,
    /// 0x1024: the same, and the connection stays somebody else's.
    ForceClose,
}

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it asks for.
    pub command: Command,
    /// Flags of the pages: those of a pagemap.
    pub flags: u16,
    /// How many pages.
    pub pages: u64,
    /// Address of the first; in shared memory, the offset.
    pub address: u64,
    /// What they belong to; of [`Command::Get`] the bare pid.
    pub id: u64,
}

/// What the first bytes of a session tell of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// It is known.
    Yes(Layout),
    /// Not before there are so many bytes.
    At(usize),
    /// A session that only closes: wide if more bytes come, narrow if none do.
    IfMore,
}

/// The flag of pages whose bytes follow.
pub const PRESENT: u16 = 4;
/// The flag of pages that a restore may fetch later.
pub const LAZY: u16 = 2;
/// The flag of pages that the parent set has.
pub const PARENT: u16 = 1;

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Narrow, Self::Wide];

    /// What a CRIU of this version speaks.
    pub fn of(version: Version) -> Self {
        if version < Version::new(4, 2, 0) { Self::Narrow } else { Self::Wide }
    }

    /// Bytes of a header.
    pub fn size(self) -> usize {
        match self {
            Self::Narrow => 24,
            Self::Wide => 32,
        }
    }

    /// Recognises the layout by the first bytes of a session. Where the wide one has an address, which is a
    /// multiple of the page size, the narrow one has an id, whose lowest byte is a type; where the narrow one
    /// has the address of pages that are wanted, the wide one has their number.
    pub fn recognise(bytes: &[u8]) -> Recognised {
        let Some(head) = bytes.first_chunk::<24>() else {
            return Recognised::At(24);
        };
        let word = |at: usize| {
            let part = head.get(at..).and_then(|rest| rest.first_chunk());
            part.map_or(0, |part| u64::from_le_bytes(*part))
        };
        let command = Command::parse(word(0).to_le_bytes());
        let is_narrow = match command {
            Some(Command::Close | Command::ForceClose) => {
                return match bytes.len() {
                    24 => Recognised::IfMore,
                    _ => Recognised::Yes(Self::Wide),
                };
            }
            // Where the narrow one has a pid, the wide one has an address, and few lie below 4 GiB.
            Some(Command::Get) => {
                word(8) >= 4096 && word(8) % 4096 == 0 && u32::try_from(word(16)).is_ok()
            }
            _ => word(16) % 4096 != 0,
        };
        Recognised::Yes(if is_narrow { Self::Narrow } else { Self::Wide })
    }
}

impl Command {
    /// By the first word of a header.
    fn parse(bytes: [u8; 8]) -> Option<Self> {
        let [a, b, c, d, ..] = bytes;
        let word = u32::from_le_bytes([a, b, c, d]);
        Some(match (word, word & 0xffff) {
            // Nobody sends these with flags; CRIU's server would answer and go on.
            (0x1023, _) => Self::Close,
            (0x1024, _) => Self::ForceClose,
            (_, 1) => Self::Add,
            (_, 2) => Self::Hole,
            (_, 3) => Self::Open,
            (_, 4) => Self::Open2,
            (_, 5) => Self::Parent,
            (_, 6) => Self::AddF,
            (_, 7) => Self::Get,
            _ => return None,
        })
    }

    fn number(self) -> u32 {
        match self {
            Self::Add => 1,
            Self::Hole => 2,
            Self::Open => 3,
            Self::Open2 => 4,
            Self::Parent => 5,
            Self::AddF => 6,
            Self::Get => 7,
            Self::Close => 0x1023,
            Self::ForceClose => 0x1024,
        }
    }
}

impl Header {
    /// Reads a header; `None` for a command that there is not, with the word it is in.
    ///
    /// # Errors
    /// The first word, when no command has it.
    pub fn parse(layout: Layout, bytes: &[u8; 32]) -> Result<Self, u32> {
        let word = |at: usize| {
            let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
            part.map_or(0, |part| u64::from_le_bytes(*part))
        };
        let first = word(0);
        let [a, b, c, d, ..] = first.to_le_bytes();
        let number = u32::from_le_bytes([a, b, c, d]);
        let command = Command::parse(first.to_le_bytes()).ok_or(number)?;
        let flags = match command {
            Command::Close | Command::ForceClose => 0,
            Command::Add => PRESENT,
            Command::Hole => PARENT,
            _ => u16::from_le_bytes([c, d]),
        };
        let (pages, address, id) = match layout {
            Layout::Narrow => (first >> 32, word(8), word(16)),
            Layout::Wide => (word(8), word(16), word(24)),
        };
        Ok(Self { command, flags, pages, address, id })
    }

    /// The header's bytes; of the narrow layout the first 24. Of a number of pages that the narrow layout
    /// has no room for, `None`.
    pub fn to_bytes(self, layout: Layout) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        let command = self.command.number() | u32::from(self.flags) << 16;
        let mut put = |at: usize, word: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + word.len()) {
                place.copy_from_slice(word);
            }
        };
        put(0, &command.to_le_bytes());
        match layout {
            Layout::Narrow => {
                put(4, &u32::try_from(self.pages).ok()?.to_le_bytes());
                put(8, &self.address.to_le_bytes());
                put(16, &self.id.to_le_bytes());
            }
            Layout::Wide => {
                put(8, &self.pages.to_le_bytes());
                put(16, &self.address.to_le_bytes());
                put(24, &self.id.to_le_bytes());
            }
        }
        Some(bytes)
    }
}

/// The id of an object in all headers but [`Command::Get`]'s.
pub fn object_id(object: PageObject) -> u64 {
    match object {
        PageObject::Task(pid) => u64::from(pid) << 8 | 1,
        PageObject::Shared(id) => id << 8 | 2,
        // No other is known.
        _ => 0,
    }
}

/// The object that an id names, the types of older CRIUs included.
pub fn object(id: u64) -> Option<PageObject> {
    match id & 0xff {
        1 | 10 | 11 | 16 | 17 => u32::try_from(id >> 8).ok().map(PageObject::Task),
        2 | 27..=29 | 32..=34 => Some(PageObject::Shared(id >> 8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: Command, flags: u16, pages: u64, address: u64, id: u64) -> Header {
        Header { command, flags, pages, address, id }
    }

    fn samples() -> Vec<Header> {
        vec![
            header(Command::Open2, 0, 0, 0, object_id(PageObject::Task(6774))),
            header(Command::Open, 0, 0, 0, object_id(PageObject::Shared(1))),
            header(Command::Parent, 0, 0, 0, object_id(PageObject::Task(1))),
            header(Command::AddF, 6, 3, 0x7f00_0000_1000, object_id(PageObject::Task(1))),
            header(Command::Add, 4, 1, 0, object_id(PageObject::Shared(0x10_0000))),
            header(Command::Hole, 1, 9, 0x40_0000, object_id(PageObject::Task(9))),
            header(Command::Get, 0, 16, 0x40_0000, 77),
            header(Command::Get, 0, 0x4000, 0x7f00_0000_1000, 77),
        ]
    }

    #[test]
    fn headers_of_both_layouts_come_back_and_are_told_apart() {
        for layout in Layout::ALL {
            for one in samples() {
                let mut bytes = one.to_bytes(layout).unwrap();
                // CRIU does not set the padding.
                if layout == Layout::Wide {
                    bytes[4..8].copy_from_slice(&[0x24, 0x56, 0, 0]);
                }
                assert_eq!(Header::parse(layout, &bytes), Ok(one));
                for more in [0, 1, 40] {
                    let mut first = bytes[..layout.size()].to_vec();
                    first.resize(first.len() + more, 6);
                    assert_eq!(Layout::recognise(&first), Recognised::Yes(layout), "{one:?}");
                }
                assert_eq!(Layout::recognise(&bytes[..23]), Recognised::At(24));
            }
        }
    }

    #[test]
    fn a_session_that_only_closes_is_known_by_its_length() {
        let close = header(Command::Close, 0, 0, 0, 0).to_bytes(Layout::Wide).unwrap();
        assert_eq!(Layout::recognise(&close[..24]), Recognised::IfMore);
        assert_eq!(Layout::recognise(&close), Recognised::Yes(Layout::Wide));
    }

    #[test]
    fn what_is_no_command_and_no_object_is_said_so() {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&0x0004_0009u32.to_le_bytes());
        assert_eq!(Header::parse(Layout::Wide, &bytes), Err(0x0004_0009));
        assert_eq!(object(7 << 8 | 3), None);
        assert_eq!(object(1 << 48 | 1), None);
        assert_eq!(object(6774 << 8 | 11), Some(PageObject::Task(6774)));
        let many = header(Command::AddF, 4, 1 << 32, 0, 0x101);
        assert_eq!(many.to_bytes(Layout::Narrow), None);
    }
}
