//! The contents of a tool's files, in the words of the tool.

/// Facts that a tool's files say about themselves, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The facts.
    pub all: Vec<Fact>,
}

/// A fact about a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The name, in the words of the tool.
    pub name: String,
    /// The value. Control characters in it are those of the file.
    pub value: String,
}

impl Facts {
    /// Adds a fact.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.all.push(Fact { name: name.into(), value: value.into() });
    }

    /// Returns the value of the first fact with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|fact| fact.name == name).map(|fact| &*fact.value)
    }
}
