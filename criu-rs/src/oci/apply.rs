//! A runtime's options on the operations of a container.

use std::os::fd::AsRawFd;

use super::dump::ContainerDump;
use super::error::{Error, Result};
use super::restore::ContainerRestore;
use super::runtime_options::RuntimeOptions;
use crate::operation::{Dump, PreDump, Restore};
use crate::value::{AfterDump, Tcp};

/// An operation that takes [`RuntimeOptions`]: [`ContainerDump`], [`Dump`], [`PreDump`],
/// [`ContainerRestore`] and [`Restore`].
pub trait RuntimeOperation<'a>: sealed::Apply<'a> {}

impl RuntimeOptions {
    /// Sets the options on a dump, a pre-dump or a restore. An option that is not given leaves the
    /// operation as it is. The images directory is that of the operation.
    ///
    /// The operation writes to [`status_fd`](Self::status_fd), so that this value has to live until
    /// the operation is over. libcriu cannot do that, and refuses the option.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option that the operation does not have, such as a page server of
    /// a restore, and for a lazy dump without `--page-server`.
    pub fn apply<'a, O: RuntimeOperation<'a>>(&'a self, operation: O) -> Result<O> {
        operation.apply(self)
    }

    /// Refuses the options in the list that are set.
    fn refuse(&self, operation: &str, options: &[(&str, bool)]) -> Result<()> {
        match options.iter().find(|(_, is_set)| *is_set) {
            Some((option, _)) => {
                let why = format!("a {operation} has no such option");
                Err(Error::Invalid { what: format!("--{option}"), why })
            }
            None => Ok(()),
        }
    }

    fn refuse_of_restores(&self, operation: &str) -> Result<()> {
        self.refuse(
            operation,
            &[
                ("lsm-profile", self.lsm_profile.is_some()),
                ("lsm-mount-context", self.lsm_mount_context.is_some()),
            ],
        )
    }
}

mod sealed {
    use super::{Result, RuntimeOptions};

    /// An operation on which the options can be set.
    pub trait Apply<'a>: Sized {
        /// Sets the options.
        fn apply(self, options: &'a RuntimeOptions) -> Result<Self>;
    }
}

/// Calls methods for options that are set.
macro_rules! set {
    (
        $operation:ident, $options:ident:
        switches $($switch:ident)*; values $($value:ident => $method:ident)*
    ) => {
        $(if $options.$switch {
            $operation = $operation.$switch(true);
        })*
        $(if let Some(value) = &$options.$value {
            $operation = $operation.$method(value.clone());
        })*
    };
}

macro_rules! on_dumps {
    ($($operation:ident)*) => {$(
        impl<'a> RuntimeOperation<'a> for $operation<'a> {}

        impl<'a> sealed::Apply<'a> for $operation<'a> {
            fn apply(self, options: &'a RuntimeOptions) -> Result<Self> {
                options.refuse_of_restores("dump")?;
                options.refuse("dump", &[("pre-dump", options.pre_dump)])?;
                let mut dump = self;
                set! { dump, options:
                    switches file_locks tcp_skip_in_flight ext_unix_sk shell_job link_remap
                        auto_dedup;
                    values cgroup_mode => manage_cgroups work_path => work_dir
                        network_lock => network_lock
                }
                if options.tcp != Tcp::Refuse {
                    dump = dump.tcp(options.tcp);
                }
                if options.empty_network {
                    dump = dump.empty_net_ns(true);
                }
                if options.leave_running {
                    dump = dump.after_dump(AfterDump::LeaveRunning);
                }
                if let Some(parent) = &options.parent_path {
                    dump = dump.parent_img(parent).track_mem(true);
                }
                dump = match (&options.page_server, options.lazy_pages) {
                    (Some((address, port)), true) => dump.lazy_pages_at(address, *port),
                    (Some((address, port)), false) => dump.page_server(address, *port),
                    (None, true) => {
                        let why = "a dump serves its memory at an address: add --page-server";
                        return Err(Error::Invalid { what: "--lazy-pages".into(), why: why.into() });
                    }
                    (None, false) => dump,
                };
                if let Some(fd) = &options.status_fd {
                    // CRIU opens the descriptor of this process.
                    let number = fd.as_raw_fd();
                    dump = dump.raw(|message| message.status_fd = Some(number));
                }
                Ok(dump)
            }
        }
    )*};
}

macro_rules! on_restores {
    ($($operation:ident)*) => {$(
        impl<'a> RuntimeOperation<'a> for $operation<'a> {}

        impl<'a> sealed::Apply<'a> for $operation<'a> {
            fn apply(self, options: &'a RuntimeOptions) -> Result<Self> {
                options.refuse(
                    "restore",
                    &[
                        ("pre-dump", options.pre_dump),
                        ("leave-running", options.leave_running),
                        ("parent-path", options.parent_path.is_some()),
                        ("page-server", options.page_server.is_some()),
                        ("status-fd", options.status_fd.is_some()),
                        ("tcp-skip-in-flight", options.tcp_skip_in_flight),
                        ("network-lock", options.network_lock.is_some()),
                    ],
                )?;
                let mut restore = self;
                set! { restore, options:
                    switches file_locks ext_unix_sk shell_job link_remap auto_dedup lazy_pages;
                    values cgroup_mode => manage_cgroups work_path => work_dir
                        lsm_profile => lsm_profile lsm_mount_context => lsm_mount_context
                }
                if options.tcp != Tcp::Refuse {
                    restore = restore.tcp(options.tcp);
                }
                if options.empty_network {
                    restore = restore.empty_net_ns(true);
                }
                Ok(restore)
            }
        }
    )*};
}

