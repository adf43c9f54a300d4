//! Checks of CRIU against the kernel, and of the options against both.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use procfs::sys::kernel::Version as Kernel;

use super::finding::Finding;
use super::look::Look;
use crate::criu::Criu;
use crate::diagnosis::Cause;
use crate::value::Version;

/// A known incompatibility: CRIU releases that are too old for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Clash {
    /// The first CRIU that works on such a kernel.
    pub criu: Version,
    /// The first kernel that needs it: major and minor version of Linux.
    pub linux: (u8, u8),
    /// The dumps or processes that fail.
    pub fails: &'static str,
    /// The reason.
    pub why: &'static str,
    /// True if every dump fails. Otherwise only dumps with internet sockets fail.
    pub every_dump: bool,
}

impl Clash {
    pub(super) fn detail(&self) -> String {
        format!("{} (CRIU {} does)", self.why, self.criu)
    }
}

/// All known incompatibilities.
pub const CLASHES: &[Clash] = &[
    Clash {
        criu: Version::new(4, 1, 0),
        linux: (6, 13),
        fails: "every dump",
        why: "the kernel lays out its vDSO in a way this CRIU does not know",
        every_dump: true,
    },
    Clash {
        criu: Version::new(4, 2, 0),
        linux: (6, 16),
        fails: "processes with internet sockets",
        why: "the kernel answers socket queries in a way this CRIU does not expect",
        every_dump: false,
    },
];

/// The first clash of this CRIU with the running kernel that `fits` accepts.
pub(super) fn clash(criu: Version, fits: impl Fn(&Clash) -> bool) -> Option<&'static Clash> {
    let kernel = Kernel::current().ok()?;
    let is_new = |(major, minor)| kernel >= Kernel::new(major, minor, 0);
    CLASHES.iter().find(|clash| fits(clash) && criu < clash.criu && is_new(clash.linux))
}

pub(super) fn look(look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(clash) = clash(look.version, |clash| clash.every_dump) {
        found.push(Finding::blocks(Cause::CriuTooOld).detail(clash.detail()));
    }
    let opts = &look.opts;
    let compresses = opts.compress.is_some();
    let is_dump = look.operation == "dump";
    if is_dump && (opts.track_mem() || compresses || opts.lazy_pages()) {
        // Without privileges criu cannot tell its features: no answer, no finding.
        let features = look.criu.features().unwrap_or_default();
        if opts.track_mem() && features.mem_track == Some(false) {
            found.push(Finding::blocks(Cause::NoSoftDirty));
        }
        if compresses && features.mem_compression == Some(false) {
            found.push(Finding::blocks(Cause::NoCompression));
        }
    }
    found
}

/// Returns true if a CRIU can save BPF maps: it is a program that uses libbpf. True also if that is
/// not known. The program is read once in a look.
pub(super) fn knows_bpf(look: &Look<'_>) -> bool {
    *look.bpf.get_or_init(|| uses_libbpf(look))
}

fn uses_libbpf(look: &Look<'_>) -> bool {
    if look.version < Version::new(3, 16, 0) {
        return false;
    }
    let Ok(Some(program)) = look.criu.program() else { return true };
    let mut bytes = Vec::new();
    let read = File::open(program).and_then(|file| file.take(MAX_PROGRAM).read_to_end(&mut bytes));
    let is_program = read.is_ok() && bytes.starts_with(b"\x7fELF");
    !is_program || holds(&bytes, b"libbpf.so")
}

/// Returns true if `bytes` hold `part`.
fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Most bytes of a criu program that are read.
const MAX_PROGRAM: u64 = 64 << 20;

/// Returns true if a criu started by this process finds a program in its `PATH`.
pub(super) fn in_path(criu: &Criu, program: &str) -> bool {
    let own = criu.environment().iter().rfind(|(name, _)| name == "PATH");
    let path: Option<OsString> = own.map(|(_, path)| path.clone());
    let path = path.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.iter().any(|dir| dir.join(program).is_file())
}
