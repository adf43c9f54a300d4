//! Random bytes.

#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;

/// Fills a buffer with random bytes of the kernel's (`getrandom(2)`). Waits until the kernel has
/// gathered enough randomness since it has booted.
pub(crate) fn fill(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let at = buffer.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `buffer.len()` bytes, all of which are ours.
        let filled = unsafe { libc::getrandom(at, buffer.len(), 0) };
        match Errno::result(filled) {
            Ok(count) => {
                let rest = usize::try_from(count).ok().and_then(|count| buffer.get_mut(count..));
                buffer = rest.unwrap_or_default();
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled() {
        let mut sum = [0u8; 1000];
        for _ in 0..8 {
            let mut bytes = [0u8; 1000];
            fill(&mut bytes).unwrap();
            for (sum, byte) in sum.iter_mut().zip(bytes) {
                *sum |= byte;
            }
        }
        // A byte that is never written stays 0; a random one is 0 eight times once in 2^64.
        assert!(sum.iter().all(|byte| *byte != 0));
    }
}
