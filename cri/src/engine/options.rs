//! Options of engines by name, checked against the engine's list.

use std::collections::BTreeMap;
use std::fmt;

use super::Engine;

/// An option of an engine.
///
/// Options are written into records and shown to everybody who may read these: no option takes a
/// secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOption {
    /// The name.
    pub name: &'static str,
    /// The values that it takes.
    pub values: Values,
    /// The operations that have it.
    pub on: &'static [Phase],
    /// The meaning, for people.
    pub help: &'static str,
}

/// The values that an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// `true` or `false`. An empty value is `true`.
    Switch,
    /// A word of the list.
    Words(&'static [&'static str]),
    /// A whole number from 0 to 2^32 - 1.
    Number,
}

/// The operation that options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A checkpoint.
    Checkpoint,
    /// A restore.
    Restore,
}

/// Options that an engine has, with values that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<&'static str, String>);

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// The engine has no such option for this operation.
    #[error("unknown option `{name}` of a {phase}, wanted one of: {}", or_none(known))]
    Unknown {
        /// The option, without control characters.
        name: String,
        /// The operation.
        phase: Phase,
        /// The names of the options that it has.
        known: Vec<&'static str>,
    },
    /// The option does not take this value.
    #[error("option `{name}`: the value is `{found}`, wanted {wanted}")]
    Value {
        /// The option.
        name: &'static str,
        /// The value, without control characters.
        found: String,
        /// The values that it takes.
        wanted: String,
    },
    /// The option is given twice.
    #[error("option `{name}` is given twice")]
    Twice {
        /// The option.
        name: &'static str,
    },
}

impl Options {
    /// Checks options against the list of the engine.
    ///
    /// # Errors
    /// [`OptionError`] for the first option that the engine does not have for this operation, that
    /// is given twice, or whose value it does not take.
    pub fn parse<N: AsRef<str>, V: AsRef<str>>(
        given: impl IntoIterator<Item = (N, V)>,
        engine: &dyn Engine,
        phase: Phase,
    ) -> Result<Self, OptionError> {
        let known = || engine.options().iter().filter(move |option| option.on.contains(&phase));
        let mut all = BTreeMap::new();
        for (name, value) in given {
            let (name, value) = (name.as_ref(), value.as_ref());
            let option = known().find(|option| option.name == name).ok_or_else(|| {
                let known = known().map(|option| option.name).collect();
                OptionError::Unknown { name: shown(name), phase, known }
            })?;
            let value = option.values.parse(value).ok_or_else(|| OptionError::Value {
                name: option.name,
                found: shown(value),
                wanted: option.values.to_string(),
            })?;
            if all.insert(option.name, value).is_some() {
                return Err(OptionError::Twice { name: option.name });
            }
        }
        Ok(Self(all))
    }

    /// Returns the value of an option that is given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Says whether a switch is given and on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some(ON)
    }

    /// Returns the number that an option is given.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// The options that are given, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl Values {
    /// Returns the value in one form, if it is one of these.
    fn parse(self, value: &str) -> Option<String> {
        match self {
            Self::Switch if value.is_empty() => Some(ON.into()),
            Self::Switch => [ON, OFF].contains(&value).then(|| value.into()),
            Self::Words(words) => words.contains(&value).then(|| value.into()),
            Self::Number => value.parse::<u32>().ok().map(|number| number.to_string()),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => write!(f, "{ON} or {OFF}"),
            Self::Words(words) => f.write_str(&words.join(" or ")),
            Self::Number => write!(f, "a number up to {}", u32::MAX),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Restore => "restore",
        })
    }
}

/// Returns a text without control characters, cut where it is too long for a message.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    cut.escape_debug().to_string()
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Characters of a name or a value that a message shows. The CRI allows 256 bytes.
const MAX_SHOWN: usize = 256;

const ON: &str = "true";

const OFF: &str = "false";
