//! CRIU's actions, and the caller's methods that answer them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::str::FromStr;

use crate::value::{External, InvalidValue, Pid};

/// The error that a hook returns to refuse an action.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// The answer of a hook: `Ok` lets CRIU go on, `Err` refuses.
pub type HookResult<T = ()> = std::result::Result<T, HookError>;

/// An action that CRIU has reached.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// The action.
    pub action: Action,
    /// The action's name, as CRIU sent it.
    pub name: String,
    /// The root task. CRIU sends it with setup-namespaces and post-restore.
    pub root: Option<Pid>,
    /// Descriptors that CRIU sent along: one with orphan-pts-master, any number with an unknown
    /// action.
    pub fds: Vec<OwnedFd>,
}

impl Call {
    pub(crate) fn new(action: Action) -> Self {
        Self { action, name: action.name().to_owned(), root: None, fds: Vec::new() }
    }

    fn root(&self) -> HookResult<Pid> {
        self.root.ok_or_else(|| "the notification lacks the root task".into())
    }
}

/// Hooks that hand every action on to other hooks, and do something of their own beside that.
pub(crate) trait Wrap {
    /// Answers an action.
    fn wrap(&mut self, call: Call) -> HookResult<Vec<External>>;
}

/// Makes everything that knows the actions out of one row an action: [`Hooks`], [`Action`], the
/// call of the right method, and hooks that wrap others.
macro_rules! actions {
    ($(
        $(#[$doc:meta])*
        $variant:ident $name:literal => $method:ident($($argument:ident: $type:ident)?)
            $(-> $answer:ident<$item:ident>)?;
    )*) => {
        /// The caller's part in an operation: one method for each action that CRIU stops at and
        /// waits in.
        ///
        /// A dump passes pre-dump, network-lock (if the tasks have a network namespace of their own
        /// or connections to keep), query-ext-files, post-dump and, if the tasks run on,
        /// network-unlock. A restore passes pre-restore, setup-namespaces and post-setup-namespaces
        /// (if the tasks have namespaces of their own), post-restore, network-unlock, pre-resume
        /// and post-resume.
        ///
        /// A method that is not overridden lets CRIU go on. An `Err` refuses the action, and comes
        /// back as [`Error::Hook`](crate::Error::Hook) with its source. A refusal has these
        /// effects:
        ///
        /// * pre-dump, network-lock, query-ext-files, post-dump: the dump fails, the tasks run on,
        ///   and no checkpoint is left.
        /// * pre-restore, setup-namespaces, post-setup-namespaces, post-restore: the restore fails,
        ///   and nothing it made is left.
        /// * network-unlock, pre-resume, post-resume of a restore: CRIU itself would go on. This
        ///   crate ends criu before the tasks run (at post-resume: as they begin to run), so
        ///   nothing is left either. This crate cannot end a service: there it kills the tasks once
        ///   the restore is done.
        /// * network-unlock of a dump: CRIU goes on and the tasks run. The checkpoint is removed.
        /// * orphan-pts-master, status-ready, pre-stream: the operation fails.
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
            $(
                $(#[$doc])*
                fn $method(&mut self $(, $argument: $type)?) -> HookResult$(<$answer<$item>>)? {
                    $(let _ = $argument;)?
                    Ok(Default::default())
                }
            )*

            /// An action that this crate does not know, with the descriptors that CRIU sent along.
            fn other(&mut self, action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
                let _ = (action, root, fds);
                Ok(())
            }
        }

        /// An action that CRIU stops at, in the order of CRIU's own list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Action {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// An action that this crate does not know.
            Other,
        }

        impl Action {
            /// Every known action.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns CRIU's name for the action.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "unknown",
                }
            }
        }

        impl Call {
            /// Calls the method of the action. Returns the external resources that query-ext-files
            /// adds.
            pub(crate) fn answer<H: Hooks + ?Sized>(
                self,
                hooks: &mut H,
            ) -> HookResult<Vec<External>> {
                match self.action {
                    $(Action::$variant => actions!(@call self, hooks, $method, $($type)?),)*
                    Action::Other => {
                        hooks.other(&self.name, self.root, self.fds).map(|()| Vec::new())
                    }
                }
            }
        }

        impl<W: Wrap> Hooks for W {
            $(
                fn $method(&mut self $(, $argument: $type)?) -> HookResult$(<$answer<$item>>)? {
                    let call = Call::new(Action::$variant);
                    let call = actions!(@with call, $($argument: $type)?);
                    actions!(@result self.wrap(call), $($answer)?)
                }
            )*

            fn other(&mut self, action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
                let (action, name) = (Action::Other, action.to_owned());
                self.wrap(Call { action, name, root, fds }).map(drop)
            }
        }
    };
    (@call $call:ident, $hooks:ident, query_ext_files,) => { $hooks.query_ext_files() };
    (@call $call:ident, $hooks:ident, $method:ident,) => { $hooks.$method().map(|()| Vec::new()) };
    (@call $call:ident, $hooks:ident, $method:ident, Pid) => {
        $call.root().and_then(|root| $hooks.$method(root)).map(|()| Vec::new())
    };
    (@call $call:ident, $hooks:ident, $method:ident, OwnedFd) => {
        $call.fds.into_iter().try_for_each(|fd| $hooks.$method(fd)).map(|()| Vec::new())
    };
    (@with $call:ident,) => { $call };
    (@with $call:ident, $argument:ident: Pid) => { Call { root: Some($argument), ..$call } };
    (@with $call:ident, $argument:ident: OwnedFd) => { Call { fds: vec![$argument], ..$call } };
    (@result $result:expr,) => { $result.map(drop) };
    (@result $result:expr, $answer:ident) => { $result };
}

