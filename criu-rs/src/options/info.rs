//! The table row of an option, and the options that a message sets.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::table::OPTIONS;
use crate::error::Error;
use crate::rpc::CriuOpts;
use crate::value::Version;

/// An option of CRIU's RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// Field number in `criu_opts`.
    pub number: u32,
    /// Field name in `criu_opts`.
    pub name: &'static str,
    /// The option on criu's command line; `-` if there is no such option.
    pub cli: &'static str,
    /// The first version whose RPC has the option.
    pub since: Version,
    /// The method that sets the option.
    pub method: &'static str,
    /// The operations that have the method.
    pub operations: &'static [&'static str],
    /// `true` if `method` replaces an option that CRIU keeps for old clients.
    pub superseded: bool,
}

/// Returns the newest option in a message, if it is newer than `version`.
pub(crate) fn newer_than(version: Version, message: &CriuOpts) -> Option<&'static OptionInfo> {
    options_in(message).filter(|option| option.since > version).max_by_key(|option| option.since)
}

/// Returns the rows of the options that a message sets.
pub(crate) fn options_in(message: &CriuOpts) -> impl Iterator<Item = &'static OptionInfo> {
    let numbers = field_numbers(&message.encode_to_vec());
    OPTIONS.iter().filter(move |option| numbers.contains(&option.number))
}

/// Returns the numbers of the fields in an encoded message.
pub(super) fn field_numbers(mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Ok((number, wire)) = decode_key(&mut bytes) {
        numbers.push(number);
        let context = DecodeContext::default();
        if skip_field(wire, number, &mut bytes, context).is_err() || wire == WireType::EndGroup {
            break;
        }
    }
    numbers
}

impl Error {
    pub(crate) fn too_old(option: &OptionInfo, found: Version) -> Self {
        let what = format!("the option {} ({})", option.name, option.cli);
        Self::TooOld { what, needs: option.since, found }
    }
}
