//! Bytes that follow an entry, outside any message.

use crate::error::{ErrorKind, Result};
use crate::frame::{Image, RawEntry};
use crate::kind::Extra;
use crate::proto::{
    BpfmapDataEntry, GhostChunkEntry, GhostFileEntry, IpcMsg, IpcMsgEntry, IpcSemEntry,
    IpcShmEntry, PipeDataEntry, SkPacketEntry, TcpStreamEntry,
};

/// Bytes that follow an entry.
///
/// ```
/// use criu_images::{Image, Payload, kind};
///
/// let bytes = std::fs::read("tests/data/pipeline/pipes-data.img")?;
/// let mut image = Image::parse("pipes-data.img", &bytes, kind::PIPES_DATA)?;
/// while let Some(entry) = image.next_entry()? {
///     assert!(matches!(image.payload(&entry)?, Payload::Bytes(_)));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// No bytes.
    None,
    /// Content of a pipe, a packet, a file or a segment of shared memory.
    Bytes(&'a [u8]),
    /// Queues of a TCP connection.
    Tcp {
        /// Bytes received and not yet read.
        inq: &'a [u8],
        /// Bytes written and not yet acknowledged.
        outq: &'a [u8],
    },
    /// Messages of a System V queue: each an `ipc_msg` and its bytes.
    Messages(Vec<(IpcMsg, &'a [u8])>),
    /// Values of a System V semaphore set.
    Semaphores(Vec<u16>),
    /// Pairs of a BPF map.
    BpfMap {
        /// All keys.
        keys: &'a [u8],
        /// All values.
        values: &'a [u8],
    },
}

/// Sort and number of the bytes that follow an entry, as the entry gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Nothing,
    Bytes {
        len: u64,
        padding: u64,
    },
    /// All bytes up to the end of the image.
    Rest,
    Tcp {
        inq: u64,
        outq: u64,
    },
    /// Number of messages.
    Messages(u32),
    /// Number of values.
    Semaphores(u32),
    BpfMap {
        keys: u64,
        values: u64,
    },
}

impl Follow {
    pub(crate) fn of(extra: Extra, entry: &RawEntry<'_>, is_first: bool) -> Result<Self> {
        let bytes = |len| Self::Bytes { len, padding: 0 };
        Ok(match extra {
            Extra::None => Self::Nothing,
            Extra::Pipe => bytes(entry.decode::<PipeDataEntry>()?.bytes.into()),
            Extra::Packet => bytes(entry.decode::<SkPacketEntry>()?.length.into()),
            Extra::Tcp => {
                let stream: TcpStreamEntry = entry.decode()?;
                Self::Tcp { inq: stream.inq_len.into(), outq: stream.outq_len.into() }
            }
            Extra::Ghost if is_first => {
                if entry.decode::<GhostFileEntry>()?.chunks() {
                    Self::Nothing
                } else {
                    Self::Rest
                }
            }
            Extra::Ghost => bytes(entry.decode::<GhostChunkEntry>()?.len),
            Extra::Shm => {
                let segment: IpcShmEntry = entry.decode()?;
                let len = segment.size;
                if segment.in_pagemaps() {
                    Self::Nothing
                } else {
                    Self::Bytes { len, padding: padding(len, 4) }
                }
            }
            Extra::Msg => Self::Messages(entry.decode::<IpcMsgEntry>()?.qnum),
            Extra::Sem => Self::Semaphores(entry.decode::<IpcSemEntry>()?.nsems),
            Extra::BpfMap => {
                let map: BpfmapDataEntry = entry.decode()?;
                Self::BpfMap { keys: map.keys_bytes.into(), values: map.values_bytes.into() }
            }
        })
    }
}

/// Number of bytes that fill `len` up to a multiple of `unit`.
fn padding(len: u64, unit: u64) -> u64 {
    (unit - len % unit) % unit
}

impl<'a> Image<'a> {
    /// Reads the bytes that follow an entry, which must be the last one read. Call this for each
    /// entry of a kind with [extra](crate::kind::Kind::extra) bytes, before the next entry.
    ///
    /// # Errors
    /// The errors of decoding the entry; [`ErrorKind::Truncated`] if fewer bytes follow than the
    /// entry says.
    pub fn payload(&mut self, entry: &RawEntry<'_>) -> Result<Payload<'a>> {
        let is_first = self.is_first(entry);
        Ok(match Follow::of(self.kind().extra, entry, is_first)? {
            Follow::Nothing => Payload::None,
            Follow::Bytes { len, padding } => {
                let bytes = self.extra(len)?;
                self.extra(padding)?;
                Payload::Bytes(bytes)
            }
            Follow::Rest => Payload::Bytes(self.rest()),
            Follow::Tcp { inq, outq } => {
                Payload::Tcp { inq: self.extra(inq)?, outq: self.extra(outq)? }
            }
            Follow::BpfMap { keys, values } => {
                Payload::BpfMap { keys: self.extra(keys)?, values: self.extra(values)? }
            }
            Follow::Messages(count) => self.messages(entry, count)?,
            Follow::Semaphores(count) => {
                let bytes = self.padded(u64::from(count) * 2, 8)?;
                let values = bytes.chunks_exact(2);
                Payload::Semaphores(values.map(|pair| self.half_word(pair)).collect())
            }
        })
    }

    /// Takes `len` bytes, and skips the padding to a multiple of `unit`.
    pub(crate) fn padded(&mut self, len: u64, unit: u64) -> Result<&'a [u8]> {
        let bytes = self.extra(len)?;
        self.extra(padding(len, unit))?;
        Ok(bytes)
    }

    fn messages(&mut self, entry: &RawEntry<'_>, count: u32) -> Result<Payload<'a>> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let message = self.next_entry()?.ok_or_else(|| {
                entry.fault(ErrorKind::Malformed("fewer messages follow than the entry counts"))
            })?;
            let message: IpcMsg = message.decode()?;
            let bytes = self.padded(message.msize.into(), 8)?;
            messages.push((message, bytes));
        }
        Ok(Payload::Messages(messages))
    }
}
