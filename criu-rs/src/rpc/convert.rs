//! Conversions between option values and CRIU's messages.

use super::{CriuCgMode, CriuImageIoMode, CriuNetworkLockMethod, CriuPreDumpMode, CriuVersion};
use crate::value::{Build, CgroupMode, ImageIo, NetworkLock, PreDumpMode, Version};

impl From<CgroupMode> for CriuCgMode {
    fn from(mode: CgroupMode) -> Self {
        match mode {
            CgroupMode::Ignore => Self::Ignore,
            CgroupMode::None => Self::CgNone,
            CgroupMode::Props => Self::Props,
            CgroupMode::Soft => Self::Soft,
            CgroupMode::Full => Self::Full,
            CgroupMode::Strict => Self::Strict,
        }
    }
}

impl From<NetworkLock> for CriuNetworkLockMethod {
    fn from(lock: NetworkLock) -> Self {
        match lock {
            NetworkLock::Iptables => Self::Iptables,
            NetworkLock::Nftables => Self::Nftables,
            NetworkLock::Skip => Self::Skip,
        }
    }
}

impl From<PreDumpMode> for CriuPreDumpMode {
    fn from(mode: PreDumpMode) -> Self {
        match mode {
            PreDumpMode::Splice => Self::Splice,
            PreDumpMode::Read => Self::VmRead,
        }
    }
}

impl From<ImageIo> for CriuImageIoMode {
    fn from(mode: ImageIo) -> Self {
        match mode {
            ImageIo::Writeback => Self::ImageIoWriteback,
            ImageIo::Direct => Self::ImageIoDirect,
        }
    }
}

impl From<CriuVersion> for Build {
    fn from(answer: CriuVersion) -> Self {
        let number = |n: i32| u32::try_from(n).unwrap_or(0);
        let text = |bytes: Option<Vec<u8>>| bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
        Self {
            version: Version::new(
                number(answer.major_number),
                number(answer.minor_number),
                number(answer.sublevel()),
            ),
            commit: text(answer.gitid),
            name: text(answer.name),
        }
    }
}
