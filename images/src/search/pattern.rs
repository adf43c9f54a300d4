//! Patterns to search for.

use std::fmt::{self, Write};
use std::ops::Range;

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, meta};

use crate::search::skips::Skips;

/// A pattern to search memory for.
///
/// ```
/// use criu_images::search::Pattern;
///
/// let header = Pattern::literal(b"\x7fELF")?;
/// let pointer = Pattern::hex("e0 f7 ff ff ?? 7f 00 00")?;
/// let key = Pattern::regex("-----BEGIN [A-Z ]*PRIVATE KEY-----")?;
/// assert_eq!(Pattern::hex("e").unwrap_err().to_string(), "hex digits come in pairs");
/// # Ok::<(), criu_images::search::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Literal(Box<memmem::Finder<'static>>),
    Regex { regex: Regex, steady: Option<Steady>, longest: usize },
}

/// A regular expression that is looked for without leaps.
#[derive(Clone, Debug)]
struct Steady {
    regex: meta::Regex,
    skips: Option<Skips>,
}

/// A way to look for a regular expression. All find the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Jumps to literal bytes with which a match can begin, and looks closer there: the faster way
    /// where these bytes are rare.
    Leaps,
    /// Looks at each byte once: the faster way where matches could begin often.
    Steady,
    /// Passes over places by the bytes that a match can consist of: the faster way where these are
    /// few, but matches could begin often, as with digits.
    Skips,
}

/// Reasons why a pattern is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The pattern is empty.
    #[error("the pattern is empty")]
    Empty,
    /// The pattern has more bytes than a match can have.
    #[error("the pattern has {0} bytes, at most {MAX_MATCH} can be matched")]
    TooLong(usize),
    /// The number of hex digits is odd.
    #[error("hex digits come in pairs")]
    Odd,
    /// A character is not a hex digit.
    #[error("{0:?} is not a hex digit")]
    Digit(char),
    /// The text is not a regular expression, or takes too much memory.
    #[error("{0}")]
    Regex(#[from] regex::Error),
}

/// Longest match, in bytes. A longer match of a regular expression is cut.
pub const MAX_MATCH: usize = 64 << 10;

impl Pattern {
    /// Creates a pattern of these bytes.
    ///
    /// # Errors
    /// [`PatternError::Empty`]; [`PatternError::TooLong`] above [`MAX_MATCH`].
    pub fn literal(bytes: &[u8]) -> Result<Self, PatternError> {
        check_length(bytes.len())?;
        Ok(Self(Kind::Literal(memmem::Finder::new(bytes).into_owned().into())))
    }

    /// Creates a pattern from pairs of hex digits; `??` is any byte. White space is skipped.
    ///
    /// # Errors
    /// [`PatternError::Odd`], [`PatternError::Digit`], and the errors of
    /// [`literal`](Self::literal).
    pub fn hex(text: &str) -> Result<Self, PatternError> {
        let mut bytes = Vec::new();
        let mut chars = text.chars().filter(|char| !char.is_whitespace());
        while let Some(high) = chars.next() {
            let low = chars.next().ok_or(PatternError::Odd)?;
            bytes.push(match (high, low) {
                ('?', '?') => None,
                _ => Some(digit(high)? << 4 | digit(low)?),
            });
        }
        check_length(bytes.len())?;
        let all: Option<Vec<u8>> = bytes.iter().copied().collect();
        match all {
            Some(literal) => Self::literal(&literal),
            None => Self::compile(&Wildcards(&bytes).to_string(), bytes.len()),
        }
    }

