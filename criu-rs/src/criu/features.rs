//! Optional features of a CRIU on a kernel.

use crate::rpc::CriuFeatures;

/// Optional features of a CRIU on a kernel. `None`: this CRIU does not know the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Tracking of changed memory, which pre-dumps and [`Dump::track_mem`](crate::Dump::track_mem)
    /// need.
    pub mem_track: Option<bool>,
    /// Memory on demand ([`Restore::lazy_pages`](crate::Restore::lazy_pages)). Needs CRIU 3.5.
    pub lazy_pages: Option<bool>,
    /// Pidfds kept between pre-dumps ([`Dump::pidfd_store`](crate::Dump::pidfd_store)). Needs CRIU
    /// 3.16.
    pub pidfd_store: Option<bool>,
    /// Compressed pages ([`Dump::compress`](crate::Dump::compress)). Needs CRIU 4.3.
    pub mem_compression: Option<bool>,
}

impl From<CriuFeatures> for Features {
    fn from(answer: CriuFeatures) -> Self {
        Self {
            mem_track: answer.mem_track,
            lazy_pages: answer.lazy_pages,
            pidfd_store: answer.pidfd_store,
            mem_compression: answer.mem_compression,
        }
    }
}
