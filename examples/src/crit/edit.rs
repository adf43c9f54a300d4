//! `crit edit`: changes images, so that a restore differs from the dump.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use criu_images::Checkpoint;
use criu_images::bpf::Program;
use criu_images::edit::{Edit as Change, Edited, edit, edit_directory};

use crate::images::open_set;
use crate::stdout::Stdout;
use crate::tool::Fallible;

#[derive(Args)]
#[command(after_help = MORE)]
pub(crate) struct Edit {
    /// A directory of images
    dir: PathBuf,
    /// Changes, carried out in this order
    #[arg(required = true)]
    edits: Vec<String>,
    /// Tell what would change, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Edit {
    pub(crate) fn run(self) -> Fallible<()> {
        let set = open_set(&self.dir)?;
        let checkpoint = set.checkpoint()?;
        let parse =
            |text: &String| change(text, checkpoint).map_err(|why| format!("{text}: {why}"));
        let edits = self.edits.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let edited =
            if self.dry_run { edit(&set, &edits)? } else { edit_directory(&self.dir, &edits)? };
        let mut out = Stdout::lock();
        if edited.is_empty() {
            writeln!(out, "nothing to change")?;
        }
        for Edited { name, changes, .. } in &edited {
            let s = if *changes == 1 { "" } else { "s" };
            writeln!(out, "{name}: {changes} change{s}")?;
        }
        Ok(())
    }
}

fn change(text: &str, checkpoint: Checkpoint<'_>) -> Fallible<Change> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    let pair = || {
        let (from, to) = rest.split_once('=').ok_or("expected FROM=TO")?;
        Ok::<_, &str>((from, to))
    };
    let bytes = || {
        let (from, to) = pair()?;
        Ok::<_, &str>((from.as_bytes().to_vec(), to.as_bytes().to_vec()))
    };
    Ok(match word {
        "path" => {
            let (from, to) = bytes()?;
            Change::Path { from, to }
        }
        "address" => {
            let (from, to) = pair()?;
            Change::Address { from: from.parse()?, to: to.parse()? }
        }
        "port" => {
            let (from, to) = pair()?;
            Change::Port { from: from.parse()?, to: to.parse()? }
        }
        "cgroup" => {
            let (from, to) = bytes()?;
            Change::Cgroup { from, to }
        }
        "label" => match rest.split_once('=') {
            Some((from, to)) => Change::Label { from: Some(from.into()), to: to.into() },
            None => Change::Label { from: None, to: rest.into() },
        },
        "mount-source" => {
            let (from, to) = bytes()?;
            Change::MountSource { from, to }
        }
        "external-key" => {
            let (from, to) = bytes()?;
            Change::ExternalKey { from, to }
        }
        "drop-seccomp" => Change::DropSeccomp,
        "drop-filter" => Change::DropFilter(rest.parse()?),
        "mark-lazy" => Change::MarkLazy,
        "replace-filter" => {
            let (index, path) = pair()?;
            let threads = checkpoint.root().threads()?;
            let arch = threads.first().and_then(criu_images::Thread::architecture);
            let arch = arch.ok_or("the architecture of the set is not known")?;
            let program =
                Program::parse(&fs::read(path).map_err(|e| format!("{path}: {e}"))?, arch)?;
            Change::ReplaceFilter(index.parse()?, program)
        }
        _ => return Err("unknown edit; `crit edit --help` lists them".into()),
    })
}

const MORE: &str = "\
Edits:
  path:FROM=TO             files below FROM are below TO
  address:FROM=TO          sockets of an IP address have another
  port:FROM=TO             sockets bound to a port are bound to another
  cgroup:FROM=TO           cgroups below FROM are below TO
  label:[FROM=]TO          SELinux or AppArmor labels, all or those equal to FROM
  mount-source:FROM=TO     mounts of a source have another
  external-key:FROM=TO     what is external under a key has another
  drop-seccomp             no thread is restricted by seccomp
  drop-filter:N            seccomp filter N is gone; crit seccomp shows the numbers
  replace-filter:N=FILE    seccomp filter N is the program in FILE, as the kernel takes it
  mark-lazy                a lazy restore brings pages later that CRIU has left without a mark by
                           mistake; not for images of `dump --lazy-pages`

All new images are written before the first takes the place of an old one.

Example:
  criu-rs crit edit img path:/srv/a=/srv/b port:80=8080
";
