//! `pod restore`: brings back the containers of a checkpoint, all or none.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use criu_archive::record::{Finding, Holder, Host, Record, State};
use criu_cri::engine::{Phase, Place, Sandbox, Target};
use criu_rs::instant::InstantOptions;
use serde_json::json;

use super::engine::{EngineArgs, fault, interrupted};
use super::told::Told;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::options::{Coordinated, ShutNetwork};
use crate::output::{Output, micros};
use crate::progress::Progress;
use crate::shown::one_line;
use crate::tool::Fallible;

/// Options of `pod restore`.
#[derive(Args)]
pub(super) struct Restore {
    /// The directory of the checkpoint, with its record
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A container, by its name in the checkpoint, with the bundle of the new container and its id
    /// (by default the name); once for each container of the checkpoint
    #[arg(long = "container", value_name = "NAME=BUNDLE[,ID]", required = true,
        value_parser = target)]
    containers: Vec<(String, PathBuf, String)>,
    /// The sandbox that the containers share, with the bundle of its own container; for runsc
    #[arg(long, value_name = "ID=BUNDLE", value_parser = sandbox)]
    sandbox: Option<(String, PathBuf)>,
    /// An existing directory for the state of a runtime
    #[arg(long, value_name = "DIR", default_value = "/run")]
    state: PathBuf,
    /// Restore although the record speaks against it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    coordinated: Coordinated,
    #[command(flatten)]
    shut_network: ShutNetwork,
}

impl Restore {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "pod", self.engine.json);
        let engine = self.engine.engine(InstantOptions::new())?;
        let options = self.engine.options(&*engine, Phase::Restore, None)?;
        let record = Record::read(&Holder::open(&self.directory)?)?;
        let drive = Drive::new()?;
        let findings = engine.verify(&record, &Host::here(), &self.directory);
        if !self.force || record.state == State::Capturing {
            refuse(&findings)?;
        }
        let begun = Instant::now();
        let member = self.coordinated.member(drive.cancel(), self.engine.limit())?;
        let moments = Told::new(&output, self.shut_network.given_to(member)?);
        let joined = drive.watch(|| moments.join_restore())?;
        joined.map_err(|fault| interrupted(&drive).unwrap_or(fault))?;
        let control = self.engine.control(&drive, &moments);
        let progress = Progress::of_time("restoring");
        progress.show();
        let place = self.place();
        let started = drive
            .watch(|| engine.restore(&self.directory, &record, &place, &options, &control))?
            .map_err(|error| fault(error, &drive))?;
        drop(progress);
        let names: Vec<&str> = started.iter().map(|one| one.name.as_str()).collect();
        let containers: Vec<_> = started
            .iter()
            .map(|one| {
                let pid = one.pid.map(criu_rs::Pid::as_raw);
                json!({ "name": one.name, "id": one.id, "pid": pid })
            })
            .collect();
        output.done(
            format!("{} run again", names.join(", ")),
            json!({ "containers": containers, "elapsed_us": micros(begun.elapsed()) }),
        );
        Ok(Exit::Done.into())
    }

    fn place(&self) -> Place {
        let targets = self.containers.iter().map(|(name, bundle, id)| Target {
            name: name.clone(),
            id: id.clone(),
            bundle: bundle.clone(),
        });
        let sandbox = self.sandbox.as_ref().map(|(id, bundle)| Sandbox {
            id: id.clone(),
            bundle: Some(bundle.clone()),
            pid: None,
        });
        Place { sandbox, containers: targets.collect(), state: self.state.clone() }
    }
}

/// Refuses a checkpoint that cannot be restored here.
fn refuse(findings: &[Finding]) -> Result<(), Fault> {
    let errors: Vec<String> =
        findings.iter().filter(|one| one.is_error()).map(ToString::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let errors = one_line(&errors.join("; "));
    Err(Fault::Failed(format!("the checkpoint cannot be restored here: {errors}")))
}

fn target(text: &str) -> Result<(String, PathBuf, String), String> {
    let (name, rest) = text.split_once('=').unwrap_or_default();
    let (bundle, id) = rest.rsplit_once(',').unwrap_or((rest, name));
    if [name, bundle, id].contains(&"") {
        return Err("wanted NAME=BUNDLE or NAME=BUNDLE,ID".into());
    }
    Ok((name.into(), Path::new(bundle).into(), id.into()))
}

fn sandbox(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((id, bundle)) if !id.is_empty() && !bundle.is_empty() => {
            Ok((id.into(), bundle.into()))
        }
        _ => Err("wanted ID=BUNDLE".into()),
    }
}
