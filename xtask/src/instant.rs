//! `cargo xtask instant`: instant captures of processes at full speed, restored, or under faults.

use crate::misunderstood::Misunderstood;
use crate::workspace::cargo;
use crate::{Result, process, session, setup};

/// Does so many dumps with restores, or with `faults` so many rounds, with each CRIU; prints what
/// they have shown.
pub(crate) fn run(words: &[&str], faults: bool) -> Result<()> {
    let is_one_too_many = |(at, word): &(usize, &&str)| *at > 1 || word.parse::<u64>().is_err();
    if let Some((_, word)) = words.iter().enumerate().find(is_one_too_many) {
        return Err(Misunderstood(format!("`{word}` is neither a number nor a seed")).into());
    }
    if !process::is_root() {
        return Err("instant dumps and restores processes, which takes root".into());
    }
    setup::for_tests(false)?;
    let test = ["test", "--package", "criu-rs", "--features", "instant", "--test", "instant"];
    let mut instant = cargo(&test);
    instant.args(["--", if faults { "--faults" } else { "--soak" }]).args(words);
    let mut instant = session::isolated(&instant);
    let mut child = instant.spawn()?;
    // The standard input is a lifeline, which `wait` would close.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    if status.success() { Ok(()) } else { Err("a capture went wrong, see above".into()) }
}
