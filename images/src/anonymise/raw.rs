//! Images without a frame: netlink messages, tables of firewalls, archives.

use super::{Secret, firewall, netlink};
use crate::kind::{self, Kind};

/// Returns true for images whose content is removed: archives of file systems, which hold whole
/// files, and tracked connections.
pub(super) fn is_emptied(kind: &Kind) -> bool {
    [kind::TMPFS, kind::TMPFS_DEV, kind::NETNF_CT, kind::NETNF_EXP].contains(&kind)
}

/// Makes a raw image anew with everything private replaced.
pub(super) fn replaced(kind: &'static Kind, bytes: &[u8], secret: &Secret) -> Vec<u8> {
    if kind == kind::TMPFS || kind == kind::TMPFS_DEV {
        return EMPTY_ARCHIVE.to_vec();
    }
    if is_emptied(kind) {
        return Vec::new();
    }
    if [kind::IFADDR, kind::ROUTE, kind::ROUTE6, kind::RULE].contains(&kind) {
        let mut bytes = bytes.to_vec();
        // The magic that iproute2 writes.
        netlink::messages(bytes.get_mut(4..).unwrap_or_default(), secret);
        return bytes;
    }
    firewall::text(bytes, secret)
}

/// An archive without members, compressed: 1,024 zeros.
const EMPTY_ARCHIVE: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60,
    0x14, 0x8c, 0x54, 0x00, 0x00, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
];