actions! {
    /// `pre-stream`: CRIU is about to connect to the image streamer's socket.
    PreStream "pre-stream" => pre_stream();

    /// `pre-dump`: the tasks are about to be frozen.
    PreDump "pre-dump" => pre_dump();

    /// `post-dump`: the images are written, and the tasks are still frozen.
    PostDump "post-dump" => post_dump();

    /// `pre-restore`: nothing has been made yet.
    PreRestore "pre-restore" => pre_restore();

    /// `post-restore`: everything is made, and the tasks are still held. `root` is the root task.
    PostRestore "post-restore" => post_restore(root: Pid);

    /// `network-lock`: the hook cuts the network of the tasks' namespace.
    NetworkLock "network-lock" => network_lock();

    /// `network-unlock`: the hook gives the network back.
    NetworkUnlock "network-unlock" => network_unlock();

    /// `setup-namespaces`: the root task `root` exists, and its namespaces are still empty.
    SetupNamespaces "setup-namespaces" => setup_namespaces(root: Pid);

    /// `post-setup-namespaces`: the namespaces are filled.
    PostSetupNamespaces "post-setup-namespaces" => post_setup_namespaces();

    /// `pre-resume`: the last moment before the tasks run.
    PreResume "pre-resume" => pre_resume();

    /// `post-resume`: the tasks run.
    PostResume "post-resume" => post_resume();

    /// `orphan-pts-master`: the hook receives the master of a pseudo terminal whose slave a
    /// restored task has open.
    ///
    /// CRIU sends it once for each terminal, if
    /// [`Restore::orphan_pts_master`](crate::Restore::orphan_pts_master) asks for it. The default
    /// closes the master.
    OrphanPtsMaster "orphan-pts-master" => orphan_pts_master(master: OwnedFd);

    /// `status-ready`: a lazy dump listens.
    StatusReady "status-ready" => status_ready();

    /// `query-ext-files`: the tasks are frozen. The hook returns external resources to add to those
    /// of the dump.
    QueryExtFiles "query-ext-files" => query_ext_files() -> Vec<External>;
}

/// No hooks: CRIU goes on at every action.
impl Hooks for () {}

/// The caller's hooks, and one more step at one action, after they have agreed.
pub(crate) struct At<'a, F> {
    pub(crate) hooks: &'a mut dyn Hooks,
    pub(crate) action: Action,
    pub(crate) then: F,
}

impl<F: FnMut() -> HookResult> Wrap for At<'_, F> {
    fn wrap(&mut self, call: Call) -> HookResult<Vec<External>> {
        let action = call.action;
        let externals = call.answer(self.hooks)?;
        if action == self.action {
            (self.then)()?;
        }
        Ok(externals)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = InvalidValue;

    /// Reads CRIU's name of an action.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL
            .iter()
            .copied()
            .find(|action| action.name() == text)
            .ok_or_else(|| InvalidValue::new("an action", text, "one of CRIU's, such as pre-dump"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the methods that are called.
    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Hooks for Notes {
        fn pre_dump(&mut self) -> HookResult {
            self.0.push("pre_dump".into());
            Ok(())
        }

        fn post_restore(&mut self, root: Pid) -> HookResult {
            self.0.push(format!("post_restore {root}"));
            Ok(())
        }

        fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
            self.0.push("query_ext_files".into());
            Ok(vec![External::UnixSocket(7)])
        }

        fn orphan_pts_master(&mut self, _master: OwnedFd) -> HookResult {
            self.0.push("orphan_pts_master".into());
            Ok(())
        }

        fn other(&mut self, action: &str, _root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
            self.0.push(format!("{action} with {} descriptors", fds.len()));
            Ok(())
        }
    }

    #[test]
    fn wrapped_hooks_see_every_call_whichever_way_it_comes() {
        let mut notes = Notes::default();
        let mut steps = 0;
        let then = || {
            steps += 1;
            Ok(())
        };
        let mut at = At { hooks: &mut notes, action: Action::PostRestore, then };
        at.pre_dump().unwrap();
        at.post_restore(Pid::this()).unwrap();
        Call { root: Some(Pid::this()), ..Call::new(Action::PostRestore) }.answer(&mut at).unwrap();
        assert_eq!(at.query_ext_files().unwrap(), [External::UnixSocket(7)]);
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        at.orphan_pts_master(null()).unwrap();
        at.other("new", None, vec![null(), null()]).unwrap();
        assert_eq!(steps, 2);
        let this = Pid::this();
        let restored = format!("post_restore {this}");
        let want = [
            "pre_dump",
            &restored,
            &restored,
            "query_ext_files",
            "orphan_pts_master",
            "new with 2 descriptors",
        ];
        assert_eq!(notes.0, want);
    }

    #[test]
    fn a_call_that_lacks_the_root_is_refused() {
        let error = Call::new(Action::PostRestore).answer(&mut Notes::default()).unwrap_err();
        assert!(error.to_string().contains("lacks the root task"), "{error}");
    }
}
