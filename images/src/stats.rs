//! CRIU's own counters of a run: `stats-dump` and `stats-restore`, in the work directory.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::frame::Image;
use crate::kind::{self, Kind};
use crate::proto::StatsEntry;

/// Statistics of a dump. Counters are in pages unless noted. Counters that an older CRIU does not
/// have are `None`. Serialized, times are whole microseconds, in fields that end in `_us`.
///
/// ```
/// use criu_images::DumpStats;
///
/// let stats = DumpStats::parse(&std::fs::read("tests/data/pipeline/stats-dump")?)?;
/// println!("{stats}");
/// assert!(stats.frozen >= stats.memdump);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DumpStats {
    /// Time to stop all tasks.
    #[cfg_attr(feature = "serde", serde(rename = "freezing_us", serialize_with = "as_micros"))]
    pub freezing: Duration,
    /// Time for which tasks were stopped.
    #[cfg_attr(feature = "serde", serde(rename = "frozen_us", serialize_with = "as_micros"))]
    pub frozen: Duration,
    /// Time to find and drain memory.
    #[cfg_attr(feature = "serde", serde(rename = "memdump_us", serialize_with = "as_micros"))]
    pub memdump: Duration,
    /// Time to write memory.
    #[cfg_attr(feature = "serde", serde(rename = "memwrite_us", serialize_with = "as_micros"))]
    pub memwrite: Duration,
    /// Time to find the paths of watched inodes.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "irmap_resolve_us", serialize_with = "some_as_micros")
    )]
    pub irmap_resolve: Option<Duration>,
    /// Pages scanned.
    pub pages_scanned: u64,
    /// Pages left to the parent set.
    pub pages_skipped_parent: u64,
    /// Pages written.
    pub pages_written: u64,
    /// Pages that a restore may fetch lazily.
    pub pages_lazy: u64,
    /// Pipes used to drain memory, in pipes.
    pub page_pipes: Option<u64>,
    /// Buffers of these pipes, in buffers.
    pub page_pipe_bufs: Option<u64>,
    /// Shared pages scanned.
    pub shpages_scanned: Option<u64>,
    /// Shared pages left to the parent set.
    pub shpages_skipped_parent: Option<u64>,
    /// Shared pages written.
    pub shpages_written: Option<u64>,
}

/// Statistics of a restore. Counters are in pages. Serialized, times are whole microseconds, in
/// fields that end in `_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RestoreStats {
    /// Time to create all tasks.
    #[cfg_attr(feature = "serde", serde(rename = "forking_us", serialize_with = "as_micros"))]
    pub forking: Duration,
    /// Time of the whole restore.
    #[cfg_attr(feature = "serde", serde(rename = "restore_us", serialize_with = "as_micros"))]
    pub restore: Duration,
    /// Pages compared with the parent task's.
    pub pages_compared: u64,
    /// Pages found equal, which stay shared with the parent task.
    pub pages_skipped_cow: u64,
    /// Pages read from images.
    pub pages_restored: Option<u64>,
}

impl DumpStats {
    /// Parses the content of `stats-dump`.
    ///
    /// # Errors
    /// The errors of parsing an image; [`ErrorKind::Required`] if it has no statistics of a dump.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let entry = stats(bytes, kind::STATS_DUMP)?;
        let dump = entry.dump.ok_or_else(|| absent(kind::STATS_DUMP, "dump"))?;
        Ok(Self {
            freezing: micros(dump.freezing_time),
            frozen: micros(dump.frozen_time),
            memdump: micros(dump.memdump_time),
            memwrite: micros(dump.memwrite_time),
            irmap_resolve: dump.irmap_resolve.map(micros),
            pages_scanned: dump.pages_scanned,
            pages_skipped_parent: dump.pages_skipped_parent,
            pages_written: dump.pages_written,
            pages_lazy: dump.pages_lazy,
            page_pipes: dump.page_pipes,
            page_pipe_bufs: dump.page_pipe_bufs,
            shpages_scanned: dump.shpages_scanned,
            shpages_skipped_parent: dump.shpages_skipped_parent,
            shpages_written: dump.shpages_written,
        })
    }
}

impl RestoreStats {
    /// Parses the content of `stats-restore`.
    ///
    /// # Errors
    /// The errors of parsing an image; [`ErrorKind::Required`] if it has no statistics of a
    /// restore.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let entry = stats(bytes, kind::STATS_RESTORE)?;
        let restore = entry.restore;
        let restore = restore.ok_or_else(|| absent(kind::STATS_RESTORE, "restore"))?;
        Ok(Self {
            forking: micros(restore.forking_time),
            restore: micros(restore.restore_time),
            pages_compared: restore.pages_compared,
            pages_skipped_cow: restore.pages_skipped_cow,
            pages_restored: restore.pages_restored,
        })
    }
}

