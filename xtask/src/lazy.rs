//! `cargo xtask lazy`: lazy restores, measured beside CRIU's, or under faults.

use crate::misunderstood::Misunderstood;
use crate::workspace::cargo;
use crate::{Result, process, session, setup};

/// Measures and prints tables; or, with `faults`, kills daemons, servers and tasks.
pub(crate) fn run(words: &[&str], faults: bool) -> Result<()> {
    let numbers = words.iter().filter(|word| word.parse::<u64>().is_ok()).count();
    if numbers > 2 || (faults && numbers < words.len()) {
        let what = format!("`{}` is too much, or not a number", words.join(" "));
        return Err(Misunderstood(what).into());
    }
    if !process::is_root() {
        return Err("lazy dumps and restores processes, which takes root".into());
    }
    setup::for_tests(false)?;
    let test = ["test", "--release", "--package", "criu-cli", "--test", "lazy"];
    let mut lazy = cargo(&test);
    lazy.args(["--", if faults { "--faults" } else { "--measure" }]).args(words);
    let mut lazy = session::isolated(&lazy);
    let mut child = lazy.spawn()?;
    // The standard input is a lifeline, which `wait` would close.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    if status.success() { Ok(()) } else { Err("restores failed, see above".into()) }
}
