//! Bytes in JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that JSON holds as text of base64: a message in its wire form, with fields that this
/// version has no name for.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Wire(pub Vec<u8>);

impl Wire {
    /// Returns true if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Wire {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// The number of the bytes, which may hold secrets.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} bytes)", self.0.len())
    }
}

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text.as_bytes());
        bytes.map(Self).map_err(|_| D::Error::custom("text that is no base64"))
    }
}
