//! Hooks of the caller beside those of a member.

use std::fmt;
use std::os::fd::OwnedFd;

use criu_rs::{External, HookResult, Hooks, Pid};

use super::member::Member;

/// The hooks of a caller, and after each the same hook of a member: the member comes to a step when
/// the caller's part of it is done.
pub struct Joined<'h> {
    member: &'h mut Member,
    hooks: &'h mut dyn Hooks,
}

impl<'h> Joined<'h> {
    /// Both hooks as one.
    pub fn new(member: &'h mut Member, hooks: &'h mut dyn Hooks) -> Self {
        Self { member, hooks }
    }
}

impl Hooks for Joined<'_> {
    fn pre_stream(&mut self) -> HookResult {
        self.hooks.pre_stream()
    }

    fn pre_dump(&mut self) -> HookResult {
        self.hooks.pre_dump()?;
        self.member.pre_dump()
    }

    fn post_dump(&mut self) -> HookResult {
        self.hooks.post_dump()?;
        self.member.post_dump()
    }

    fn pre_restore(&mut self) -> HookResult {
        self.hooks.pre_restore()?;
        self.member.pre_restore()
    }

    fn post_restore(&mut self, root: Pid) -> HookResult {
        self.hooks.post_restore(root)?;
        self.member.post_restore(root)
    }

    fn network_lock(&mut self) -> HookResult {
        self.hooks.network_lock()?;
        self.member.network_lock()
    }

    fn network_unlock(&mut self) -> HookResult {
        self.hooks.network_unlock()?;
        self.member.network_unlock()
    }

    fn setup_namespaces(&mut self, root: Pid) -> HookResult {
        self.hooks.setup_namespaces(root)
    }

    fn post_setup_namespaces(&mut self) -> HookResult {
        self.hooks.post_setup_namespaces()
    }

    fn pre_resume(&mut self) -> HookResult {
        self.hooks.pre_resume()
    }

    fn post_resume(&mut self) -> HookResult {
        self.hooks.post_resume()?;
        self.member.post_resume()
    }

    fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.hooks.orphan_pts_master(master)
    }

    fn status_ready(&mut self) -> HookResult {
        self.hooks.status_ready()
    }

    fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
        self.hooks.query_ext_files()
    }

    fn other(&mut self, action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
        self.hooks.other(action, root, fds)
    }
}

impl fmt::Debug for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("member", &self.member).finish_non_exhaustive()
    }
}
