//! Bounds on input from outside.
//!
//! Images may come from anywhere. Each bound here stops one claim of an image from costing memory
//! or time without end. All bounds are far above what CRIU writes. A program that meets more raises
//! a bound once, when it starts:
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
//! Bounds of the kernel and of the formats cannot be raised and are not listed here: 4096
//! instructions of a filter, 4 MiB of a compressed block, messages nested 100 deep. Pages have no
//! bound: they are read piece by piece.

use std::sync::atomic::{AtomicU64, Ordering};

/// A bound on input. Each bound exists once in a process.
#[derive(Debug)]
pub struct Bound {
    name: &'static str,
    unit: &'static str,
    reason: &'static str,
    default: u64,
    value: AtomicU64,
}

impl Bound {
    /// Makes a bound, for libraries on top of this crate.
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        default: u64,
        unit: &'static str,
        reason: &'static str,
    ) -> Self {
        Self { name, unit, reason, default, value: AtomicU64::new(default) }
    }

    /// Name of the constant.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Unit that is counted.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Reason for the default value.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Value of the bound unless set.
    pub fn default_value(&self) -> u64 {
        self.default
    }

    /// Current value.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Sets the bound for the whole process, for all reads from now on.
    pub fn raise(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// Current value as a length in memory.
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

/// Largest message in an image. The format itself ends at 4 GiB.
pub static ENTRY: Bound = Bound::new(
    "ENTRY",
    64 << 20,
    "bytes",
    "the largest of CRIU's are mm images, 60 bytes a mapping; parsed, a message grows up to 28 \
     times, and twice as much with what lists reserve",
);

/// Longest chain of parent sets.
pub static CHAIN: Bound =
    Bound::new("CHAIN", 256, "sets", "nobody pre-dumps that often, and each level costs memory");

/// Largest arguments of a task; the same for its environment.
pub static ARGUMENTS: Bound =
    Bound::new("ARGUMENTS", 16 << 20, "bytes", "the kernel gives both together 6 MiB");

/// Largest number of memory pieces in a core file.
pub static SEGMENTS: Bound = Bound::new(
    "SEGMENTS",
    1 << 20,
    "pieces",
    "each costs a hundred bytes here and more in a debugger; the largest tasks known have 400,000",
);

/// Largest number of findings of a check.
pub static FINDINGS: Bound = Bound::new(
    "FINDINGS",
    10_000,
    "findings",
    "nobody reads more, and images made to have more cost memory",
);

/// Largest view, as the list of open files. Many tasks may share a long table, and many rows a long
/// name.
pub static VIEW: Bound = Bound::new(
    "VIEW",
    256 << 20,
    "bytes",
    "a million rows of 256 bytes; images made to share what is long would give far more",
);

/// Largest file of a working set.
pub static WORKING_SET: Bound = Bound::new(
    "WORKING_SET",
    8 << 20,
    "bytes",
    "enough for 1.6 million scattered pages; parsed, a file grows up to 24 times",
);

/// All bounds of this crate.
pub static ALL: &[&Bound] =
    &[&IMAGE, &ENTRY, &CHAIN, &ARGUMENTS, &SEGMENTS, &FINDINGS, &VIEW, &WORKING_SET];

/// Formats a row for each bound, as in `docs/limits.md` of the project.
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
