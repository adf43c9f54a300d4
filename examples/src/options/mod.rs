//! CRIU's options, in groups that several words share, and their settings on an operation.

mod cgroups;
mod common;
mod coordinator;
mod copies;
mod dump;
mod files;
mod instant;
mod jobs;
mod memory;
mod network;
mod restore;
mod tls;
mod values;

pub(crate) use cgroups::{Cgroups, CgroupsSaved};
pub use common::criu_program;
pub(crate) use common::{Common, Reach};
pub(crate) use coordinator::{
    Coordinated, ShutNetwork, TIMEOUT, client as coordinator_client, tls as certificates,
};
pub(crate) use copies::Notice;
pub(crate) use dump::{DumpOnly, Existing, Images, Orphans, Saved};
pub(crate) use files::Files;
pub(crate) use instant::{HEADING as INSTANT, InstantDump, InstantOnly, InstantPreDump, Rounds};
pub(crate) use jobs::Jobs;
pub(crate) use memory::{Lazy, Memory, PreDumpOnly, Way};
pub(crate) use network::{Network, NetworkSaved};
pub(crate) use restore::{Around, RestoreOnly};
pub(crate) use tls::{Certificates, PAGE_SERVER};
pub(crate) use values::{AtMost, Size, Verbosity, memory, seconds, whole_seconds};

use crate::config::Config;
use crate::fault::Fault;

/// A group of options that an operation takes.
pub(crate) trait Apply<Operation> {
    /// Sets the given options on the operation. Options that only CRIU's command line knows go into
    /// `config`.
    fn apply(&self, operation: Operation, config: &mut Config) -> Result<Operation, Fault>;
}

/// Implements [`Apply`] for a group and several operations.
///
/// A field of `one` is an `Option`, a field of `each` a list; both are named as the operation's
/// method.
macro_rules! applies {
    (
        $group:ident to $($operation:ident)+;
        one $one:tt;
        each $each:tt;
        with |$self:ident, $target:ident, $config:ident| $also:block
    ) => {
        $(applies! { @impl $group $operation $one $each |$self, $target, $config| $also })+
    };
    (
        @impl $group:ident $operation:ident [$($one:ident)*] [$($each:ident)*]
        |$self:ident, $target:ident, $config:ident| $also:block
    ) => {
        impl<'a> crate::options::Apply<criu_rs::$operation<'a>> for $group {
            fn apply(
                &$self,
                mut $target: criu_rs::$operation<'a>,
                $config: &mut crate::config::Config,
            ) -> Result<criu_rs::$operation<'a>, crate::fault::Fault> {
                $(if let Some(value) = &$self.$one {
                    $target = $target.$one(value.clone());
                })*
                $(for value in &$self.$each {
                    $target = $target.$each(value.clone());
                })*
                $also
                Ok($target)
            }
        }
    };
}
use applies;
