//! Room for pages that a reader receives.

/// Room for pages, at a multiple of the page size, which grows as needed and is used again.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns room for so many bytes. Their content is unspecified.
    pub(super) fn take(&mut self, bytes: u64) -> &mut [u8] {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.0.len() < bytes.saturating_add(PAGE) {
            self.0 = vec![0; bytes.saturating_add(PAGE)];
        }
        let start = self.0.as_ptr().align_offset(PAGE);
        self.0.get_mut(start..start.saturating_add(bytes)).unwrap_or_default()
    }
}

/// The smallest page size: copies of aligned pages are a little faster.
const PAGE: usize = 4096;
