//! The comparison of a record with this machine and with an engine's tool.

use std::path::Path;

use criu_archive::UNWATCHED;
use criu_archive::record::{About, Finding, Holder, Host, Record, ToolKind};
use criu_images::Severity;

use super::Engine;

/// Compares a record with a machine that has the tool of this engine.
pub(super) fn machine(engine: &dyn Engine, record: &Record, host: &Host) -> Vec<Finding> {
    let mut host = host.clone();
    let mut programs = host.programs.take().unwrap_or_default();
    let mut all = Vec::new();
    match engine.program() {
        // The first of a kind counts.
        Ok(program) => programs.insert(0, program),
        Err(why) => {
            let text = format!("the tool does not answer: {why}");
            all.push(Finding::new(Severity::Error, About::Tool, text));
        }
    }
    host.programs = Some(programs);
    all.extend(record.verify_host(&host));
    all
}

/// Compares a record with a machine that has the tool of this engine, and with the files beside
/// the record.
pub(super) fn everything(
    engine: &dyn Engine,
    record: &Record,
    host: &Host,
    from: &Path,
) -> Vec<Finding> {
    let mut all = machine(engine, record, host);
    let holder = Holder::open(from).and_then(|holder| record.verify_files(&holder, UNWATCHED));
    match holder {
        Ok(found) => all.extend(found),
        Err(why) => all.push(Finding::new(Severity::Error, About::Files, why.to_string())),
    }
    all
}

/// Finds the containers that another tool has saved.
pub(super) fn strangers(record: &Record, kind: &ToolKind) -> Vec<Finding> {
    let others = record.containers.iter().filter(|container| container.tool.kind != *kind);
    let finding = |container: &criu_archive::record::Container| {
        let text =
            format!("was saved by {}, and {kind} restores only its own", container.tool.kind);
        let finding = Finding::new(Severity::Error, About::Tool, text);
        finding.at(format!("container {}", container.name))
    };
    others.map(finding).collect()
}
