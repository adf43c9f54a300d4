//! The actions CRIU stops at, as methods.

use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use crate::value::{External, InvalidValue, Pid};

/// What a hook returns when it refuses.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What a hook returns: `Ok` lets CRIU go on, `Err` refuses.
pub type HookResult<T = ()> = std::result::Result<T, HookError>;

/// The caller's part in an operation: one method for each action CRIU stops at and waits in.
///
/// A dump comes by pre-dump, network-lock (with a network namespace of its own, or connections to
/// keep), query-ext-files, post-dump and, where the tasks run on, network-unlock. A restore comes by
/// pre-restore, setup-namespaces and post-setup-namespaces (with namespaces of its own), post-restore,
/// network-unlock, pre-resume and post-resume.
///
/// Every method lets CRIU go on unless it is overridden. An `Err` is answered with a refusal and
/// comes back as [`Error::Hook`](crate::Error::Hook) with its source. What a refusal does:
///
/// | action | refused |
/// | --- | --- |
/// | pre-dump, network-lock, query-ext-files, post-dump | the dump fails, the tasks run on, no checkpoint is left |
/// | pre-restore, setup-namespaces, post-setup-namespaces, post-restore | the restore fails, nothing it made is left |
/// | network-unlock, pre-resume, post-resume of a restore | CRIU itself would go on; this crate ends it before the tasks run (post-resume: as they begin to), so that a refused restore leaves nothing either way. A service is not ours to end: there the tasks are killed once it is done |
/// | network-unlock of a dump | CRIU goes on, the tasks run; the checkpoint is removed |
/// | orphan-pts-master, status-ready, pre-stream | the operation fails |
///
/// ```
/// use criu_rs::{HookResult, Hooks, Pid};
///
/// #[derive(Default)]
/// struct Watch { root: Option<Pid> }
///
/// impl Hooks for Watch {
///     fn post_restore(&mut self, root: Pid) -> HookResult {
///         self.root = Some(root);
///         Ok(())
///     }
/// }
/// ```
pub trait Hooks {
    /// `pre-stream`: before the streamer's socket is connected.
    fn pre_stream(&mut self) -> HookResult {
        Ok(())
    }

    /// `pre-dump`: before the tasks are frozen.
    fn pre_dump(&mut self) -> HookResult {
        Ok(())
    }

    /// `post-dump`: the images are written, the tasks still frozen.
    fn post_dump(&mut self) -> HookResult {
        Ok(())
    }

    /// `pre-restore`: before anything is made.
    fn pre_restore(&mut self) -> HookResult {
        Ok(())
    }

    /// `post-restore`: everything is made, the tasks still held. `root` is the root task.
    fn post_restore(&mut self, root: Pid) -> HookResult {
        let _ = root;
        Ok(())
    }

    /// `network-lock`: cut the network of the tasks' namespace.
    fn network_lock(&mut self) -> HookResult {
        Ok(())
    }

    /// `network-unlock`: give it back.
    fn network_unlock(&mut self) -> HookResult {
        Ok(())
    }

    /// `setup-namespaces`: the root task `root` is there with its namespaces, still empty.
    fn setup_namespaces(&mut self, root: Pid) -> HookResult {
        let _ = root;
        Ok(())
    }

    /// `post-setup-namespaces`: the namespaces are filled.
    fn post_setup_namespaces(&mut self) -> HookResult {
        Ok(())
    }

    /// `pre-resume`: the last moment before the tasks run.
    fn pre_resume(&mut self) -> HookResult {
        Ok(())
    }

    /// `post-resume`: the tasks run.
    fn post_resume(&mut self) -> HookResult {
        Ok(())
    }

    /// `orphan-pts-master`: the master of a pseudo terminal whose slave a restored task has open.
    /// Sent once a terminal, when [`Restore::orphan_pts_master`](crate::Restore::orphan_pts_master)
    /// asks for it. Not overridden, it closes the master.
    fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        drop(master);
        Ok(())
    }

    /// `status-ready`: a lazy dump listens.
    fn status_ready(&mut self) -> HookResult {
        Ok(())
    }

    /// `query-ext-files`: the tasks are frozen; what it returns is added to the external resources.
    fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
        Ok(Vec::new())
    }

    /// An action that this crate does not know, with the descriptors that came along.
    fn other(&mut self, action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
        let _ = (action, root, fds);
        Ok(())
    }
}

