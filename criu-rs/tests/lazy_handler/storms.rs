//! Memory that threads move, discard and unmap meanwhile.

use criu_lab::lazy::Region;
use criu_rs::lazy::LazyOptions;

use crate::PAGES;
use crate::stage::Stage;
use crate::task::{Dice, Task, WORDS, word};

pub fn storms() {
    let mut stage = Stage::new(LazyOptions::default());
    for _ in 0..2 {
        stage.start("storm", PAGES);
    }
    stage.restoration.complete();
    stage.finish();
}

/// Threads that move, discard, unmap, write and read memory of their own at random.
pub fn storm(task: &Task) {
    const EACH: usize = 2048;
    let seed = u64::from(std::process::id());
    std::thread::scope(|scope| {
        for thread in 0..task.region.pages / EACH {
            let region = task.region.part(thread * EACH, EACH);
            scope.spawn(move || Storm::new(region, thread * EACH, seed + thread as u64).run(400));
        }
    });
}

/// A thread of a storm, which knows what each of its pages holds.
struct Storm {
    region: Region,
    pages: Vec<Page>,
    /// Pages that were moved to where they are.
    is_moved: Vec<bool>,
    dice: Dice,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Page {
    /// Content of the dump, of the page with this number.
    Of(usize),
    Zero,
    /// A number in the first word, which the thread has written.
    Written(u64),
    Unmapped,
}

impl Storm {
    fn new(region: Region, first: usize, seed: u64) -> Self {
        let pages = (first..first + region.pages).map(Page::Of).collect();
        let is_moved = vec![false; region.pages];
        Self { region, pages, is_moved, dice: Dice::new(seed) }
    }

    fn run(&mut self, rounds: u64) {
        for round in 0..rounds {
            let (first, pages) = self.mapped();
            let part = self.region.part(first, pages);
            match self.dice.below(8) {
                0 => {
                    part.discard();
                    self.pages[first..first + pages].fill(Page::Zero);
                }
                1 if round % 4 == 0 => {
                    part.unmap();
                    self.pages[first..first + pages].fill(Page::Unmapped);
                }
                2 => {
                    // Only to where this memory is: the system may have given a hole to others.
                    let (to, room) = self.mapped();
                    let pages = self.together(first, pages.min(room));
                    if first + pages <= to || to + pages <= first {
                        let part = self.region.part(first, pages);
                        part.move_to(self.region.part(to, pages));
                        self.pages.copy_within(first..first + pages, to);
                        self.pages[first..first + pages].fill(Page::Unmapped);
                        self.is_moved[to..to + pages].fill(true);
                    }
                }
                3 => {
                    self.region.set_word(first, 0, round);
                    // The write has brought the rest of the page.
                    self.check(first, 1, Some(round));
                    self.pages[first] = Page::Written(round);
                }
                _ => {
                    let page = first + self.dice.below(pages);
                    self.check(page, 0, None);
                }
            }
        }
        for page in 0..self.pages.len() {
            if self.pages[page] != Page::Unmapped {
                self.check(page, 0, None);
            }
        }
    }

    /// Finds pages in a row that are mapped.
    fn mapped(&mut self) -> (usize, usize) {
        loop {
            let first = self.dice.below(self.pages.len());
            let most = 1 + self.dice.below(40);
            let rest = self.pages[first..].iter().take(most);
            let pages = rest.take_while(|page| **page != Page::Unmapped).count();
            if pages > 0 {
                return (first, pages);
            }
        }
    }

    /// Returns the number of pages that mremap(2) moves in one call: those of one mapping.
    fn together(&self, first: usize, pages: usize) -> usize {
        let moved = &self.is_moved[first..first + pages];
        moved.iter().take_while(|is_moved| !**is_moved).count().max(1)
    }

    /// Checks a page from a word on. Its first word may have been written just now.
    fn check(&self, page: usize, from: usize, written: Option<u64>) {
        let found = |n| self.region.word(page, n);
        if let Some(number) = written {
            assert_eq!(found(0), number);
        }
        let state = self.pages[page];
        for n in WORDS.into_iter().filter(|&n| n >= from) {
            match state {
                Page::Of(origin) => {
                    assert_eq!(found(n), word(origin as u64, n as u64), "{page}, {n}: {state:?}");
                }
                Page::Zero => assert_eq!(found(n), 0, "page {page}, word {n}: {state:?}"),
                Page::Written(number) if n == 0 => assert_eq!(found(0), number),
                Page::Written(_) => break,
                Page::Unmapped => unreachable!("an unmapped page is not read"),
            }
        }
    }
}
