//! `cargo xtask fuzz --defects`: checks are taken out of a copy of the sources, one at a time, and
//! the time until a target notices is measured.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::build::Built;
use super::target::Run;
use super::{Wanted, folder};
use crate::{Result, process, workspace};

/// A check that is taken out.
struct Defect {
    what: &'static str,
    file: &'static str,
    /// The text of the check, which occurs once.
    check: &'static str,
    without: &'static str,
    /// The target that has to notice.
    target: &'static str,
}

const DEFECTS: &[Defect] = &[
    Defect {
        what: "the bound of a netlink message",
        file: "images/src/namespaces/netlink.rs",
        check: "let message = self.rest.get(..size).ok_or_else(|| cut(size as u64))?;",
        without: "let message = &self.rest[..size];",
        target: "set",
    },
    Defect {
        what: "the budget of the walks through a filter",
        file: "images/src/bpf/walk.rs",
        check: "let left = self.0.checked_sub(work);",
        without: "let left = self.0.checked_sub(work.min(0));",
        target: "bpf",
    },
    Defect {
        what: "the check of where a run of pages may begin",
        file: "images/src/memory/pagemap.rs",
        check: "if run.start < free {",
        without: "if run.start == u64::MAX && free == 0 {",
        target: "memory",
    },
    Defect {
        what: "the check of links that lead out of an archive",
        file: "archive/src/index/rules.rs",
        check: "path::follow(folder, target).is_some() && !target.contains(&0) && \
                goes_up_first(target)",
        without: "!target.contains(&0)",
        target: "archive",
    },
    Defect {
        what: "a bit of signed numbers",
        file: "images/src/schema/typed.rs",
        check: "self.varint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))",
        without: "self.varint().map(|value| (value >> 1) as i64)",
        target: "differential",
    },
];

/// Measures all defects and prints a table.
///
/// # Errors
/// If a defect is not noticed within a minute.
pub(super) fn run(targets: &[String]) -> Result<()> {
    let copy = folder("defects")?;
    println!("| missing check | target | seconds | symptom |\n| --- | --- | ---: | --- |");
    let mut late = Vec::new();
    let chosen =
        |defect: &&Defect| targets.is_empty() || targets.iter().any(|t| t == defect.target);
    for defect in DEFECTS.iter().filter(chosen) {
        copy_sources(&copy)?;
        let file = copy.join(defect.file);
        let text = fs::read_to_string(&file)?;
        fs::write(&file, text.replacen(defect.check, defect.without, 1))?;
        let built = Built::make(&copy, Some(defect.target), false)?;
        let seeds = built.seeds("defects-seeds")?;
        // Inputs of earlier runs do not help.
        let wanted = Wanted { ci: true, ..Wanted::default() };
        let row = Run::new(&built, &seeds, defect.target, LIMIT, &wanted).run()?;
        let Defect { what, target, .. } = defect;
        match row.crashed.as_deref().map(reason) {
            Some(said) => {
                println!("| {what} | `{target}` | {:.1} | {said} |", row.time.as_secs_f32())
            }
            None => late.push(*what),
        }
    }
    if late.is_empty() {
        Ok(())
    } else {
        Err(format!("not noticed in {LIMIT:?}: {}", late.join(", ")).into())
    }
}

/// Returns a person's word for a symptom.
fn reason(said: &str) -> &'static str {
    let known = [
        ("timeout after", "takes too long"),
        ("out-of-memory", "takes too much memory"),
        ("panicked", "panics"),
    ];
    known.iter().find(|(word, _)| said.contains(word)).map_or("ends", |(_, reason)| reason)
}

/// Copies the sources of the fuzzer, with the layout of the workspace.
fn copy_sources(to: &Path) -> Result<()> {
    let files = ["Cargo.toml", "Cargo.lock"].map(str::to_owned);
    for name in files.into_iter().chain(workspace::packages()?) {
        let from = workspace::root().join(&name);
        if name == "fuzz" && to.join(&name).exists() {
            fs::remove_dir_all(to.join(&name))?;
        }
        let mut copy = std::process::Command::new("cp");
        process::read(copy.args(["-rpTu", "--"]).arg(from).arg(to.join(&name)))?;
    }
    // The file that the previous defect changed is newer than the original.
    for defect in DEFECTS {
        fs::copy(workspace::root().join(defect.file), to.join(defect.file))?;
    }
    Ok(())
}

/// The time in which each defect has to be noticed.
const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_that_is_taken_out_is_there() {
        for defect in DEFECTS {
            let text = fs::read_to_string(workspace::root().join(defect.file)).unwrap();
            assert_eq!(text.matches(defect.check).count(), 1, "{}", defect.what);
        }
    }
}
