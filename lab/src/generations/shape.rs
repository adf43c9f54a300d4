//! The shape of a process of generations: how much memory it has, and what its threads do.

use crate::oracle::storm::Random;

/// The memory and the threads of a process of generations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Memory of all writers together, in MiB.
    pub mib: usize,
    /// Threads that write.
    pub writers: usize,
    /// The memory of the writers may have huge pages.
    pub huge: bool,
    /// Threads that map, discard, unmap and fork.
    pub churn: usize,
    /// Has mappings of all kinds. Then its threads do not fork: CRIU 4.3 does not restore a memfd
    /// that a process and its child map privately (`async: cannot get ASYNCD_SK fd`).
    pub zoo: bool,
    /// Guard regions are among them, which CRIU saves from 4.2 on.
    pub guards: bool,
    /// Huge pages of the machine's pool are among them.
    pub pool: bool,
    /// The writers write a single generation, and sleep then.
    pub idle: bool,
    /// A thread measures for how long the process stands still.
    pub beat: bool,
    /// A filter kills the process if it forks, waits, polls or closes a range of descriptors.
    pub sealed: bool,
    /// Children of the same shape.
    pub children: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Shape {
    /// A shape with one writer of 16 MiB, and nothing else.
    pub const USUAL: Self = Self {
        mib: 16,
        writers: 1,
        huge: false,
        churn: 0,
        zoo: false,
        guards: false,
        pool: false,
        idle: false,
        beat: false,
        sealed: false,
        children: 0,
    };

    /// A shape by chance, of at most so many MiB in all processes.
    pub fn random(seed: u64, most: usize) -> Self {
        let mut random = Random(seed);
        let children = if random.below(4) == 0 { 1 + random.below(3) } else { 0 };
        let writers = 1 + random.below(5);
        let most = (most / (children + 1)).max(writers * 2);
        Self {
            mib: writers * 2 + random.below(most - writers * 2 + 1),
            writers,
            huge: random.below(2) == 0,
            churn: random.below(3),
            zoo: random.below(3) == 0,
            guards: false,
            pool: false,
            idle: false,
            beat: random.below(2) == 0,
            sealed: false,
            children,
        }
    }

    /// The payload's name and words, for [`Target::start`](crate::Target::start).
    pub fn words(&self) -> Vec<String> {
        let flags = [
            ("huge", self.huge),
            ("zoo", self.zoo),
            ("guards", self.guards),
            ("pool", self.pool),
            ("idle", self.idle),
            ("beat", self.beat),
            ("sealed", self.sealed),
        ];
        let numbers = [
            ("mib", self.mib),
            ("writers", self.writers),
            ("churn", self.churn),
            ("children", self.children),
        ];
        let numbers = numbers.iter().map(|(key, value)| format!("{key}={value}"));
        let flags = flags.iter().map(|(key, value)| format!("{key}={}", u8::from(*value)));
        std::iter::once("generations".to_owned()).chain(numbers).chain(flags).collect()
    }

    pub(super) fn parse(words: &[&str]) -> Self {
        let mut shape = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            let value: usize = value.parse().unwrap();
            match key {
                "mib" => shape.mib = value,
                "writers" => shape.writers = value,
                "huge" => shape.huge = value == 1,
                "churn" => shape.churn = value,
                "zoo" => shape.zoo = value == 1,
                "guards" => shape.guards = value == 1,
                "pool" => shape.pool = value == 1,
                "idle" => shape.idle = value == 1,
                "beat" => shape.beat = value == 1,
                "sealed" => shape.sealed = value == 1,
                "children" => shape.children = value,
                _ => panic!("there is no {key}"),
            }
        }
        shape
    }
}
