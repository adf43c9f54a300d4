//! Dumps of trees with holders of instant captures.

use crate::error::Result;
use crate::host::holders::below;
use crate::sys::proc::Stat;
use crate::value::Pid;

/// A holder that the plugin hides from CRIU, by its number and the time of its start.
pub(crate) type Hidden = (Pid, u64);

/// Refuses a tree in which a process holds memory for an instant capture: CRIU would save that
/// process. Holders whose reader has ended are cleared up first.
///
/// # Errors
/// [`Error::Holder`](crate::error::Error::Holder) if somebody reads the holder;
/// [`Error::System`](crate::error::Error::System) if what is left of others cannot be cleared up.
pub(crate) fn refuse_holders(root: Pid, hidden: &[Hidden]) -> Result<()> {
    if below(root).is_empty() {
        return Ok(());
    }
    #[cfg(feature = "instant")]
    crate::undo::clear_orphans(root, false)?;
    let is_hidden = |holder: Pid| {
        let start = Stat::of(holder.as_raw()).map(|stat| stat.start);
        hidden.iter().any(|(pid, since)| *pid == holder && Some(*since) == start)
    };
    let mut others = below(root).into_iter().filter(|found| !is_hidden(found.holder));
    others.find_map(|found| found.alive()).map_or(Ok(()), |holder| Err(holder.into()))
}
