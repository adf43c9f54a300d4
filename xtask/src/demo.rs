//! `cargo xtask demo`: a checkpoint to look at.

use std::process::Command;

use crate::criu::Criu;
use crate::steps::step;
use crate::workspace::cargo;
use crate::{Result, process, setup};

/// Finds a CRIU or installs one, builds the demo, and runs it.
pub(crate) fn run(keep: bool) -> Result<()> {
    if !process::is_root() {
        return Err("the demo checkpoints processes, which takes root".into());
    }
    let criu = setup::find(false)?;
    build()?;
    let mut demo = command(&criu);
    if keep {
        demo.arg("--keep");
    }
    if !demo.status()?.success() {
        return Err("the demo failed, see above".into());
    }
    Ok(())
}

/// Makes the command that builds and runs the demo, for a step among others.
pub(crate) fn as_step() -> Result<Command> {
    Ok(command(&setup::find(false)?))
}

/// Builds the demo in the profile of the tests, which takes two thirds of the time of a release.
fn build() -> Result<()> {
    step("build", &mut cargo(&["build", "--package", "criu-cli", "--example", "demo"]))
}

fn command(criu: &Criu) -> Command {
    let mut demo = cargo(&["run", "--quiet", "--package", "criu-cli", "--example", "demo", "--"]);
    demo.arg("--criu").arg(&criu.path);
    demo
}
