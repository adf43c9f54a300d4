//! Checks of the files beside a record.

use std::collections::HashSet;

use criu_images::Severity;

use super::bounded::Findings;
use super::place;
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::record::file::File;
use crate::record::finding::Finding;
use crate::record::holder::Holder;
use crate::record::{Container, RECORD, Record};
use crate::watch::Watch;

pub(super) fn look(record: &Record, holder: &Holder, watch: Watch<'_>) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    // Bytes of the files that are done.
    let mut before = 0u64;
    let mut unread = 0u64;
    for file in record.all_files() {
        if watch(before).is_break() {
            return Err(holder.fault(&file.path, ErrorKind::Stopped));
        }
        let watch_all = |bytes: u64| watch(before.saturating_add(bytes));
        match compare(file, holder, &watch_all) {
            Ok(None) => unread += u64::from(file.sha256.is_none()),
            Ok(Some(text)) => findings.add(Severity::Error, &file.path, text),
            Err(error) if matches!(error.kind(), ErrorKind::Stopped) => return Err(error),
            Err(error) => findings.add(Severity::Error, &file.path, error.kind().to_string()),
        }
        before = before.saturating_add(file.size.unwrap_or(0));
    }
    match unread {
        0 => {}
        1 => findings.add(Severity::Note, "", format!("1 file has no digest{UNREAD}")),
        _ => findings.add(Severity::Note, "", format!("{unread} files have no digest{UNREAD}")),
    }
    let is_bare = |container: &&Container| container.files.is_empty();
    let bare: Vec<&Container> = record.containers.iter().filter(is_bare).collect();
    if record.files.is_empty() && !bare.is_empty() {
        findings.add(Severity::Warning, &place(bare), "the record names no file of it".to_owned());
    }
    match holder.files() {
        Err(error) => {
            let at = error.member().unwrap_or_default().to_owned();
            findings.add(Severity::Error, &at, error.kind().to_string());
        }
        Ok(found) => {
            let named: HashSet<&str> = record.all_files().map(|file| &*file.path).collect();
            for (path, is_file) in found {
                if !is_file {
                    let text = "is no regular file, and no part of a checkpoint".to_owned();
                    findings.add(Severity::Warning, &path, text);
                } else if path != RECORD && !named.contains(&*path) {
                    let text = "is not in the record".to_owned();
                    findings.add(Severity::Warning, &path, text);
                }
            }
        }
    }
    Ok(findings.finish())
}

/// Compares a file with its entry. Returns the difference in words.
fn compare(file: &File, holder: &Holder, watch: Watch<'_>) -> Result<Option<String>> {
    let fail = |kind| -> Error { holder.fault(&file.path, kind) };
    let Some(bytes) = holder.bytes(&file.path)? else {
        return Ok(Some("is missing".to_owned()));
    };
    if let Some(size) = file.size.filter(|size| *size != bytes.len()) {
        return Ok(Some(format!("has {} bytes, the record says {size}", bytes.len())));
    }
    let Some(wanted) = file.sha256 else { return Ok(None) };
    let found = Sha256::of(&bytes, watch).map_err(fail)?;
    let text = format!("has the digest {found}, the record says {wanted}");
    Ok((found != wanted).then_some(text))
}

const UNREAD: &str = " in the record: the content was not compared";
