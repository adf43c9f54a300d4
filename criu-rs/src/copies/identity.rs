//! The identity of a copy.

use std::fmt::{self, Write};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::random;
use crate::value::{InvalidValue, printable};

/// The identity of a copy, and its text: lines of `NAME=VALUE`, as a shell reads them.
///
/// | name | value |
/// | --- | --- |
/// | `CRIU_COPY` | the number of the copy, from 1 |
/// | `CRIU_COPIES` | the number of copies that were started together |
/// | `CRIU_COPY_HOSTNAME` | the hostname of the copy |
/// | `CRIU_COPY_GENERATION` | 32 hexadecimal digits that no other copy has, of any start |
/// | `CRIU_COPY_SEED` | 64 hexadecimal digits: 32 random bytes, which only this copy gets |
/// | `CRIU_COPY_STARTED` | the time of the start, in seconds since 1970, with nanoseconds |
///
/// Lines of the caller follow, in their order.
#[derive(Clone)]
pub struct Identity {
    copy: u32,
    copies: u32,
    hostname: String,
    generation: [u8; 16],
    seed: [u8; 32],
    started: SystemTime,
    environment: Vec<(String, String)>,
}

impl Identity {
    /// Makes the identity of one of several copies, with random bytes of the kernel's.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn new(copy: u32, copies: u32, hostname: impl Into<String>) -> io::Result<Self> {
        let (mut generation, mut seed) = ([0; 16], [0; 32]);
        random::fill(&mut generation)?;
        random::fill(&mut seed)?;
        let (hostname, started) = (hostname.into(), SystemTime::now());
        let environment = Vec::new();
        Ok(Self { copy, copies, hostname, generation, seed, started, environment })
    }

    /// Adds a line. The name is that of a shell's variable.
    ///
    /// # Errors
    /// [`InvalidValue`] for another name, a name that begins with `CRIU_COP`, a value with a
    /// control character other than a tab, and more than 64 KiB in all.
    pub fn variable(mut self, name: &str, value: &str) -> Result<Self, InvalidValue> {
        let is_name = name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
            && !name.starts_with(OURS);
        if !is_name {
            let want = "letters, digits and `_`, and may not begin with a digit or `CRIU_COP`";
            let found = printable(name.as_bytes());
            return Err(InvalidValue::new("the name of a variable", found, want));
        }
        if value.contains(|char: char| char.is_control() && char != '\t') {
            let (found, want) = (printable(value.as_bytes()), "one line of text");
            return Err(InvalidValue::new("the value of a variable", found, want));
        }
        self.environment.push((name.to_owned(), value.to_owned()));
        let bytes: usize = self.environment.iter().map(|(a, b)| a.len() + b.len() + 4).sum();
        if bytes > MAX_ENVIRONMENT {
            let want = "at most 65536 bytes in all";
            return Err(InvalidValue::new("the variables of a copy", bytes, want));
        }
        Ok(self)
    }

    /// Returns the number of the copy.
    pub fn copy(&self) -> u32 {
        self.copy
    }

    /// Returns the hostname.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = (since.as_secs(), since.subsec_nanos());
        let mut text = String::from("# The identity of a copy, by criu-rs.\n");
        for (name, value) in [
            ("CRIU_COPY", self.copy.to_string()),
            ("CRIU_COPIES", self.copies.to_string()),
            ("CRIU_COPY_HOSTNAME", quoted(&self.hostname)),
            ("CRIU_COPY_GENERATION", hex(&self.generation)),
            ("CRIU_COPY_SEED", hex(&self.seed)),
            ("CRIU_COPY_STARTED", format!("{seconds}.{nanoseconds:09}")),
        ] {
            let _ = writeln!(text, "{name}={value}");
        }
        for (name, value) in &self.environment {
            let _ = writeln!(text, "{name}={}", quoted(value));
        }
        text
    }
}

impl fmt::Debug for Identity {
    /// Writes no random bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Identity");
        debug.field("copy", &self.copy).field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// Quotes a value for a shell, if that is needed.
fn quoted(value: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-.,:/@%+".contains(char);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The beginning of the names that only this crate sets.
const OURS: &str = "CRIU_COP";

/// The most bytes of variables.
const MAX_ENVIRONMENT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_text() {
        let identity = Identity::new(3, 10, "web-3").unwrap();
        let identity = identity.variable("GREETING", "it's $HOME `here`").unwrap();
        let identity = identity.variable("_empty", "").unwrap();
        let script = format!(
            "{}printf '%s|' \"$CRIU_COPY\" \"$CRIU_COPY_HOSTNAME\" \"${{#CRIU_COPY_SEED}}\" \
             \"$GREETING\" \"$_empty\"",
            identity.text()
        );
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "3|web-3|64|it's $HOME `here`||");
        assert!(!format!("{identity:?}").contains(&hex(&identity.seed)));
    }

    #[test]
    fn no_two_identities_are_the_same() {
        let [a, b] = [0, 1].map(|_| Identity::new(1, 1, "web").unwrap());
        assert_ne!(a.seed, b.seed);
        assert_ne!(a.generation, b.generation);
    }

    #[test]
    fn variables_that_would_forge_lines_are_refused() {
        let identity = || Identity::new(1, 1, "web").unwrap();
        for (name, value) in [
            ("A", "x\nCRIU_COPY=2"),
            ("A", "x\0"),
            ("A", "x\x1b[2J"),
            ("A\nB", "x"),
            ("CRIU_COPY_SEED", "0"),
            ("1A", "x"),
            ("", "x"),
            ("A B", "x"),
        ] {
            assert!(identity().variable(name, value).is_err(), "{name:?} {value:?}");
        }
        let error = identity().variable("A", &"x".repeat(MAX_ENVIRONMENT)).unwrap_err();
        assert!(error.to_string().contains("65536"), "{error}");
    }
}
