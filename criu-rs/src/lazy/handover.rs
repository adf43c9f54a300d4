//! The hand-over of tasks by `criu restore --lazy-pages`, as a state machine without a socket.
//!
//! A restore makes one connection to `lazy-pages.socket`, over which its tasks hand over one after
//! another, in any order:
//!
//! ```text
//!   task     pid (4 bytes)         0 (1 byte) with a descriptor: the userfaultfd
//!   zombie   -pid (4 bytes)
//!   ...      for each task of the images
//!   end      0x52535446 (4 bytes): all tasks are restored and about to run
//! ```
//!
//! Numbers have the byte order of the machine. A connection that ends before the last word belongs
//! to a restore that has failed.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

/// A hand-over under way.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The tasks with memory that have not handed over.
    tasks: HashSet<u32>,
    /// The zombies that have not been named.
    zombies: HashSet<u32>,
    /// The tasks and zombies that have.
    done: HashSet<u32>,
    /// The bytes of a number that is not complete.
    number: [u8; 4],
    known: usize,
    /// The task whose descriptor comes next.
    current: Option<u32>,
    is_complete: bool,
}

/// A step of a hand-over.
#[derive(Debug)]
pub(crate) enum Step {
    /// A task has handed over its missing pages.
    Task { pid: u32, uffd: OwnedFd },
    /// A zombie is restored.
    Zombie,
    /// All tasks are restored.
    Complete,
}

/// The breach of a rule by a restore that hands over its tasks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The snapshot has no such task, or the task is a zombie there.
    #[error(
        "the restore hands over task {0}, which the images do not have: serve the images that are \
         restored"
    )]
    Stranger(i32),
    /// A task hands over twice.
    #[error("task {0} hands over a second time")]
    Twice(u32),
    /// A task of the snapshot is a zombie of the restore.
    #[error("the restore says that task {0} has ended, and the images hold its memory")]
    NoZombie(u32),
    /// A message carries another number of descriptors than its place in the protocol asks for.
    #[error("a message with {found} descriptors where {wanted} is wanted")]
    Descriptors {
        /// The number of descriptors.
        found: usize,
        /// The number that the protocol has here.
        wanted: usize,
    },
    /// A descriptor is no userfaultfd.
    #[error("task {pid} hands over {found}, where a userfaultfd is wanted")]
    NoUserfaultfd {
        /// The task.
        pid: u32,
        /// The kernel's name of the file.
        found: String,
    },
    /// A byte that goes with a descriptor is not 0.
    #[error("the byte {0:#x} where a descriptor with the byte 0 is wanted")]
    Byte(u8),
    /// The restore says that it is complete, and tasks are missing.
    #[error("the restore says that it is complete, with tasks that have not handed over: {0}")]
    Early(usize),
    /// Bytes come after the end.
    #[error("bytes after the end of the hand-over")]
    Late,
    /// The connection ends before the restore is complete.
    #[error(
        "the restore has failed: its connection ends with tasks that have not handed over: {0}"
    )]
    Failed(usize),
    /// The restore fails after the last task has handed over.
    #[error("the restore has failed: its connection ends before it is complete")]
    Incomplete,
}

impl Handover {
    /// Expects these tasks and zombies, by their pids in the images.
    pub(crate) fn new(
        tasks: impl IntoIterator<Item = u32>,
        zombies: impl IntoIterator<Item = u32>,
    ) -> Self {
        Self {
            tasks: tasks.into_iter().collect(),
            zombies: zombies.into_iter().collect(),
            done: HashSet::new(),
            number: [0; 4],
            known: 0,
            current: None,
            is_complete: false,
        }
    }

    /// Takes bytes, and the descriptors that came with the last of them. Calls `each` for every
    /// step.
    ///
    /// # Errors
    /// The first breach of a rule. Nothing else may be taken afterwards.
    pub(crate) fn receive<E: From<HandoverError>>(
        &mut self,
        bytes: &[u8],
        fds: Vec<OwnedFd>,
        mut each: impl FnMut(Step) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut fds = fds;
        let last = bytes.len().checked_sub(1);
        for (at, byte) in bytes.iter().enumerate() {
            let own = if Some(at) == last { std::mem::take(&mut fds) } else { Vec::new() };
            if let Some(step) = self.byte(*byte, own)? {
                each(step)?;
            }
        }
        Ok(())
    }

