//! The options of a container's dump and restore: those of the operation inside.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dump::ContainerDump;
#[cfg(feature = "preflight")]
use super::error::Result;
use super::restore::ContainerRestore;
#[cfg(feature = "preflight")]
use crate::criu::Criu;
use crate::options::option_rows;
#[cfg(feature = "preflight")]
use crate::preflight::Report;
use crate::rpc::CriuOpts;
use crate::value::{
    AfterDump, Cancel, CgroupMode, Compression, CpuCap, Dir, External, ImageIo, InheritFd, JoinNs,
    LogLevel, LsmProfile, MountContext, NetworkLock, Tcp, Tls,
};

/// Puts a method on the containers' types that belong to the operations in a list.
macro_rules! on_containers {
    ([] $method:tt) => {};
    ([Dump $($rest:ident)*] $method:tt) => {
        impl<'a> ContainerDump<'a> $method
        on_containers! { [$($rest)*] $method }
    };
    ([Restore $($rest:ident)*] $method:tt) => {
        impl<'a> ContainerRestore<'a> $method
        on_containers! { [$($rest)*] $method }
    };
    ([$other:ident $($rest:ident)*] $method:tt) => {
        on_containers! { [$($rest)*] $method }
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
                sets $(
                    $number:literal $name:literal $cli:literal ($major:literal, $minor:literal)
                ),+;
                such as $(($($sample:expr),*)),+;
            )*
        }
        elsewhere $elsewhere:tt
    ) => {
        $(
            on_containers! { $operations {
                $(#[$doc])*
                ///
                #[doc = concat!(
                    "CRIU:"
                    $(, " `", $name, "` (`", $cli, "`, RPC ", $major, ".", $minor, ")")+
                    , "."
                )]
                pub fn $method(mut self $(, $argument: $type)*) -> Self {
                    self.operation = self.operation.$method($($argument),*);
                    self
                }
            } }
        )*
    };
}

option_rows!(methods);

/// The methods of operations that are not rows of the table.
macro_rules! forward {
    ($container:ident, $operation:literal) => {
        impl $container<'_> {
            #[doc = concat!("Ends the operation if it takes longer than `limit`: see [`",
                        $operation,
                        "::deadline`](crate::", $operation, "::deadline).")]
            pub fn deadline(mut self, limit: Duration) -> Self {
                self.operation = self.operation.deadline(limit);
                self
            }

            #[doc = concat!("Ends the operation when `cancel` is cancelled: see [`", $operation,
                        "::cancel`](crate::", $operation, "::cancel).")]
            pub fn cancel(mut self, cancel: &Cancel) -> Self {
                self.operation = self.operation.cancel(cancel);
                self
            }

            #[doc = concat!("Sets how long a cancelled operation may go on: see [`", $operation,
                        "::grace`](crate::", $operation, "::grace).")]
            pub fn grace(mut self, time: Duration) -> Self {
                self.operation = self.operation.grace(time);
                self
            }

            #[doc = concat!("Names the log that a configuration file of CRIU's sends elsewhere: ",
                        "see [`",
                        $operation, "::log_elsewhere`](crate::", $operation, "::log_elsewhere).")]
            pub fn log_elsewhere(mut self, path: impl Into<PathBuf>) -> Self {
                self.operation = self.operation.log_elsewhere(path);
                self
            }

            #[doc = concat!("Trusts the directories of the operation: see [`", $operation,
                        "::trust_directory`](crate::", $operation, "::trust_directory).")]
            pub fn trust_directory(mut self, on: bool) -> Self {
                self.operation = self.operation.trust_directory(on);
                self
            }

            #[doc = concat!("Changes the message itself: see [`", $operation, "::raw`](crate::",
                        $operation, "::raw).")]
            pub fn raw(mut self, set: impl FnOnce(&mut CriuOpts)) -> Self {
                self.operation = self.operation.raw(set);
                self
            }

            #[doc = concat!("Allows tasks to lose their security labels: see [`", $operation,
                        "::accept_label_loss`](crate::", $operation, "::accept_label_loss).")]
            pub fn accept_label_loss(mut self, on: bool) -> Self {
                self.operation = self.operation.accept_label_loss(on);
                self
            }

            #[cfg(feature = "preflight")]
            #[doc = concat!("Sets the safe options of a report: see [`", $operation,
                        "::with_preflight`](crate::", $operation, "::with_preflight).")]
            pub fn with_preflight(mut self, report: &Report) -> Self {
                self.operation = self.operation.with_preflight(report);
                self
            }
        }
    };
}

forward!(ContainerDump, "Dump");
forward!(ContainerRestore, "Restore");

impl ContainerRestore<'_> {
    /// Allows tasks to come back without file locks that the images hold: see
    /// [`Restore::accept_lock_loss`](crate::Restore::accept_lock_loss).
    pub fn accept_lock_loss(mut self, on: bool) -> Self {
        self.operation = self.operation.accept_lock_loss(on);
        self
    }
}

impl ContainerDump<'_> {
    /// Allows the dump to replace a checkpoint in the directory. The old one comes back if the dump
    /// fails.
    pub fn overwrite(mut self, on: bool) -> Self {
        self.operation = self.operation.overwrite(on);
        self
    }

    #[cfg(feature = "preflight")]
    /// Looks at the container and says whether this dump would work: see
    /// [`Dump::preflight`](crate::Dump::preflight).
    ///
    /// # Errors
    /// When criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        Ok(self.operation.preflight(criu)?)
    }
}
