//! Checks that the tools of a record are installed, and that their versions fit.

use std::cmp::Ordering;

use criu_images::{Severity, Text};

use super::place;
use crate::record::finding::{About, Finding};
use crate::record::host::{Host, Program};
use crate::record::tool::{Tool, ToolKind};
use crate::record::{Container, Record};

pub(super) fn look(record: &Record, host: &Host) -> Vec<Finding> {
    let mut groups: Vec<(&Tool, Vec<&Container>)> = Vec::new();
    for container in &record.containers {
        let tool = &container.tool;
        let is_same = |known: &Tool| {
            (&known.kind, &known.version, &known.features)
                == (&tool.kind, &tool.version, &tool.features)
        };
        match groups.iter_mut().find(|(known, _)| is_same(known)) {
            Some((_, containers)) => containers.push(container),
            None => groups.push((tool, vec![container])),
        }
    }
    let mut findings = Vec::new();
    for (tool, containers) in groups {
        let found = compare(tool, host);
        findings.extend(found.into_iter().map(|finding| finding.at(place(containers.clone()))));
    }
    findings
}

fn compare(tool: &Tool, host: &Host) -> Vec<Finding> {
    let kind = &tool.kind;
    let new = |severity, text: String| Finding::new(severity, About::Tool, text);
    if let ToolKind::Other(word) = kind {
        let text = match &**word {
            "" => "the record does not say which program made the checkpoint".to_owned(),
            _ => format!("`{kind}` made the checkpoint, which this version does not know"),
        };
        return vec![new(Severity::Warning, text)];
    }
    let Some(programs) = &host.programs else {
        let text = format!("{kind} made the checkpoint; nobody has looked for {kind} here");
        return vec![new(Severity::Note, text)];
    };
    let Some(program) = programs.iter().find(|program| program.kind == *kind) else {
        let text = format!("{kind} made the checkpoint, and is not found here");
        let hint = format!("install {kind} {}", Text(tool.version.as_bytes()));
        return vec![new(Severity::Error, text).hint(hint.trim_end())];
    };
    let mut findings: Vec<Finding> = version(tool, program).into_iter().collect();
    for feature in &tool.features {
        let known = program.features.get(feature).or_else(|| host.features.get(feature));
        if known == Some(&false) {
            let text = format!(
                "the checkpoint uses `{}`, which {kind} {} or the kernel here lacks",
                Text(feature.as_bytes()),
                Text(program.version.as_bytes()),
            );
            findings.push(new(Severity::Error, text));
        }
    }
    findings
}

/// Compares the version of a program with that of the checkpoint.
fn version(tool: &Tool, program: &Program) -> Option<Finding> {
    let kind = &tool.kind;
    let [there, here] = [&tool.version, &program.version].map(|text| Text(text.as_bytes()));
    let new = |severity, text: String| Finding::new(severity, About::Tool, text);
    if tool.version.is_empty() {
        let text = format!("the record does not say the version of {kind}; {kind} {here} is here");
        return Some(new(Severity::Warning, text));
    }
    let (fits, want) = match kind {
        // The images of a version are read by that version and by newer ones.
        ToolKind::Criu | ToolKind::Qemu => {
            (at_least(&program.version, &tool.version), "that version or a newer one")
        }
        _ => (Some(program.version == tool.version), "exactly that version"),
    };
    match fits {
        Some(true) => None,
        Some(false) => {
            let text =
                format!("{kind} {there} made the checkpoint, {here} is here; {want} is wanted");
            let hint = match kind {
                ToolKind::Criu | ToolKind::Qemu => format!("install {kind} {there} or newer"),
                _ => format!("install {kind} {there}"),
            };
            Some(new(Severity::Error, text).hint(hint))
        }
        None => {
            let text = format!(
                "{kind} `{there}` made the checkpoint, `{here}` is here; the two cannot be compared"
            );
            Some(new(Severity::Warning, text))
        }
    }
}

/// Returns true if a version is the same or newer; `None` if the versions have no numbers.
pub(super) fn at_least(version: &str, least: &str) -> Option<bool> {
    let (mut here, mut there) = (numbers(version)?, numbers(least)?);
    let longest = here.len().max(there.len());
    here.resize(longest, 0);
    there.resize(longest, 0);
    Some(here.cmp(&there) != Ordering::Less)
}

/// Numbers at the beginning of a version: 4, 1 and 1 of `4.1.1-dirty`.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let end = version.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (numbers, _) = version.split_at(end.unwrap_or(version.len()));
    numbers.trim_end_matches('.').split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (here, there, expected) in [
            ("4.3", "4.3", Some(true)),
            ("4.3", "4.10", Some(false)),
            ("4.3", "4.2.9", Some(true)),
            ("4.3", "4.3.1", Some(false)),
            ("4.3.0", "4.3", Some(true)),
            ("6.12.48+deb13-amd64", "6.12", Some(true)),
            ("5.10.0-1", "6.1", Some(false)),
            ("4.", "4", Some(true)),
            ("", "4.3", None),
            ("git", "4.3", None),
            ("4..3", "4.3", None),
            ("99999999999999999999", "4.3", None),
        ] {
            assert_eq!(at_least(here, there), expected, "{here} {there}");
        }
    }
}
