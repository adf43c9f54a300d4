//! What a look found so far, and what every part of it needs.

use std::collections::BTreeMap;

use super::finding::{Finding, Severity};
use super::report::Report;
use crate::criu::Criu;
use crate::error::Result;
use crate::rpc::CriuOpts;
use crate::transport::Handed;
use crate::value::Version;

/// What every part of a look needs, and where it puts what it finds.
pub(super) struct Look<'a> {
    pub(super) operation: &'static str,
    pub(super) criu: &'a Criu,
    pub(super) version: Version,
    /// The options as they are set.
    pub(super) opts: CriuOpts,
    findings: Vec<Finding>,
    kinds: BTreeMap<(Severity, String), usize>,
    left_out: usize,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        operation: &'static str,
        criu: &'a Criu,
        opts: &crate::options::Opts<'_>,
    ) -> Result<Self> {
        let version = criu.known_version()?;
        let mut look = Self {
            operation,
            criu,
            version,
            opts: opts.message().clone(),
            findings: Vec::new(),
            kinds: BTreeMap::new(),
            left_out: 0,
        };
        // What CRIU would not even be told.
        let filled = opts.fill(&mut Handed::default()).map(|filled| filled.message);
        let checked = filled.and_then(|message| criu.require(&message).map(|()| message));
        match checked {
            Ok(message) => look.opts.inherit_fd = message.inherit_fd,
            Err(error) => {
                let words = "an option or a directory cannot be used";
                look.note(Finding::new(Severity::Blocks, words).detail(error.to_string()));
            }
        }
        Ok(look)
    }

    pub(super) fn note(&mut self, finding: Finding) {
        let kind = (finding.severity, finding.what.to_string());
        let count = self.kinds.entry(kind).or_default();
        *count += 1;
        if *count > MAX_OF_A_KIND {
            self.left_out += 1;
        } else {
            self.findings.push(finding);
        }
    }

    pub(super) fn note_all(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.note(finding);
        }
    }

    pub(super) fn into_report(self) -> Report {
        Report {
            operation: self.operation,
            findings: self.findings,
            left_out: self.left_out,
            tasks: 0,
            threads: 0,
            descriptors: 0,
            memory: 0,
            files: 0,
            freeze: None,
        }
    }

    /// Whether CRIU is told to find mounts from outside by itself.
    pub(super) fn finds_mounts(&self) -> bool {
        self.opts.auto_ext_mnt() || self.opts.external.iter().any(|text| text.starts_with(b"mnt[]"))
    }

    /// Whether it takes such that follow others, too.
    pub(super) fn takes_masters(&self) -> bool {
        self.opts.ext_masters() || self.opts.external.iter().any(|text| text == b"mnt[]:m")
    }

    /// Whether an external resource is named, in CRIU's notation without what follows the bracket.
    pub(super) fn is_external(&self, name: &str) -> bool {
        let starts = |text: &Vec<u8>| {
            let rest = text.strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b':'))
        };
        self.opts.external.iter().any(starts)
    }
}

/// Findings of one kind that are kept; a hostile tree could have as many as descriptors.
const MAX_OF_A_KIND: usize = 4096;
