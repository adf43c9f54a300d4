//! The state of a look: the options it checks and the findings so far.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::finding::{Finding, Severity};
use super::report::Report;
use crate::criu::Criu;
use crate::error::Result;
use crate::rpc::CriuOpts;
use crate::transport::Handed;
use crate::value::Version;

/// A look in progress. Every part of it reads the options here and adds its findings.
pub(super) struct Look<'a> {
    pub(super) operation: &'static str,
    pub(super) criu: &'a Criu,
    pub(super) version: Version,
    /// The options of the operation.
    pub(super) opts: CriuOpts,
    /// The answer of [`knows_bpf`](super::kernel::knows_bpf), which reads all of the program.
    pub(super) bpf: OnceCell<bool>,
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
            bpf: OnceCell::new(),
            findings: Vec::new(),
            kinds: BTreeMap::new(),
            left_out: 0,
        };
        // Options that this crate refuses before it asks CRIU.
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
            unreadable: 0,
            memory: 0,
            files: 0,
            freeze: None,
        }
    }

    /// Returns true if the options tell CRIU to find mounts from outside by itself.
    pub(super) fn finds_mounts(&self) -> bool {
        self.opts.auto_ext_mnt() || self.opts.external.iter().any(|text| text.starts_with(b"mnt[]"))
    }

    /// Returns true if the options also let CRIU find external mounts that are slaves of others.
    pub(super) fn takes_masters(&self) -> bool {
        self.opts.ext_masters() || self.opts.external.iter().any(|text| text == b"mnt[]:m")
    }

    /// Returns true if the caller has named an external resource. `name` is CRIU's notation up to
    /// and including the bracket, as in `file[1a:2b]`.
    pub(super) fn is_external(&self, name: &str) -> bool {
        let starts = |text: &Vec<u8>| {
            let rest = text.strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b':'))
        };
        self.opts.external.iter().any(starts)
    }
}

/// Most findings kept of one kind. A hostile tree could cause one for each descriptor.
const MAX_OF_A_KIND: usize = 4096;
