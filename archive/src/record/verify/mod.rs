//! The comparison of a record with a machine, and with the files beside the record.

mod bounded;
mod files;
mod gpus;
mod heads;
mod machine;
mod processor;
mod tools;

use criu_images::Severity;

use super::finding::{About, Finding};
use super::holder::Holder;
use super::host::Host;
use super::state::State;
use super::{Container, Record};
use crate::error::Result;
use crate::metadata::json::is_empty;
use crate::watch::Watch;

impl Record {
    /// Compares the record with a machine, and with the files beside it, which are read to their
    /// ends. Returns the findings, the worst first. A restore may still fail for other reasons.
    ///
    /// `watch` is called with the bytes that have been read, and can stop the work.
    ///
    /// ```no_run
    /// use criu_archive::UNWATCHED;
    /// use criu_archive::record::{Holder, Host, Record};
    ///
    /// let holder = Holder::open("/var/lib/checkpoints/web")?;
    /// let record = Record::read(&holder)?;
    /// let host = Host::here().with_programs(&record);
    /// for finding in record.verify(&host, &holder, UNWATCHED)? {
    ///     println!("{finding}");
    /// }
    /// # Ok::<(), criu_archive::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped) and nothing else: a file that cannot be
    /// read is a finding.
    pub fn verify(&self, host: &Host, holder: &Holder, watch: Watch<'_>) -> Result<Vec<Finding>> {
        let mut findings = self.verify_host(host);
        findings.extend(self.verify_files(holder, watch)?);
        Ok(worst_first(findings))
    }

    /// Compares the record with a machine. No file is read. Returns the findings, the worst first.
    pub fn verify_host(&self, host: &Host) -> Vec<Finding> {
        let mut findings: Vec<Finding> = state(self).into_iter().collect();
        findings.extend(unknown(self));
        findings.extend(tools::look(self, host));
        findings.extend(processor::look(self, host));
        findings.extend(machine::look(self, host));
        findings.extend(gpus::look(self, host));
        worst_first(findings)
    }

    /// Compares the record with the files beside it: their presence, sizes and digests, and the
    /// heads of files of other tools than CRIU. Returns the findings, the worst first.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped) and nothing else.
    pub fn verify_files(&self, holder: &Holder, watch: Watch<'_>) -> Result<Vec<Finding>> {
        let mut findings = files::look(self, holder, watch)?;
        findings.extend(heads::look(self, holder, watch)?);
        Ok(worst_first(findings))
    }
}

fn worst_first(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Checks the state of the checkpoint.
fn state(record: &Record) -> Option<Finding> {
    let (severity, text) = match &record.state {
        State::Complete | State::Restored => return None,
        State::Capturing => (Severity::Error, "the checkpoint was not completed"),
        State::Failed => (Severity::Error, "the checkpoint has failed"),
        State::Restoring => (Severity::Warning, "a restore of it is under way, or was ended"),
        State::Other(_) => (Severity::Warning, "this version does not know what that means"),
    };
    let text = format!("its state is `{}`: {text}", record.state);
    Some(Finding::new(severity, About::Record, text))
}

/// Notes that a record says nothing of the machine, so that nothing of it was compared.
fn unknown(record: &Record) -> Option<Finding> {
    let text = "the record says nothing of the machine of the checkpoint: processor, kernel and \
                cgroups were not compared";
    let is_unknown = record.host.as_ref().is_none_or(is_empty);
    is_unknown.then(|| Finding::new(Severity::Note, About::Record, text))
}

/// Place of a finding on some containers.
fn place<'c>(containers: impl IntoIterator<Item = &'c Container>) -> String {
    let names: Vec<&str> = containers.into_iter().map(|container| &*container.name).collect();
    match &names[..] {
        [only] => format!("container {only}"),
        [first, .., last] if names.len() > MOST_NAMES => {
            format!("{} containers, {first} to {last}", names.len())
        }
        names => format!("containers {}", names.join(", ")),
    }
}

/// Most containers that a finding names one by one.
const MOST_NAMES: usize = 8;
