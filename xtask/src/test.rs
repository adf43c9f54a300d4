//! `cargo xtask test`: all that must be green.

use crate::steps::step;
use crate::workspace::cargo;
use crate::{Result, msrv, process, session, setup};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// While working: without the documentation and the MSRV.
    Quick,
    /// Before a commit. The MSRV is left out where no toolchain of that age can be had.
    Full,
    /// Before a release: nothing may be left out.
    Release,
}

/// Runs every step, up to the first that fails.
pub(crate) fn run(extent: Extent) -> Result<()> {
    if !process::is_root() {
        return Err("the tests dump and restore processes, which takes root; \
                    what runs without: cargo test --workspace --lib"
            .into());
    }
    setup::for_tests(false)?;
    step("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step("clippy", &mut cargo(&clippy))?;
    if extent != Extent::Quick {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
        step("doc", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    let tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    step("test", &mut session::isolated(&tests))?;
    if extent != Extent::Quick {
        match msrv::find() {
            Ok(toolchain) => msrv::check(&toolchain)?,
            Err(reason) if extent == Extent::Full => eprintln!("msrv       left out: {reason}"),
            Err(reason) => return Err(reason),
        }
    }
    Ok(())
}
