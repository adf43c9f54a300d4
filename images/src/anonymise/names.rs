//! Pseudonyms of paths and names.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Makes pseudonyms from a secret. A pseudonym has the length of the name, letters in place of
/// letters and digits in place of digits. Two names never share a pseudonym.
#[derive(Debug, Default)]
pub(super) struct Names {
    secret: RandomState,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    pseudonyms: HashMap<Box<[u8]>, Box<[u8]>>,
    taken: HashSet<Box<[u8]>>,
}

impl Names {
    /// Pseudonym of a path: of each part of it, except where everybody has this part. An end such
    /// as `.so` stays.
    pub(super) fn path(&self, path: &[u8]) -> Vec<u8> {
        let (path, deleted) = match path.strip_suffix(DELETED) {
            Some(path) => (path, DELETED),
            None => (path, &b""[..]),
        };
        let mut replaced = Vec::with_capacity(path.len() + deleted.len());
        let is_kernel = [&b"/proc/"[..], b"/sys/"].iter().any(|root| path.starts_with(root));
        for (place, part) in path.split(|byte| *byte == b'/').enumerate() {
            if place > 0 {
                replaced.push(b'/');
            }
            if is_kernel || is_known(part) {
                replaced.extend(part);
            } else {
                replaced.extend(self.part(part));
            }
        }
        replaced.extend(deleted);
        replaced
    }

    /// Pseudonym of a part of a path.
    fn part(&self, part: &[u8]) -> Vec<u8> {
        let dot = part.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
        let (stem, end) = part.split_at(dot.unwrap_or(part.len()));
        let is_end = ENDS.contains(&end);
        if is_end { [&self.word(stem), end].concat() } else { self.word(part) }
    }

    /// Pseudonym of a name. Characters that are neither letters nor digits stay.
    pub(super) fn word(&self, name: &[u8]) -> Vec<u8> {
        if !name.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
            return name.to_vec();
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = given.pseudonyms.get(name) {
            return known.to_vec();
        }
        // Of short names there are few: the tenth digit finds one place.
        let tries = 0..TRIES;
        let made = tries.map(|attempt| self.make(name, attempt));
        let free = made.into_iter().find(|made| !given.taken.contains(&made[..]));
        // A longer one, if all are taken.
        let pseudonym = free.unwrap_or_else(|| {
            let longer = [name, b"-00000000"].concat();
            (0..)
                .map(|attempt| self.make(&longer, attempt))
                .find(|made| !given.taken.contains(&made[..]))
                .unwrap_or(longer)
        });
        given.taken.insert(pseudonym.clone().into());
        given.pseudonyms.insert(name.into(), pseudonym.clone().into());
        pseudonym
    }

    fn make(&self, name: &[u8], attempt: u32) -> Vec<u8> {
        let mut made = name.to_vec();
        for (place, byte) in made.iter_mut().enumerate() {
            let number = self.secret.hash_one((name, attempt, place));
            let letter = |first: u8, count: u64| first + u8::try_from(number % count).unwrap_or(0);
            *byte = match *byte {
                b'0'..=b'9' => letter(b'0', 10),
                b'A'..=b'Z' => letter(b'A', 26),
                b'a'..=b'z' | 0x80.. => letter(b'a', 26),
                other => other,
            };
        }
        made
    }
}

/// Returns true for a part of a path that tells nothing about a machine.
fn is_known(part: &[u8]) -> bool {
    let is_library = || {
        let text = std::str::from_utf8(part).unwrap_or("");
        LIBRARIES.iter().any(|start| text.starts_with(start)) && text.contains(".so")
    };
    KNOWN.contains(&part) || is_library()
}

/// Parts of paths that all machines have.
const KNOWN: &[&[u8]] = &[
    b"",
    b".",
    b"..",
    b"bin",
    b"boot",
    b"cgroup",
    b"console",
    b"dev",
    b"etc",
    b"fd",
    b"full",
    b"home",
    b"hugepages",
    b"kmsg",
    b"lib",
    b"lib32",
    b"lib64",
    b"local",
    b"media",
    b"mnt",
    b"mqueue",
    b"net",
    b"null",
    b"opt",
    b"proc",
    b"ptmx",
    b"pts",
    b"random",
    b"root",
    b"run",
    b"sbin",
    b"share",
    b"shm",
    b"srv",
    b"stderr",
    b"stdin",
    b"stdout",
    b"sys",
    b"tmp",
    b"tty",
    b"unified",
    b"urandom",
    b"usr",
    b"var",
    b"x86_64-linux-gnu",
    b"aarch64-linux-gnu",
    b"zero",
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
    b"7",
    b"8",
    b"9",
    b"lxcfs",
    b"system.slice",
    b"user.slice",
    b"machine.slice",
    b"init.scope",
];

/// Beginnings of the names of libraries that are on all machines.
const LIBRARIES: &[&str] = &[
    "ld-",
    "libc.",
    "libc-",
    "libm.",
    "libpthread",
    "libdl",
    "librt",
    "libgcc_s",
    "libstdc++",
    "libz.",
    "libcrypt",
    "libresolv",
    "libnss_",
    "libutil",
];

/// Ends of names that stay.
const ENDS: &[&[u8]] = &[b".so", b".log", b".conf", b".sock", b".pid", b".img", b".tmp", b".db"];

/// End of the name of an open file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// Attempts to find a pseudonym that no other name has.
const TRIES: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_pseudonyms_of_their_own() {
        let names = Names::default();
        let mut seen = HashSet::new();
        for name in (0..2000).map(|number| number.to_string()) {
            let pseudonym = names.word(name.as_bytes());
            assert_eq!(pseudonym, names.word(name.as_bytes()));
            assert!(pseudonym.len() >= name.len());
            assert!(seen.insert(pseudonym));
        }
    }

    #[test]
    fn paths_keep_their_form() {
        let names = Names::default();
        let path = names.path(b"/home/alice/secret-plan.log (deleted)");
        let text = String::from_utf8(path).unwrap();
        assert_eq!(text.len(), "/home/alice/secret-plan.log (deleted)".len());
        assert!(text.starts_with("/home/") && text.ends_with(".log (deleted)"), "{text}");
        assert!(!text.contains("alice") && !text.contains("secret"), "{text}");
        let below = names.path(b"/home/alice/x");
        assert!(text.as_bytes().starts_with(&below[..b"/home/alice/".len()]));
        for kept in ["/", "/dev/null", "/proc/7/maps", "/usr/lib/x86_64-linux-gnu/libc.so.6"] {
            assert_eq!(names.path(kept.as_bytes()), kept.as_bytes());
        }
    }
}
