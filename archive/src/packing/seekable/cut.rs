//! Borders of frames.

/// The place in the tar stream where a writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes that may be cut anywhere.
    Any,
    /// Pages of memory, from this offset of the tar stream on.
    Pages(u64),
}

/// Returns the size of the next frame, which starts at `start` of the tar stream and has `ready`
/// bytes so far, of which the last are at `place`. Returns `None` if the frame is not full.
pub(super) fn full(start: u64, ready: usize, place: Place) -> Option<usize> {
    if ready < FRAME {
        return None;
    }
    let Place::Pages(origin) = place else { return Some(FRAME) };
    let limit = start.saturating_add(FRAME as u64);
    // The page that the limit falls into goes into the next frame.
    let over = limit.checked_sub(origin)? % PAGE;
    let len = usize::try_from(limit - over - start).ok();
    len.filter(|len| *len > 0).or(Some(FRAME))
}

/// Returns true if content of pages begins a frame of its own, where the frame so far has `ready`
/// bytes.
pub(super) fn stands_alone(ready: usize, size: u64) -> bool {
    size >= FRAME as u64 || ready as u64 + size > FRAME as u64 && ready >= FRAME / 2
}

/// Bytes of the tar stream in a frame.
pub(super) const FRAME: usize = 64 << 10;

/// The smallest page of memory.
const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_never_in_two_frames() {
        for origin in [0, 512, 1024, 4096, 63 << 10, 70_144] {
            for begin in (0..=origin).step_by(512) {
                let mut start = begin;
                while start < 1 << 20 {
                    let ready = FRAME + 4095;
                    if origin >= start + FRAME as u64 {
                        break;
                    }
                    let len = full(start, ready, Place::Pages(origin)).unwrap() as u64;
                    assert!(len > 0 && len <= FRAME as u64);
                    start += len;
                    assert!(start >= origin && (start - origin) % PAGE == 0, "{origin} {start}");
                }
            }
        }
        assert_eq!(full(7, FRAME, Place::Any), Some(FRAME));
        assert_eq!(full(7, FRAME - 1, Place::Any), None);
    }
}
