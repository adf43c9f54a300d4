//! Writer of pagemaps.

use std::io::Write;

use crate::error::WriteError;
use crate::extra::Payload;
use crate::kind::{self, Kind};
use crate::memory::pagemap::{COMPAT_NR_PAGES, FLAGS, NR_PAGES, VADDR};
use crate::memory::{PageFlags, Run};
use crate::proto::PagemapHead;
use crate::writer::ImageWriter;

/// Writes a pagemap that every CRIU reads: numbers of pages are in the field of CRIU before 4.2, if
/// they fit in there. Adjacent runs with equal flags become one run.
///
/// ```
/// use criu_images::memory::{PageFlags, Pagemap, PagemapWriter, PageSize};
/// use criu_images::kind;
///
/// let mut writer = PagemapWriter::new(Vec::new(), 1, PageSize::K4)?;
/// for address in [0x1000, 0x2000, 0x9000] {
///     writer.run(address, 1, PageFlags::PRESENT)?;
/// }
/// let bytes = writer.finish()?;
/// let pagemap = Pagemap::parse("pagemap-7.img", &bytes, kind::PAGEMAP, PageSize::K4)?;
/// assert_eq!(pagemap.runs().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a pagemap is whole only after `finish`"]
pub struct PagemapWriter<W> {
    out: W,
    page_size: u64,
    /// The run that may still grow.
    last: Option<Run>,
    buffer: Vec<u8>,
}

impl<W: Write> PagemapWriter<W> {
    /// Begins a pagemap whose bytes are in `pages-ID.img`.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn new(out: W, pages_id: u32, page_size: super::PageSize) -> Result<Self, WriteError> {
        const KIND: &Kind = kind::PAGEMAP;
        let mut head = ImageWriter::new(KIND, out)?;
        head.entry(&PagemapHead { pages_id }, &Payload::None)?;
        let (out, page_size) = (head.finish()?, page_size.bytes());
        Ok(Self { out, page_size, last: None, buffer: Vec::with_capacity(BUFFER + LONGEST) })
    }

    /// Adds pages after those before.
    ///
    /// # Errors
    /// The errors of `out`.
    #[inline]
    pub fn run(&mut self, start: u64, pages: u64, flags: PageFlags) -> Result<(), WriteError> {
        if let Some(last) = &mut self.last {
            let end = last.start.wrapping_add(last.pages.wrapping_mul(self.page_size));
            if end == start && last.flags == flags {
                last.pages = last.pages.saturating_add(pages);
                return Ok(());
            }
        }
        self.put()?;
        self.last = Some(Run { start, pages, flags, compressed: false });
        Ok(())
    }

    fn put(&mut self) -> Result<(), WriteError> {
        let Some(Run { start, pages, flags, .. }) = self.last.take() else {
            return Ok(());
        };
        let at = self.buffer.len();
        self.buffer.extend([0; 4]);
        let old = u32::try_from(pages).unwrap_or(0);
        self.field(VADDR, start);
        self.field(COMPAT_NR_PAGES, old.into());
        self.field(FLAGS, flags.bits().into());
        if old == 0 {
            self.field(NR_PAGES, pages);
        }
        let size = u32::try_from(self.buffer.len() - at - 4).unwrap_or(0);
        if let Some(place) = self.buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&size.to_le_bytes());
        }
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn field(&mut self, number: u32, mut value: u64) {
        let [key, ..] = (number << 3).to_le_bytes();
        self.buffer.push(key);
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.buffer.push(low | 0x80);
            value >>= 7;
        }
        let [last, ..] = value.to_le_bytes();
        self.buffer.push(last);
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the pagemap.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.put()?;
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Buffered bytes at which the buffer is written out.
const BUFFER: usize = 64 << 10;
/// More bytes than an entry has.
const LONGEST: usize = 64;
