//! `kubelet checkpoint`: has a kubelet checkpoint a container.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use criu_archive::Archive;
use criu_cri::kubelet::{Container, Kubelet, Local, Result, Saved};
use criu_images::source::Blob;
use criu_images::{Severity, check};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::access::PlaceArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::find_place;
use crate::options::whole_seconds;
use crate::output::{Output, micros};
use crate::ticking::Ticking;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `kubelet checkpoint`.
#[derive(Args)]
pub(super) struct Checkpoint {
    /// The container: NAMESPACE/POD/CONTAINER
    #[arg(value_name = "NAMESPACE/POD/CONTAINER")]
    container: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Seconds that the container runtime has. A kubelet gives it 2 minutes at least, unless it is
    /// configured otherwise
    #[arg(long, value_name = "SECONDS", value_parser = whole_seconds, conflicts_with = "check")]
    timeout: Option<Duration>,
    /// Checkpoint nothing: tell if the kubelet can be reached and trusted, if the caller may
    /// checkpoint, and if the container is in the pod
    #[arg(long)]
    check: bool,
    /// Read the whole archive, if the node is this machine, and check its images
    #[arg(long, conflicts_with = "check")]
    verify: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Checkpoint {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "kubelet", self.json);
        let container: Container = self
            .container
            .parse()
            .map_err(|error| Fault::usage(format!("{}: {error}", self.container)))?;
        let kubelet = self.place.kubelet()?;
        if kubelet.access().trusts_anybody() {
            output.say("the server's certificate is not checked: anybody could answer");
        }
        let place = kubelet.endpoint().to_string();
        if self.check {
            let line = Ticking::new("asking");
            kubelet.check(&container).map_err(Fault::from)?;
            drop(line);
            let end = kubelet.certificate_end().map_err(Fault::from)?;
            let facts = json!({
                "checked": true,
                "container": container.to_string(),
                "place": place,
                "certificate_ends": end.map(|end| end.to_string()),
            });
            let line = format!(
                "{place} lets the caller checkpoint {container}, which is in the pod; only a \
                 checkpoint shows that the container runs and that its runtime has checkpoints"
            );
            output.done(line, facts);
            return Ok(Exit::Done.into());
        }
        let saved = ask(&kubelet, &container, self.timeout).map_err(Fault::from)?;
        let path = saved.path.display();
        let mut facts = json!({
            "container": container.to_string(),
            "place": place,
            "path": saved.path.to_string_lossy(),
            "took_us": micros(saved.took),
            "is_here": false,
        });
        let seconds = saved.took.as_secs_f64();
        let mut line = format!("{container} is in {path} on its node, after {seconds:.1} s");
        match saved.local() {
            Ok(None) if self.verify => {
                return Err(format!(
                    "{line}, which is not this machine: nothing was verified\n\
                     `criu-rs archive verify` on the node does it"
                )
                .into());
            }
            Ok(None) => {}
            Ok(Some(local)) => {
                describe(&local, &mut facts);
                line = format!(
                    "{container} is in {path}, {}, after {seconds:.1} s",
                    BinaryBytes(local.size)
                );
                if self.verify {
                    line += verify(&saved, local, &output, &mut facts)?;
                }
            }
            Err(error) if self.verify => return Err(format!("{path}: {error}").into()),
            Err(error) => {
                output.say(format!("{path} is on this machine, too, and was not read: {error}"));
            }
        }
        output.done(line, facts);
        Ok(Exit::Done.into())
    }
}

/// Asks for a checkpoint.
fn ask(kubelet: &Kubelet, container: &Container, timeout: Option<Duration>) -> Result<Saved> {
    let _line = Ticking::new("the kubelet checkpoints");
    kubelet.checkpoint(container, timeout)
}

/// Adds what is known of an archive on this machine.
fn describe(local: &Local, facts: &mut Value) {
    facts["is_here"] = true.into();
    facts["bytes"] = local.size.into();
    facts["engine"] = local.stored.engine.into();
    facts["pod_uid"] = (*local.stored.pod_uid).into();
    facts["checkpointed"] = local.stored.time.to_string().into();
}

/// Reads the whole archive, and checks its images. Returns the outcome in words.
///
/// # Errors
/// The archive cannot be read, or its images have an error.
fn verify(
    saved: &Saved,
    local: Local,
    output: &Output,
    facts: &mut Value,
) -> Fallible<&'static str> {
    let work = Work::new(local.size)?;
    let name = saved.path.to_string_lossy().into_owned();
    let archive = Archive::new(name, Blob::try_from(local.file)?)?;
    let verified = archive.verify(&|bytes| work.step(bytes));
    let verified = verified.map_err(|error| work.fault(error))?;
    drop(work);
    let place = find_place(&saved.path, archive, None)?;
    let findings = check(place.set());
    if let Some(bad) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(format!("{}: {bad}", saved.path.display()).into());
    }
    findings.iter().for_each(|finding| output.say(finding));
    facts["verified"] = true.into();
    facts["has_digests"] = verified.has_digests.into();
    facts["findings"] = findings.iter().map(ToString::to_string).collect();
    Ok(if verified.has_digests {
        "; all of it is as its digests say, and the images have no error"
    } else {
        "; all of it can be read, and the images have no error; there are no digests in it"
    })
}