    /// Returns true if the restore has said that it is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes the end of the connection.
    ///
    /// # Errors
    /// [`HandoverError::Failed`] and [`HandoverError::Incomplete`] if the restore has failed.
    pub(crate) fn end(&self) -> Result<(), HandoverError> {
        match self.left() {
            _ if self.is_complete => Ok(()),
            0 => Err(HandoverError::Incomplete),
            left => Err(HandoverError::Failed(left)),
        }
    }

    /// Returns the number of tasks, zombies included, that have not handed over.
    fn left(&self) -> usize {
        self.tasks.len() + self.zombies.len() + usize::from(self.current.is_some())
    }

    fn byte(&mut self, byte: u8, fds: Vec<OwnedFd>) -> Result<Option<Step>, HandoverError> {
        let found = fds.len();
        if self.is_complete {
            return Err(HandoverError::Late);
        }
        if let Some(pid) = self.current.take() {
            let mut fds = fds.into_iter();
            return match (fds.next(), fds.next()) {
                (Some(uffd), None) if byte == 0 => Ok(Some(Step::Task { pid, uffd })),
                (Some(_), None) => Err(HandoverError::Byte(byte)),
                _ => Err(HandoverError::Descriptors { found, wanted: 1 }),
            };
        }
        if found > 0 {
            return Err(HandoverError::Descriptors { found, wanted: 0 });
        }
        if let Some(place) = self.number.get_mut(self.known) {
            *place = byte;
        }
        self.known += 1;
        if self.known < self.number.len() {
            return Ok(None);
        }
        self.known = 0;
        self.number(i32::from_ne_bytes(self.number))
    }

    fn number(&mut self, number: i32) -> Result<Option<Step>, HandoverError> {
        let pid = number.unsigned_abs();
        match number {
            COMPLETE if !self.tasks.contains(&pid) => match self.left() {
                0 => {
                    self.is_complete = true;
                    Ok(Some(Step::Complete))
                }
                left => Err(HandoverError::Early(left)),
            },
            0.. if self.tasks.remove(&pid) => {
                self.done.insert(pid);
                self.current = Some(pid);
                Ok(None)
            }
            ..0 if self.zombies.remove(&pid) => {
                self.done.insert(pid);
                Ok(Some(Step::Zombie))
            }
            ..0 if self.tasks.contains(&pid) => Err(HandoverError::NoZombie(pid)),
            _ if self.done.contains(&pid) => Err(HandoverError::Twice(pid)),
            _ => Err(HandoverError::Stranger(number)),
        }
    }
}

