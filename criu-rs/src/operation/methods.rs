//! Methods of operations: those of every operation, and one an option.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use super::check::Check;
use super::cpuinfo::CpuInfo;
use super::dump::Dump;
use super::page_server::PageServer;
use super::pre_dump::PreDump;
use super::restore::Restore;
use crate::options::{Opts, option_rows};
use crate::value::{
    AfterDump, CgroupMode, Compression, CpuCap, Dir, External, ImageIo, InheritFd, JoinNs,
    LogLevel, LsmProfile, MountContext, NetworkLock, PreDumpMode, Tcp, Tls,
};
use std::time::Duration;

/// The methods every operation has.
macro_rules! operation {
    ($operation:ident) => {
        impl<'a> $operation<'a> {
            /// Ends the operation when it takes longer. See [`Cancel`](crate::value::Cancel) for how;
            /// [`grace`](Self::grace) comes on top.
            pub fn deadline(mut self, limit: std::time::Duration) -> Self {
                self.common.deadline(limit);
                self
            }

            /// Ends the operation when `cancel` says so.
            pub fn cancel(mut self, cancel: &crate::value::Cancel) -> Self {
                self.common.cancel(cancel);
                self
            }

            /// How long a cancelled operation may go on until CRIU's next action, where CRIU itself
            /// can undo what it has begun; 2 seconds unless set. After that criu is ended at the
            /// first safe point, or after one second more without one.
            pub fn grace(mut self, time: std::time::Duration) -> Self {
                self.common.limits.grace = time;
                self
            }

            /// Where the log is when a configuration file of CRIU's sends it elsewhere, as a path from
            /// the work directory: errors quote it from there.
            pub fn log_elsewhere(mut self, path: impl Into<std::path::PathBuf>) -> Self {
                self.common.log_elsewhere = Some(path.into());
                self
            }

            /// Changes the message itself, for what no method of this crate can say. Methods called
            /// later may change it again; descriptors are filled in at the end.
            pub fn raw(mut self, set: impl FnOnce(&mut crate::rpc::CriuOpts)) -> Self {
                self.common.opts.raw(set);
                self
            }
        }
    };
}

/// Puts a method on each of several operations.
macro_rules! on_each {
    ([] $method:tt) => {};
    ([$operation:ident $($rest:ident)*] $method:tt) => {
        impl<'a> $operation<'a> $method
        on_each! { [$($rest)*] $method }
    };
}

/// The methods that the rows of options describe.
macro_rules! methods {
    (
        options {
            $(
                $(#[$doc:meta])*
                on $operations:tt
                fn $method:ident($opts:ident $(, $argument:ident: $type:ty)*) $body:block
                sets $($number:literal $name:literal $cli:literal ($major:literal, $minor:literal)),+;
                such as $(($($sample:expr),*)),+;
            )*
        }
        elsewhere {
            $(
                on $operations2:tt
                $number2:literal $name2:literal $cli2:literal ($major2:literal, $minor2:literal)
                by $method2:literal, $superseded:literal;
            )*
        }
    ) => {
        $(
            on_each! { $operations {
                $(#[$doc])*
                ///
                #[doc = concat!(
                    "CRIU:"
                    $(, " `", $name, "` (`", $cli, "`, RPC ", $major, ".", $minor, ")")+
                    , "."
                )]
                pub fn $method(mut self $(, $argument: $type)*) -> Self {
                    Opts::$method(&mut self.common.opts $(, $argument)*);
                    self
                }
            } }
        )*
    };
}

option_rows!(methods);

pub(super) use operation;
