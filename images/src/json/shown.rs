//! Numbers in pretty form: by name, as flags, devices, addresses.

use std::fmt::Write;

use crate::schema::Field;

/// Flags by table.
const FLAGS: &[(&str, &[(&str, u64)])] = &[
    ("mmap.prot", &[("PROT_READ", 1), ("PROT_WRITE", 2), ("PROT_EXEC", 4)]),
    (
        "mmap.flags",
        &[
            ("MAP_SHARED", 1),
            ("MAP_PRIVATE", 2),
            ("MAP_DROPPABLE", 8),
            ("MAP_ANON", 0x20),
            ("MAP_GROWSDOWN", 0x100),
        ],
    ),
    (
        "mmap.status",
        &[
            ("VMA_AREA_REGULAR", 1),
            ("VMA_AREA_STACK", 1 << 1),
            ("VMA_AREA_VSYSCALL", 1 << 2),
            ("VMA_AREA_VDSO", 1 << 3),
            ("VMA_AREA_HEAP", 1 << 5),
            ("VMA_FILE_PRIVATE", 1 << 6),
            ("VMA_FILE_SHARED", 1 << 7),
            ("VMA_ANON_SHARED", 1 << 8),
            ("VMA_ANON_PRIVATE", 1 << 9),
            ("VMA_AREA_SYSVIPC", 1 << 10),
            ("VMA_AREA_SOCKET", 1 << 11),
            ("VMA_AREA_VVAR", 1 << 12),
            ("VMA_AREA_AIORING", 1 << 13),
            ("VMA_AREA_MEMFD", 1 << 14),
            ("VMA_AREA_SHSTK", 1 << 15),
            ("VMA_AREA_UPROBES", 1 << 17),
            ("VMA_AREA_NOT_ACCOUNTABLE", 1 << 18),
            ("VMA_UNSUPP", 1 << 31),
        ],
    ),
    (
        "rfile.flags",
        &[
            ("O_WRONLY", 0o1),
            ("O_RDWR", 0o2),
            ("O_CREAT", 0o100),
            ("O_EXCL", 0o200),
            ("O_NOCTTY", 0o400),
            ("O_TRUNC", 0o1000),
            ("O_APPEND", 0o2000),
            ("O_NONBLOCK", 0o4000),
            ("O_DSYNC", 0o10000),
            ("FASYNC", 0o20000),
            ("O_DIRECT", 0o40000),
            ("O_LARGEFILE", 0o100000),
            ("O_DIRECTORY", 0o200000),
            ("O_NOFOLLOW", 0o400000),
            ("O_NOATIME", 0o1000000),
            ("O_CLOEXEC", 0o2000000),
        ],
    ),
    (
        "seals.flags",
        &[
            ("F_SEAL_SEAL", 1),
            ("F_SEAL_SHRINK", 2),
            ("F_SEAL_GROW", 4),
            ("F_SEAL_WRITE", 8),
            ("F_SEAL_FUTURE_WRITE", 16),
        ],
    ),
    (
        "pmap.flags",
        &[("PE_PARENT", 1), ("PE_LAZY", 2), ("PE_PRESENT", 4), ("PE_PAYLOAD_ALIGNED", 8)],
    ),
];

type Names = &'static [(i64, &'static str)];

/// Names of numbers, by the name of the table and of the field.
const NAMES: &[(&str, &str, Names)] = &[
    ("gen", "task_state", &[(1, "Alive"), (2, "Dead"), (3, "Stopped"), (6, "Zombie")]),
    ("sk", "family", &[(1, "UNIX"), (2, "INET"), (10, "INET6"), (16, "NETLINK"), (17, "PACKET")]),
    ("sk", "type", &[(1, "STREAM"), (2, "DGRAM"), (3, "RAW"), (5, "SEQPACKET"), (10, "PACKET")]),
    (
        "sk",
        "state",
        &[
            (1, "ESTABLISHED"),
            (2, "SYN_SENT"),
            (3, "SYN_RECV"),
            (4, "FIN_WAIT1"),
            (5, "FIN_WAIT2"),
            (6, "TIME_WAIT"),
            (7, "CLOSE"),
            (8, "CLOSE_WAIT"),
            (9, "LAST_ACK"),
            (10, "LISTEN"),
        ],
    ),
    ("sk", "proto", &[(0, "IP"), (6, "TCP"), (17, "UDP"), (136, "UDPLITE")]),
];

