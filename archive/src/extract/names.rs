//! Names of members to extract.

use crate::path;

/// Names and patterns of members. Without any, all members fit.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Name>);

#[derive(Debug)]
struct Name {
    text: String,
    is_used: bool,
}

impl Names {
    pub(super) fn push(&mut self, text: String) {
        let text = path::normal(text.as_bytes()).unwrap_or(text);
        self.0.push(Name { text, is_used: false });
    }

    /// Returns true if a member is to be extracted.
    pub(super) fn fit(&mut self, path: &str) -> bool {
        let mut fits = self.0.is_empty();
        for name in &mut self.0 {
            let is_hit = reaches(name.text.as_bytes(), path.as_bytes());
            name.is_used |= is_hit;
            fits |= is_hit;
        }
        fits
    }

    /// Returns a name that has fitted no member.
    pub(super) fn unused(&self) -> Option<&str> {
        self.0.iter().find(|name| !name.is_used).map(|name| &*name.text)
    }
}

/// Returns true if a pattern fits a path or a folder above it.
fn reaches(pattern: &[u8], path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).any(|end| path.get(..end).is_some_and(|part| fits(pattern, part)))
}

/// Compares a path with a pattern.
fn fits(mut pattern: &[u8], mut path: &[u8]) -> bool {
    // The last star, and what of the path is left behind it: it takes one byte more each time.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), path.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, path));
                pattern = rest;
                continue;
            }
            (Some((want, rest)), Some((is, left)))
                if want == is || *want == b'?' && *is != b'/' =>
            {
                (pattern, path) = (rest, left);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((behind, left)) = again else { return false };
        match left.split_first() {
            Some((byte, left)) if *byte != b'/' => {
                again = Some((behind, left));
                (pattern, path) = (behind, left);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_folders_and_patterns_choose_members() {
        let path = "checkpoint/core-17.img";
        for pattern in ["checkpoint", path, "*", "c*t/core-??.img", "checkpoint/*.img", "*/c*1*"] {
            assert!(reaches(pattern.as_bytes(), path.as_bytes()), "{pattern}");
        }
        for pattern in
            ["check", "core-17.img", "*.img", "?", "c*i", "checkpoint/core-1?", "", "*/?"]
        {
            assert!(!reaches(pattern.as_bytes(), path.as_bytes()), "{pattern}");
        }
        let mut names = Names::default();
        names.push("./a//b/".into());
        names.push("absent".into());
        assert!(names.fit("a/b/c") && !names.fit("a/c"));
        assert_eq!(names.unused(), Some("absent"));
    }
}
