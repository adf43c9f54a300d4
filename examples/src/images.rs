//! Sets of images, as the words take and show them.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use criu_archive::crypt;
use criu_archive::inspection::Place;
use criu_archive::{Archive, ErrorKind as Fault};
use criu_images::bounds::IMAGE;
use criu_images::kind::INVENTORY;
use criu_images::source::{Blob, Source};
use criu_images::{ErrorKind, Image, ImageSet, Text};
use serde::Serialize;

use crate::keys;
use crate::new_file::open_input;
use crate::remote;
use crate::shown::{Shown, write_json};
use crate::stdout::Stdout;

/// Opens a set: a directory, a tar archive with one set, or `ARCHIVE:FOLDER` if there are several.
/// A directory without images stands for the one folder in it that has images, as an engine's
/// export has once it is unpacked.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn open_set(path: &Path) -> Result<ImageSet, String> {
    open_place(path).map(Place::into_set)
}

/// Opens a set as [`open_set`] does, with what lies beside the images.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn open_place(path: &Path) -> Result<Place, String> {
    place(path, Way::Twice)
}

/// Opens a set as [`open_place`] does. A packed archive is unpacked once, with all of its pages.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn open_pages(path: &Path) -> Result<Place, String> {
    place(path, Way::Once)
}

fn place(path: &Path, way: Way) -> Result<Place, String> {
    if path.is_dir() {
        return Place::directory(path, "").or_else(|error| match error.kind() {
            Fault::Images(fault) if matches!(fault.kind(), ErrorKind::Missing) => {
                open_below(path, error.to_string())
            }
            _ => Err(error.to_string()),
        });
    }
    if let Some((tar, opened)) = remote::open(path)? {
        let place = find_place(path, tar, None)?;
        return Ok(place.with_annotations(opened.annotations()));
    }
    let (archive, folder) = split(path);
    find_place(path, archive_by(archive, way)?, folder)
}

/// Finds a set in an archive: the one in a folder, or the only one.
pub(crate) fn find_place(path: &Path, tar: Archive, folder: Option<&str>) -> Result<Place, String> {
    let text = path.to_string_lossy();
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => match &Place::folders(&tar)[..] {
            [one] => one.clone(),
            [] => return Err(format!("{text}: no folder in it has images")),
            [a, b, ..] => {
                let (a, b) = (Text(a.as_bytes()), Text(b.as_bytes()));
                return Err(format!(
                    "{text}: several folders in it have images; name one: {text}:{a} or {text}:{b}"
                ));
            }
        },
    };
    Place::archive(tar, &folder).map_err(|error| match error.kind() {
        Fault::Images(fault) => format!("{text}: {fault}"),
        _ => error.to_string(),
    })
}

/// Opens an archive: a file, a FIFO, or `-`, which is standard input.
///
/// # Errors
/// Returns the reason for a person, with the path and with advice.
pub(crate) fn open_archive(path: &Path) -> Result<Archive, String> {
    archive_by(path, Way::Twice)
}

fn archive_by(path: &Path, way: Way) -> Result<Archive, String> {
    if path == Path::new("-") {
        let file = io::stdin().as_fd().try_clone_to_owned().map(fs::File::from);
        let file = file.map_err(|error| format!("{STANDARD_INPUT}: {error}"))?;
        if file.is_terminal() {
            return Err(format!("{STANDARD_INPUT} is a terminal, an archive is wanted there"));
        }
        return open_stream(STANDARD_INPUT, file, way).map_err(|error| no_archive(path, &error));
    }
    let opened = match way {
        Way::Once => Archive::open_with_pages(path),
        Way::Twice => Archive::open(path),
    };
    opened.or_else(|error| match error.kind() {
        Fault::Encrypted => open_encrypted(path, way),
        Fault::NotAFile if !path.is_dir() => {
            let name = path.to_string_lossy();
            let file = open_input(path).map_err(|error| format!("{name}: {error}"))?;
            open_stream(&name, file, way).map_err(|error| no_archive(path, &error))
        }
        Fault::NotAFile => Err(format!("{}: is a directory, not an archive", path.display())),
        _ => Err(no_archive(path, &error)),
    })
}

