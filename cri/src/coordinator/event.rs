//! The events of jobs.

use super::step::Step;

/// An event of a job, for whoever watches a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member has registered.
    Registered {
        /// The member's id.
        id: String,
        /// The step: [`Step::PreDump`] or [`Step::PreRestore`].
        step: Step,
    },
    /// A member goes on alone: it names nobody, and nobody has come who names it.
    Alone {
        /// The member's id.
        id: String,
    },
    /// A member has come to a step after the first, and waits for the others.
    Came {
        /// The member's id.
        id: String,
        /// The step.
        step: Step,
    },
    /// All members of a job have come to a step, and go on.
    Passed {
        /// The step.
        step: Step,
        /// The ids of the members that waited.
        ids: Vec<String>,
    },
    /// A job has failed: its members go on without a checkpoint, or are not restored.
    Failed {
        /// The reason, with the name of the member that failed.
        reason: String,
        /// The ids of all members of the job.
        ids: Vec<String>,
    },
}
