//! CRIU's options on their way to a runtime that an engine calls.
//!
//! containerd has no words for them. runc has CRIU read a file: the one that an annotation of the
//! container names, or else a file for the whole machine. An archive brings the annotations of its
//! container with it, so that the name of the file is chosen by the checkpoint, and the content by
//! the restore.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use criu_archive::record::Record;
use criu_rs::config::Setting;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::facts::EngineFacts;
use super::refusal::Refusal;
use super::state_dir::{StateDir, is_id};
use crate::engine::Options;

/// Options that a restore by CRIU needs, as CRIU's files have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CriuOptions(Vec<&'static str>);

/// A file of CRIU's options for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OptionsFile {
    /// The name, in the directory of such files.
    pub(super) name: String,
    text: String,
}

/// The way that options take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A file in the directory of CRIU's options, which an annotation names.
    File(OptionsFile),
    /// The machine's file, which has them already; or no options at all.
    Machine,
}

impl CriuOptions {
    /// The options of a checkpoint's restore.
    pub(super) fn of(record: &Record, options: &Options) -> Self {
        let all = || record.containers.iter().flat_map(|one| &one.tool.arguments);
        let mut wanted = needed(&|word| all().any(|argument| argument == word));
        if let Some(tcp) = options.get("tcp") {
            wanted.retain(|name| *name != TCP_ESTABLISHED);
            wanted.push(if tcp == "close" { "tcp-close" } else { TCP_ESTABLISHED });
        }
        for (name, _) in SWITCHES {
            if options.get(name).is_some() {
                wanted.retain(|wanted| *wanted != name);
            }
            if options.is_on(name) {
                wanted.push(name);
            }
        }
        Self(wanted)
    }

    /// Says whether connections come back.
    pub(super) fn keep_connections(&self) -> bool {
        self.0.contains(&TCP_ESTABLISHED)
    }

    /// Finds out how the options reach the runtime.
    ///
    /// # Errors
    /// If they do not.
    pub(super) fn way(
        &self,
        record: &Record,
        engine: &EngineFacts,
        handler: &str,
        settings: &Settings,
    ) -> Result<Way, Refusal> {
        if self.0.is_empty() {
            return Ok(Way::Machine);
        }
        let path = &settings.runtime_config;
        let passes = engine.passes(handler, CRIU_CONFIG);
        if passes && is_named(record) {
            let sandbox = record.pod.as_ref().map(|pod| &*pod.sandbox).unwrap_or_default();
            if !is_id(sandbox) {
                return Err(Refusal::invalid("the record does not name the sandbox"));
            }
            return Ok(Way::File(OptionsFile { name: file_name(sandbox), text: self.text(path)? }));
        }
        let found = Setting::read(path).map_err(|error| Refusal::state(error.to_string()))?;
        let is_missing = |name: &&&str| !found.iter().any(|setting| setting.name == **name);
        let missing: Vec<&str> = self.0.iter().filter(is_missing).copied().collect();
        if missing.is_empty() {
            return Ok(Way::Machine);
        }
        let mut text = format!(
            "the restore needs CRIU's options {}, which containerd cannot pass: write them into \
             {}, one a line",
            missing.join(", "),
            path.display(),
        );
        if is_named(record) {
            text += &format!(
                ", or let containerd hand an annotation on (container_annotations = \
                 [\"{CRIU_CONFIG}\"] of the runtime {})",
                engine.handler(handler).escape_debug(),
            );
        }
        Err(Refusal::state(text))
    }

    /// The text of a file for a restore: the options of the machine's file, and these.
    fn text(&self, machine: &Path) -> Result<String, Refusal> {
        let mut text = match fs::read_to_string(machine) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Refusal::file("read", machine)(error)),
        };
        text.push('\n');
        for name in &self.0 {
            text.push_str(name);
            text.push('\n');
        }
        Ok(text)
    }
}

impl OptionsFile {
    /// Writes the file. It may be there already: another restore of the same checkpoint has it.
    ///
    /// # Errors
    /// If another restore of the same checkpoint needs other options at this time.
    pub(super) fn write(&self, directory: &StateDir) -> Result<(), Refusal> {
        let path = directory.place(&self.name);
        match fs::read(&path) {
            Ok(there) if there == self.text.as_bytes() => return Ok(()),
            Ok(_) => {
                let text = "this checkpoint is being restored with other options: start the \
                            containers of that pod first, or remove them";
                return Err(Refusal::state(text));
            }
            // What cannot be read is replaced.
            Err(_) => {}
        }
        let written = directory.write_bytes(&self.name, self.text.as_bytes());
        written.map_err(Refusal::file("write", &path))
    }

    /// Removes the file.
    pub(super) fn remove(&self, directory: &StateDir) {
        let _ = directory.remove(&self.name);
    }

    /// Says whether the value makes sense: a value of a file may not.
    pub(super) fn is_sound(&self) -> bool {
        is_id(&self.name)
    }
}

/// Returns the annotation for the archives of a checkpoint: the path of a file that will say CRIU's
/// options. `None` for a checkpoint that needs no options.
pub(super) fn annotation(
    directory: &StateDir,
    sandbox: &str,
    options: &Options,
) -> Option<PathBuf> {
    let is_used = |word: &str| match word {
        "--tcp-established" => options.get("tcp") == Some("established"),
        word => options.is_on(word.trim_start_matches('-')),
    };
    (!needed(&is_used).is_empty()).then(|| directory.place(&file_name(sandbox)))
}

/// Says whether the archives of a record name a file of CRIU's options.
fn is_named(record: &Record) -> bool {
    let all = || record.containers.iter().flat_map(|one| &one.tool.arguments);
    record.pod.is_some() && !needed(&|word| all().any(|argument| argument == word)).is_empty()
}

/// Returns the options that a restore needs because the checkpoint was made with a word.
fn needed(is_used: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    let all = [(TCP_ESTABLISHED, "--tcp-established")].into_iter().chain(SWITCHES);
    all.filter(|(_, word)| is_used(word)).map(|(name, _)| name).collect()
}

/// Returns the name of the file of a checkpoint's options.
fn file_name(sandbox: &str) -> String {
    format!("criu-{sandbox}.conf")
}

/// Options that a checkpoint and its restore both need.
const SWITCHES: [(&str, &str); 3] = [
    ("file-locks", "--file-locks"),
    ("ext-unix-sk", "--ext-unix-sk"),
    ("link-remap", "--link-remap"),
];

/// Annotation that names a file of CRIU's options to runc.
pub(super) const CRIU_CONFIG: &str = "org.criu.config";

const TCP_ESTABLISHED: &str = "tcp-established";
