//! `pull`: fetches a checkpoint from a registry.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use criu_archive::oci::{Image, Layout};
use criu_archive::{Archive, Extracted, Extraction, Member};
use criu_images::source::Blob;
use serde_json::json;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::new_file::NewFile;
use crate::output::Output;
use crate::progress::Progress;
use crate::remote::{Named, Opened, RegistryArgs, nameless};
use crate::target::{self, Target};
use crate::tool::{Fallible, Tool};
use crate::word::Table;
use crate::work::Work;

/// Options of `pull`.
#[derive(Args)]
pub(crate) struct Pull {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST] in a registry, oci:DIR[:TAG] or
    /// oci-archive:FILE[:TAG]
    #[arg(value_name = "REFERENCE")]
    from: PathBuf,
    /// The archive to write, - for standard output, or an image in a layout: oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG], or a new or empty directory, with a slash at its end, for an archive
    /// that is unpacked. By default a file in the current directory: the last part of the name
    /// of the image, or the tag in a layout, with .tar, .tar.gz or .tar.zst, as the archive is
    /// packed
    #[arg(value_name = "OUT")]
    to: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print one JSON object on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

impl Tool for Pull {
    const WORD: &'static str = "pull";
    const ABOUT: &'static str = "Fetches a checkpoint from a registry.";
    const MORE: &'static str = "\
The archive is the layer of the image, as it was pushed. Its digest is checked on the way, and the
file appears when all of it is there, with mode 0600. A connection that ends is resumed. A reference
with a digest gives the same bytes at any time, whatever the registry says; a tag is the registry's
word.

To look into an image, or to restore from it, it need not be pulled: `criu-rs inspect REFERENCE` and
`criu-rs restore --lazy -D REFERENCE` fetch only what they need. A layer that is packed as one gzip
or zstd stream is fetched as a whole.

Examples:
  criu-rs pull registry.example.org/counter:v1           to counter.tar.zst, or as it is packed
  criu-rs pull localhost:5000/counter:v1 checkpoint.tar
  criu-rs pull registry.example.org/counter@sha256:0123... checkpoint.tar
  criu-rs pull registry.example.org/counter:v1 dir/      unpacked; then restore -D dir
  criu-rs pull registry.example.org/counter:v1 oci:layout:v1
  criu-rs pull oci-archive:image.tar checkpoint.tar      out of a layout

Exit status:
  0  done
  1  the image was not fetched; an old file is as it was
  2  wrong usage
  4  stopped by Ctrl-C or SIGTERM while a directory was unpacked: nothing of it stays";

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        let output = Output::new("criu-rs pull", Self::WORD, self.json);
        let from = Named::required(&self.from, IS_ARCHIVE)?;
        let named = self.to.as_ref().map(|to| Out::of(to, &from, self.json)).transpose()?;
        let opened = Opened::of(&from, &self.registry.access())?;
        let image = &opened.image;
        let layer = image.layer();
        let to = self.to.unwrap_or_else(|| name_of(&from, &layer.media_type).into());
        let out = match named {
            Some(out) => out,
            None => Out::file(&to, &from)?,
        };
        let mut facts = facts(image, &to);
        let (show, place) = (self.from.display(), to.display());
        let mut said = format!("{show} is in {place}: {} bytes", layer.size);
        let progress = Progress::of_bytes(layer.size);
        let tell = progress.listener();
        match &out {
            Out::Stdout => {
                let mut out = NewFile::create(None)?;
                opened.write_layer(&mut out, tell)?;
                out.keep()?;
                return Ok(Exit::Done.into());
            }
            Out::Directory => {
                let fetch = |file: &mut File| opened.write_layer(file, tell);
                let Extracted { members, bytes, .. } = unpack(&to, image.name(), fetch)?;
                (facts["members"], facts["bytes"]) = (members.into(), bytes.into());
                said = format!("{show} is unpacked in {place}: {members} members, {bytes} bytes");
            }
            Out::Layout(layout, tag) => layout.write(image, tag.as_deref())?,
            Out::File => match &opened.registry {
                Some(registry) => registry.pull(image, &to, tell)?,
                None => image.save(&to)?,
            },
        }
        drop(progress);
        output.done(said, facts);
        Ok(Exit::Done.into())
    }
}

