//! Limits on input from criu, from the machine and from bundles. [`criu_images::bounds`] has the
//! limits on images.
//!
//! ```
//! use criu_rs::bounds;
//!
//! bounds::LOG.raise(4 << 30);
//! # bounds::LOG.raise(bounds::LOG.default_value());
//! ```
//!
//! A [page server](crate::pages::ServerLimits) has limits of its own. The `deadline` of an
//! operation limits its time.

pub use criu_images::bounds::Bound;

/// Most bytes of a log that are searched for errors.
pub static LOG: Bound =
    Bound::new("LOG", 1 << 30, "bytes", "a debugging log of 2,000 tasks has about 100 MiB");

/// Largest packet accepted from a criu.
pub static PACKET: Bound = Bound::new(
    "PACKET",
    1 << 20,
    "bytes",
    "replies have some hundred bytes; the text of an error is the longest part, and CRIU's buffer \
     for it is below 64 KiB",
);

/// Largest `config.json`.
pub static CONFIG: Bound = Bound::new("CONFIG", 16 << 20, "bytes", "real ones have some 20 KiB");

/// Largest configuration file of CRIU's.
pub static CRIU_CONFIG: Bound = Bound::new(
    "CRIU_CONFIG",
    1 << 20,
    "bytes",
    "an option takes a line, and CRIU has some 100 options",
);

/// Largest list of a process's mounts.
pub static MOUNTS: Bound = Bound::new(
    "MOUNTS",
    64 << 20,
    "bytes",
    "by default the kernel allows 100,000 mounts in a namespace, of some 300 bytes each",
);

/// All bounds of this crate.
pub static ALL: &[&Bound] = &[&LOG, &PACKET, &CONFIG, &CRIU_CONFIG, &MOUNTS];

/// Converts a bound to a length in memory.
pub(crate) fn length(bound: &Bound) -> usize {
    usize::try_from(bound.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_limits_are_these() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let text = std::fs::read_to_string(file).unwrap();
        let rows = criu_images::bounds::rows(ALL);
        assert!(text.contains(&rows), "docs/limits.md should have\n{rows}");
    }
}
