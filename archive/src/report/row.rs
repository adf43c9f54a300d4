//! Rows that are objects: processes, and threads with equal credentials.

use criu_images::view::{CapabilitySets, FilterRow, ThreadSecurity};
use serde::Serialize;

/// A process.
#[derive(Serialize)]
pub(super) struct Process<'a> {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) pgid: u32,
    pub(super) sid: u32,
    /// Distance from the root of the tree.
    pub(super) depth: usize,
    pub(super) state: &'a str,
    /// First threads, the process's own before the others.
    pub(super) tids: &'a [u32],
    /// Number of all threads.
    pub(super) threads: usize,
    pub(super) user: Option<u32>,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<String>,
    /// Numbers of the groups that its threads are in.
    pub(super) security: &'a [usize],
    /// Pages of its own, wherever their bytes are.
    pub(super) own: u64,
    /// Pages that its mappings cover.
    pub(super) mapped: u64,
    /// Mappings beyond the bound.
    pub(super) maps_left: u64,
    /// Open files beyond the bound.
    pub(super) files_left: u64,
}

/// Threads with equal credentials and restrictions.
#[derive(Serialize)]
pub(super) struct Group<'a> {
    #[serde(flatten)]
    pub(super) alike: &'a Alike<'a>,
    /// Number of the threads.
    pub(super) threads: usize,
}

/// Credentials of a thread, and what restricts it, without the thread itself.
#[derive(Serialize)]
pub(super) struct Alike<'a> {
    users: &'a [u32; 4],
    groups: &'a [u32; 4],
    other_groups: &'a [u32],
    capabilities: &'a CapabilitySets,
    secure_bits: &'a [&'static str],
    label: &'a Option<String>,
    no_new_privs: bool,
    seccomp: &'static str,
    filters: Vec<Filter<'a>>,
    cgroups: &'a [String],
}

/// A seccomp filter without its place in the image: equal filters may be there twice.
#[derive(Serialize)]
struct Filter<'a> {
    flags: &'a [&'static str],
    instructions: usize,
    summary: &'a str,
}

impl<'a> Filter<'a> {
    fn new(row: &'a FilterRow) -> Self {
        let FilterRow { flags, instructions, summary, .. } = row;
        Self { flags, instructions: *instructions, summary }
    }
}

impl<'a> Alike<'a> {
    pub(super) fn new(thread: &'a ThreadSecurity) -> Self {
        Self {
            users: &thread.users,
            groups: &thread.groups,
            other_groups: &thread.other_groups,
            capabilities: &thread.capabilities,
            secure_bits: &thread.secure_bits,
            label: &thread.label,
            no_new_privs: thread.no_new_privs,
            seccomp: thread.seccomp,
            filters: thread.filters.iter().map(Filter::new).collect(),
            cgroups: &thread.cgroups,
        }
    }
}