    /// Creates a pattern from a regular expression over bytes, in the syntax of the `regex` crate
    /// without Unicode classes. `.` is any byte except a newline, `\xff` is that byte, `(?i)`
    /// ignores the case of ASCII letters, and `(?s)` makes `.` match newlines too. `^` and `$` are
    /// the ends of contiguous memory. Empty matches do not count.
    ///
    /// # Errors
    /// [`PatternError::Empty`]; [`PatternError::TooLong`] for a text above [`MAX_MATCH`] bytes;
    /// [`PatternError::Regex`].
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        check_length(text.len())?;
        Self::compile(text, MAX_MATCH)
    }

    fn compile(text: &str, longest: usize) -> Result<Self, PatternError> {
        let regex = RegexBuilder::new(text).unicode(false).build()?;
        let config = meta::Config::new().auto_prefilter(false).utf8_empty(false);
        let config = config.dfa_size_limit(Some(TABLES)).dfa_state_limit(Some(STATES));
        let steady = meta::Regex::builder()
            .configure(config)
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(text)
            .map(|regex| Steady { regex, skips: Skips::new(text) })
            .ok();
        Ok(Self(Kind::Regex { regex, steady, longest }))
    }

    /// Returns the largest number of bytes that a match can have.
    pub(crate) fn longest(&self) -> usize {
        match &self.0 {
            Kind::Literal(finder) => finder.needle().len(),
            Kind::Regex { longest, .. } => *longest,
        }
    }

    /// Returns the ways to look for the pattern.
    pub(crate) fn ways(&self) -> &'static [Way] {
        match &self.0 {
            Kind::Regex { steady: Some(Steady { skips: Some(_), .. }), .. } => {
                &[Way::Leaps, Way::Steady, Way::Skips]
            }
            Kind::Regex { steady: Some(_), .. } => &[Way::Leaps, Way::Steady],
            _ => &[Way::Leaps],
        }
    }

    /// Finds the first match that starts at `at` or later and is not empty.
    pub(crate) fn find(&self, bytes: &[u8], mut at: usize, way: Way) -> Option<(usize, usize)> {
        match &self.0 {
            Kind::Literal(finder) => {
                let found = at + finder.find(bytes.get(at..)?)?;
                Some((found, found + finder.needle().len()))
            }
            Kind::Regex { regex, steady, longest } => loop {
                if at > bytes.len() {
                    return None;
                }
                let found = match (way, steady) {
                    (Way::Skips, Some(steady)) => steady.skip(bytes, at)?,
                    (Way::Steady, Some(steady)) => steady.find(bytes, at)?,
                    _ => regex.find_at(bytes, at)?.range(),
                };
                if !found.is_empty() {
                    return Some((found.start, found.end.min(found.start + longest)));
                }
                at = found.end + 1;
            },
        }
    }
}

impl Steady {
    fn find(&self, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        Some(self.regex.search(&Input::new(bytes).range(at..))?.range())
    }

    fn skip(&self, bytes: &[u8], mut at: usize) -> Option<Range<usize>> {
        if let Some(skips) = &self.skips {
            for _ in 0..TRIES {
                at = skips.next(bytes, at)?;
                let here = Input::new(bytes).range(at..).anchored(Anchored::Yes);
                if let Some(found) = self.regex.search(&here) {
                    return Some(found.range());
                }
                at += 1;
            }
        }
        self.find(bytes, at)
    }
}

/// Tries at single places, each of which may look at all bytes, before all places are tried at
/// once.
const TRIES: usize = 4;
/// Memory of the tables of a regular expression, in bytes. A larger one makes them as it goes.
const TABLES: usize = 1 << 20;
/// Size of a regular expression for which tables are made, in states of its automaton.
const STATES: usize = 500;

fn check_length(length: usize) -> Result<(), PatternError> {
    match length {
        0 => Err(PatternError::Empty),
        1..=MAX_MATCH => Ok(()),
        _ => Err(PatternError::TooLong(length)),
    }
}

fn digit(char: char) -> Result<u8, PatternError> {
    let value = char.to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or(PatternError::Digit(char))
}

/// Known and unknown bytes. Displays as a regular expression.
struct Wildcards<'a>(&'a [Option<u8>]);

impl fmt::Display for Wildcards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(?s-u)")?;
        self.0.iter().try_for_each(|byte| match byte {
            Some(byte) => write!(f, "\\x{byte:02x}"),
            None => f.write_char('.'),
        })
    }
}