/// Reads an archive from a descriptor: in place, if its file can be read at any place.
fn open_stream(name: &str, mut file: fs::File, way: Way) -> criu_archive::Result<Archive> {
    let is_whole = file.metadata().is_ok_and(|found| found.is_file())
        && file.stream_position().is_ok_and(|position| position == 0);
    match (file.try_clone().and_then(Blob::try_from), keys::held()) {
        (Ok(bytes), Some(keys)) if is_whole => way.open(name, crypt::opened(name, &bytes, keys)?),
        (Ok(bytes), None) if is_whole => way.open(name, bytes),
        (_, Some(keys)) => Archive::read(name, crypt::opened_stream(name, file, keys)?),
        (_, None) => Archive::read(name, file),
    }
}

/// Opens an encrypted archive with the keys of this run.
fn open_encrypted(path: &Path, way: Way) -> Result<Archive, String> {
    let name = path.to_string_lossy();
    let Some(keys) = keys::held() else {
        return Err(format!("{name}: {ENCRYPTED}"));
    };
    let bytes = fs::File::open(path).and_then(Blob::try_from);
    let bytes = bytes.map_err(|error| format!("{name}: {error}"))?;
    let opened = crypt::decrypted(&name, &bytes, keys);
    let opened = opened.and_then(|bytes| way.open(&name, bytes));
    opened.map_err(|error| no_archive(path, &error))
}

/// Opens an image in an archive, `ARCHIVE:FOLDER/IMAGE`. Returns `None` if the path has another
/// form, or names a file.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn image_in_archive(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let (archive, Some(member)) = split(path) else {
        return Ok(None);
    };
    if !archive.is_file() && archive != Path::new("-") {
        return Ok(None);
    }
    let tar = open_archive(archive)?;
    let (folder, name) = member.rsplit_once('/').unwrap_or(("", member));
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let blob = tar.folder(folder).open(name).map_err(|error| named(&error))?;
    let blob = blob.ok_or_else(|| named(&"is not in the archive"))?;
    let (size, limit) = (blob.len(), IMAGE.get());
    if size > limit {
        return Err(named(&ErrorKind::TooLarge { size, limit }));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    blob.read_at(0, &mut bytes).map_err(|error| named(&error))?;
    Ok(Some(bytes))
}

/// Splits `ARCHIVE:PART`, unless a file has this name.
fn split(path: &Path) -> (&Path, Option<&str>) {
    let parts = path.to_str().and_then(|text| text.rsplit_once(':'));
    match parts {
        Some((archive, part)) if !path.exists() => (Path::new(archive), Some(part)),
        _ => (path, None),
    }
}

/// Returns the directory of images that a directory stands for: itself, or the one folder in it
/// that has images.
pub(crate) fn set_in(path: &Path) -> PathBuf {
    if path.join(INVENTORY.file).exists() {
        return path.to_owned();
    }
    match folders_with_images(path).as_deref() {
        Ok([one]) => path.join(one),
        _ => path.to_owned(),
    }
}

/// Opens the only folder of a directory that has images. `none` is the reason if no folder has any.
fn open_below(path: &Path, none: String) -> Result<Place, String> {
    let own = folders_with_images(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match &own[..] {
        [] => Err(none),
        [one] => Place::directory(path, &one.to_string_lossy()).map_err(|error| error.to_string()),
        [a, .., b] => Err(format!(
            "{}: several folders in it have images; name one: {} or {}",
            path.display(),
            path.join(a).display(),
            path.join(b).display()
        )),
    }
}

/// Returns the folders of a directory that have images, without those that are parents of others.
fn folders_with_images(path: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(path)?;
    // A link is left out: `parent` leads to another set.
    let folders = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.file_name())
    });
    let has_images = |folder: &OsString| path.join(folder).join(INVENTORY.file).exists();
    let mut sets: Vec<_> = folders.filter(has_images).collect();
    sets.sort_unstable();
    // The folder that `parent` of another one leads to belongs to that one.
    let parents = sets.iter().filter_map(|folder| {
        let target = fs::read_link(path.join(folder).join("parent")).ok()?;
        Some(target.strip_prefix("..").ok()?.as_os_str().to_owned())
    });
    let parents: Vec<_> = parents.collect();
    sets.retain(|folder| !parents.contains(folder));
    Ok(sets)
}

