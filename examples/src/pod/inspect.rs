//! `pod inspect`: shows what the record of a checkpoint says.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::record::{Container, Gpus, Holder, Host, Needs, Pod, Record, Tool};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::opened::open;
use crate::exit::Exit;
use crate::images;
use crate::shown::one_line;
use crate::tool::Fallible;

/// Options of `pod inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The directory or archive of the checkpoint
    #[arg(value_name = "DIR|ARCHIVE")]
    path: PathBuf,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Fallible<ExitCode> {
        let (holder, record) = open(&self.path)?;
        let bytes = bytes(&holder, &record);
        let heads = record.heads(&holder).into_iter().map(|(path, head)| Head::new(path, head));
        let heads = heads.collect();
        let kind = if holder.in_archive().is_some() { "archive" } else { "directory" };
        let name = holder.name();
        let shown = Inspected {
            program: "pod",
            outcome: "done",
            name,
            kind,
            bytes,
            record: &record,
            heads,
        };
        images::show(&shown, self.json)?;
        Ok(Exit::Done.into())
    }
}

/// Bytes of all files that are there. The manifests of engines do not say them.
fn bytes(holder: &Holder, record: &Record) -> u64 {
    let sizes = record.all_files().filter_map(|file| Some(holder.bytes(&file.path).ok()??.len()));
    sizes.fold(0, u64::saturating_add)
}

/// A record and its place. Displays as a person reads it.
#[derive(Serialize)]
struct Inspected<'r> {
    program: &'static str,
    outcome: &'static str,
    /// Path of the directory or archive.
    name: &'r str,
    /// "archive" or "directory".
    kind: &'static str,
    /// Bytes of the files.
    bytes: u64,
    record: &'r Record,
    /// Files of other tools than CRIU, and what these say of themselves.
    heads: Vec<Head<'r>>,
}

/// The head of a file.
#[derive(Serialize)]
struct Head<'r> {
    path: &'r str,
    tool: &'static str,
    facts: Vec<(String, String)>,
    /// The reason why the head cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'r> Head<'r> {
    fn new(path: &'r str, head: criu_archive::Result<criu_archive::foreign::Head>) -> Self {
        match head {
            Ok(head) => Self { path, tool: head.tool(), facts: head.facts(), error: None },
            Err(error) => {
                let error = Some(error.kind().to_string());
                Self { path, tool: "", facts: Vec::new(), error }
            }
        }
    }
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        let count = record.all_files().count();
        let mut rows = Rows(Vec::new());
        rows.add("checkpoint", format!("{} in {}", count_of(count, "file"), self.kind_of()));
        rows.add("state", record.state.to_string());
        rows.add("made by", record.made_by.clone());
        rows.add("time", record.time.map(|time| time.to_string()).unwrap_or_default());
        if let Some(pod) = &record.pod {
            rows.pod(pod);
        }
        rows.add("shared", record.shared_namespaces.join(", "));
        rows.add("order", record.order.join(", "));
        rows.add("done before", record.completed_init.join(", "));
        if let Some(host) = &record.host {
            rows.host(host);
        }
        if let Some(gpus) = &record.gpus {
            rows.gpus(gpus);
        }
        rows.files(&record.files);
        for container in &record.containers {
            rows.container(container);
        }
        for head in &self.heads {
            rows.head(head);
        }
        rows.fmt(f)
    }
}

impl Inspected<'_> {
    fn kind_of(&self) -> String {
        format!(
            "a{} {}, {}",
            if self.kind == "archive" { "n" } else { "" },
            self.kind,
            BinaryBytes(self.bytes)
        )
    }
}

/// Titles and texts. A row without text is left out.
struct Rows(Vec<(String, String)>);

