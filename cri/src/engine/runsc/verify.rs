//! The comparison of a record with the runsc at hand.

use std::path::Path;

use criu_archive::foreign::Head;
use criu_archive::record::{About, Finding, Host, Record, ToolKind};
use criu_images::Severity;

use super::{FOLDER, Runsc, STATE, state_file};
use crate::engine::error::EngineError;
use crate::engine::fit;

impl Runsc {
    pub(super) fn findings(&self, record: &Record, host: &Host, from: &Path) -> Vec<Finding> {
        let mut all = fit::everything(self, record, host, from);
        all.extend(self.differences(record));
        let place = format!("{FOLDER}/{STATE}");
        let error = |text: String| Finding::new(Severity::Error, About::Files, text).at(&place);
        match state_file(&from.join(FOLDER)) {
            Ok(Head::Gvisor(state)) => {
                let saved = record.containers.len() as u64;
                // A pod's sandbox has a container of its own, which the record does not list.
                let fits = |found| found == saved || found == saved.saturating_add(1);
                if let Some(found) = state.containers().filter(|found| !fits(*found)) {
                    let text = format!("has {found} containers, the record lists {saved}");
                    all.push(error(text));
                }
            }
            Ok(_) => {}
            Err(why) => all.push(error(why.to_string())),
        }
        all
    }

    /// Refuses a checkpoint of another tool, of another version or with other flags, and a machine
    /// that lacks something.
    pub(super) fn refuse_unfit(&self, record: &Record) -> Result<(), EngineError> {
        let mut unfit = fit::machine(self, record, &Host::here());
        unfit.extend(self.differences(record));
        unfit.retain(Finding::is_error);
        if unfit.is_empty() { Ok(()) } else { Err(EngineError::Unfit(unfit)) }
    }

    /// Compares the tool of each container with this one, apart from the version.
    fn differences(&self, record: &Record) -> Vec<Finding> {
        let mut all = fit::strangers(record, &ToolKind::Runsc);
        for container in &record.containers {
            let tool = &container.tool;
            for flag in EXACT.iter().filter(|_| tool.kind == ToolKind::Runsc) {
                let (was, is) = (value(&tool.arguments, flag), value(&self.flags, flag));
                if was != is {
                    let text = format!(
                        "was saved with {flag}={}, this runsc has {}",
                        was.unwrap_or(DEFAULT),
                        is.unwrap_or(DEFAULT)
                    );
                    let finding = Finding::new(Severity::Error, About::Tool, text);
                    let finding = finding.at(format!("container {}", container.name));
                    all.push(finding.hint(format!("give runsc the {flag} of the checkpoint")));
                }
            }
        }
        all
    }
}

/// The last value of a flag.
fn value<'a>(flags: &'a [String], flag: &str) -> Option<&'a str> {
    flags.iter().rev().find_map(|found| found.strip_prefix(flag)?.strip_prefix('='))
}

/// Flags that have to be those of the checkpoint.
const EXACT: &[&str] = &["--platform", "--network"];

/// Stands for a flag that is not given.
const DEFAULT: &str = "the default";
