//! A criu that is killed while the plugin works: its tasks go on unharmed, and what is left behind
//! can be removed.
//!
//! The dumps fail after the plugin's hook, before CRIU runs code of its own in the tasks. A CRIU
//! that is killed later ends some of them, with the plugin and without it.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{Duration, Instant};

use criu_lab::process::{children, state};
use criu_plugin::inject;
use criu_plugin::journal::{Field, HEAD_WORDS, State};

use crate::held::{owner, remove};
use crate::lab::{Lab, Ledger, Target, TestFn, started};

pub const TESTS: &[(&str, TestFn)] = &[("a_criu_killed_in_the_plugin_harms_nobody", killed)];

/// Waits until a word of a journal has at least this value.
fn wait_for(ledger: &Ledger, word: usize, value: u64) {
    let (file, at) = (ledger.file(), u64::try_from(word * 8).unwrap());
    let (mut bytes, begin) = ([0; 8], Instant::now());
    while u64::from_le_bytes(bytes) < value {
        file.read_exact_at(&mut bytes, at).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30), "the plugin does not come that far");
    }
}

fn killed(lab: &Lab) {
    let target = lab.start(&["apart", "2", "0", "small:4096", "huge:2048"]);
    // CRIU calls the script for tasks with a network of their own, right after the plugin.
    let script = lab.dir.join("script");
    std::fs::write(&script, "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != network-lock ]\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let more = ["--leave-running", "--action-script", script.to_str().unwrap()];
    let count = std::env::var("CRIU_RS_TEST_KILLED_ROUNDS").map_or(10, |n| n.parse().unwrap());
    let mut random = started(target.pid) ^ (u64::from(std::process::id()) << 32);
    let (mut found, mut span) = ([[0; 3]; 3], None);
    for round in 0..=count {
        let ledger = Ledger::new(0, &[(target.pid, State::Wanted)]);
        let images = lab.dir.join("images");
        let mut command = lab.command(&images, target.pid, &more);
        let mut criu = ledger.pass_to(&mut command, lab).spawn().unwrap();
        wait_for(&ledger, HEAD_WORDS + Field::State as usize, State::Forking as u64);
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        if let Some(span) = span {
            spin(Duration::from_micros((random >> 33) % span));
            criu.kill().unwrap();
        }
        let begin = Instant::now();
        criu.wait().unwrap();
        // The first criu lives, and shows how long it all takes.
        span = span.or(u64::try_from(begin.elapsed().as_micros()).ok());
        let state = match ledger.record(target.pid).state {
            State::Forking => 0,
            State::Held => 1,
            State::Ended => 2,
            state => panic!("{state:?}"),
        };
        found[state][clean(&target)] += 1;
        assert!(target.goes_on() > 1, "round {round}");
        std::fs::remove_dir_all(images).unwrap();
    }
    for (state, left) in ["forking", "held", "ended"].iter().zip(found) {
        println!("killed while {state}: nothing, a holder, a dead child are left: {left:?}");
    }
}

/// Removes what a killed criu has left behind. Returns 1 for a holder, and 2 for a dead child.
fn clean(target: &Target) -> usize {
    let mut left = 0;
    let begin = Instant::now();
    loop {
        let all = children(target.pid);
        let Some(&child) = all.first() else { return left };
        assert_eq!(all.len(), 1, "{all:?}");
        if inject::parked(child) == Some(owner()) {
            left = 1;
            remove(target.pid, child);
        } else if state(child) == Some('Z') {
            left = 2;
            remove(target.pid, child);
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "{child} stays, {:?}", state(child));
    }
}

fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
