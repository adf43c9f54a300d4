//! How much is accepted from outside.
//!
//! Images come from anywhere, and each of these bounds keeps something that they say from costing memory or time
//! without end. Each is far above what CRIU writes; a program that meets more raises it, once, when it begins:
//!
//! ```
//! use criu_images::bounds;
//!
//! bounds::IMAGE.raise(1 << 30);
//! assert_eq!(bounds::IMAGE.get(), 1 << 30);
//! # bounds::IMAGE.raise(bounds::IMAGE.default_value());
//! for bound in bounds::ALL {
//!     println!("{}: {} {}, because {}", bound.name(), bound.get(), bound.unit(), bound.reason());
//! }
//! ```
//!
//! What the kernel or the formats themselves bound cannot be raised and is not here: 4096 instructions of a filter,
//! 4 MiB of a compressed block, 100 messages in one another. Pages have no bound: they are read piece by piece.

use std::sync::atomic::{AtomicU64, Ordering};

/// A bound on what is accepted. The process has one of each.
#[derive(Debug)]
pub struct Bound {
    name: &'static str,
    unit: &'static str,
    reason: &'static str,
    default: u64,
    value: AtomicU64,
}

impl Bound {
    /// A bound, for the libraries on top of this one.
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        default: u64,
        unit: &'static str,
        reason: &'static str,
    ) -> Self {
        Self { name, unit, reason, default, value: AtomicU64::new(default) }
    }

    /// Its name, that of the constant.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is counted.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Why it is as large as it is unless set.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// What it is unless set.
    pub fn default_value(&self) -> u64 {
        self.default
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Sets it, for the whole process and for what is read from now on.
    pub fn raise(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// The same as a length in memory.
    pub(crate) fn length(&self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }
}

/// Largest image taken into memory at once.
pub static IMAGE: Bound = Bound::new(
    "IMAGE",
    256 << 20,
    "bytes",
    "the largest are pagemaps, 14 bytes a run: enough for 18 million runs",
);

/// Largest message in an image; above 4 GiB the format cannot say more.
pub static ENTRY: Bound = Bound::new(
    "ENTRY",
    64 << 20,
    "bytes",
    "the largest of CRIU's are mm images, 60 bytes a mapping; parsed, a message grows up to 24 times",
);

/// Longest chain of parent sets.
pub static CHAIN: Bound =
    Bound::new("CHAIN", 256, "sets", "nobody pre-dumps that often, and each level costs memory");

/// Most of a task's arguments, and most of its environment.
pub static ARGUMENTS: Bound =
    Bound::new("ARGUMENTS", 16 << 20, "bytes", "the kernel gives both together 6 MiB");

/// Most pieces of memory in a core file.
pub static SEGMENTS: Bound = Bound::new(
    "SEGMENTS",
    1 << 20,
    "pieces",
    "each costs a hundred bytes here and more in a debugger; the largest tasks known have 400,000",
);

/// Most findings of a check.
pub static FINDINGS: Bound = Bound::new(
    "FINDINGS",
    10_000,
    "findings",
    "nobody reads more, and images made to have more cost memory",
);

/// All bounds of this crate.
pub static ALL: &[&Bound] = &[&IMAGE, &ENTRY, &CHAIN, &ARGUMENTS, &SEGMENTS, &FINDINGS];

/// A line for each, as `docs/limits.md` of the project has them.
#[doc(hidden)]
pub fn rows(bounds: &[&Bound]) -> String {
    let row = |bound: &&Bound| {
        let Bound { name, unit, reason, default, .. } = bound;
        format!("| `{name}` | {default} {unit} | {reason} |\n")
    };
    bounds.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_limits_are_these() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let text = std::fs::read_to_string(file).unwrap();
        let rows = rows(ALL);
        assert!(text.contains(&rows), "docs/limits.md should have\n{rows}");
    }
}
