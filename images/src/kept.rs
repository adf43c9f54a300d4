//! Small images that have been read and are kept.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of an image. The bytes of a kept image are shared.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Own(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

/// Images by name; `None` for a file that the set does not have.
#[derive(Debug)]
pub(crate) struct Kept {
    images: HashMap<Box<str>, Option<Arc<Vec<u8>>>>,
    /// Memory that the images take, in bytes.
    size: usize,
    /// Memory that they may take.
    room: usize,
}

impl Kept {
    /// Makes room for the images of a set. Each set has half the room of the set before it in the
    /// chain, so that a chain of any length takes at most twice the room of one set.
    pub(crate) fn of_set(depth: usize) -> Self {
        let half = u32::try_from(depth).unwrap_or(u32::MAX);
        let room = ROOM.checked_shr(half).unwrap_or(0);
        Self { images: HashMap::new(), size: 0, room }
    }

    /// Looks up what is known of a file.
    pub(crate) fn get(&self, name: &str) -> Option<Option<Bytes>> {
        let known = self.images.get(name)?;
        Some(known.as_ref().map(|bytes| Bytes::Shared(Arc::clone(bytes))))
    }

    /// Keeps an image if it is small and there is room. Returns the image.
    pub(crate) fn add(&mut self, name: &str, bytes: Option<Vec<u8>>) -> Option<Bytes> {
        let len = bytes.as_ref().map_or(0, Vec::len);
        let size = len.saturating_add(name.len()).saturating_add(ENTRY);
        if len > SMALL || self.size.saturating_add(size) > self.room {
            return bytes.map(Bytes::Own);
        }
        self.size = self.size.saturating_add(size);
        let shared = bytes.map(Arc::new);
        self.images.insert(name.into(), shared.clone());
        shared.map(Bytes::Shared)
    }
}

impl Bytes {
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => Arc::unwrap_or_clone(bytes),
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Largest image that is kept, in bytes. Nearly all images of a task have a few KiB.
const SMALL: usize = 32 << 10;
/// Memory for the kept images of the first set of a chain, in bytes: enough for some 3,000 tasks.
/// Later images are read each time.
const ROOM: usize = 32 << 20;
/// Memory that an entry of the table takes beside its name and its bytes.
const ENTRY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_images_are_kept_until_the_room_is_full() {
        let mut kept = Kept::of_set(0);
        assert!(kept.add("gone.img", None).is_none());
        assert!(matches!(kept.get("gone.img"), Some(None)));
        assert!(kept.get("new.img").is_none());
        kept.add("large.img", Some(vec![1; SMALL + 1]));
        assert!(kept.get("large.img").is_none());
        for i in 0..=ROOM / SMALL {
            kept.add(&i.to_string(), Some(vec![7; SMALL]));
        }
        assert!(kept.size <= ROOM);
        assert_eq!(kept.get("0").flatten().map(Bytes::into_vec), Some(vec![7; SMALL]));
        assert!(kept.get(&(ROOM / SMALL).to_string()).is_none());
    }

    #[test]
    fn a_chain_has_twice_the_room_of_a_set() {
        let rooms = (0..300).map(|depth| Kept::of_set(depth).room);
        assert!(rooms.sum::<usize>() <= 2 * ROOM);
    }
}
