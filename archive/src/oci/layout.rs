//! Image layouts: OCI images in a directory, or in a tar archive of one.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use criu_images::source::{Blob, Directory, Source};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::image::{Image, check, chosen, only_layer};
use super::manifest::{
    self, Descriptor, Document, Index, Manifest, REF_NAME, check_len, check_size,
};
use super::tarball::Tarball;
use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::write::NewFile;

/// A place of images in files, as skopeo's `oci:` and `oci-archive:` name it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Layout {
    /// A directory with `oci-layout`, `index.json` and `blobs`.
    Directory(PathBuf),
    /// A tar archive of such a directory.
    Archive(PathBuf),
}

impl Layout {
    /// Path of the directory, or of the archive.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive(path) => path,
        }
    }

    /// Opens the image with a tag. Without a tag there has to be one image, or one for this
    /// machine. The digests of manifest and config are checked; the layer stays where it is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Missing`] if the layout cannot be read;
    /// [`ErrorKind::Json`], [`ErrorKind::Malformed`], [`ErrorKind::Value`] and
    /// [`ErrorKind::Digest`] for faulty documents; [`ErrorKind::TooLarge`] for documents above
    /// 4 MiB; [`ErrorKind::Truncated`] and [`ErrorKind::TooLarge`] for documents and layers of
    /// another size than the documents say.
    pub fn open(&self, tag: Option<&str>) -> Result<Image> {
        let name = self.name(tag);
        let read = || -> Result<Image, Fault> {
            let files = Files::of(self)?;
            let version: Version = files.document("oci-layout")?;
            if version.image_layout_version != VERSION {
                let fault = Fault::from(ErrorKind::Malformed("is of another version than 1.0.0"));
                return Err(fault.of("oci-layout"));
            }
            let index = files.whole("index.json")?;
            let Document::Index(index) = Document::parse(&index).map_err(of("index.json"))? else {
                return Err(Fault::from(ErrorKind::Malformed("is no index")).of("index.json"));
            };
            let (bytes, parsed) = files.manifest(&index, tag)?;
            let config = files.described(&parsed.config)?;
            let layer = only_layer(&parsed)?;
            let layer = files.blob(layer.digest)?;
            Image::of_documents(name.clone(), bytes, parsed, config, layer)
        };
        read().map_err(|fault| Error::new(&*name, fault))
    }

    /// Writes an image, with a tag. A directory must be empty or missing, or a layout: then the
    /// image is added, and replaces one with the same tag. An archive is written beside and
    /// renamed. The digest of the layer is checked while it is copied. Equal images with equal tags
    /// make equal layouts.
    ///
    /// # Errors
    /// [`ErrorKind::Write`]; [`ErrorKind::Io`] and [`ErrorKind::Digest`] if the image cannot
    /// be read.
    pub fn write(&self, image: &Image, tag: Option<&str>) -> Result<()> {
        let written = match self {
            Self::Directory(path) => write_directory(path, image, tag),
            Self::Archive(path) => write_archive(path, image, tag),
        };
        written.map_err(|fault| Error::new(self.name(tag), fault))
    }

    fn name(&self, tag: Option<&str>) -> String {
        let path = self.path().to_string_lossy();
        match tag {
            Some(tag) => format!("{path}:{tag}"),
            None => path.into_owned(),
        }
    }
}

/// The file `oci-layout`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

/// The files of a layout.
enum Files {
    Directory { top: Directory, blobs: Directory },
    Archive(Archive),
}

impl Files {
    fn of(layout: &Layout) -> Result<Self, Fault> {
        Ok(match layout {
            Layout::Directory(path) => {
                let top = Directory::open(path)?;
                let blobs = Directory::open(path.join(BLOBS))?;
                Self::Directory { top, blobs }
            }
            Layout::Archive(path) => {
                Self::Archive(Archive::open(path).map_err(|error| error.into_fault())?)
            }
        })
    }

