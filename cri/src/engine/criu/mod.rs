//! CRIU as an engine, for containers of runc and of those that do as it does.

mod beside;
mod checkpoint;
#[cfg(feature = "instant")]
mod instant;
mod options;
mod restore;
mod told;

use std::path::Path;

use criu_archive::record::{About, Finding, Host, Program, Record, Tool, ToolKind};
use criu_images::Severity;

use super::Engine;
use super::control::Control;
use super::error::EngineError;
use super::facts::Facts;
use super::fit;
use super::options::{EngineOption, Options};
use super::outcome::{Saved, Started};
use super::subject::{Place, Subject};

/// CRIU, which saves the processes of each container into a folder of its own.
///
/// A checkpoint freezes all containers by their cgroups, and has CRIU dump them side by side as
/// runc would: with the same names for what lies outside, and `descriptors.json` beside the images.
/// runc and containerd can restore it. Each container needs a freezer cgroup, of version 1 or 2.
///
/// With the feature `instant` there is an option of this name: the containers are forked while they
/// stand still, and run on while their memory is read from the forks. The checkpoint returns when
/// the images are complete.
#[derive(Clone, Debug)]
pub struct Criu {
    criu: criu_rs::Criu,
    #[cfg(feature = "instant")]
    instant: criu_rs::instant::InstantOptions,
}

impl Criu {
    /// Makes an engine of a criu. A single connection is refused by the operations, because each
    /// container takes one of its own.
    pub fn new(criu: criu_rs::Criu) -> Self {
        Self {
            criu,
            #[cfg(feature = "instant")]
            instant: criu_rs::instant::InstantOptions::new(),
        }
    }

    /// Sets how instant checkpoints are made. The option `instant` of a checkpoint asks for one.
    #[cfg(feature = "instant")]
    #[must_use]
    pub fn instant(mut self, options: criu_rs::instant::InstantOptions) -> Self {
        self.instant = options;
        self
    }
}

impl Engine for Criu {
    fn tool(&self) -> Result<Tool, EngineError> {
        Ok(Tool::new(ToolKind::Criu, self.criu.version()?.to_string()))
    }

    fn program(&self) -> Result<Program, EngineError> {
        let path = self.criu.program()?.unwrap_or_default();
        let version = self.criu.version()?.to_string();
        let mut program = Program::new(ToolKind::Criu, version, path.to_string_lossy());
        // Without rights a criu does not know.
        let features = self.criu.features().unwrap_or_default();
        for (name, has) in [
            ("mem_track", features.mem_track),
            ("lazy_pages", features.lazy_pages),
            ("pidfd_store", features.pidfd_store),
            ("mem_compression", features.mem_compression),
        ] {
            program.features.extend(has.map(|has| (name.to_owned(), has)));
        }
        Ok(program)
    }

    fn options(&self) -> &'static [EngineOption] {
        options::ALL
    }

    fn checkpoint(
        &self,
        what: &Subject,
        to: &Path,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Saved>, EngineError> {
        checkpoint::checkpoint(self, what, to, options, control)
    }

    fn restore(
        &self,
        from: &Path,
        record: &Record,
        into: &Place,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Started>, EngineError> {
        restore::restore(&self.criu, from, record, into, options, control)
    }

    fn inspect(&self, from: &Path) -> Result<Facts, EngineError> {
        let set = criu_images::ImageSet::open(from)?;
        let checkpoint = set.checkpoint()?;
        let mut facts = Facts::default();
        facts.add("image version", checkpoint.inventory().img_version.to_string());
        facts.add("processes", checkpoint.tasks().count().to_string());
        Ok(facts)
    }

    fn verify(&self, record: &Record, host: &Host, from: &Path) -> Vec<Finding> {
        let mut all = fit::everything(self, record, host, from);
        all.extend(fit::strangers(record, &ToolKind::Criu));
        for container in &record.containers {
            let folder = from.join(&container.name);
            if let Err(why) = self.inspect(&folder) {
                let finding = Finding::new(Severity::Error, About::Files, why.to_string());
                all.push(finding.at(format!("container {}", container.name)));
            }
        }
        all
    }
}