/// Writes flags by name. Bits without a name follow as one number. Writes nothing for 0.
pub(super) fn flags(table: &str, value: u64, out: &mut String) {
    let table = FLAGS.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, flags)| flags);
    let mut left = value;
    let mut joint = "";
    for (name, bit) in table.iter().filter(|(_, bit)| value & bit != 0) {
        out.push_str(joint);
        out.push_str(name);
        left &= !bit;
        joint = " | ";
    }
    if left != 0 {
        _ = write!(out, "{joint}0x{left:x}");
    }
}

/// Returns the number that a text from [`flags`] stands for.
pub(super) fn from_flags(table: &str, text: &str) -> Option<i128> {
    let table = FLAGS.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, flags)| flags);
    if text.is_empty() {
        return Some(0);
    }
    text.split('|').map(str::trim).try_fold(0, |all, word| {
        let bit = match table.iter().find(|(name, _)| *name == word) {
            Some((_, bit)) => i128::from(*bit),
            None => number(word)?,
        };
        Some(all | bit)
    })
}

/// Returns the name of a number.
pub(super) fn name(table: &str, field: &Field, value: i64) -> Option<&'static str> {
    names(table, field).iter().find(|(number, _)| *number == value).map(|(_, name)| *name)
}

/// Returns the number of a name.
pub(super) fn from_name(table: &str, field: &Field, text: &str) -> Option<i128> {
    let found = names(table, field).iter().find(|(_, name)| *name == text);
    found.map_or_else(|| number(text), |(number, _)| Some((*number).into()))
}

fn names(table: &str, field: &Field) -> Names {
    let found = NAMES.iter().find(|(of, name, _)| (*of, *name) == (table, field.name));
    found.map_or(&[], |(_, _, names)| names)
}

/// Writes a device number as `major:minor`, in the form of the C library or of the kernel.
pub(super) fn device(value: u64, is_libc: bool, out: &mut String) {
    let (major, minor) = if is_libc {
        (value >> 8 & 0xfff | value >> 32 & 0xffff_f000, value & 0xff | value >> 12 & 0xffff_ff00)
    } else {
        (value >> 20, value & 0xf_ffff)
    };
    _ = write!(out, "{major}:{minor}");
}

