//! The page server's protocol as bytes: commands, ids and both layouts of the header.
//!
//! ```text
//! CRIU 4.1 and before   command u32  pages u32              address u64  id u64      24 bytes
//! CRIU 4.2 and later    command u32  (4 bytes)  pages u64   address u64  id u64      32 bytes
//! ```
//!
//! All numbers are in the byte order of the machine, here little endian. Neither end says which
//! layout it speaks.

use criu_images::memory::PageObject;

use crate::value::Version;

/// The layout of the headers that a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 24 bytes: CRIU 4.1 and before.
    Narrow,
    /// 32 bytes: CRIU 4.2 and later.
    Wide,
}

/// The command of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// `PS_IOV_ADD`, 1: pages follow. Only very old CRIUs send it.
    Add,
    /// `PS_IOV_HOLE`, 2: the pages are in the parent set. Only very old CRIUs send it.
    Hole,
    /// `PS_IOV_OPEN`, 3: an object begins; no answer. Only very old CRIUs send it.
    Open,
    /// `PS_IOV_OPEN2`, 4: an object begins. The answer is one byte: 1 if the parent set has it.
    Open2,
    /// `PS_IOV_PARENT`, 5: asks for the parent set's object. The answer is four bytes: 1 if there
    /// is one.
    Parent,
    /// `PS_IOV_ADD_F`, 6: pages whose flags say where they are.
    AddF,
    /// `PS_IOV_GET`, 7: asks for pages.
    Get,
    /// `PS_IOV_CLOSE`, 0x1023: everything has been sent. The answer is four bytes.
    Close,
    /// `PS_IOV_FORCE_CLOSE`, 0x1024: like [`Close`](Self::Close); another process goes on
    /// using the connection.
    ForceClose,
}

/// A header of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The command.
    pub command: Command,
    /// The flags of the pages, as in a pagemap.
    pub flags: u16,
    /// The number of pages.
    pub pages: u64,
    /// The address of the first page; in shared memory, the offset.
    pub address: u64,
    /// The id of the object that the pages belong to; for [`Command::Get`] the bare pid.
    pub id: u64,
}

/// The result of recognising a layout by the first bytes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// The layout is known.
    Yes(Layout),
    /// The layout shows when there are so many bytes.
    At(usize),
    /// A session that only closes. The layout is wide if more bytes come, and otherwise narrow.
    IfMore,
}

/// `PE_PRESENT`: the bytes of the pages follow.
pub const PRESENT: u16 = 4;
/// `PE_LAZY`: a restore may fetch the pages later.
pub const LAZY: u16 = 2;
/// `PE_PARENT`: the parent set has the pages.
pub const PARENT: u16 = 1;

impl Layout {
    /// Both layouts.
    pub const ALL: [Self; 2] = [Self::Narrow, Self::Wide];

    /// Returns the layout that a CRIU of this version speaks.
    pub fn of(version: Version) -> Self {
        if version < Version::new(4, 2, 0) { Self::Narrow } else { Self::Wide }
    }

    /// Returns the number of bytes in a header.
    pub fn size(self) -> usize {
        match self {
            Self::Narrow => 24,
            Self::Wide => 32,
        }
    }

    /// Recognises the layout by the first bytes of a session.
    ///
    /// At the place of the wide layout's address, a multiple of the page size, the narrow layout
    /// has an id, whose lowest byte is a type. In a request for pages, the wide layout has the
    /// number of pages at the place of the narrow layout's address.
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
            // The narrow layout has a pid here, the wide one an address: few lie below 4 GiB.
            Some(Command::Get) => {
                word(8) >= 4096 && word(8) % 4096 == 0 && u32::try_from(word(16)).is_ok()
            }
            _ => word(16) % 4096 != 0,
        };
        Recognised::Yes(if is_narrow { Self::Narrow } else { Self::Wide })
    }
}

impl Command {
    /// Finds the command in the first word of a header.
    fn parse(bytes: [u8; 8]) -> Option<Self> {
        let [a, b, c, d, ..] = bytes;
        let word = u32::from_le_bytes([a, b, c, d]);
        Some(match (word, word & 0xffff) {
            // Nobody sends these two with flags; CRIU's server would answer and go on.
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
    /// Reads a header; of the narrow layout the first 24 bytes.
    ///
    /// # Errors
    /// The first word of the header, if it holds no known command.
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

    /// Returns the header's bytes; of the narrow layout the first 24. `None` if the number of pages
    /// does not fit into the narrow layout.
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

/// Returns the id of an object in a header. [`Command::Get`] has a bare pid instead.
pub fn object_id(object: PageObject) -> u64 {
    match object {
        PageObject::Task(pid) => u64::from(pid) << 8 | 1,
        PageObject::Shared(id) => id << 8 | 2,
        // There are no other kinds.
        _ => 0,
    }
}

/// Returns the object that an id names, including the types of older CRIUs.
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
