//! The table row of an option.

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
