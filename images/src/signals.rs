//! Signals: what a task does about them, which wait, which are blocked.

use std::fmt;

use crate::proto::{CoreEntry, SaEntry, SiginfoEntry, SignalQueueEntry};
use crate::task::{Task, Thread};

/// A signal by its number. It displays as signal(7) names it, real-time ones as "SIGRTMIN+2", with the
/// numbers that every architecture but MIPS has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub u32);

/// A set of signals; bit N-1 stands for signal N. It displays as names separated by commas.
///
/// ```
/// use criu_images::SignalSet;
///
/// let set = SignalSet(1 << 0 | 1 << 33);
/// assert_eq!(set.to_string(), "SIGHUP,SIGRTMIN");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

/// What a task does at a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Disposition<'a> {
    /// The signal.
    pub signal: Signal,
    /// What it does.
    pub action: SignalAction,
    /// Everything the set has of it.
    pub entry: &'a SaEntry,
}

/// What is done at a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalAction {
    /// What signal(7) says.
    Default,
    /// Nothing.
    Ignore,
    /// The handler at this address is called.
    Handler(u64),
}

/// A signal that has been sent and not yet been taken.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pending<'a> {
    /// The signal.
    pub signal: Signal,
    /// `si_code`: how it was sent; 0 by kill(2), above 0 by the kernel, -1 by sigqueue(3).
    pub code: i32,
    /// Of one that a process has sent: who.
    pub sender: Option<u32>,
    /// Everything the set has of it, as the kernel's `siginfo_t`.
    pub entry: &'a SiginfoEntry,
}

impl<'a> Task<'a> {
    /// What it does at each signal that has a disposition; a zombie has none.
    pub fn dispositions(&self) -> impl Iterator<Item = Disposition<'a>> {
        // No one can say what to do at SIGKILL and SIGSTOP: the list leaves them out.
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

    /// The signals sent to the task as a whole that wait, in order.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'a>> {
        pending(self.core().signals_s.as_ref())
    }
}

impl Thread<'_> {
    /// The signals sent to this thread that wait, in order.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_>> {
        pending(self.thread_core().and_then(|core| core.signals_p.as_ref()))
    }

    /// The signals it does not take.
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
        // Of others the same bytes mean something else, as a timer's id.
        let sender = [SI_USER, SI_QUEUE, SI_MESGQ, SI_TKILL].contains(&code).then(|| word(16));
        Pending { signal: Signal(word(0)), code, sender, entry }
    })
}

impl SignalSet {
    /// Whether a signal is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.iter().any(|found| found == signal)
    }

    /// Its signals, by rising number.
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
            // What the C library keeps for itself, or no signal.
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

// What a process has sent.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_MESGQ: i32 = -3;
const SI_TKILL: i32 = -6;
/// The first that the C library leaves to programs.
const RTMIN: u32 = 34;

/// By number, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
