//! CRIU's version, in the form that its programs print.

use std::fmt;

/// A version number. CRIU does not print a last part of zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Reads the first line of `criu --version`: `Version: 4.1.1`.
    pub(crate) fn parse(output: &str) -> Option<Self> {
        let number = output.lines().find_map(|line| line.strip_prefix("Version:"))?.trim();
        let mut parts = number.split('.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        });
        Some(Self(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)?;
        match self.2 {
            0 => Ok(()),
            sublevel => write!(f, ".{sublevel}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criu_prints_is_read() {
        assert_eq!(Version::parse("Version: 4.1.1\n"), Some(Version(4, 1, 1)));
        assert_eq!(Version::parse("Version: 4.3\nGitID: v4.3-12-gabc\n"), Some(Version(4, 3, 0)));
        assert_eq!(Version::parse("warning\nVersion: 4.2-rc1\n"), Some(Version(4, 2, 0)));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "criu 4.1", "Version:", "Version: 4", "Version: x.y"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_order_by_number_and_print_as_criu_does() {
        assert!(Version(3, 17, 1) < Version(3, 19, 0));
        assert!(Version(3, 19, 0) < Version(4, 1, 1));
        assert_eq!(Version(4, 3, 0).to_string(), "4.3");
        assert_eq!(Version(4, 1, 1).to_string(), "4.1.1");
    }
}
