//! Methods of operations: those of every operation, and one an option.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

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

/// The methods every operation has.
macro_rules! operation {
    ($operation:ident) => {
        impl<'a> $operation<'a> {
            /// Ends the operation if it takes longer than this. [`Cancel`](crate::Cancel) says how
            /// an operation ends early. The time of [`grace`](Self::grace) comes on top.
            pub fn deadline(mut self, limit: std::time::Duration) -> Self {
                self.common.deadline(limit);
                self
            }

            /// Ends the operation when [`Cancel::cancel`](crate::Cancel::cancel) is called.
            pub fn cancel(mut self, cancel: &crate::value::Cancel) -> Self {
                self.common.cancel(cancel);
                self
            }

            /// Sets the time that a cancelled operation may go on until CRIU's next action, where
            /// CRIU itself can undo what it has begun. The default is 2 seconds. After that time
            /// criu is ended at the first safe point, or without a safe point after one more
            /// second.
            pub fn grace(mut self, time: std::time::Duration) -> Self {
                self.common.limits.grace = time;
                self
            }

            /// Names the log, if a configuration file of CRIU's sends it elsewhere: a path relative
            /// to the work directory. Errors quote the log from there.
            pub fn log_elsewhere(mut self, path: impl Into<std::path::PathBuf>) -> Self {
                self.common.log_elsewhere = Some(path.into());
                self
            }

            /// Trusts the images directory, the work directory and the folder of the log: nobody
            /// else changes them meanwhile. Their files are not looked at, and criu writes into the
            /// directories themselves. By default a file of another user is an error, and criu
            /// writes into a private directory where others can write.
            ///
            /// This is for file systems that keep no owners or modes, such as vfat, sshfs and NFS
            /// with `root_squash`. In a directory that another user can write, that user chooses
            /// the files that criu overwrites.
            pub fn trust_directory(mut self, on: bool) -> Self {
                self.common.trust_directory = on;
                self
            }

            /// Changes the message itself, for values that no method of this crate can set. Methods
            /// that are called later may change it again. Descriptors are filled in at the end.
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
