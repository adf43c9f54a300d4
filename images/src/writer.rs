//! A writer of images, entry by entry.

use std::fmt;
use std::io::Write;

use crate::bounds;
use crate::error::{Error, ErrorKind, Result, WriteError};
use crate::extra::{Follow, Payload};
use crate::frame::RawEntry;
use crate::kind::{Entries, Kind};
use crate::schema::Entry;

/// A writer of one image, in the layout of today's CRIU on a little-endian machine.
///
/// ```
/// use criu_images::proto::PipeDataEntry;
/// use criu_images::{Image, ImageWriter, Payload, kind};
///
/// let mut writer = ImageWriter::new(kind::PIPES_DATA, Vec::new())?;
/// let entry = PipeDataEntry { pipe_id: 7, bytes: 5, size: None };
/// writer.entry(&entry, &Payload::Bytes(b"hello"))?;
/// let bytes = writer.finish()?;
///
/// let mut image = Image::parse("pipes-data.img", &bytes, kind::PIPES_DATA)?;
/// assert_eq!(image.next_entry()?.expect("one").decode::<PipeDataEntry>()?, entry);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an image is whole only after `finish`"]
pub struct ImageWriter<W> {
    out: W,
    kind: &'static Kind,
    entries: u64,
}

impl<W: Write> ImageWriter<W> {
    /// Begins an image: writes the magics.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a raw image, which has no entries; those of writing to `out`.
    pub fn new(kind: &'static Kind, mut out: W) -> Result<Self, WriteError> {
        if kind.entries == Entries::Raw {
            return Err(Error::new(kind.file, ErrorKind::Unsupported("raw images")).into());
        }
        for word in kind.head_magic().into_iter().chain([kind.magic]) {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { out, kind, entries: 0 })
    }

    /// Writes an entry and the bytes that follow it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a message of another kind; those of [`raw`](Self::raw).
    pub fn entry<M: Entry>(
        &mut self,
        message: &M,
        payload: &Payload<'_>,
    ) -> Result<(), WriteError> {
        let want = self.kind.entry_message(self.entries == 0);
        if want.is_none_or(|want| want.name != M::schema().name) {
            let kind = ErrorKind::Unsupported("messages of another kind of image");
            return Err(Error::new(self.kind.file, kind).into());
        }
        self.raw(&message.encode_to_vec(), payload)
    }

    /// Writes an entry from the bytes of its message, with unknown fields, and the bytes that
    /// follow it.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if the payload has another size than the message says;
    /// [`ErrorKind::TooLarge`] above [`ENTRY`](crate::bounds::ENTRY); those of checking the
    /// message, and of writing to `out`.
    pub fn raw(&mut self, message: &[u8], payload: &Payload<'_>) -> Result<(), WriteError> {
        let name = self.kind.file;
        let (is_first, limit) = (self.entries == 0, bounds::ENTRY.get());
        let size = u32::try_from(message.len()).ok().filter(|size| u64::from(*size) <= limit);
        let too_large = || {
            let size = message.len() as u64;
            Error::new(name, ErrorKind::TooLarge { size, limit })
        };
        let size = size.ok_or_else(too_large)?;
        let entry = RawEntry::new(name, 0, message);
        if let Some(schema) = self.kind.entry_message(is_first) {
            schema.check(message).map_err(|fault| entry.fault(fault))?;
        }
        // The payload is put together first, so that nothing is written if it does not fit.
        let mut follows = Vec::new();
        let follow = Follow::of(self.kind.extra, &entry, is_first)?;
        append(follow, payload, &mut follows).map_err(|kind| Error::new(name, kind))?;
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(message)?;
        self.out.write_all(&follows)?;
        self.entries += 1;
        Ok(())
    }

    /// Ends the image.
    ///
    /// # Errors
    /// [`ErrorKind::Entries`] if the kind has another number of entries; those of writing to `out`.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let fits = match self.kind.entries {
            Entries::One => self.entries == 1,
            Entries::Pagemap | Entries::Ghost => self.entries > 0,
            _ => true,
        };
        if !fits {
            let kind = ErrorKind::Entries { found: self.entries, want: 1 };
            return Err(Error::new(self.kind.file, kind).into());
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W> fmt::Debug for ImageWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, entries, .. } = self;
        f.debug_struct("ImageWriter").field("kind", &kind.name).field("entries", entries).finish()
    }
}

fn append(follow: Follow, payload: &Payload<'_>, out: &mut Vec<u8>) -> Result<(), ErrorKind> {
    let sized = |bytes: &[u8], len: u64| -> Result<(), ErrorKind> {
        let found = bytes.len() as u64;
        if found == len {
            Ok(())
        } else {
            Err(ErrorKind::Value { found, want: "as many bytes as the entry says" })
        }
    };
    match (follow, payload) {
        (Follow::Nothing, Payload::None) => {}
        (Follow::Rest, Payload::Bytes(bytes)) => out.extend(*bytes),
        (Follow::Bytes { len, padding }, Payload::Bytes(bytes)) => {
            sized(bytes, len)?;
            out.extend(*bytes);
            out.resize(out.len() + usize::try_from(padding).unwrap_or(0), 0);
        }
        (Follow::Tcp { inq, outq }, Payload::Tcp { inq: received, outq: sent }) => {
            sized(received, inq)?;
            sized(sent, outq)?;
            out.extend(*received);
            out.extend(*sent);
        }
        (Follow::BpfMap { keys, values }, Payload::BpfMap { keys: k, values: v }) => {
            sized(k, keys)?;
            sized(v, values)?;
            out.extend(*k);
            out.extend(*v);
        }
        (Follow::Semaphores(count), Payload::Semaphores(values)) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            sized(&bytes, u64::from(count) * 2)?;
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        (Follow::Messages(count), Payload::Messages(messages)) => {
            let found = messages.len() as u64;
            if found != u64::from(count) {
                return Err(ErrorKind::Value { found, want: "as many messages as the entry says" });
            }
            for (message, bytes) in messages {
                sized(bytes, message.msize.into())?;
                let head = prost::Message::encode_to_vec(message);
                let size = u32::try_from(head.len()).unwrap_or(u32::MAX);
                out.extend(size.to_le_bytes());
                out.extend(head);
                out.extend(*bytes);
                let padding = bytes.len().next_multiple_of(8) - bytes.len();
                out.resize(out.len() + padding, 0);
            }
        }
        _ => {
            return Err(ErrorKind::Malformed(
                "the payload is not of the sort that the entry needs",
            ));
        }
    }
    Ok(())
}
