//! Amounts of data that wait in pipes and sockets.

use std::collections::HashMap;

use crate::error::Result;
use crate::file::File;
use crate::files::OpenFile;
use crate::kind;
use crate::proto::{PipeDataEntry, SkPacketEntry, TcpStreamEntry};
use crate::store::Store;

/// Amounts of data that wait in pipes, fifos and sockets.
///
/// ```
/// use criu_images::ImageSet;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let checkpoint = set.checkpoint()?;
/// let queues = checkpoint.queues()?;
/// for fd in checkpoint.root().files()? {
///     println!("{fd}: {} bytes wait", queues.of(&fd.file)?.received);
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Queues<'a> {
    store: &'a Store,
    pipes: HashMap<u32, u64>,
    fifos: HashMap<u32, u64>,
    /// Packets and their bytes, by file id.
    packets: HashMap<u32, (u64, u64)>,
}

/// Amount of data that waits in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// Bytes ready to be read.
    pub received: u64,
    /// Bytes that a TCP connection has sent and the other end has not acknowledged.
    pub sent: u64,
    /// Number of packets that make up `received`, for sockets other than TCP.
    pub packets: u64,
}

impl<'a> Queues<'a> {
    pub(crate) fn read(store: &'a Store) -> Result<Self> {
        let mut queues =
            Self { store, pipes: HashMap::new(), fifos: HashMap::new(), packets: HashMap::new() };
        store.for_each(kind::PIPES_DATA, 0, |pipe: PipeDataEntry| {
            queues.pipes.insert(pipe.pipe_id, pipe.bytes.into());
            Ok(())
        })?;
        store.for_each(kind::FIFO_DATA, 0, |fifo: PipeDataEntry| {
            queues.fifos.insert(fifo.pipe_id, fifo.bytes.into());
            Ok(())
        })?;
        store.for_each(kind::SK_QUEUES, 0, |packet: SkPacketEntry| {
            let (packets, bytes) = queues.packets.entry(packet.id_for).or_default();
            *packets += 1;
            *bytes += u64::from(packet.length);
            Ok(())
        })?;
        Ok(queues)
    }

    /// Data that waits in a file. Both ends of a pipe report the data in the pipe.
    ///
    /// # Errors
    /// The errors of the image of a TCP connection.
    pub fn of(&self, file: &OpenFile<'_>) -> Result<Queued> {
        let bytes = |received: Option<&u64>| Queued {
            received: received.copied().unwrap_or(0),
            ..Queued::default()
        };
        Ok(match file.file() {
            File::Pipe(pipe) => bytes(self.pipes.get(&pipe.pipe_id)),
            File::Fifo(fifo) => bytes(self.fifos.get(&fifo.pipe_id)),
            File::Inet(socket) if socket.remote().is_some() => {
                let stream: Option<TcpStreamEntry> =
                    self.store.optional(kind::TCP_STREAM, socket.ino.into())?;
                stream.map_or_else(Queued::default, |stream| Queued {
                    received: stream.inq_len.into(),
                    sent: stream.outq_len.into(),
                    packets: 0,
                })
            }
            _ => {
                let (packets, received) = self.packets.get(&file.id()).copied().unwrap_or((0, 0));
                Queued { received, packets, sent: 0 }
            }
        })
    }
}
