//! The committed bindings equal the output of `cargo xtask bindings` for the installed header.

use std::fs;
use std::path::Path;

use xtask::bindings::{OUTPUT, generate};

#[test]
fn committed_bindings_are_what_the_header_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = fs::read_to_string(root.join(OUTPUT)).expect("the bindings are there");
    let want = generate().expect("the header is understood");
    assert!(found == want, "{OUTPUT} is stale: run `cargo xtask bindings`");
}