/// Facts about an image that is in a place now.
fn facts(image: &Image, to: &Path) -> serde_json::Value {
    let layer = image.layer();
    json!({
        "path": to.to_string_lossy(),
        "digest": image.digest().to_string(),
        "layer": layer.digest.to_string(),
        "bytes": layer.size,
        "annotations": image.annotations(),
    })
}

/// Forms in which a checkpoint is kept.
#[derive(Debug)]
enum Out {
    Stdout,
    /// A new or empty directory, for an archive that is unpacked.
    Directory,
    Layout(Layout, Option<String>),
    File,
}

impl Out {
    /// Decides the form by the path that was given.
    fn of(to: &Path, from: &Named, json: bool) -> Result<Self, Fault> {
        let named = Named::of(to);
        if let Some(Named::Layout(layout, tag)) = named {
            target::refuse(layout.path(), input(from))?;
            return Ok(Self::Layout(layout, tag));
        }
        if let Target::Stdout = Target::new(to, json, input(from))? {
            return Ok(Self::Stdout);
        }
        if to.is_dir() || to.as_os_str().as_bytes().ends_with(b"/") {
            return Ok(Self::Directory);
        }
        if named.is_some() && !looks_like_a_file(to) {
            let why = "names an image in a registry: `criu-rs push` writes there";
            return Err(Fault::usage(format!("{}: {why}", to.display())));
        }
        Ok(Self::File)
    }

    /// Takes a path for that of a file.
    fn file(to: &Path, from: &Named) -> Result<Self, Fault> {
        target::refuse(to, input(from))?;
        Ok(Self::File)
    }
}

/// Path of the layout that is read.
fn input(from: &Named) -> Option<&Path> {
    match from {
        Named::Layout(layout, _) => Some(layout.path()),
        Named::Registry(_) => None,
    }
}

/// Unpacks the layer of an image into a new directory, once all of it is here and its digest was
/// found right. Until then it is in a file without a name beside the directory.
fn unpack(
    directory: &Path,
    name: &str,
    fetch: impl FnOnce(&mut File) -> criu_archive::Result<()>,
) -> Fallible<Extracted> {
    let beside = match directory.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    let named = |error: io::Error| format!("{}: {error}", beside.display());
    let mut file = nameless(beside).map_err(named)?;
    fetch(&mut file)?;
    let archive = Archive::new(name, Blob::try_from(file).map_err(named)?)?;
    // From now on a signal leaves nothing of the directory in the making.
    let work = Work::new(archive.members().map(Member::size).sum())?;
    let extraction = Extraction::of(&archive).progress(|done| work.step(done.bytes));
    extraction.into_new(directory).map_err(|error| work.fault(error))
}

/// Tells that a path with a slash is that of a file: the directory is there.
fn looks_like_a_file(path: &Path) -> bool {
    path.parent().is_some_and(Path::is_dir)
}

/// Makes a name for the archive of an image.
fn name_of(from: &Named, media_type: &str) -> String {
    let name = match from {
        Named::Registry(reference) => {
            let repository = reference.repository();
            repository.rsplit('/').next().unwrap_or(repository).to_owned()
        }
        Named::Layout(layout, tag) => {
            let stem = layout.path().file_stem().unwrap_or_default().to_string_lossy();
            tag.clone().unwrap_or_else(|| format!("{stem}-checkpoint"))
        }
    };
    let ending = match media_type.rsplit(['+', '.']).next() {
        Some("gzip") => ".gz",
        Some("zstd") => ".zst",
        _ => "",
    };
    format!("{name}.tar{ending}")
}

/// Reason why an archive is not pulled.
const IS_ARCHIVE: &str = "is a file, and need not be pulled: `inspect`, `restore` and `archive` \
    read archives as they are";
