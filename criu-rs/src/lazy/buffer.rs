//! Room for pages that a reader receives.

/// Room for pages, at a multiple of the page size, which grows as needed and is used again.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns room for the bytes of pages. Their content is unspecified.
    pub(super) fn pages(&mut self, bytes: u64) -> &mut [u8] {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.after(0, bytes)
    }

    /// Returns room for `head` bytes, at most a page, and the bytes of pages right behind them.
    pub(super) fn after(&mut self, head: usize, bytes: usize) -> &mut [u8] {
        let need = bytes.saturating_add(2 * PAGE);
        if self.0.len() < need {
            self.0 = vec![0; need];
        }
        let start = self.start().saturating_sub(head);
        self.0.get_mut(start..start.saturating_add(head).saturating_add(bytes)).unwrap_or_default()
    }

    /// Returns the bytes of pages that are in the room.
    pub(super) fn bytes(&self, bytes: u64) -> &[u8] {
        let (start, bytes) = (self.start(), usize::try_from(bytes).unwrap_or(usize::MAX));
        self.0.get(start..start.saturating_add(bytes)).unwrap_or_default()
    }

    /// Returns the place of the first page, which leaves room for a header.
    fn start(&self) -> usize {
        self.0.as_ptr().align_offset(PAGE).saturating_add(PAGE)
    }
}

/// The smallest page size: copies of aligned pages are a little faster.
const PAGE: usize = 4096;