/// Says why a file cannot be read as an archive, and what to do.
fn no_archive(path: &Path, error: &criu_archive::Error) -> String {
    let shown = path.display();
    match error.kind() {
        Fault::Compressed(program) => {
            if path == Path::new("-") {
                return format!("{error}: put `{program} -d` before this program in the pipe");
            }
            let (packed, plain) = (shell_word(path), shell_word(&unpacked(path)));
            format!("{error}: {program} -d < {packed} > {plain}")
        }
        Fault::Encrypted => format!("{}: {ENCRYPTED}", error.archive()),
        Fault::NotAnArchive
            if path.metadata().is_ok_and(|found| found.is_file() && found.len() == 0) =>
        {
            format!("{shown}: is empty")
        }
        Fault::NotAnArchive if is_image(path) => {
            format!("{shown}: is one image; give the directory that holds all of them")
        }
        Fault::NotAnArchive => {
            let shown = error.archive();
            format!("{shown}: is neither a directory of images nor a tar archive")
        }
        _ if remote::Named::of(path).is_some() => {
            format!(
                "{error}; an image in a registry or layout is fetched first, with `criu-rs pull`"
            )
        }
        _ => error.to_string(),
    }
}

/// Name for an archive once it is unpacked: `export.tar` of `export.tar.xz`.
fn unpacked(path: &Path) -> PathBuf {
    let is_packed = |ending: &&str| ["xz", "bz2", "lz4", "lz", "txz"].contains(ending);
    let ending = path.extension().and_then(|ending| ending.to_str());
    let stem =
        if ending.as_ref().is_some_and(is_packed) { path.with_extension("") } else { path.into() };
    match stem.extension() {
        Some(tar) if tar == "tar" && stem != path => stem,
        _ => stem.with_extension("unpacked.tar"),
    }
}

/// Writes a path as one word of a shell.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |char: char| char.is_alphanumeric() || "./_-+,:@%".contains(char);
    if text.chars().all(is_plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Returns true if a file begins like an image of CRIU.
fn is_image(path: &Path) -> bool {
    let mut head = Vec::new();
    // A FIFO would be waited for.
    if !path.is_file() {
        return false;
    }
    let read = fs::File::open(path).and_then(|file| file.take(8).read_to_end(&mut head));
    read.is_ok() && Image::detect("", &head).is_ok()
}

/// Prints a value on standard output: as text, or as JSON on one line.
///
/// # Errors
/// Fails if standard output cannot be written.
pub(crate) fn show<T: fmt::Display + Serialize>(value: &T, json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(Stdout::lock());
    if json {
        write_json(&mut out, value)?
    } else {
        write!(out, "{}", Shown(value))?
    }
    writeln!(out)?;
    out.flush()
}

/// Tells if an error means that the reader of the output is gone. A registry that hangs up is no
/// such reader.
pub(crate) fn is_broken_pipe(mut error: &(dyn std::error::Error + 'static)) -> bool {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    loop {
        if let Some(error) = error.downcast_ref::<criu_archive::Error>() {
            return matches!(error.kind(), Fault::Write(error) if is_gone(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return is_gone(error);
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}

/// Ways to read a packed archive.
#[derive(Clone, Copy)]
enum Way {
    /// First for the members, and again only if a page is asked for.
    Twice,
    /// Once for everything, because pages will be asked for.
    Once,
}

impl Way {
    fn open(self, name: &str, bytes: Blob) -> criu_archive::Result<Archive> {
        match self {
            Self::Once => Archive::with_pages(name, bytes),
            Self::Twice => Archive::new(name, bytes),
        }
    }
}

const ENCRYPTED: &str = "is encrypted: name --identity FILE or --passphrase-file FILE";
const STANDARD_INPUT: &str = "standard input";
