//! `cargo xtask attack`: dumps into a page server that is under attack, measured.

use crate::misunderstood::Misunderstood;
use crate::workspace::cargo;
use crate::{Result, process, session, setup};

/// Measures dumps with and without hostile connections; prints a table.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let is_one_too_many = |(at, word): &(usize, &&str)| *at > 2 || word.parse::<u64>().is_err();
    if let Some((_, word)) = words.iter().enumerate().find(is_one_too_many) {
        let what = format!("`{word}` is not a number of connections, dumps or MiB");
        return Err(Misunderstood(what).into());
    }
    if !process::is_root() {
        return Err(
            "attack dumps processes and starts attackers as nobody, which takes root".into()
        );
    }
    setup::for_tests(false)?;
    let test = ["test", "--release", "--package", "criu-cli", "--test", "attack"];
    let mut attack = cargo(&test);
    attack.args(["--", "--measure"]).args(words);
    let mut attack = session::isolated(&attack);
    let mut child = attack.spawn()?;
    // The standard input is a lifeline, which `wait` would close.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    if status.success() { Ok(()) } else { Err("dumps failed or were too slow, see above".into()) }
}
