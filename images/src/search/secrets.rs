//! Search for secrets: keys, tokens and passwords in the forms that programs keep them in.

use std::fmt;

use crate::error::Result;
use crate::memory::Memory;
use crate::search::pattern::{Pattern, Way};
use crate::search::{Hit, Search};

/// A search for secrets in memory: for keys, tokens and passwords in forms that are known. A secret
/// in another form is not found. A match may also be an example in a program's text, or a password
/// that no longer holds.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_images::search::Secrets;
///
/// let set = ImageSet::open("/ckpt")?;
/// let secrets = Secrets::new();
/// for task in set.checkpoint()?.tasks() {
///     if let Some(memory) = task.memory()? {
///         for found in secrets.run(&memory) {
///             println!("{task}: {}", found?);
///         }
///     }
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a search finds nothing until it runs"]
pub struct Secrets {
    search: Search,
    forms: Vec<Pattern>,
}

/// A secret that was found. Displays in one line, with its value cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secret {
    /// Kind of secret, in words.
    pub kind: &'static str,
    /// Address of the match.
    pub address: u64,
    /// Name that the value is assigned to, such as `DB_PASSWORD`; empty without one.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A form in which programs keep secrets.
struct Form {
    kind: &'static str,
    regex: &'static str,
    /// The value follows a name and one of these bytes. Empty if the match is the value.
    ends: &'static [u8],
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new()
    }
}

impl Secrets {
    /// Creates the search.
    pub fn new() -> Self {
        let compile = |regex: &str| Pattern::regex(regex).expect("the forms are constants");
        let all: Vec<String> = FORMS.iter().map(|form| format!("(?:{})", form.regex)).collect();
        let forms = FORMS.iter().map(|form| compile(form.regex)).collect();
        Self { search: Search::new(compile(&all.join("|"))).context(LONGEST_NAME), forms }
    }

    /// Kinds of secrets that are found, in words.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        FORMS.iter().map(|form| form.kind)
    }

    /// Searches the memory of a task. Returns the secrets by rising address.
    pub fn run<'m>(&'m self, memory: &'m Memory<'_>) -> impl Iterator<Item = Result<Secret>> + 'm {
        self.search.run(memory).filter_map(|hit| match hit {
            Ok(hit) => self.secret(&hit).map(Ok),
            Err(error) => Some(Err(error)),
        })
    }

    /// Tells which form a match has, and takes it apart; `None` for a value that is none.
    fn secret(&self, hit: &Hit) -> Option<Secret> {
        let Hit { address, bytes, before, .. } = hit;
        let whole = Some((0, bytes.len()));
        let fits = |pattern: &Pattern| pattern.find(bytes, 0, Way::Leaps) == whole;
        let (form, _) = FORMS.iter().zip(&self.forms).find(|(_, pattern)| fits(pattern))?;
        let (kind, address) = (form.kind, *address);
        if form.ends.is_empty() {
            return Some(Secret { kind, address, name: Vec::new(), value: bytes.clone() });
        }
        let end = bytes.iter().position(|byte| form.ends.contains(byte))?;
        let (tail, value) = bytes.split_at_checked(end)?;
        // The pattern begins in the middle of a name, where the name becomes telling.
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        let head = before.iter().rev().take_while(|byte| is_name(byte)).count();
        let head = before.get(before.len() - head..).unwrap_or_default();
        let name: Vec<u8> = head.iter().chain(tail).copied().filter(is_name).collect();
        let start = value.iter().position(|byte| !b"\"' :=".contains(byte))?;
        let value = value.get(start..).unwrap_or_default();
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        // Formats and templates of programs.
        let is_template = [&b"%"[..], b"$", b"{", b"<", b"*"].iter().any(|t| value.starts_with(t));
        (!is_template).then(|| Secret { kind, address, name, value: value.to_vec() })
    }
}

impl Secret {
    /// Returns the first characters of the value, and the number of all.
    pub fn shortened(&self) -> String {
        let shown = SHOWN.min(self.value.len() / 3);
        let head = self.value.get(..shown).unwrap_or_default();
        format!("{}... ({} bytes)", head.escape_ascii(), self.value.len())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}: {}: ", self.address, self.kind)?;
        if !self.name.is_empty() {
            write!(f, "{}=", self.name.escape_ascii())?;
        }
        f.write_str(&self.shortened())
    }
}

