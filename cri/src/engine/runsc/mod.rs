//! gVisor's `runsc` as an engine.

mod checkpoint;
mod command;
mod end;
mod options;
mod restore;
mod state;
mod verify;

use std::path::{Path, PathBuf};

use criu_archive::foreign::Head;
use criu_archive::record::{Finding, Host, Record, Tool, ToolKind};

use super::Engine;
use super::control::Control;
use super::error::EngineError;
use super::facts::Facts;
use super::options::{EngineOption, Options};
use super::outcome::{Saved, Started};
use super::subject::{Place, Subject};

/// gVisor's `runsc`, which saves all containers of a sandbox into one folder, `sandbox`.
///
/// A checkpoint pauses the sandbox, has runsc save it, and resumes it or ends it. A sandbox whose
/// checkpoint fails is resumed. After [`After::Stop`](super::After::Stop) runsc still calls the
/// sandbox paused, because its process was killed in that state: remove it with `runsc delete
/// --force`. runsc makes a checkpoint of everything in the sandbox at once, and
/// has no way to leave a container out.
///
/// The version of runsc, its platform and the features of the processor have to be those of the
/// checkpoint.
///
/// ```no_run
/// use criu_cri::engine::{Engine, Runsc};
///
/// let runsc = Runsc::new().root("/run/containerd/runsc/k8s.io").flag("--platform=systrap");
/// println!("runsc {}", runsc.tool()?.version);
/// # Ok::<(), criu_cri::engine::EngineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runsc {
    program: PathBuf,
    root: Option<PathBuf>,
    flags: Vec<String>,
}

impl Runsc {
    /// Makes an engine of the `runsc` in the search path.
    pub fn new() -> Self {
        Self::at("runsc")
    }

    /// Makes an engine of a program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), root: None, flags: Vec::new() }
    }

    /// Sets the directory of runsc's state, its `--root`.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Adds a flag that runsc gets before each of its commands, such as `--platform=kvm`. The
    /// record of a checkpoint names the flags.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }
}

impl Default for Runsc {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Runsc {
    fn tool(&self) -> Result<Tool, EngineError> {
        let said = self.read(&["--version"], &Control::default())?;
        let line = said.lines().next().unwrap_or_default();
        let version = line.strip_prefix("runsc version ").unwrap_or_default().trim();
        if version.is_empty() {
            let why = format!("says `{}` of its version", line.escape_debug());
            return Err(EngineError::invalid(self.program.display().to_string(), why));
        }
        let mut tool = Tool::new(ToolKind::Runsc, version);
        tool.arguments.clone_from(&self.flags);
        Ok(tool)
    }

    fn options(&self) -> &'static [EngineOption] {
        options::ALL
    }

    /// Saves the sandbox. [`Moments::saved`](super::Moments::saved) is called while it stands
    /// still.
    fn checkpoint(
        &self,
        what: &Subject,
        to: &Path,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Saved>, EngineError> {
        self.save(what, to, options, control)
    }

    /// Restores the sandbox. [`Moments::restored`](super::Moments::restored) is called before the
    /// last container: runsc lets all containers run once it has that.
    fn restore(
        &self,
        from: &Path,
        record: &Record,
        into: &Place,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Started>, EngineError> {
        self.bring_back(from, record, into, options, control)
    }

    fn inspect(&self, from: &Path) -> Result<Facts, EngineError> {
        let head = state_file(from)?;
        let mut facts = Facts::default();
        for (name, value) in head.facts() {
            facts.add(name, value);
        }
        for name in [PAGES_META, PAGES] {
            if let Ok(found) = from.join(name).symlink_metadata() {
                facts.add(name, format!("{} bytes", found.len()));
            }
        }
        Ok(facts)
    }

    fn verify(&self, record: &Record, host: &Host, from: &Path) -> Vec<Finding> {
        self.findings(record, host, from)
    }
}

/// Reads the head of the state file in a folder.
fn state_file(folder: &Path) -> Result<Head, EngineError> {
    let path = folder.join(STATE);
    match Head::open(&path)? {
        Some(head @ Head::Gvisor(_)) => Ok(head),
        _ => Err(EngineError::invalid(path.display().to_string(), "is no state file of gVisor")),
    }
}

/// The folder of the sandbox in the directory of a checkpoint.
const FOLDER: &str = "sandbox";

/// The state file of a checkpoint.
const STATE: &str = "checkpoint.img";

/// The places of the pages of memory.
const PAGES_META: &str = "pages_meta.img";

/// The pages of memory.
const PAGES: &str = "pages.img";
