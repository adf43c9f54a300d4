//! Checks that files of other tools than CRIU are what the record says.

use std::collections::{BTreeMap, BTreeSet};

use criu_images::{Severity, Text};

use super::bounded::Findings;
use super::place;
use crate::error::{ErrorKind, Result};
use crate::foreign::Head;
use crate::record::file::Role;
use crate::record::finding::Finding;
use crate::record::heads::{groups, head, images};
use crate::record::holder::Holder;
use crate::record::{Container, Record};
use crate::watch::Watch;

pub(super) fn look(record: &Record, holder: &Holder, watch: Watch<'_>) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    // The digests of all files have been read.
    let sizes = record.all_files().filter_map(|file| file.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    for (containers, files) in groups(record) {
        let wanted = Wanted::of(&containers);
        let mut is_there = false;
        for file in images(files) {
            if watch(bytes).is_break() {
                return Err(holder.fault(&file.path, ErrorKind::Stopped));
            }
            let text = match head(file, holder) {
                None => continue,
                Some(Err(error)) => Some(error.kind().to_string()),
                Some(Ok(head)) => {
                    is_there = true;
                    wanted.difference(&head)
                }
            };
            if let Some(text) = text {
                findings.add(Severity::Error, &file.path, text);
            }
        }
        // Images in an archive are not looked at.
        if !is_there && files.iter().all(|file| file.role != Role::Archive) {
            for kind in wanted.0.into_keys() {
                let containers = containers.iter().filter(|one| one.tool.kind.word() == kind);
                let text = format!("none of its images is of {kind}");
                findings.add(Severity::Error, &place(containers.copied()), text);
            }
        }
    }
    Ok(findings.finish())
}

/// Forms that containers say their images have, by the tool. An empty form is any.
struct Wanted<'r>(BTreeMap<&'r str, BTreeSet<&'r str>>);

impl<'r> Wanted<'r> {
    fn of(containers: &[&'r Container]) -> Self {
        let mut wanted: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for container in containers {
            let tool = &container.tool;
            wanted.entry(tool.kind.word()).or_default().insert(&*tool.format);
        }
        Self(wanted)
    }

    /// Returns the first difference between a head and the record, in words.
    fn difference(&self, head: &Head) -> Option<String> {
        let format = head.format();
        self.0.iter().find_map(|(kind, formats)| {
            if head.tool() != *kind {
                return Some(format!("is of {}, the record says {kind}", head.tool()));
            }
            let is_other = |wanted: &&&str| !wanted.is_empty() && **wanted != format;
            let wanted = formats.iter().find(is_other).filter(|_| !format.is_empty())?;
            let [format, wanted] = [&format, *wanted].map(|text| Text(text.as_bytes()));
            Some(format!("has the form `{format}`, the record says `{wanted}`"))
        })
    }
}
