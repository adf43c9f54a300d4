//! A storm: threads that compare pages while others change, discard and move them, and children.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::memory::{fork, now, wait};
use super::pages::{BLOCK, Pages};
use super::record::Count;
use super::remote::Storm;

/// Runs a storm for its time, and compares all pages then.
pub(crate) fn run(pages: &mut Pages, storm: Storm) -> String {
    pages.record.clear();
    let weather = Weather {
        pages,
        storm,
        blocks: (0..pages.area.pages() / BLOCK).map(|_| RwLock::new(Block::Whole)).collect(),
        spare: RwLock::new(()),
        world: RwLock::new(()),
        changes: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for n in 0..storm.threads {
            let weather = &weather;
            scope.spawn(move || weather.touch(Random(storm.seed.wrapping_add(n << 32))));
        }
        // A thread that starts maps memory.
        let mut random = Random(storm.seed ^ 0x5eed);
        let end = now() + Duration::from_millis(storm.milliseconds);
        while now() < end {
            if storm.forks {
                weather.fork(&mut random);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        weather.over.store(true, Ordering::Relaxed);
    });
    pages.compare_all();
    let mut report = String::new();
    pages.record.write(&mut report);
    report
}

/// The mappings of a block of pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Block {
    /// A single mapping.
    Whole,
    /// Several, perhaps, of which mremap(2) does not move more than one at once.
    Broken,
}

struct Weather<'p> {
    pages: &'p Pages,
    storm: Storm,
    /// Each block of pages: read by those who compare, written by those who change.
    blocks: Vec<RwLock<Block>>,
    spare: RwLock<()>,
    /// Written by the one who forks: no page is in the middle of a change then.
    world: RwLock<()>,
    /// Changes of the layout so far. A process may have some 65,000 mappings.
    changes: AtomicU64,
    over: AtomicBool,
}

impl Weather<'_> {
    fn touch(&self, mut random: Random) {
        while !self.over.load(Ordering::Relaxed) {
            let _world = self.world.read().unwrap();
            let block = random.below(self.blocks.len());
            match random.below(100) {
                0..2 if self.storm.moves && self.may_change() => self.swap(block, &mut random),
                2..4 if self.storm.unmaps && self.may_change() => {
                    let mut own = self.blocks[block].write().unwrap();
                    *own = Block::Broken;
                    let (first, number) = part(&mut random);
                    self.pages.renew(block * BLOCK + first, number);
                }
                4..8 if self.storm.discards => {
                    let _own = self.blocks[block].write().unwrap();
                    let (first, number) = part(&mut random);
                    self.pages.discard(block * BLOCK + first, number);
                }
                8..14 => {
                    let _own = self.blocks[block].write().unwrap();
                    self.pages.write(block * BLOCK + random.below(BLOCK));
                }
                14..20 => {
                    self.pages.check_shared(random.below(1 << 30), random.below(3));
                }
                _ => {
                    let _shared = self.blocks[block].read().unwrap();
                    self.pages.check(block * BLOCK + random.below(BLOCK), random.below(3));
                }
            }
        }
    }

    fn may_change(&self) -> bool {
        self.changes.fetch_add(1, Ordering::Relaxed) < CHANGES
    }

    /// Lets parts of two blocks change places, and compares one of their pages.
    fn swap(&self, one: usize, random: &mut Random) {
        let other = random.below(self.blocks.len());
        if one == other {
            return;
        }
        let _spare = self.spare.write().unwrap();
        let mut low = self.blocks[one.min(other)].write().unwrap();
        let mut high = self.blocks[one.max(other)].write().unwrap();
        let (first, mut number) = part(random);
        if (*low, *high) != (Block::Whole, Block::Whole) {
            number = 1;
        }
        (*low, *high) = (Block::Broken, Block::Broken);
        let (one, other) = (one * BLOCK + first, other * BLOCK + first);
        self.pages.swap(one, other, number);
        self.pages.check(one + random.below(number), random.below(3));
    }

    /// Forks a child that compares pages and changes its own, and a child of that child; waits.
    fn fork(&self, random: &mut Random) {
        let (mut own, mut next) = (Random(random.next()), Random(random.next()));
        let child = {
            let _world = self.world.write().unwrap();
            fork(|| {
                let wrong = self.child(&mut own);
                let grandchild = fork(|| self.child(&mut next));
                i32::from(wait(grandchild) != 0 || wrong != 0)
            })
        };
        let count = if wait(child) == 0 { Count::Children } else { Count::Lost };
        self.pages.record.add(count, 1);
    }

    /// The life of a child, which is the only thread of its process.
    fn child(&self, random: &mut Random) -> i32 {
        let mut right = true;
        for n in 0..LOOKS {
            let block = random.below(self.blocks.len());
            let page = block * BLOCK + random.below(BLOCK);
            match n % 16 {
                3 if self.storm.discards => {
                    let (first, number) = part(random);
                    self.pages.discard(block * BLOCK + first, number);
                }
                5 => self.pages.write(page),
                7 => right &= self.pages.check_shared(page, random.below(3)),
                _ => right &= self.pages.check(page, random.below(3)),
            }
            self.pages.record.add(Count::ByChildren, 1);
        }
        i32::from(!right)
    }
}

/// Returns a part of a block: the first page and the number of pages.
fn part(random: &mut Random) -> (usize, usize) {
    let first = random.below(BLOCK);
    (first, 1 + random.below(BLOCK - first))
}

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// Pages that a child looks at or changes.
const LOOKS: usize = 400;
/// The most changes of the layout in a storm.
const CHANGES: u64 = 6000;