    /// Opens a file. Links are not followed: a blob is a regular file.
    fn open(&self, path: &str) -> Result<Blob, Fault> {
        let blob = match self {
            Self::Directory { top, blobs } => match path.strip_prefix(BLOBS) {
                Some(name) => blobs.open(name.trim_start_matches('/'))?,
                None => top.open(path)?,
            },
            Self::Archive(archive) => {
                let bytes = archive.member(path).map(|_| archive.bytes(path));
                bytes.transpose().map_err(|error| error.into_fault())?
            }
        };
        blob.ok_or_else(|| Fault::from(ErrorKind::Missing).of(path))
    }

    fn blob(&self, digest: Digest) -> Result<Blob, Fault> {
        self.open(&format!("{BLOBS}/{}", digest.hex()))
    }

    /// Reads a file that is a document.
    fn whole(&self, path: &str) -> Result<Vec<u8>, Fault> {
        let blob = self.open(path)?;
        check_size(blob.len()).map_err(of(path))?;
        let mut bytes = vec![0; usize::try_from(blob.len()).unwrap_or(0)];
        blob.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn document<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        manifest::json(&self.whole(path)?).map_err(of(path))
    }

    /// Reads a document, and checks its digest.
    fn described(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> {
        let path = format!("{BLOBS}/{}", descriptor.digest.hex());
        let bytes = self.whole(&path)?;
        check_len(bytes.len() as u64, descriptor.size).map_err(of(&path))?;
        check(Digest::of(&bytes), descriptor.digest).map_err(of(&path))?;
        Ok(bytes)
    }

    /// Finds the manifest with a tag. An index may lead to another one, once.
    fn manifest(&self, index: &Index, tag: Option<&str>) -> Result<(Vec<u8>, Manifest), Fault> {
        let found = chosen(index, tag).map_err(of("index.json"))?;
        let bytes = self.described(found)?;
        let inner = match Document::parse(&bytes)? {
            Document::Manifest(parsed) => return Ok((bytes, parsed)),
            Document::Index(inner) => inner,
        };
        let bytes = self.described(chosen(&inner, None)?)?;
        match Document::parse(&bytes)? {
            Document::Manifest(parsed) => Ok((bytes, parsed)),
            Document::Index(_) => Err(ErrorKind::Malformed("its indices are nested").into()),
        }
    }
}

fn of(member: &str) -> impl FnOnce(Fault) -> Fault + use<'_> {
    move |fault| fault.of(member)
}

fn write_directory(path: &Path, image: &Image, tag: Option<&str>) -> Result<(), Fault> {
    let unwritable = ErrorKind::Write;
    let blobs = path.join(BLOBS);
    // The layers are memory of processes.
    let create = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    create(path).map_err(unwritable)?;
    // One writer after the other: each adds to the index of the one before.
    let _locked = locked(path).map_err(unwritable)?;
    let is_layout = path.join("index.json").exists();
    if !is_layout && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(unwritable(io::Error::other("is neither empty nor a layout")).into());
    }
    let old: Option<Map<String, Value>> = if is_layout {
        Some(Files::of(&Layout::Directory(path.to_owned()))?.document("index.json")?)
    } else {
        None
    };
    create(&blobs).map_err(unwritable)?;
    let (config, bytes) = image.config();
    write_file(&blobs.join(config.digest.hex()), |to| to.write_all(bytes))?;
    write_file(&blobs.join(image.digest().hex()), |to| to.write_all(image.manifest()))?;
    let layer = blobs.join(image.layer().digest.hex());
    new_file(&layer, |to| image.copy_layer(to))?;
    write_file(&path.join("oci-layout"), |to| to.write_all(MARK))?;
    let index = match old {
        None => image.index(tag),
        Some(old) => added(old, image, tag)?,
    };
    write_file(&path.join("index.json"), |to| to.write_all(&index))
}

