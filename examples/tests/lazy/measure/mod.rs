//! `--measure [MEBIBYTES] [ROUNDS] [TABLE...]`: lazy restores beside those of CRIU, and beside the
//! bare cost of a copy into missing pages.

mod bare;
mod copies;
mod faults;
mod figures;
mod run;
mod service;

pub use run::{SPIN, spin};

use std::process::ExitCode;

use criu_lab::mounts::OwnMounts;
use criu_lab::{own_network, place, process};
use criu_rs::Criu;

use crate::scene::Scene;

/// The tables, in the order in which they are printed.
const TABLES: &[(&str, Table)] = &[
    ("bare", bare::table),
    ("images", faults::from_images),
    ("server", faults::from_server),
    ("dump", faults::from_dump),
    ("busy", faults::when_busy),
    ("early", faults::early),
    ("service", service::table),
    ("copies", copies::at_once),
    ("many", copies::many),
];

/// Measures and prints.
type Table = fn(&Hall);

/// The place of the measurements.
pub struct Hall {
    pub scene: Scene,
    pub mebibytes: u64,
    pub rounds: usize,
}

/// Measures and prints tables: all, or those that are named.
pub fn run(words: &[String]) -> ExitCode {
    let (numbers, names): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| word.parse::<u64>().is_ok());
    let number = |n: usize, default: u64| numbers.get(n).map_or(default, |n| n.parse().unwrap());
    let (mebibytes, rounds) = (number(0, 1024), number(1, 5));
    process::prepare();
    own_network();
    // Images in memory that nobody else mounts, and a /run in which CRIU keeps its findings.
    let mounts = OwnMounts::with_run("tmpfs");
    let dir = place::scratch("lazy-measure");
    mounts.fresh("tmpfs", &dir);
    let crius = place::crius(|path| Criu::at(path).version()).unwrap();
    let (version, criu) = crius.into_iter().max_by_key(|(version, _)| *version).unwrap();
    let scene = Scene::new(&criu, dir);
    let hall = Hall { scene, mebibytes, rounds: usize::try_from(rounds).unwrap() };
    println!(
        "CRIU {version}, a process of {mebibytes} MiB, images on tmpfs, {rounds} rounds in which \
         the sides take turns; no thread is bound to a processor unless a row says so"
    );
    for (name, table) in TABLES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("\n## {name}\n");
            table(&hall);
        }
    }
    ExitCode::SUCCESS
}