on_dumps!(Dump ContainerDump);
on_restores!(Restore ContainerRestore);

impl<'a> RuntimeOperation<'a> for PreDump<'a> {}

impl<'a> sealed::Apply<'a> for PreDump<'a> {
    fn apply(self, options: &'a RuntimeOptions) -> Result<Self> {
        options.refuse_of_restores("pre-dump")?;
        options.refuse(
            "pre-dump",
            &[("lazy-pages", options.lazy_pages), ("status-fd", options.status_fd.is_some())],
        )?;
        // A pre-dump saves memory alone, and leaves the container running in any case.
        let mut dump = self;
        set! { dump, options:
            switches file_locks tcp_skip_in_flight ext_unix_sk shell_job link_remap auto_dedup;
            values work_path => work_dir network_lock => network_lock
        }
        if options.tcp != Tcp::Refuse {
            dump = dump.tcp(options.tcp);
        }
        if let Some(parent) = &options.parent_path {
            dump = dump.parent_img(parent);
        }
        if let Some((address, port)) = &options.page_server {
            dump = dump.page_server(address, *port);
        }
        Ok(dump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::CriuOpts;
    use crate::value::Pid;

    fn parse(words: &[&str]) -> RuntimeOptions {
        RuntimeOptions::parse(words.iter().copied()).unwrap().0
    }

    fn told(options: &RuntimeOptions) -> [CriuOpts; 3] {
        let dump =
            options.apply(Dump::new(Pid::this(), "/")).unwrap().common.opts.message().clone();
        let pre_dump = options.apply(PreDump::new(Pid::this(), "/")).unwrap();
        let restore = options.apply(Restore::new("/")).unwrap();
        [dump, pre_dump.common.opts.message().clone(), restore.common.opts.message().clone()]
    }

    #[test]
    fn options_that_all_operations_have_are_set_on_each() {
        let words = ["--file-locks", "--ext-unix-sk", "--shell-job", "--tcp-close", "--link-remap"];
        for message in told(&parse(&words)) {
            assert!(message.file_locks() && message.ext_unix_sk() && message.shell_job());
            assert!(message.tcp_close() && message.link_remap());
        }
        let none = told(&RuntimeOptions::default());
        let unset = [
            Dump::new(Pid::this(), "/").common.opts.message().clone(),
            PreDump::new(Pid::this(), "/").common.opts.message().clone(),
            Restore::new("/").common.opts.message().clone(),
        ];
        assert_eq!(none, unset);
    }

    #[test]
    fn a_dump_gets_its_parent_its_server_and_its_status_descriptor() {
        let words = [
            "--parent-path=../0",
            "--page-server=10.0.0.1:7",
            "--lazy-pages",
            "--status-fd=2",
            "--leave-running",
            "--manage-cgroups-mode=ignore",
            "--empty-ns=network",
        ];
        let options = parse(&words);
        let dump = options.apply(Dump::new(Pid::this(), "/")).unwrap();
        let message = dump.common.opts.message();
        assert_eq!(message.parent_img.as_deref(), Some(&b"../0"[..]));
        assert!(message.track_mem() && message.lazy_pages() && message.leave_running());
        assert_eq!(message.ps.as_ref().unwrap().port, Some(7));
        assert_eq!(message.status_fd, options.status_fd.as_ref().map(|fd| fd.as_raw_fd()));
        assert!(message.empty_ns() != 0);
        assert!(message.manage_cgroups_mode.is_some());
    }

    #[test]
    fn options_of_another_operation_are_refused() {
        let of_dump = |words: &[&str]| {
            let options = parse(words);
            let error = options.apply(Dump::new(Pid::this(), "/")).unwrap_err();
            error.to_string()
        };
        let of_restore = |words: &[&str]| {
            let options = parse(words);
            let error = options.apply(Restore::new("/")).unwrap_err();
            error.to_string()
        };
        assert_eq!(of_dump(&["--pre-dump"]), "--pre-dump: a dump has no such option");
        assert!(of_dump(&["--lsm-profile=apparmor:x"]).starts_with("--lsm-profile: "));
        assert!(of_dump(&["--lazy-pages"]).contains("add --page-server"));
        for word in ["--page-server=a:1", "--parent-path=x", "--status-fd=2", "--leave-running"] {
            assert!(of_restore(&[word]).contains("a restore has no such option"), "{word}");
        }
        let options = parse(&["--lazy-pages", "--page-server=a:1"]);
        assert!(options.apply(PreDump::new(Pid::this(), "/")).is_err());
    }
}