/// Returns the index of a layout with an image added. The images that are there stay, except one
/// with this tag, and so does what else the index says.
fn added(mut old: Map<String, Value>, image: &Image, tag: Option<&str>) -> Result<Vec<u8>, Fault> {
    let mut new: Map<String, Value> = manifest::json(&image.index(tag))?;
    let ours = image.digest().to_string();
    let is_other = |one: &Value| {
        let name = one.get("annotations").and_then(|all| all.get(REF_NAME)?.as_str());
        name != tag && (name.is_some() || one.get("digest").is_none_or(|d| *d != *ours))
    };
    let others = match old.remove("manifests") {
        Some(Value::Array(mut all)) => {
            all.retain(is_other);
            all
        }
        _ => Vec::new(),
    };
    let annotations = match old.remove("annotations") {
        Some(Value::Object(mut all)) => {
            // Those about a checkpoint are of one image.
            all.retain(|key, _| !OF_CHECKPOINTS.iter().any(|start| key.starts_with(start)));
            all
        }
        _ => Map::new(),
    };
    if !others.is_empty() {
        new.remove("annotations");
    }
    if let Some(Value::Array(all)) = new.get_mut("manifests") {
        all.extend(others);
    }
    if !annotations.is_empty() {
        let all = new.entry("annotations").or_insert_with(|| Map::new().into());
        if let Value::Object(all) = all {
            annotations.into_iter().for_each(|(key, value)| _ = all.entry(key).or_insert(value));
        }
    }
    old.into_iter().for_each(|(key, value)| _ = new.entry(key).or_insert(value));
    Ok(manifest::text(&new))
}

/// Locks a directory, and waits for that. The lock ends with the value. A file system without locks
/// does without.
fn locked(path: &Path) -> io::Result<Option<Flock<fs::File>>> {
    match Flock::lock(fs::File::open(path)?, FlockArg::LockExclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EOPNOTSUPP | Errno::ENOLCK | Errno::ENOSYS | Errno::EBADF)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

fn write_archive(path: &Path, image: &Image, tag: Option<&str>) -> Result<(), Fault> {
    let blob = |digest: Digest| format!("{BLOBS}/{}", digest.hex());
    let (config, bytes) = image.config();
    new_file(path, |to| {
        let mut tar = Tarball::new(to);
        for directory in ["blobs", BLOBS] {
            tar.directory(directory)?;
        }
        let small = [(config.digest, bytes), (image.digest(), image.manifest())];
        for (digest, bytes) in small {
            tar.file(&blob(digest), bytes)?;
        }
        let layer = image.layer();
        tar.begin(&blob(layer.digest), layer.size)?;
        image.copy_layer(&mut tar)?;
        tar.end(layer.size)?;
        tar.file("index.json", &image.index(tag))?;
        tar.file("oci-layout", MARK)?;
        tar.finish().map_err(ErrorKind::Write)?;
        Ok(())
    })
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Fault> {
    new_file(path, |to| write(to).map_err(|error| ErrorKind::Write(error).into()))
}

/// Writes a file beside, and puts it in its place when all of it is on the disk. A fault leaves the
/// old file.
pub(crate) fn new_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<NewFile>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let unwritable = ErrorKind::Write;
    let mut file = BufWriter::with_capacity(BUFFER, NewFile::create(path).map_err(unwritable)?);
    write(&mut file)?;
    let file = file.into_inner().map_err(|error| unwritable(error.into_error()))?;
    Ok(file.keep().map_err(unwritable)?)
}

const BLOBS: &str = "blobs/sha256";
const VERSION: &str = "1.0.0";
const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Beginnings of the annotations that tell about a checkpoint.
const OF_CHECKPOINTS: &[&str] = &[
    "io.kubernetes.cri-o.annotations.checkpoint.",
    "io.podman.annotations.checkpoint.",
    "org.criu.checkpoint.",
];
const BUFFER: usize = 256 << 10;
