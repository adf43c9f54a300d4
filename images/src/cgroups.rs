//! Cgroups of tasks and threads.

use std::fmt;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::kind;
use crate::proto::CgMemberEntry;
use crate::set::ImageSet;
use crate::task::{Task, Thread};
use crate::text::Text;

impl<'a> Task<'a> {
    /// Cgroups of the task, one of each hierarchy. `None` for a zombie, if cgroups were not saved,
    /// or if the task was in the cgroups of CRIU itself, which CRIU does not save.
    ///
    /// # Errors
    /// The errors of `cgroup.img`; [`ErrorKind::Dangling`] if the image does not have the
    /// combination.
    pub fn cgroups(&self) -> Result<Option<&'a [CgMemberEntry]>> {
        let thread = self.leader().thread_core.as_ref();
        // CRIU before 4.0 has the id in the part of the task.
        let id = thread.and_then(|thread| thread.cg_set).or(self.core().cg_set);
        cgroups(self.set(), id, self.pid())
    }
}

impl Thread<'_> {
    /// Cgroups of the thread, in the form of [`Task::cgroups`].
    ///
    /// # Errors
    /// The errors of [`Task::cgroups`].
    pub fn cgroups(&self) -> Result<Option<&[CgMemberEntry]>> {
        match self.thread_core().and_then(|thread| thread.cg_set) {
            None => self.task().cgroups(),
            id => cgroups(self.task().set(), id, self.tid()),
        }
    }
}

fn cgroups(set: &ImageSet, id: Option<u32>, tid: u32) -> Result<Option<&[CgMemberEntry]>> {
    let Some(id) = id.filter(|id| Some(*id) != set.inventory().root_cg_set) else {
        return Ok(None);
    };
    let found = set.cgroup()?.sets.iter().find(|combination| combination.id == id);
    let found = found.ok_or_else(|| {
        let fault = Fault::from(ErrorKind::Dangling { what: "cgroup set", id: id.into() });
        Error::new(kind::CORE.file_name(tid.into()), fault.field("thread_core_entry", "cg_set"))
    })?;
    Ok(Some(&found.ctls))
}

/// Formats a line of /proc/PID/cgroup without the number of the hierarchy: "cpu:/user.slice".
impl fmt::Display for CgMemberEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Text(&self.name), Text(&self.path))
    }
}