/// The forms. A match takes the first form that fits.
const FORMS: &[Form] = &[
    Form {
        kind: "private key",
        regex: r"-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----(?:\r?\n|\\n)[!-~]{16}",
        ends: b"",
    },
    Form { kind: "AWS access key", regex: r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b", ends: b"" },
    Form { kind: "GitHub token", regex: r"\bgh[opsur]_[0-9A-Za-z]{36}\b", ends: b"" },
    Form { kind: "GitHub token", regex: r"\bgithub_pat_[0-9A-Za-z_]{40}[0-9A-Za-z_]*", ends: b"" },
    Form { kind: "GitLab token", regex: r"\bglpat-[0-9A-Za-z_-]{20}", ends: b"" },
    Form { kind: "Slack token", regex: r"\bxox[abprs]-[0-9A-Za-z-]{12}[0-9A-Za-z-]*", ends: b"" },
    Form { kind: "Google API key", regex: r"\bAIza[0-9A-Za-z_-]{35}", ends: b"" },
    Form { kind: "Stripe key", regex: r"\b[rs]k_live_[0-9A-Za-z]{20}[0-9A-Za-z]*", ends: b"" },
    Form {
        kind: "JSON web token",
        regex: r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}",
        ends: b"",
    },
    Form {
        kind: "authorization",
        regex: r"(?i:authorization: ?(?:basic|bearer)) [0-9A-Za-z._~+/=-]{8,}",
        ends: b":",
    },
    Form {
        kind: "password hash",
        regex: r"\$(?:1|2[aby]|5|6|y)\$[0-9A-Za-z./$=,]{20}[0-9A-Za-z./$=,]*",
        ends: b"",
    },
    Form {
        kind: "password in an address",
        regex: r"://[0-9A-Za-z._%-]+:[!#-.0-;=?A-~]{3,}@[0-9A-Za-z.-]+",
        ends: b"",
    },
    Form {
        kind: "assigned secret",
        regex: r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY)[0-9A-Z_]*=[!-~]{4,}",
        ends: b"=",
    },
    Form {
        kind: "assigned secret",
        regex: r#""(?:password|passwd|secret|client_secret|token|access_token|api_key|apikey)" ?: ?"[!#-~]{4,}""#,
        ends: b":",
    },
    Form {
        kind: "assigned secret",
        regex: r"[?&](?:password|passwd|secret|token|access_token|api_key)=[!#-%'-~]{4,}",
        ends: b"=",
    },
];

/// Bytes before a match that may belong to the name.
const LONGEST_NAME: usize = 64;
/// Characters of a value that are shown.
const SHOWN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(secrets: &Secrets, before: &str, bytes: &str) -> Option<Secret> {
        let bytes = bytes.as_bytes().to_vec();
        let hit = Hit { address: 0x10, bytes, before: before.as_bytes().to_vec(), after: vec![] };
        secrets.secret(&hit)
    }

    #[test]
    fn each_form_finds_its_like_and_takes_it_apart() {
        let secrets = Secrets::new();
        let digits = "0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X";
        let jwt = format!("eyJ{0}.eyJ{0}.{0}", &digits[..12]);
        let rows = [
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA".to_owned(), "private key"),
            ("AKIAIOSFODNN7EXAMPLE".to_owned(), "AWS access key"),
            (format!("ghp_{}", &digits[..36]), "GitHub token"),
            (format!("glpat-{}", &digits[..20]), "GitLab token"),
            (format!("xoxb-{}", &digits[..20]), "Slack token"),
            (format!("AIza{}", &digits[..35]), "Google API key"),
            (format!("sk_live_{}", &digits[..24]), "Stripe key"),
            (jwt, "JSON web token"),
            (format!("$6$salt${digits}"), "password hash"),
            ("://app:s3cret@db.internal".to_owned(), "password in an address"),
        ];
        for (text, kind) in rows {
            let found = secret(&secrets, "x ", &text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.kind, found.value), (kind, text.into_bytes()));
        }
        let found = secret(&secrets, "\0DB_", "PASSWORD=hunter2").unwrap();
        assert_eq!((&found.name[..], &found.value[..]), (&b"DB_PASSWORD"[..], &b"hunter2"[..]));
        assert_eq!(found.to_string(), "10: assigned secret: DB_PASSWORD=hu... (7 bytes)");
        let found = secret(&secrets, "{", "\"token\": \"abcdef\"").unwrap();
        assert_eq!((&found.name[..], &found.value[..]), (&b"token"[..], &b"abcdef"[..]));
        let found = secret(&secrets, "", "Authorization: Bearer abc.def.ghi").unwrap();
        assert_eq!(&found.value[..], b"Bearer abc.def.ghi");
        // A format of a program is no password.
        assert_eq!(secret(&secrets, "", "PASSWORD=%s..."), None);
    }
}