/// Returns the number that a text from [`device`] stands for.
pub(super) fn from_device(text: &str, is_libc: bool) -> Option<i128> {
    let Some((major, minor)) = text.split_once(':') else { return number(text) };
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    if major > u32::MAX.into() || minor > u32::MAX.into() {
        return None;
    }
    let value = if is_libc {
        (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
    } else {
        major << 20 | minor
    };
    Some(value.into())
}

/// Writes an address of one or four words, whose bytes lie in network order.
pub(super) fn address(words: &[u64], out: &mut String) -> Option<()> {
    let bytes = |word: &u64| u32::try_from(*word).ok().map(u32::to_le_bytes);
    match words {
        [word] => {
            let [a, b, c, d] = bytes(word)?;
            _ = write!(out, "{a}.{b}.{c}.{d}");
        }
        [_, _, _, _] => {
            let mut parts = Vec::new();
            for word in words {
                let [a, b, c, d] = bytes(word)?;
                parts.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            }
            compress(&parts, out);
        }
        _ => return None,
    }
    Some(())
}

/// Writes an IPv6 address with its first longest run of zeros left out. Never writes an IPv4
/// address inside, as the standard library does for some addresses.
fn compress(parts: &[u16], out: &mut String) {
    let mut best = 0..0;
    let mut start = 0;
    for (i, &part) in parts.iter().enumerate() {
        if part != 0 {
            start = i + 1;
        } else if i + 1 - start > best.len().max(1) {
            best = start..i + 1;
        }
    }
    for (i, part) in parts.iter().enumerate() {
        if best.contains(&i) {
            if i == best.start {
                out.push_str("::");
            }
            continue;
        }
        if i > 0 && i != best.end {
            out.push(':');
        }
        _ = write!(out, "{part:x}");
    }
}

/// Returns the words of an address.
pub(super) fn from_address(text: &str) -> Option<Vec<u32>> {
    let bytes = match text.parse().ok()? {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4);
    words.map(|word| word.first_chunk().copied().map(u32::from_le_bytes)).collect()
}

/// Returns a whole number from its text: decimal, or with 0x, 0o or 0b before it.
pub(super) fn number(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let radix = [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)];
    let found =
        radix.iter().find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
    let (digits, radix) = found.unwrap_or((digits, 10));
    if digits.starts_with(['+', '-']) || digits.len() > 64 {
        return None;
    }
    i128::from_str_radix(digits, radix).ok().map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn flags_come_back_with_what_has_no_name() {
        let shown = text(|out| flags("mmap.prot", 0x1003, out));
        assert_eq!(shown, "PROT_READ | PROT_WRITE | 0x1000");
        assert_eq!(from_flags("mmap.prot", &shown), Some(0x1003));
        assert_eq!(text(|out| flags("mmap.prot", 0, out)), "");
        assert_eq!(from_flags("mmap.prot", ""), Some(0));
        // A repeated flag counts once.
        assert_eq!(from_flags("mmap.prot", "PROT_READ|PROT_READ | 1"), Some(1));
        assert_eq!(from_flags("mmap.prot", "PROT_SING"), None);
    }

    #[test]
    fn devices_come_back() {
        for value in [266338304, 0, (4095 << 20) | 0xfffff] {
            let shown = text(|out| device(value, false, out));
            assert_eq!(from_device(&shown, false), Some(value.into()));
        }
        assert_eq!(text(|out| device(266338304, false, out)), "254:0");
        assert_eq!(text(|out| device(0x8801, true, out)), "136:1");
        assert_eq!(from_device("136:1", true), Some(0x8801));
        assert_eq!(from_device("1:2:3", false), None);
    }

    #[test]
    fn addresses_are_python_s_and_come_back() {
        for (want, words) in [
            ("127.0.0.1", &[0x0100_007f][..]),
            ("::1", &[0, 0, 0, 0x0100_0000]),
            ("::", &[0, 0, 0, 0]),
            ("::ffff:7f00:1", &[0, 0, 0xffff_0000, 0x0100_007f]),
            ("2001:db8::1:0:0:1", &[0xb80d_0120, 0, 0x0000_0100, 0x0100_0000]),
            ("1:0:2:3:4:5:6:7", &[0x0000_0100, 0x0300_0200, 0x0500_0400, 0x0700_0600]),
        ] {
            let shown = text(|out| address(words, out).unwrap());
            assert_eq!(shown, want);
            let back: Vec<u64> = from_address(&shown).unwrap().into_iter().map(u64::from).collect();
            assert_eq!(back, words);
        }
        assert!(address(&[1, 2], &mut String::new()).is_none());
    }

    #[test]
    fn numbers_are_read_in_every_notation() {
        for (text, want) in [("12", 12), ("-1", -1), ("0x1f", 31), ("-0x1", -1), ("0o17", 15)] {
            assert_eq!(number(text), Some(want), "{text}");
        }
        for text in ["", "x", "0x", "--1", "0x-1", "1.0", "1_0"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
