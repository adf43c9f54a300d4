//! The tools that save and restore containers, behind one trait.
//!
//! ```text
//!                          Subject ─ checkpoint ─▶ directory ─ inspect ─▶ Facts
//! Engine: Criu, Runsc        options by name           │
//!                          Place ◀──── restore ────────┤
//!                                                      └───── verify ──▶ findings
//! ```

mod control;
mod criu;
mod describe;
mod error;
mod facts;
mod fit;
mod folders;
mod options;
mod outcome;
mod runsc;
mod seen;
mod subject;

use std::path::Path;

use criu_archive::record::{Finding, Host, Program, Record, Tool};

pub use control::{After, Control, Moments};
pub use criu::Criu;
pub use describe::describe;
pub use error::EngineError;
pub use facts::{Fact, Facts};
pub use options::{EngineOption, OptionError, Options, Phase, Values};
#[cfg(feature = "instant")]
pub use outcome::SavedInstantly;
pub use outcome::{Saved, Started};
pub use runsc::Runsc;
pub use seen::{Seen, gpus};
pub(crate) use subject::is_folder;
pub use subject::{Place, Running, Sandbox, Subject, Target};

/// A tool that saves the containers of a sandbox and restores them.
///
/// All methods block. An engine writes its own files alone. Whoever calls it writes the record,
/// beside the files of the tool.
pub trait Engine: Send + Sync {
    /// Returns the tool with its version: what a record says about it.
    ///
    /// # Errors
    /// When the tool does not start or does not answer.
    fn tool(&self) -> Result<Tool, EngineError>;

    /// Returns the program of the tool with what it can do here, as far as it says.
    ///
    /// # Errors
    /// When the tool does not start or does not answer.
    fn program(&self) -> Result<Program, EngineError> {
        let tool = self.tool()?;
        Ok(Program::new(tool.kind, tool.version, ""))
    }

    /// Returns the options of the engine, for checkpoints and restores. [`Options::parse`] refuses
    /// all others.
    fn options(&self) -> &'static [EngineOption];

    /// Saves the containers of a sandbox at one moment, into new folders of the directory `to`.
    ///
    /// All containers stand still before the first is saved. Afterwards they run on, or are ended,
    /// as [`Control::after`] says.
    ///
    /// # Errors
    /// The containers run on, and the directory holds no file of this call.
    fn checkpoint(
        &self,
        what: &Subject,
        to: &Path,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Saved>, EngineError>;

    /// Restores the containers of a directory in which this engine has saved them.
    ///
    /// # Errors
    /// No process is left.
    fn restore(
        &self,
        from: &Path,
        record: &Record,
        into: &Place,
        options: &Options,
        control: &Control<'_>,
    ) -> Result<Vec<Started>, EngineError>;

    /// Returns what the tool's files say about themselves, by the path of a folder that a
    /// checkpoint has made.
    ///
    /// # Errors
    /// When the files cannot be read, or are not those of this tool.
    fn inspect(&self, from: &Path) -> Result<Facts, EngineError>;

    /// Compares a record with this machine and with the tool at hand. Returns the known problems of
    /// a restore.
    fn verify(&self, record: &Record, host: &Host, from: &Path) -> Vec<Finding>;
}
