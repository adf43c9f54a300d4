//! Signals: reactions of tasks to them, waiting signals, blocked signals.

use std::fmt;

use crate::proto::{CoreEntry, SaEntry, SiginfoEntry, SignalQueueEntry};
use crate::task::{Task, Thread};

/// A signal by its number. Displays with the name of signal(7), real-time signals as "SIGRTMIN+2".
/// Numbers are those of every architecture except MIPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub u32);

/// A set of signals; bit N-1 stands for signal N. Displays as names separated by commas.
///
/// ```
/// use criu_images::SignalSet;
///
/// let set = SignalSet(1 << 0 | 1 << 33);
/// assert_eq!(set.to_string(), "SIGHUP,SIGRTMIN");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

/// The reaction of a task to a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Disposition<'a> {
    /// The signal.
    pub signal: Signal,
    /// The action taken.
    pub action: SignalAction,
    /// All data of the signal in the set.
    pub entry: &'a SaEntry,
}

/// The action that a task takes at a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalAction {
    /// The default of signal(7).
    Default,
    /// The signal is ignored.
    Ignore,
    /// The task calls the handler at this address.
    Handler(u64),
}

/// A signal that was sent and not yet delivered.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pending<'a> {
    /// The signal.
    pub signal: Signal,
    /// `si_code`: 0 if sent by kill(2), above 0 by the kernel, -1 by sigqueue(3).
    pub code: i32,
    /// Pid of the sender, if a process sent the signal.
    pub sender: Option<u32>,
    /// All data of the signal in the set, as the kernel's `siginfo_t`.
    pub entry: &'a SiginfoEntry,
}

impl<'a> Task<'a> {
    /// Reactions to all signals that a task can handle; empty for a zombie.
    pub fn dispositions(&self) -> impl Iterator<Item = Disposition<'a>> {
        // SIGKILL and SIGSTOP cannot be handled: the list leaves them out.
        let numbers = (1..).filter(|number| !matches!(number, 9 | 19));
        self.core().sigactions.iter().zip(numbers).map(|(entry, number)| {
            let action = match entry.sigaction {
                0 => SignalAction::Default,
                1 => SignalAction::Ignore,
                handler => SignalAction::Handler(handler),
            };
            Disposition { signal: Signal(number), action, entry }
        })
    }

    /// Waiting signals that were sent to the whole task, in order.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'a>> {
        pending(self.core().signals_s.as_ref())
    }
}

impl Thread<'_> {
    /// Waiting signals that were sent to this thread, in order.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_>> {
        pending(self.thread_core().and_then(|core| core.signals_p.as_ref()))
    }

    /// Signals that the thread blocks.
    pub fn blocked(&self) -> SignalSet {
        let of = |core: &CoreEntry| core.thread_core.as_ref().and_then(|core| core.blk_sigset);
        if self.tid() == self.task().pid() {
            SignalSet(self.task().core().blk_sigset)
        } else {
            SignalSet(of(self.core()).unwrap_or(0))
        }
    }
}

fn pending(queue: Option<&SignalQueueEntry>) -> impl Iterator<Item = Pending<'_>> {
    let signals = queue.into_iter().flat_map(|queue| &queue.signals);
    signals.map(|entry| {
        let word = |at: usize| {
            let bytes = entry.siginfo.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let code = i32::from_ne_bytes(word(8).to_ne_bytes());
        // With other codes these bytes mean something else, as the id of a timer.
        let sender = [SI_USER, SI_QUEUE, SI_MESGQ, SI_TKILL].contains(&code).then(|| word(16));
        Pending { signal: Signal(word(0)), code, sender, entry }
    })
}

impl SignalSet {
    /// Returns `true` if a signal is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.iter().any(|found| found == signal)
    }

    /// Signals of the set, by rising number.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        (0..64).filter(move |bit| self.0 >> bit & 1 != 0).map(|bit| Signal(bit + 1))
    }
}

impl fmt::Display for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, signal) in self.iter().enumerate() {
            let joint = if i == 0 { "" } else { "," };
            write!(f, "{joint}{signal}")?;
        }
        match self.0 {
            0 => f.write_str("none"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.checked_sub(1).and_then(|index| NAMES.get(index as usize));
        match (name, self.0) {
            (Some(name), _) => write!(f, "SIG{name}"),
            (None, RTMIN) => f.write_str("SIGRTMIN"),
            (None, RTMIN..=64) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            // Signals of the C library itself, or numbers that are not signals.
            (None, other) => write!(f, "signal {other}"),
        }
    }
}

impl fmt::Display for SignalAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Ignore => f.write_str("ignored"),
            Self::Handler(address) => write!(f, "handler {address:#x}"),
        }
    }
}

// Codes of signals that a process has sent.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_MESGQ: i32 = -3;
const SI_TKILL: i32 = -6;
/// The first real-time signal that the C library leaves to programs.
const RTMIN: u32 = 34;

/// Names by number, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
