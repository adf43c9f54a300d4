//! `cargo xtask torture`: operations under faults, for any number of rounds.

use crate::misunderstood::Misunderstood;
use crate::workspace::cargo;
use crate::{Result, process, session, setup};

/// Runs rounds of a seed; prints a table of their results.
pub(crate) fn run(words: &[&str], bare: bool) -> Result<()> {
    let is_one_too_many = |(at, word): &(usize, &&str)| *at > 1 || word.parse::<u64>().is_err();
    if let Some((_, word)) = words.iter().enumerate().find(is_one_too_many) {
        return Err(
            Misunderstood(format!("`{word}` is neither a number of rounds nor a seed")).into()
        );
    }
    if !process::is_root() {
        return Err("torture dumps and restores processes, which takes root".into());
    }
    setup::for_tests(false)?;
    let rounds = words.first().copied().unwrap_or("1000");
    let seed = words.get(1).copied().unwrap_or("1");
    let mut torture = cargo(&["test", "--package", "criu-rs", "--test", "torture", "--"]);
    torture.args([rounds, seed]).args(bare.then_some("--bare"));
    let mut torture = session::isolated(&torture);
    let mut child = torture.spawn()?;
    // The standard input is a lifeline, which `wait` would close.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    if status.success() {
        Ok(())
    } else {
        Err("tasks or files were lost or left behind, see above".into())
    }
}
