//! `--measure [CONNECTIONS] [DUMPS] [MEBIBYTES]`: honest dumps at once, with and without an attack.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use criu_lab::{place, process};
use criu_rs::Criu;

use crate::attack::{ALL as KINDS, Attack, STRANGERS, Seen};
use crate::scene::{Scene, Target};

/// Measures and prints a table. Fails if a dump fails, or the slowest takes more than twice as long
/// as without an attack.
pub fn run(words: &[String]) -> ExitCode {
    let number =
        |n: usize, default: usize| words.get(n).map_or(default, |word| word.parse().unwrap());
    let (connections, dumps, mebibytes) = (number(0, 1000), number(1, 16), number(2, 64));
    process::prepare();
    let crius = place::crius(|path| Criu::at(path).version()).unwrap();
    let (version, criu): (_, PathBuf) =
        crius.into_iter().max_by_key(|(version, _)| *version).unwrap();
    let scene = Scene::new(&criu, place::scratch("attack"));
    let targets = scene.targets(dumps, mebibytes.try_into().unwrap());
    println!(
        "CRIU {version}, {dumps} dumps of {mebibytes} MiB at once, {connections} hostile connections\n\n\
         | attackers | failed dumps | fastest | slowest | connections made | ended by the server |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut ratios = Vec::new();
    let mut failed = 0;
    for (who, words) in [("another user", &[][..]), ("a user who may connect", &["--other-users"])]
    {
        let mut slowest = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let quiet = round(&scene, &targets, words, 0);
            let attacked = round(&scene, &targets, words, connections);
            for (round, slowest) in [quiet, attacked].iter().zip(&mut slowest) {
                failed += round.failed;
                slowest.push(round.slowest);
            }
            print_row("nobody", &quiet);
            print_row(who, &attacked);
        }
        let [quiet, attacked] = slowest.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        ratios.push((who, attacked.as_secs_f64() / quiet.as_secs_f64()));
    }
    println!();
    for (who, ratio) in &ratios {
        println!(
            "the slowest dump takes {ratio:.2} times as long under attack by {who} (median of {ROUNDS})"
        );
    }
    drop(targets);
    let _ = std::fs::remove_dir_all(&scene.dir);
    if failed == 0 && ratios.iter().all(|(_, ratio)| *ratio <= MOST) {
        return ExitCode::SUCCESS;
    }
    println!("{failed} dumps failed; at most {MOST} times as long is allowed");
    ExitCode::FAILURE
}

/// The dumps of a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    failed: usize,
    fastest: Duration,
    slowest: Duration,
    seen: Seen,
}

fn round(scene: &Scene, targets: &[Target], words: &[&str], connections: usize) -> Round {
    let words = [&["--sessions", "unlimited", "--each"][..], words].concat();
    let server = scene.serve("pages", &words, 1024);
    let attack = Attack::begin(server.address, &STRANGERS, connections, &KINDS);
    if connections > 0 {
        // All have connected, and those that were refused have tried again.
        thread::sleep(Duration::from_secs(3));
    }
    let outcomes = scene.dump("dump", targets, &server);
    let seen = attack.end();
    drop(server);
    std::fs::remove_dir_all(scene.dir.join("pages")).unwrap();
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        println!("failed: {}", error.trim_end());
    }
    let times: Vec<Duration> = outcomes.iter().flatten().copied().collect();
    let failed = outcomes.len() - times.len();
    let (fastest, slowest) = (times.iter().min(), times.iter().max());
    let [fastest, slowest] = [fastest, slowest].map(|time| time.copied().unwrap_or_default());
    Round { failed, fastest, slowest, seen }
}

fn print_row(who: &str, round: &Round) {
    let Round { failed, fastest, slowest, seen } = round;
    let [fastest, slowest] = [fastest, slowest].map(Duration::as_secs_f64);
    let Seen { connected, ended, .. } = seen;
    println!("| {who} | {failed} | {fastest:.2} s | {slowest:.2} s | {connected} | {ended} |");
}

/// The rounds with and without each attack.
const ROUNDS: usize = 3;
/// The most times that the slowest dump may take as long.
const MOST: f64 = 2.0;
