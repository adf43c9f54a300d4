//! What follows an entry: bytes that no message holds.

use crate::error::{ErrorKind, Result};
use crate::frame::{Image, RawEntry};
use crate::kind::Extra;
use crate::proto::{
    BpfmapDataEntry, GhostChunkEntry, GhostFileEntry, IpcMsg, IpcMsgEntry, IpcSemEntry,
    IpcShmEntry, PipeDataEntry, SkPacketEntry, TcpStreamEntry,
};

/// The bytes behind one entry.
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
    /// There are none.
    None,
    /// What was in a pipe, a packet, a file, a shared memory segment.
    Bytes(&'a [u8]),
    /// The queues of a TCP connection.
    Tcp {
        /// Received and not yet read.
        inq: &'a [u8],
        /// Written and not yet acknowledged.
        outq: &'a [u8],
    },
    /// The messages of a System V queue: each an `ipc_msg` and its bytes.
    Messages(Vec<(IpcMsg, &'a [u8])>),
    /// The values of a System V semaphore set.
    Semaphores(Vec<u16>),
    /// The pairs of a BPF map.
    BpfMap {
        /// All keys.
        keys: &'a [u8],
        /// All values.
        values: &'a [u8],
    },
}

impl<'a> Image<'a> {
    /// The bytes that belong to an entry, which must be the last one read. To be called for each entry of
    /// a kind with [extra](crate::kind::Kind::extra) bytes, before the next.
    ///
    /// # Errors
    /// Those of decoding the entry; [`ErrorKind::Truncated`] when there are fewer bytes than it says.
    pub fn payload(&mut self, entry: &RawEntry<'_>) -> Result<Payload<'a>> {
        Ok(match self.kind().extra {
            Extra::None => Payload::None,
            Extra::Pipe => self.bytes(entry.decode::<PipeDataEntry>()?.bytes.into())?,
            Extra::Packet => self.bytes(entry.decode::<SkPacketEntry>()?.length.into())?,
            Extra::Tcp => {
                let stream: TcpStreamEntry = entry.decode()?;
                let inq = self.extra(stream.inq_len.into())?;
                Payload::Tcp { inq, outq: self.extra(stream.outq_len.into())? }
            }
            Extra::Ghost if self.is_first(entry) => {
                match entry.decode::<GhostFileEntry>()?.chunks() {
                    true => Payload::None,
                    false => Payload::Bytes(self.rest()),
                }
            }
            Extra::Ghost => self.bytes(entry.decode::<GhostChunkEntry>()?.len)?,
            Extra::Shm => {
                let segment: IpcShmEntry = entry.decode()?;
                match segment.in_pagemaps() {
                    true => Payload::None,
                    false => Payload::Bytes(self.padded(segment.size, 4)?),
                }
            }
            Extra::Msg => self.messages(entry)?,
            Extra::Sem => {
                let size = u64::from(entry.decode::<IpcSemEntry>()?.nsems) * 2;
                let bytes = self.padded(size, 8)?;
                let values = bytes.chunks_exact(2);
                Payload::Semaphores(values.map(|pair| self.half_word(pair)).collect())
            }
            Extra::BpfMap => {
                let map: BpfmapDataEntry = entry.decode()?;
                let keys = self.extra(map.keys_bytes.into())?;
                Payload::BpfMap { keys, values: self.extra(map.values_bytes.into())? }
            }
        })
    }

    fn bytes(&mut self, len: u64) -> Result<Payload<'a>> {
        self.extra(len).map(Payload::Bytes)
    }

    /// So many bytes, and what fills them up to a multiple of `unit`.
    fn padded(&mut self, len: u64, unit: u64) -> Result<&'a [u8]> {
        let bytes = self.extra(len)?;
        self.extra(len.next_multiple_of(unit) - len)?;
        Ok(bytes)
    }

    fn messages(&mut self, entry: &RawEntry<'_>) -> Result<Payload<'a>> {
        let mut messages = Vec::new();
        for _ in 0..entry.decode::<IpcMsgEntry>()?.qnum {
            let message = self.next_entry()?.ok_or_else(|| {
                entry.fault(ErrorKind::Malformed("fewer messages follow than it counts"))
            })?;
            let message: IpcMsg = message.decode()?;
            let bytes = self.padded(message.msize.into(), 8)?;
            messages.push((message, bytes));
        }
        Ok(Payload::Messages(messages))
    }
}
