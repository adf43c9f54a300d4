//! `cargo xtask fuzz --keep`: small inputs that were found and reach more than the seeds, for the
//! repository.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::build::{Built, home};
use super::folder;
use crate::{Result, process};

/// Puts the inputs into a file for each target, in the form of the seeds: `{ size u16  bytes }`.
///
/// # Errors
/// If libFuzzer cannot merge the inputs, or a file cannot be written.
pub(super) fn run(built: &Built, targets: &[String]) -> Result<()> {
    let packs = home().join("seeds/found");
    fs::create_dir_all(&packs)?;
    for target in targets {
        // Inputs that are kept already are merged again, together with the rest.
        let (pack, grown) = (packs.join(target), folder(&format!("corpus/{target}"))?);
        let old = folder("keep-old")?.join(target);
        _ = fs::remove_dir_all(&old);
        let seeds = built.seeds("keep-seeds")?.join(target);
        fs::create_dir_all(&old)?;
        for file in files(&seeds)? {
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("found-")) {
                fs::rename(&file, old.join(file.file_name().unwrap_or_default()))?;
            }
        }
        let known = files(&seeds)?;
        let mut merge = Command::new(built.program(target));
        merge.args(["-merge=1", "-rss_limit_mb=2048", "-timeout=10"]).args([&seeds, &grown, &old]);
        process::read(&mut merge)?;
        let mut found: Vec<Vec<u8>> = Vec::new();
        for file in files(&seeds)?.iter().filter(|file| !known.contains(file)) {
            found.push(fs::read(file)?);
        }
        found.sort_by_key(|input| (input.len(), input.clone()));
        let mut bytes = Vec::new();
        for input in found {
            let Ok(size) = u16::try_from(input.len()) else { break };
            if bytes.len() + input.len() > MOST {
                break;
            }
            bytes.extend(size.to_le_bytes());
            bytes.extend(input);
        }
        println!("{target}: {} bytes", bytes.len());
        fs::write(pack, bytes)?;
    }
    Ok(())
}

fn files(folder: &PathBuf) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// The most bytes for each target. Together with the sets, all stay below 300 KB.
const MOST: usize = 12 << 10;
