//! Tests with real container runtimes: runc and crun, which drive a real CRIU. They need root, and
//! what `cargo xtask setup --tests` unpacks below `target`.
//!
//! Each test runs in a sandbox (`sandbox.rs`) as `runc::4.3::NAME`, with the runtimes and the CRIUs
//! that can do it.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod bed;
mod bundle;
mod cgroups;
#[path = "../common/filter.rs"]
mod filter;
mod harness;
mod payload;
mod raw;
#[path = "../common/rootfs.rs"]
mod rootfs;
mod runtime;
mod sandbox;

mod aftermath;
mod baseline;
#[path = "../../examples/runtime.rs"]
#[allow(dead_code, reason = "its main function is not called here")]
mod example;
mod hostile;
mod mounts;
mod oci;
mod trip;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    harness::run(
        &[baseline::TESTS, oci::TESTS, mounts::TESTS, hostile::TESTS, aftermath::TESTS].concat(),
        &words,
    )
    .unwrap_or_else(|| {
        let words: Vec<&str> = words[2..].iter().map(String::as_str).collect();
        example::run(&words).unwrap();
        ExitCode::SUCCESS
    })
}
