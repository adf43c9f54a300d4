//! A process that writes to its memory when it is told to, and knows what each page has to hold.
//!
//! An order is a line in the file FILE.order: a number and words. The answer is in FILE.answer,
//! behind the same number. Both have a fixed length, because CRIU compares the sizes of files that
//! were open.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::counter::{Counter, command};
use crate::oracle::memory::{Area, PAGE};
use crate::oracle::storm::Random;
use crate::within;

/// `FILE MIB small|huge`: the payload.
///
/// | order | what it does | answer |
/// | --- | --- | --- |
/// | `write G` | writes G to a twentieth of the pages, chosen by G | the number of pages |
/// | `check G` | looks whether each page holds what was written up to G | `right`, or an error |
/// | `discard` | discards the last MiB, and fills it with what it had | `done` |
/// | `child` | starts a child of the same kind, with the file `child` | its process id |
/// | `end` | ends the child | `done` |
/// | `exec` | executes itself with empty memory | `done`, from the new program |
pub fn run(words: &[&str]) {
    let (file, mebibytes) = (Path::new(words[0]), words[1].parse::<usize>().unwrap());
    let area = Area::private(mebibytes << 20);
    area.huge(0, area.pages(), words[2] == "huge");
    (0..area.pages()).for_each(|page| write(&area, page, 1));
    let counter = Counter::into(file);
    let (mut done, mut child): (u64, Option<Child>) = (0, None);
    if let Some(order) = words.get(3) {
        done = order.parse().unwrap();
        put(file, "answer", done, "done");
    }
    for n in 2u64.. {
        counter.at(n);
        if let Some((number, text)) = get(file, "order").filter(|(number, _)| *number > done) {
            done = number;
            let order: Vec<&str> = text.split(' ').collect();
            let answer = obey(file, words, &area, &mut child, number, &order);
            put(file, "answer", number, &answer);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn obey(
    file: &Path,
    words: &[&str],
    area: &Area,
    child: &mut Option<Child>,
    number: u64,
    order: &[&str],
) -> String {
    let generation = || order[1].parse::<u64>().unwrap();
    match order[0] {
        "write" => {
            let chosen = (0..area.pages()).filter(|page| is_written(*page, generation()));
            chosen.inspect(|page| write(area, *page, generation())).count().to_string()
        }
        "check" => {
            let wrong = (0..area.pages()).find_map(|page| wrong(area, page, generation()));
            wrong.unwrap_or_else(|| "right".to_owned())
        }
        "discard" => {
            let first = area.pages() - 256;
            let held: Vec<u64> = (first..first + 256).map(|page| area.load(page * PAGE)).collect();
            area.discard(first, 256);
            (first..).zip(held).for_each(|(page, generation)| write(area, page, generation));
            "done".to_owned()
        }
        "child" => {
            let path = file.with_file_name("child");
            let mut command = command(&["orders", words[1], words[2]], &path);
            let started = command.stdin(Stdio::null()).spawn().unwrap();
            let id = started.id().to_string();
            *child = Some(started);
            id
        }
        "end" => {
            if let Some(mut child) = child.take() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            "done".to_owned()
        }
        "exec" => {
            let number = number.to_string();
            let mut command = command(&["orders", words[1], words[2], &number], file);
            format!("{}", command.exec())
        }
        other => format!("{other} is no order"),
    }
}

/// Gives an order, which is done only by a process that has not got one with this number.
pub fn order(file: &Path, number: u64, text: &str) {
    put(file, "order", number, text);
}

/// Waits for the answer to the order with a number.
///
/// # Panics
/// Panics if none comes within half a minute.
#[track_caller]
pub fn answer(file: &Path, number: u64) -> String {
    let mut found = None;
    let is_there = within(Duration::from_secs(30), || {
        found = get(file, "answer").filter(|(of, _)| *of == number);
        found.is_some()
    });
    assert!(is_there, "no answer to order {number}");
    found.unwrap().1
}

fn put(file: &Path, kind: &str, number: u64, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{:100}", format!("{number} {text}"))).unwrap();
    fs::rename(new, file.with_extension(kind)).unwrap();
}

fn get(file: &Path, kind: &str) -> Option<(u64, String)> {
    let text = fs::read_to_string(file.with_extension(kind)).ok()?;
    let (number, words) = text.trim_end().split_once(' ')?;
    Some((number.parse().ok()?, words.to_owned()))
}

fn write(area: &Area, page: usize, generation: u64) {
    area.store(page * PAGE, generation);
    area.store(page * PAGE + PAGE - 8, generation << 32 | page as u64);
}

fn wrong(area: &Area, page: usize, generation: u64) -> Option<String> {
    let last = (2..=generation).rev().find(|of| is_written(page, *of)).unwrap_or(1);
    let (first, end) = (area.load(page * PAGE), area.load(page * PAGE + PAGE - 8));
    let is_right = first == last && end == last << 32 | page as u64;
    (!is_right).then(|| format!("page {page} holds {first} and {end:#x}, not {last}"))
}

/// Chooses a twentieth of the pages.
fn is_written(page: usize, generation: u64) -> bool {
    Random(page as u64 ^ generation << 40).below(20) == 0
}