impl Rows {
    fn add(&mut self, title: &str, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.0.push((title.to_owned(), one_line(&text)));
        }
    }

    fn pod(&mut self, pod: &Pod) {
        let mut text = format!("{} in {}", pod.name, pod.namespace);
        if !pod.uid.is_empty() {
            text += &format!(", uid {}", pod.uid);
        }
        self.add("pod", text);
        let handler = match &*pod.runtime_handler {
            "" => String::new(),
            handler => format!(", handler {handler}"),
        };
        self.add("sandbox", format!("{}{handler}", pod.sandbox));
    }

    fn host(&mut self, host: &Host) {
        self.add("machine", format!("{}: Linux {} {}", host.name, host.kernel, host.architecture));
        let features = count_of(host.cpu.features.len(), "feature");
        self.add("processor", format!("{}, {features}", host.cpu.name));
        self.add("cgroups", host.cgroups.version.to_string());
        self.add("security", host.lsm.modules.join(", "));
    }

    fn gpus(&mut self, gpus: &Gpus) {
        for device in &gpus.devices {
            let memory = match device.memory {
                0 => String::new(),
                bytes => format!(", {}", BinaryBytes(bytes)),
            };
            self.add("gpu", format!("{} {}{memory}", device.model, device.uuid));
        }
        self.add("gpu driver", gpus.driver.clone());
    }

    fn container(&mut self, container: &Container) {
        let Container { name, id, tool, image, files, labels, needs, .. } = container;
        self.0.push((String::new(), String::new()));
        let comma = if id.is_empty() { "" } else { ", " };
        self.add("container", format!("{name}{comma}{id}"));
        self.tool(tool);
        let digest = if image.digest.is_empty() { "" } else { " " };
        self.add("  image", format!("{}{digest}{}", image.name, image.digest).trim());
        for (module, label) in labels {
            self.add("  label", format!("{module} {label}"));
        }
        self.needs(needs);
        self.files(files);
    }

    fn tool(&mut self, tool: &Tool) {
        let version = if tool.version.is_empty() { "version unknown" } else { &tool.version };
        let runtime = match &*tool.runtime {
            "" => String::new(),
            runtime => format!(", by {runtime}"),
        };
        let kind = match tool.kind.word() {
            "" => "unknown tool",
            kind => kind,
        };
        self.add("  tool", format!("{kind} {version}{runtime}"));
        self.add("  format", tool.format.clone());
        self.add("  arguments", tool.arguments.join(" "));
        self.add("  features", tool.features.join(", "));
    }

    fn needs(&mut self, needs: &Needs) {
        self.add("  namespaces", needs.namespaces.join(", "));
        for mount in &needs.mounts {
            self.add("  mount", format!("{} from {}", mount.path, mount.source));
        }
        for connection in &needs.connections {
            let place = if connection.inside { ", inside of the checkpoint" } else { "" };
            let ends = format!("{} to {}", connection.local, connection.remote);
            self.add("  connection", format!("{} {ends}{place}", connection.protocol));
        }
    }

    fn head(&mut self, head: &Head<'_>) {
        self.0.push((String::new(), String::new()));
        self.add("head", head.path);
        self.add("  of", head.tool);
        self.add("  fault", head.error.clone().unwrap_or_default());
        for (name, value) in &head.facts {
            self.add("  says", format!("{name}: {value}"));
        }
    }

    fn files(&mut self, files: &[criu_archive::record::File]) {
        for file in files.iter().take(MOST_FILES) {
            let size = file.size.map(|bytes| format!("{}, ", BinaryBytes(bytes)));
            let sum = file.sha256.map(|sum| format!(", sha256 {sum}"));
            let (size, sum) = (size.unwrap_or_default(), sum.unwrap_or_default());
            self.add("  file", format!("{}: {size}{}{sum}", file.path, file.role));
        }
        if files.len() > MOST_FILES {
            self.add("  file", format!("{} more; --json shows all", files.len() - MOST_FILES));
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (title, text)) in self.0.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}", format!("{title:14}{text}").trim_end())?;
        }
        Ok(())
    }
}

fn count_of(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Most files of a container that are shown to a person.
const MOST_FILES: usize = 20;
