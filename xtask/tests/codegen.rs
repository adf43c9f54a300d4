//! The committed Rust equals the output of codegen for the committed `.proto` files.

use std::fs;

use xtask::codegen::{SCHEMAS, outputs, root};

#[test]
fn committed_code_is_what_codegen_makes() {
    for schema in SCHEMAS {
        for (path, want) in outputs(schema).expect("the schema compiles") {
            let found = fs::read_to_string(root().join(path)).expect("the output is there");
            assert!(found == want, "{path} is stale: run `cargo xtask codegen`");
        }
    }
}
