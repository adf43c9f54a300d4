//! Pseudonyms of paths and names.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::addresses::address;
use super::{Secret, known};

/// Makes pseudonyms from a secret. A name consists of words, with other characters between them. A
/// word has the same pseudonym everywhere, of its length, with letters in place of letters and
/// digits in place of digits. Two words never share a pseudonym.
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
    /// Pseudonym of a path: of each part of it, except where everybody has this part.
    pub(super) fn path(&self, path: &[u8]) -> Vec<u8> {
        let (path, deleted) = match path.strip_suffix(DELETED) {
            Some(path) => (path, DELETED),
            None => (path, &b""[..]),
        };
        let is_proc = path.starts_with(b"/proc/");
        let is_kernel = is_proc || path.starts_with(b"/sys/");
        let mut replaced = Vec::with_capacity(path.len() + deleted.len());
        for (place, part) in path.split(|byte| *byte == b'/').enumerate() {
            if place > 0 {
                replaced.push(b'/');
            }
            let is_kept = known::is_part(part)
                || is_kernel && (known::is_kernel_part(part) || known::is_device(part))
                || is_proc && part.iter().all(u8::is_ascii_digit);
            if is_kept {
                replaced.extend(part);
            } else {
                replaced.extend(self.word(part));
            }
        }
        replaced.extend(deleted);
        replaced
    }

    /// Pseudonym of a name: of each word of it, except words that everybody has.
    pub(super) fn word(&self, name: &[u8]) -> Vec<u8> {
        if known::is_number_of_kernel(name) {
            return name.to_vec();
        }
        let mut replaced = Vec::with_capacity(name.len());
        for run in name.chunk_by(|a, b| is_letter(*a) == is_letter(*b)) {
            let is_kept = !run.first().is_some_and(|byte| is_letter(*byte)) || known::is_word(run);
            if is_kept {
                replaced.extend(run);
            } else {
                replaced.extend(self.pseudonym(run));
            }
        }
        replaced
    }

    /// Pseudonym of letters and digits.
    fn pseudonym(&self, word: &[u8]) -> Vec<u8> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = given.pseudonyms.get(word) {
            return known.to_vec();
        }
        let is_free = |made: &Vec<u8>, given: &Given| {
            // Of short words there are too few for each to have another one.
            let is_other = made != word || word.len() < 3;
            is_other && !known::is_word(made) && !given.taken.contains(&made[..])
        };
        // Of short words there are few: the tenth of ten digits has one pseudonym left.
        let mut tries = (0..TRIES).map(|attempt| self.make(word, attempt));
        let free = tries.find(|made| is_free(made, &given));
        // A longer one, if all are taken.
        let pseudonym = free.unwrap_or_else(|| {
            let longer = [word, b"00000000"].concat();
            let mut tries = (0..).map(|attempt| self.make(&longer, attempt));
            tries.find(|made| is_free(made, &given)).unwrap_or(longer)
        });
        given.taken.insert(pseudonym.clone().into());
        given.pseudonyms.insert(word.into(), pseudonym.clone().into());
        pseudonym
    }

    fn make(&self, word: &[u8], attempt: u32) -> Vec<u8> {
        // An identifier stays one.
        let is_hex = word.len() >= HEX
            && word.iter().any(u8::is_ascii_digit)
            && word.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut made = word.to_vec();
        // A word may be long: it is read once.
        let seed = self.secret.hash_one((word, attempt));
        for (place, byte) in made.iter_mut().enumerate() {
            let number = self.secret.hash_one((seed, place));
            let one_of = |choice: &[u8]| {
                let at = number % u64::try_from(choice.len()).unwrap_or(1);
                usize::try_from(at).ok().and_then(|at| choice.get(at)).copied().unwrap_or(b'x')
            };
            *byte = match *byte {
                _ if is_hex => one_of(b"0123456789abcdef"),
                b'0'..=b'9' => one_of(b"0123456789"),
                b'A'..=b'Z' => one_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                _ => one_of(b"abcdefghijklmnopqrstuvwxyz"),
            };
        }
        made
    }
}

/// Replaces a word that is an address, with or without a prefix, or a path.
pub(super) fn word(word: &[u8], secret: &Secret) -> Vec<u8> {
    let is_path = word.starts_with(b"/");
    let other = || if is_path { secret.names.path(word) } else { word.to_vec() };
    address(word, secret).unwrap_or_else(other)
}

/// Replaces the name of a network device. Names that the kernel or an engine gives stay.
pub(super) fn device(name: &[u8], secret: &Secret) -> Vec<u8> {
    let name_end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (name, end) = name.split_at(name_end);
    let stem = name.trim_ascii_end();
    let name = if known::is_device(stem) { name.to_vec() } else { secret.names.word(name) };
    [&name, end].concat()
}

/// Returns true for a letter, a digit, and each byte of other letters.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// End of the name of an open file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// Attempts to find a pseudonym that no other word has.
const TRIES: u32 = 200;

/// Shortest word that is taken for a hexadecimal identifier.
const HEX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_pseudonyms_of_their_own() {
        let names = Names::default();
        let mut seen = HashSet::new();
        for word in (0..2000).map(|number| number.to_string()) {
            let pseudonym = names.word(word.as_bytes());
            assert_eq!(pseudonym, names.word(word.as_bytes()));
            assert!(pseudonym.len() >= word.len());
            assert!(seen.insert(pseudonym));
        }
    }

    #[test]
    fn a_word_has_one_pseudonym_in_all_names() {
        let names = Names::default();
        let text = |name: &str| String::from_utf8(names.word(name.as_bytes())).unwrap();
        let id = "757438952f18a81eacaf3c6ca756addc6086395cde45ae1311de48c2c024e5f3";
        let scope = text(&format!("libpod-{id}.scope"));
        assert_eq!(scope, format!("libpod-{}.scope", text(id)));
        assert!(text(id) != id && text(id).bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(text("web.example.com").split('.').next(), Some(&*text("web")));
        assert_eq!(text("pipe:[123456]"), "pipe:[123456]");
        let other = text("geheimnistr\u{e4}gerschaft");
        assert!(other.is_ascii() && other.len() == 22, "{other}");
        assert!(!other.contains("geheimnistr") && !other.contains("gerschaft"), "{other}");
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
        let kept = [
            "/",
            "/dev/null",
            "/proc/7/maps",
            "/sys/fs/cgroup/memory.max",
            "/proc/sys/net/ipv4/conf/eth0/forwarding",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        for kept in kept {
            assert_eq!(names.path(kept.as_bytes()), kept.as_bytes());
        }
        for (path, secret) in [
            ("/proc/7/root/home/alice", "alice"),
            ("/sys/fs/cgroup/system.slice/acme.service", "acme"),
            ("/proc/sys/net/ipv4/conf/acme0/forwarding", "acme0"),
            ("/sys/class/net/acme0/mtu", "acme0"),
            ("/sys/fs/bpf/acme", "acme"),
            ("/usr/lib/librtacmecorporation.so", "acmecorporation"),
        ] {
            let replaced = String::from_utf8(names.path(path.as_bytes())).unwrap();
            assert!(!replaced.contains(secret), "{path}: {replaced}");
        }
    }
}
