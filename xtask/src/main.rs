//! `cargo xtask WORD`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for file in xtask::codegen::run()? {
        println!("wrote {file}");
    }
    Ok(())
}
