//! The comparison of a record with the runsc at hand.

use std::path::Path;

use criu_archive::foreign::Head;
use criu_archive::record::{About, Finding, Host, Record, ToolKind};
use criu_images::Severity;

use super::{FOLDER, Runsc, state_file};
use crate::engine::Engine as _;
use crate::engine::error::EngineError;

impl Runsc {
    pub(super) fn findings(&self, record: &Record, host: &Host, from: &Path) -> Vec<Finding> {
        let error = |about, text: String| Finding::new(Severity::Error, about, text);
        let mut all = match self.differences(record) {
            Ok(all) => all,
            Err(why) => vec![error(About::Tool, format!("runsc cannot be asked: {why}"))],
        };
        if let Some(saved) = &record.host {
            let has = |feature: &&String| !host.cpu.features.contains(feature);
            let missing: Vec<&str> =
                saved.cpu.features.iter().filter(has).map(String::as_str).collect();
            if !missing.is_empty() {
                let text = format!(
                    "the processor lacks features that gVisor gave the sandbox: {}",
                    missing.join(", ")
                );
                let hint = "restore on a processor with these features; the annotation \
                            dev.gvisor.internal.cpufeatures keeps a new sandbox to some";
                all.push(error(About::Cpu, text).hint(hint));
            }
        }
        match state_file(&from.join(FOLDER)) {
            Ok(Head::Gvisor(state)) => {
                let saved = record.containers.len() as u64;
                // A pod's sandbox has a container of its own, which the record does not list.
                if let Some(found) = state.containers() {
                    if found != saved && found != saved.saturating_add(1) {
                        let text = format!("has {found} containers, the record lists {saved}");
                        all.push(
                            error(About::Files, text).at(format!("{FOLDER}/{}", super::STATE)),
                        );
                    }
                }
            }
            Ok(_) => {}
            Err(why) => all.push(error(About::Files, why.to_string())),
        }
        all
    }

    /// Compares the tool of each container with this one.
    pub(super) fn differences(&self, record: &Record) -> Result<Vec<Finding>, EngineError> {
        let own = self.tool()?;
        let mut all = Vec::new();
        for container in &record.containers {
            let mut add = |text: String, hint: String| {
                let finding = Finding::new(Severity::Error, About::Tool, text);
                all.push(finding.at(format!("container {}", container.name)).hint(hint));
            };
            let tool = &container.tool;
            if tool.kind != ToolKind::Runsc {
                let text = format!("was saved by {}, and runsc restores only its own", tool.kind);
                add(text, format!("restore it with {}", tool.kind));
                continue;
            }
            if tool.version != own.version {
                add(
                    format!("was saved by runsc {}, this one is {}", tool.version, own.version),
                    format!(
                        "restore it with runsc {}, because the form has no other version",
                        tool.version
                    ),
                );
            }
            for flag in EXACT {
                let (was, is) = (value(&tool.arguments, flag), value(&self.flags, flag));
                if was != is {
                    let text = format!(
                        "was saved with {flag}={}, this runsc has {}",
                        was.unwrap_or(DEFAULT),
                        is.unwrap_or(DEFAULT)
                    );
                    add(text, format!("give runsc the flag {flag} of the checkpoint"));
                }
            }
        }
        Ok(all)
    }
}

/// The last value of a flag.
fn value<'a>(flags: &'a [String], flag: &str) -> Option<&'a str> {
    flags.iter().rev().find_map(|found| found.strip_prefix(flag)?.strip_prefix('='))
}

/// Flags that have to be those of the checkpoint.
const EXACT: &[&str] = &["--platform", "--network"];

/// Stands for a flag that is not given.
const DEFAULT: &str = "its default";