/// No hooks: CRIU goes on at every action.
impl Hooks for () {}

/// Methods that hand an action on to the hooks in a field.
#[cfg(feature = "oci")]
macro_rules! hand_on {
    ($field:ident: $($method:ident),* $(,)?) => {
        $(crate::hooks::hand_on!(@ $field $method);)*
    };
    (@ $field:ident setup_namespaces) => {
        fn setup_namespaces(&mut self, root: crate::value::Pid) -> crate::hooks::HookResult {
            self.$field.setup_namespaces(root)
        }
    };
    (@ $field:ident post_restore) => {
        fn post_restore(&mut self, root: crate::value::Pid) -> crate::hooks::HookResult {
            self.$field.post_restore(root)
        }
    };
    (@ $field:ident orphan_pts_master) => {
        fn orphan_pts_master(&mut self, master: std::os::fd::OwnedFd) -> crate::hooks::HookResult {
            self.$field.orphan_pts_master(master)
        }
    };
    (@ $field:ident query_ext_files) => {
        fn query_ext_files(&mut self) -> crate::hooks::HookResult<Vec<crate::value::External>> {
            self.$field.query_ext_files()
        }
    };
    (@ $field:ident other) => {
        fn other(
            &mut self,
            action: &str,
            root: Option<crate::value::Pid>,
            fds: Vec<std::os::fd::OwnedFd>,
        ) -> crate::hooks::HookResult {
            self.$field.other(action, root, fds)
        }
    };
    (@ $field:ident $method:ident) => {
        fn $method(&mut self) -> crate::hooks::HookResult {
            self.$field.$method()
        }
    };
}

#[cfg(feature = "oci")]
pub(crate) use hand_on;

/// Hooks of a caller's, and what else there is to do at one action when they have agreed.
pub(crate) struct At<'a, F> {
    pub(crate) hooks: &'a mut dyn Hooks,
    pub(crate) action: Action,
    pub(crate) then: F,
}

impl<F: FnMut() -> HookResult> At<'_, F> {
    fn then(&mut self, action: Action) -> HookResult {
        if action == self.action { (self.then)() } else { Ok(()) }
    }
}

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*) $action:ident,)*) => {
        $(fn $method(&mut self $(, $argument: $type)*) -> HookResult {
            self.hooks.$method($($argument),*)?;
            self.then(Action::$action)
        })*
    };
}

impl<F: FnMut() -> HookResult> Hooks for At<'_, F> {
    pass_on! {
        pre_stream() PreStream,
        pre_dump() PreDump,
        post_dump() PostDump,
        pre_restore() PreRestore,
        post_restore(root: Pid) PostRestore,
        network_lock() NetworkLock,
        network_unlock() NetworkUnlock,
        setup_namespaces(root: Pid) SetupNamespaces,
        post_setup_namespaces() PostSetupNamespaces,
        pre_resume() PreResume,
        post_resume() PostResume,
        orphan_pts_master(master: OwnedFd) OrphanPtsMaster,
        status_ready() StatusReady,
        other(action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) Other,
    }

    fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
        self.hooks.query_ext_files()
    }
}

macro_rules! actions {
    ($($variant:ident = $name:literal,)*) => {
        /// An action CRIU stops at, in the order of CRIU's own list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Action {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// One this crate does not know.
            Other,
        }

        impl Action {
            /// Every known action.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// CRIU's name for it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "unknown",
                }
            }
        }
    };
}

actions! {
    PreStream = "pre-stream",
    PreDump = "pre-dump",
    PostDump = "post-dump",
    PreRestore = "pre-restore",
    PostRestore = "post-restore",
    NetworkLock = "network-lock",
    NetworkUnlock = "network-unlock",
    SetupNamespaces = "setup-namespaces",
    PostSetupNamespaces = "post-setup-namespaces",
    PreResume = "pre-resume",
    PostResume = "post-resume",
    OrphanPtsMaster = "orphan-pts-master",
    StatusReady = "status-ready",
    QueryExtFiles = "query-ext-files",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL
            .iter()
            .copied()
            .find(|action| action.name() == text)
            .ok_or_else(|| InvalidValue::new("an action", text, "one of CRIU's, such as pre-dump"))
    }
}
