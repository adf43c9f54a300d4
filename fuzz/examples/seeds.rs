//! Writes the seeds of the fuzzer: `FOLDER/TARGET/NAME`, and a dictionary `FOLDER/words.dict`.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("which folder?")?);
    for (target, name, bytes) in criu_fuzz::seeds::all()? {
        let target = folder.join(target);
        fs::create_dir_all(&target)?;
        fs::write(target.join(name), bytes)?;
    }
    fs::write(folder.join("words.dict"), criu_fuzz::seeds::dictionary())?;
    Ok(())
}
