//! The process id that the kernel gives next.

use std::thread;

use nix::unistd::gettid;

use crate::value::Pid;

/// Lets the kernel pass over process ids that a restore needs, so that no process started next gets
/// one of them: the criu of a restore is such a process. In a new pid namespace its id is as low as
/// the ids of the tasks.
///
/// The kernel gives ids in ascending order. Each is given to a thread here, which ends at once and
/// frees its id. A tree with many ids in a row may keep some of them in the way.
pub(crate) fn pass_over(wanted: &[Pid]) {
    for _ in 0..MOST {
        let last = thread::Builder::new().spawn(gettid).map(thread::JoinHandle::join);
        let Ok(Ok(last)) = last else { return };
        let is_next =
            |pid: &&Pid| (1..=AHEAD).contains(&pid.as_raw().saturating_sub(last.as_raw()));
        if !wanted.iter().any(|pid| is_next(&pid)) {
            return;
        }
    }
}

/// Number of ids that are to be free of the tree's, for what criu starts itself.
const AHEAD: i32 = 4;

/// Most threads that are started. Each takes some 20 microseconds.
const MOST: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_a_restore_needs_is_passed_over() {
        let last = thread::spawn(gettid).join().unwrap().as_raw();
        let wanted: Vec<Pid> = (1..40).filter_map(|n| Pid::new(last + n)).collect();
        pass_over(&wanted);
        let next = thread::spawn(gettid).join().unwrap().as_raw();
        // Unless the ids have begun anew.
        assert!(next < last || wanted.iter().all(|pid| pid.as_raw() < next), "{last} {next}");
    }
}
