//! `archive list`: lists the members of an archive.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::{Archive, Digests, Member, MemberKind, Sha256};
use criu_images::Text;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::show;
use crate::exit::Exit;
use crate::images::open_archive;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `archive list`.
#[derive(Args)]
pub(crate) struct List {
    /// The archive, or - for standard input
    archive: PathBuf,
    /// Add the SHA-256 of each member
    #[arg(long)]
    digests: bool,
    /// Read the whole archive, and compare it with the digests in it, if it has any
    #[arg(long)]
    verify: bool,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let archive = open_archive(&self.archive)?;
        let mut listing = Listing::new(&archive);
        let work = Work::new(listing.bytes)?;
        let watch = |bytes| work.step(bytes);
        if self.verify {
            let verified = archive.verify(&watch).map_err(|error| work.fault(error))?;
            listing.verified = Some(Proof { has_digests: verified.has_digests });
        }
        if self.digests {
            // The digests in the archive are those of the members only if that was compared.
            let recorded = if self.verify { Digests::recorded(&archive)? } else { None };
            let digests = match recorded {
                Some(recorded) => recorded,
                None => Digests::compute(&archive, &watch).map_err(|error| work.fault(error))?,
            };
            for row in &mut listing.members {
                row.sha256 = digests.get(&row.path);
            }
        }
        drop(work);
        show(&listing, self.json)?;
        Ok(Exit::Done.into())
    }
}

/// The members of an archive. Displays as a tree.
#[derive(Serialize)]
struct Listing {
    archive: String,
    packing: &'static str,
    /// Bytes of all members.
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Proof>,
    /// The members in the order of their paths, each folder before its members.
    members: Vec<Row>,
}

/// An archive that was read as a whole, and is as it was written.
#[derive(Serialize)]
struct Proof {
    /// Set if the archive has digests. They are right.
    has_digests: bool,
}

#[derive(Serialize)]
struct Row {
    path: String,
    kind: &'static str,
    size: u64,
    mode: u32,
    uid: u64,
    gid: u64,
    /// Seconds since 1970.
    modified: u64,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
}

impl Listing {
    fn new(archive: &Archive) -> Self {
        let mut members: Vec<Row> = archive.members().map(Row::new).collect();
        // By parts: `a/b` before `a-b`.
        members.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        Self {
            archive: archive.name().to_owned(),
            packing: archive.packing().name(),
            bytes: members.iter().map(|row| row.size).sum(),
            verified: None,
            members,
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.members.len();
        let s = if count == 1 { "" } else { "s" };
        let bytes = BinaryBytes(self.bytes);
        write!(f, "{count} member{s}, {bytes}, {}", self.packing)?;
        match &self.verified {
            Some(Proof { has_digests: true }) => f.write_str(", all digests in it are right")?,
            Some(_) => f.write_str(", whole; there are no digests in it")?,
            None => {}
        }
        let has_digests = self.members.iter().any(|row| row.sha256.is_some());
        // Folders that have been written, the innermost last.
        let mut open: Vec<&str> = Vec::new();
        for row in &self.members {
            let parts: Vec<&str> = row.path.split('/').collect();
            let Some((name, folders)) = parts.split_last() else { continue };
            let same = open.iter().zip(folders).take_while(|(a, b)| a == b).count();
            open.truncate(same);
            for folder in &folders[same..] {
                let blank = if has_digests { 4 + 2 + 64 } else { 4 };
                let name = format!("{}/", Text(folder.as_bytes()));
                line(f, "", &format!("{:blank$}", ""), open.len(), &name)?;
                open.push(folder);
            }
            let mut mode = format!("{:04o}", row.mode);
            if has_digests {
                let sum = row.sha256.map(|sum| sum.to_string()).unwrap_or_default();
                mode = format!("{mode}  {sum:64}");
            }
            let name = Text(name.as_bytes());
            let size = BinaryBytes(row.size).to_string();
            match (row.kind, &row.target) {
                ("directory", _) => {
                    line(f, "", &mode, open.len(), &format!("{name}/"))?;
                    open.push(parts[parts.len() - 1]);
                }
                (kind, Some(target)) => {
                    let arrow = if kind == "hard link" { "=" } else { "->" };
                    let target = Text(target.as_bytes());
                    line(f, "", &mode, open.len(), &format!("{name} {arrow} {target}"))?;
                }
                ("file", _) => line(f, &size, &mode, open.len(), &name.to_string())?,
                (kind, _) => line(f, &size, &mode, open.len(), &format!("{name} ({kind})"))?,
            }
        }
        Ok(())
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    size: &str,
    mode: &str,
    depth: usize,
    name: &str,
) -> fmt::Result {
    write!(f, "\n{size:>12}  {mode}  {:1$}{name}", "", 2 * depth)
}

impl Row {
    fn new(member: &Member) -> Self {
        let text = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
        let (kind, target) = match member.kind() {
            MemberKind::File => ("file", None),
            MemberKind::Directory => ("directory", None),
            MemberKind::SymbolicLink(target) => ("symbolic link", Some(text(target))),
            MemberKind::HardLink(target) => ("hard link", Some(text(target))),
            MemberKind::Sparse => ("sparse", None),
            _ => ("special", None),
        };
        let (uid, gid) = member.owner();
        Self {
            path: member.path().to_owned(),
            kind,
            size: member.size(),
            mode: member.mode(),
            uid,
            gid,
            modified: member.modified(),
            target,
            sha256: None,
        }
    }
}