/// The last word of a hand-over.
const COMPLETE: i32 = 0x5253_5446;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The answers of a machine to messages: the steps, and the error that ends them.
    fn steps(
        handover: &mut Handover,
        parts: &[(&[u8], usize)],
    ) -> (Vec<String>, Option<HandoverError>) {
        let mut said = Vec::new();
        for (bytes, fds) in parts {
            let fds = (0..*fds).map(|_| File::open("/dev/null").unwrap().into()).collect();
            let result = handover.receive(bytes, fds, |step| {
                said.push(match step {
                    Step::Task { pid, .. } => format!("task {pid}"),
                    Step::Zombie => "zombie".to_owned(),
                    Step::Complete => "complete".to_owned(),
                });
                Ok::<(), HandoverError>(())
            });
            if let Err(error) = result {
                return (said, Some(error));
            }
        }
        (said, None)
    }

    fn two_tasks() -> Handover {
        Handover::new([7, 9], [8])
    }

    const END: [u8; 4] = COMPLETE.to_ne_bytes();

    #[test]
    fn tasks_hand_over_in_any_order_and_in_any_pieces() {
        let (seven, nine, zombie) = (7i32.to_ne_bytes(), 9i32.to_ne_bytes(), (-8i32).to_ne_bytes());
        let mut handover = two_tasks();
        let nine_and_descriptor = [&nine[..], &[0]].concat();
        let parts: &[(&[u8], usize)] = &[
            (&nine_and_descriptor, 1),
            (&zombie[..1], 0),
            (&zombie[1..], 0),
            (&seven, 0),
            (&[0], 1),
            (&END, 0),
        ];
        let (said, error) = steps(&mut handover, parts);
        assert_eq!(error, None);
        assert_eq!(said, ["task 9", "zombie", "task 7", "complete"]);
        assert!(handover.is_complete() && handover.end().is_ok());
        assert_eq!(steps(&mut handover, &[(&[1], 0)]).1, Some(HandoverError::Late));
    }

    #[test]
    fn an_end_before_the_last_word_is_a_failed_restore() {
        let mut handover = two_tasks();
        assert_eq!(handover.end(), Err(HandoverError::Failed(3)));
        let seven = 7i32.to_ne_bytes();
        assert_eq!(steps(&mut handover, &[(&seven, 0)]).1, None);
        assert_eq!(handover.end(), Err(HandoverError::Failed(3)));
        let nine = 9i32.to_ne_bytes();
        let zombie = (-8i32).to_ne_bytes();
        let rest: &[(&[u8], usize)] = &[(&[0], 1), (&nine, 0), (&[0], 1), (&zombie, 0)];
        assert_eq!(steps(&mut handover, rest).1, None);
        assert_eq!(handover.end(), Err(HandoverError::Incomplete));
    }

    #[test]
    fn each_breach_has_its_error() {
        let number = |number: i32| number.to_ne_bytes();
        let breach = |parts: &[(&[u8], usize)]| steps(&mut two_tasks(), parts).1.unwrap();
        let seven = number(7);
        assert_eq!(breach(&[(&number(5), 0)]), HandoverError::Stranger(5));
        assert_eq!(breach(&[(&number(0), 0)]), HandoverError::Stranger(0));
        assert_eq!(breach(&[(&number(8), 0)]), HandoverError::Stranger(8));
        assert_eq!(breach(&[(&number(i32::MIN), 0)]), HandoverError::Stranger(i32::MIN));
        assert_eq!(breach(&[(&number(-7), 0)]), HandoverError::NoZombie(7));
        assert_eq!(breach(&[(&seven, 0), (&[0], 1), (&seven, 0)]), HandoverError::Twice(7));
        let zombie = number(-8);
        assert_eq!(breach(&[(&zombie, 0), (&zombie, 0)]), HandoverError::Twice(8));
        assert_eq!(breach(&[(&seven, 0), (&[1], 1)]), HandoverError::Byte(1));
        assert_eq!(breach(&[(&END, 0)]), HandoverError::Early(3));
        let descriptors = |found, wanted| HandoverError::Descriptors { found, wanted };
        assert_eq!(breach(&[(&seven, 1)]), descriptors(1, 0));
        assert_eq!(breach(&[(&seven, 0), (&[0], 0)]), descriptors(0, 1));
        assert_eq!(breach(&[(&seven, 0), (&[0], 2)]), descriptors(2, 1));
    }

    #[test]
    fn a_task_whose_pid_is_the_last_word_is_a_task() {
        let pid = u32::try_from(COMPLETE).unwrap();
        let mut handover = Handover::new([pid], []);
        let (said, error) = steps(&mut handover, &[(&END, 0), (&[0], 1), (&END, 0)]);
        assert_eq!((said.len(), error), (2, None));
        assert!(handover.is_complete());
    }

    #[test]
    fn an_error_of_the_caller_ends_the_machine() {
        #[derive(Debug)]
        struct Refused;
        impl From<HandoverError> for Refused {
            fn from(_: HandoverError) -> Self {
                Self
            }
        }
        let mut handover = Handover::new([], [8]);
        let result = handover.receive(&(-8i32).to_ne_bytes(), Vec::new(), |_| Err(Refused));
        assert!(result.is_err());
    }
}
