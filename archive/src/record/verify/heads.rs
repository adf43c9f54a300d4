//! Checks that files of other tools than CRIU are what the record says.

use criu_images::{Severity, Text};

use super::place;
use crate::record::Record;
use crate::record::file::Role;
use crate::record::finding::{About, Finding};
use crate::record::heads::{has_head, head, images};
use crate::record::holder::Holder;

pub(super) fn look(record: &Record, holder: &Holder) -> Vec<Finding> {
    let mut findings = Vec::new();
    let new = |text: String| Finding::new(Severity::Error, About::Files, text);
    for container in record.containers.iter().filter(|container| has_head(container)) {
        let (kind, mut is_there) = (&container.tool.kind, false);
        for file in images(record, container) {
            let found = match head(file, holder) {
                None => continue,
                Some(Err(error)) => {
                    findings.push(new(error.kind().to_string()).at(&file.path));
                    continue;
                }
                Some(Ok(found)) => found,
            };
            let (wanted, format) = (&container.tool.format, found.format());
            if found.tool() != kind.word() {
                let text = format!("is of {}, the record says {kind}", found.tool());
                findings.push(new(text).at(&file.path));
            } else if !wanted.is_empty() && !format.is_empty() && *wanted != format {
                let [format, wanted] = [&format, wanted].map(|text| Text(text.as_bytes()));
                let text = format!("has the form `{format}`, the record says `{wanted}`");
                findings.push(new(text).at(&file.path));
            }
            is_there = true;
        }
        // Images in an archive are not looked at.
        let all = if container.files.is_empty() { &record.files } else { &container.files };
        if !is_there && all.iter().all(|file| file.role != Role::Archive) {
            let text = format!("none of its images is of {kind}");
            findings.push(new(text).at(place([container])));
        }
    }
    findings
}