impl fmt::Display for DumpStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { freezing, frozen, memdump, memwrite, .. } = self;
        writeln!(f, "frozen for {frozen:?}, after {freezing:?} to stop all tasks")?;
        writeln!(f, "memory: {memdump:?} to collect, {memwrite:?} to write")?;
        write!(
            f,
            "pages: {} scanned, {} written, {} left to the parent, {} lazy",
            self.pages_scanned, self.pages_written, self.pages_skipped_parent, self.pages_lazy,
        )?;
        if let (Some(scanned), Some(written)) = (self.shpages_scanned, self.shpages_written) {
            write!(f, "\nshared pages: {scanned} scanned, {written} written")?;
        }
        Ok(())
    }
}

impl fmt::Display for RestoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forking, restore, .. } = self;
        writeln!(f, "restored in {restore:?}, {forking:?} of them to create tasks")?;
        write!(
            f,
            "pages: {} compared, {} still shared",
            self.pages_compared, self.pages_skipped_cow,
        )?;
        match self.pages_restored {
            Some(restored) => write!(f, ", {restored} restored"),
            None => Ok(()),
        }
    }
}

fn stats(bytes: &[u8], kind: &'static Kind) -> Result<StatsEntry> {
    Image::parse(kind.file, bytes, kind)?.single()
}

fn absent(kind: &Kind, field: &'static str) -> Error {
    let fault = Fault::from(ErrorKind::Required).field("stats_entry", field);
    Error::new(kind.file, fault)
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

#[cfg(feature = "serde")]
fn as_micros<S: serde::Serializer>(time: &Duration, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(feature = "serde")]
fn some_as_micros<S: serde::Serializer>(
    time: &Option<Duration>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    match time {
        Some(time) => as_micros(time, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `stats-dump` of CRIU 4.1.1.
    const DUMP: [u8; 48] = [
        0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x24, 0, 0, 0, 0x0a, 0x22, 0x08, 0xde,
        0x02, 0x10, 0xdf, 0xb4, 0x01, 0x18, 0x8c, 0x09, 0x20, 0xca, 0x02, 0x28, 0xa0, 0x01, 0x30,
        0, 0x38, 0x59, 0x40, 0, 0x48, 0, 0x50, 0x12, 0x58, 0x12, 0x60, 0, 0x68, 0, 0x70, 0,
    ];

    #[test]
    fn a_dump_of_4_1_1_reads() {
        let want = DumpStats {
            freezing: Duration::from_micros(350),
            frozen: Duration::from_micros(23_135),
            memdump: Duration::from_micros(1_164),
            memwrite: Duration::from_micros(330),
            irmap_resolve: Some(Duration::ZERO),
            pages_scanned: 160,
            pages_skipped_parent: 0,
            pages_written: 89,
            pages_lazy: 0,
            page_pipes: Some(18),
            page_pipe_bufs: Some(18),
            shpages_scanned: Some(0),
            shpages_skipped_parent: Some(0),
            shpages_written: Some(0),
        };
        assert_eq!(DumpStats::parse(&DUMP).unwrap(), want);
    }

    #[cfg(all(feature = "json", feature = "serde"))]
    #[test]
    fn times_are_serialized_in_microseconds() {
        let stats = DumpStats::parse(&DUMP).unwrap();
        let value = serde_json::to_value(&stats).unwrap();
        assert_eq!((&value["frozen_us"], &value["irmap_resolve_us"]), (&23_135.into(), &0.into()));
        let older = DumpStats { irmap_resolve: None, ..stats };
        assert!(serde_json::to_value(older).unwrap()["irmap_resolve_us"].is_null());
    }

    #[test]
    fn a_restore_of_an_older_criu_lacks_the_last_counter() {
        let mut restore = DUMP[..8].to_vec();
        restore.extend([11, 0, 0, 0, 0x12, 9, 0x08, 7, 0x10, 2, 0x18, 0xe8, 0x07, 0x20, 5]);
        let stats = RestoreStats::parse(&restore).unwrap();
        assert_eq!(
            stats.to_string(),
            "restored in 5µs, 1ms of them to create tasks\npages: 7 compared, 2 still shared"
        );
        let error = DumpStats::parse(&restore).unwrap_err();
        assert_eq!(error.to_string(), "stats-dump: stats_entry.dump: is required and absent");
    }
}
