//! Checks of FIFOs whose other end is not in the images.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use criu_images::requirements::{FifoEnd, Requirement};

use super::Saved;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::outside::descriptors;
use crate::preflight::proc;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let fifos = saved.requirements.iter().filter_map(|requirement| match requirement {
        Requirement::Fifo(fifo) if !fifo.own_namespace => Some(fifo),
        _ => None,
    });
    let mut wanted = Wanted::default();
    let fifos: Vec<_> = fifos.filter_map(|fifo| Some((fifo, wanted.add(fifo)?))).collect();
    // A search that has not seen all descriptors shows no FIFO to be alone.
    if fifos.is_empty() || !wanted.search() {
        return Vec::new();
    }
    fifos.into_iter().filter(|(fifo, file)| !wanted.is_held(*file, fifo)).map(alone).collect()
}

/// Makes the finding for a FIFO that nobody on this host has open at the other end.
fn alone((fifo, _): (&FifoEnd, File)) -> Finding {
    let what = "nobody has the other end of a FIFO open";
    let (effect, hint) = if fifo.reads {
        ("who reads it sees the end of the input", "open the FIFO for writing first")
    } else {
        ("who writes to it gets SIGPIPE", "open the FIFO for reading first")
    };
    let finding = Finding::new(Severity::Loses, what).path(path(fifo));
    finding.detail(effect).hint(hint)
}

fn path(fifo: &FifoEnd) -> &Path {
    Path::new(OsStr::from_bytes(&fifo.path))
}

/// Device and inode of a file.
type File = (u64, u64);

/// The FIFOs of the images, and the ends of them that processes of this host have open.
#[derive(Default)]
struct Wanted {
    files: HashMap<File, Held>,
    /// The last parts of the paths, also of the paths behind symbolic links.
    names: HashSet<OsString>,
}

/// The ends of a FIFO that somebody has open.
#[derive(Clone, Copy, Default)]
struct Held {
    reads: bool,
    writes: bool,
}

impl Wanted {
    /// Adds a FIFO. `None` if there is no such file.
    fn add(&mut self, fifo: &FifoEnd) -> Option<File> {
        let path = path(fifo);
        let meta = fs::metadata(path).ok()?;
        let file = (meta.dev(), meta.ino());
        let is_new = self.files.insert(file, Held::default()).is_none();
        let target = fs::canonicalize(path).ok().filter(|_| is_new);
        let names = [Some(path), target.as_deref()].into_iter().flatten();
        self.names.extend(names.filter_map(|path| path.file_name().map(OsStr::to_owned)));
        Some(file)
    }

    /// Searches the descriptors of all processes once. Only a descriptor whose link ends in the
    /// name of a wanted file is asked for its file, because a dead file server does not answer.
    /// Returns false if there are more descriptors than a look covers.
    fn search(&mut self) -> bool {
        descriptors(&HashSet::new(), |pid, number, link| {
            if !link.file_name().is_some_and(|name| self.names.contains(name)) {
                return;
            }
            let place = proc::of(pid, "fd").join(number.to_string());
            let Ok(meta) = fs::metadata(place) else { return };
            if let Some(held) = self.files.get_mut(&(meta.dev(), meta.ino())) {
                let mode = mode(pid, number);
                held.reads |= matches!(mode, Some(0 | 2));
                held.writes |= matches!(mode, Some(1 | 2));
            }
        })
    }

    /// Returns true if somebody has the end open that the images lack.
    fn is_held(&self, file: File, fifo: &FifoEnd) -> bool {
        let held = self.files.get(&file).copied().unwrap_or_default();
        if fifo.reads { held.writes } else { held.reads }
    }
}

/// Returns how a descriptor was opened: 0 for reading, 1 for writing, 2 for both.
fn mode(pid: Pid, number: i32) -> Option<i32> {
    let info = proc::text(proc::of(pid, "fdinfo").join(number.to_string())).ok()?;
    proc::flags(&info).map(|flags| flags & 3)
}
