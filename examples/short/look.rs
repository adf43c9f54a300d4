//! Reads a checkpoint without CRIU: processes, open files, and how much memory is stored.
//!
//! `look DIRECTORY`

use std::error::Error;
use std::process::ExitCode;

use criu_images::ImageSet;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, directory] = args.as_slice() else {
        eprintln!("Usage: look DIRECTORY");
        return ExitCode::from(2);
    };
    match look(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("look: {error}");
            ExitCode::FAILURE
        }
    }
}

fn look(directory: &str) -> Result<(), Box<dyn Error>> {
    let set = ImageSet::open(directory)?;
    for task in set.checkpoint()?.tasks() {
        let indent = task.depth() * 2;
        println!("{:indent$}{} {}", "", task.pid(), task.name());
        if let Some(memory) = task.memory()? {
            let totals = memory.totals();
            let (stored, mapped) = (totals.present, totals.mapped);
            println!("{:indent$}  {stored} pages stored of {mapped} mapped", "");
        }
        for open in task.files()? {
            println!("{:indent$}  {:3} {}", "", open.number, open.file);
        }
    }
    Ok(())
}
