//! The options that users of container runtimes know.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::error::{Error, Result};
use crate::sys::fd;
use crate::value::{CgroupMode, LsmProfile, MountContext, NetworkLock, Tcp};

/// The options of `runc checkpoint` and `runc restore`, which crun and youki have too.
///
/// [`parse`](Self::parse) reads them from the words of a command line, or a runtime sets the fields
/// itself. [`apply`](Self::apply) sets them on a dump, a pre-dump or a restore.
///
/// ```no_run
/// use criu_rs::Criu;
/// use criu_rs::oci::{Container, RuntimeOptions};
///
/// // What a user has typed after `my-runtime checkpoint`.
/// let words = ["--tcp-established", "--image-path=/ckpt/web", "--leave-running", "web"];
/// let (options, rest) = RuntimeOptions::parse(words)?;
/// assert_eq!(rest, ["web"]);
///
/// options.make_directories()?;
/// let checkpoint = Container::open("/run/bundles/web")?.checkpoint("4711".parse()?)?;
/// if options.pre_dump {
///     options.apply(checkpoint.pre_dump(options.images()))?.run(&Criu::new())?;
/// } else {
///     options.apply(checkpoint.dump(options.images()))?.run(&Criu::new())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// `--image-path DIR`: the images directory.
    pub image_path: Option<PathBuf>,
    /// `--work-path DIR`: the directory for logs and statistics.
    pub work_path: Option<PathBuf>,
    /// `--parent-path DIR`: an earlier pre-dump, relative to the images directory. The dump saves
    /// only memory that has changed since.
    pub parent_path: Option<PathBuf>,
    /// `--page-server ADDRESS:PORT`: the page server that takes the memory of a dump. With
    /// `--lazy-pages` the dump serves its memory there.
    pub page_server: Option<(String, u16)>,
    /// `--lazy-pages`: a dump keeps memory back and serves it; a restore fetches it on demand.
    pub lazy_pages: bool,
    /// `--status-fd FD`: gets a zero byte when a lazy dump serves its memory.
    pub status_fd: Option<Arc<OwnedFd>>,
    /// `--manage-cgroups-mode MODE`. `None` leaves the operation's own mode.
    pub cgroup_mode: Option<CgroupMode>,
    /// `--empty-ns network`: leaves the content of the network namespace to the runtime.
    pub empty_network: bool,
    /// `--auto-dedup`: removes memory from the parent images, or from images that are restored.
    pub auto_dedup: bool,
    /// `--pre-dump`: the runtime is to run a [`PreDump`](crate::PreDump), after which the container
    /// runs on.
    pub pre_dump: bool,
    /// `--leave-running`: the container runs on after the dump.
    pub leave_running: bool,
    /// `--file-locks`: keeps file locks.
    pub file_locks: bool,
    /// `--tcp-established` or `--tcp-close`: keeps connections, or drops them.
    pub tcp: Tcp,
    /// `--tcp-skip-in-flight`: leaves out connections that are not accepted yet.
    pub tcp_skip_in_flight: bool,
    /// `--network-lock METHOD`: the way packets are kept away during a dump.
    pub network_lock: Option<NetworkLock>,
    /// `--ext-unix-sk`: accepts unix sockets whose peer is outside the container.
    pub ext_unix_sk: bool,
    /// `--shell-job`: accepts a container that is a job of a terminal.
    pub shell_job: bool,
    /// `--link-remap`: makes names for unlinked files that have other links.
    pub link_remap: bool,
    /// `--lsm-profile TYPE:NAME`: the label or profile of the restored tasks.
    pub lsm_profile: Option<LsmProfile>,
    /// `--lsm-mount-context CONTEXT`: the SELinux context of the restored mounts.
    pub lsm_mount_context: Option<MountContext>,
}

impl RuntimeOptions {
    /// Reads the options among the words of a command line. Returns other words in their order: the
    /// runtime's own options and the container's id.
    ///
    /// A value is the rest of the word after `=`, or the next word. An option that is on or off may
    /// have a value, as in `--shell-job=false`. One dash does as well as two. The words after `--`
    /// are not options. An option that is given twice has the last value.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the option and what is wrong with its value.
    pub fn parse<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<(Self, Vec<OsString>)> {
        let (mut options, mut rest) = (Self::default(), Vec::new());
        let mut words = words.into_iter().map(Into::into);
        while let Some(word) = words.next() {
            if word == "--" {
                rest.push(word);
                rest.extend(words);
                break;
            }
            let (name, value) = split(&word);
            let name = String::from_utf8_lossy(name);
            match name.strip_prefix("--").or(name.strip_prefix('-')) {
                Some(name) if is_switch(name) => {
                    let is_on = value.map_or(Ok(true), |value| switch(name, value))?;
                    options.set_switch(name, is_on);
                }
                Some(name) if VALUES.contains(&name) => {
                    let value = value.map(OsStr::to_owned).or_else(|| words.next());
                    let value = value.ok_or_else(|| invalid(name, "a value is missing"))?;
                    options.set_value(name, value)?;
                }
                _ => rest.push(word),
            }
        }
        Ok((options, rest))
    }

    /// The images directory: `--image-path`, or else `checkpoint` in the working directory, as
    /// runtimes have it.
    pub fn images(&self) -> &Path {
        self.image_path.as_deref().unwrap_or(Path::new("checkpoint"))
    }

    /// Makes the images directory and the work directory, with their parents, if they are missing.
    /// Only this user may enter them.
    ///
    /// # Errors
    /// [`Error::Path`] if one cannot be made.
    pub fn make_directories(&self) -> Result<()> {
        for path in std::iter::once(self.images()).chain(self.work_path.as_deref()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| Error::path("make the directory", path, source))?;
        }
        Ok(())
    }

    fn set_switch(&mut self, name: &str, is_on: bool) {
        match name {
            "lazy-pages" => self.lazy_pages = is_on,
            "auto-dedup" => self.auto_dedup = is_on,
            "pre-dump" => self.pre_dump = is_on,
            "leave-running" => self.leave_running = is_on,
            "file-locks" => self.file_locks = is_on,
            "tcp-established" | "tcp-close" => {
                let named = if name == "tcp-close" { Tcp::Close } else { Tcp::Established };
                if is_on {
                    self.tcp = named;
                } else if self.tcp == named {
                    self.tcp = Tcp::Refuse;
                }
            }
            "tcp-skip-in-flight" => self.tcp_skip_in_flight = is_on,
            "ext-unix-sk" => self.ext_unix_sk = is_on,
            "shell-job" => self.shell_job = is_on,
            _ => self.link_remap = is_on,
        }
    }

    fn set_value(&mut self, name: &str, value: OsString) -> Result<()> {
        match name {
            "image-path" => self.image_path = Some(value.into()),
            "work-path" => self.work_path = Some(value.into()),
            "parent-path" => {
                let path = PathBuf::from(value);
                if path.is_absolute() {
                    let why = format!(
                        "the path is {}, wanted one that begins at the images directory",
                        path.display()
                    );
                    return Err(invalid(name, why));
                }
                self.parent_path = Some(path);
            }
            "page-server" => self.page_server = Some(address(name, &text(name, value)?)?),
            "status-fd" => self.status_fd = Some(Arc::new(descriptor(name, &text(name, value)?)?)),
            "manage-cgroups-mode" => self.cgroup_mode = Some(parsed(name, value)?),
            "empty-ns" => match text(name, value)?.as_str() {
                "network" => self.empty_network = true,
                kind => {
                    let why = format!("the namespace is {kind}, wanted network");
                    return Err(invalid(name, why));
                }
            },
            "network-lock" => self.network_lock = Some(parsed(name, value)?),
            "lsm-profile" => self.lsm_profile = Some(parsed(name, value)?),
            _ => self.lsm_mount_context = Some(parsed(name, value)?),
        }
        Ok(())
    }
}

/// Options that are on or off.
const SWITCHES: [&str; 11] = [
    "lazy-pages",
    "auto-dedup",
    "pre-dump",
    "leave-running",
    "file-locks",
    "tcp-established",
    "tcp-close",
    "tcp-skip-in-flight",
    "ext-unix-sk",
    "shell-job",
    "link-remap",
];

/// Options with a value.
const VALUES: [&str; 10] = [
    "image-path",
    "work-path",
    "parent-path",
    "page-server",
    "status-fd",
    "manage-cgroups-mode",
    "empty-ns",
    "network-lock",
    "lsm-profile",
    "lsm-mount-context",
];

fn is_switch(name: &str) -> bool {
    SWITCHES.contains(&name)
}

/// Splits a word at its first `=`.
fn split(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let value = bytes.get(at + 1..).unwrap_or_default();
            (bytes.get(..at).unwrap_or_default(), Some(OsStr::from_bytes(value)))
        }
        None => (bytes, None),
    }
}

fn invalid(name: &str, why: impl Into<String>) -> Error {
    Error::Invalid { what: format!("--{name}"), why: why.into() }
}

/// Reads the value of an option that is on or off, in the spellings that runtimes accept.
fn switch(name: &str, value: &OsStr) -> Result<bool> {
    match value.as_bytes() {
        b"true" | b"TRUE" | b"True" | b"t" | b"T" | b"1" => Ok(true),
        b"false" | b"FALSE" | b"False" | b"f" | b"F" | b"0" => Ok(false),
        _ => {
            let why = format!("the value is {}, wanted true or false", value.to_string_lossy());
            Err(invalid(name, why))
        }
    }
}

fn text(name: &str, value: OsString) -> Result<String> {
    String::from_utf8(value.into_vec()).map_err(|_| invalid(name, "the value is not UTF-8"))
}

fn parsed<T: FromStr<Err: ToString>>(name: &str, value: OsString) -> Result<T> {
    text(name, value)?.parse().map_err(|error: T::Err| invalid(name, error.to_string()))
}

/// Reads `ADDRESS:PORT`. An IPv6 address may be in brackets.
fn address(name: &str, value: &str) -> Result<(String, u16)> {
    let wanted = || invalid(name, format!("the value is {value}, wanted ADDRESS:PORT"));
    let (address, port) = value.rsplit_once(':').ok_or_else(wanted)?;
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = inner.unwrap_or(address);
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wanted)?;
    if address.is_empty() {
        return Err(wanted());
    }
    Ok((address.to_owned(), port))
}

/// Duplicates the descriptor with this number, which this process has inherited.
fn descriptor(name: &str, value: &str) -> Result<OwnedFd> {
    let number = value.parse().ok().filter(|number: &i32| *number >= 0);
    let wanted = || invalid(name, format!("the value is {value}, wanted a descriptor's number"));
    let failed = |error: std::io::Error| invalid(name, format!("descriptor {value}: {error}"));
    let fd = fd::duplicate(number.ok_or_else(wanted)?, 3).map_err(failed)?;
    let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|error| failed(error.into()))?;
    if OFlag::from_bits_truncate(flags & libc::O_ACCMODE) == OFlag::O_RDONLY {
        return Err(invalid(name, format!("descriptor {} is not open for writing", value)));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn parse(words: &[&str]) -> (RuntimeOptions, Vec<OsString>) {
        RuntimeOptions::parse(words).unwrap()
    }

    #[test]
    fn words_of_runc_are_options_and_others_are_returned() {
        let (options, rest) = parse(&[
            "--image-path",
            "/ckpt",
            "--bundle",
            "/b",
            "--work-path=/work=1",
            "-leave-running",
            "--parent-path=../0",
            "--page-server=[::1]:99",
            "--manage-cgroups-mode",
            "strict",
            "--empty-ns=network",
            "--auto-dedup",
            "--tcp-established",
            "--shell-job=false",
            "--lsm-profile=apparmor:x",
            "--lsm-mount-context",
            "a:b:c:d",
            "--network-lock=nftables",
            "web",
            "--",
            "--file-locks",
        ]);
        assert_eq!(rest, ["--bundle", "/b", "web", "--", "--file-locks"]);
        assert_eq!(options.images(), Path::new("/ckpt"));
        assert_eq!(options.work_path.as_deref(), Some(Path::new("/work=1")));
        assert_eq!(options.parent_path.as_deref(), Some(Path::new("../0")));
        assert_eq!(options.page_server, Some(("::1".into(), 99)));
        assert_eq!(options.cgroup_mode, Some(CgroupMode::Strict));
        assert_eq!(options.tcp, Tcp::Established);
        assert_eq!(options.network_lock, Some(NetworkLock::Nftables));
        assert_eq!(options.lsm_profile, Some(LsmProfile::Apparmor("x".into())));
        assert!(options.lsm_mount_context.is_some());
        assert!(options.leave_running && options.empty_network && options.auto_dedup);
        assert!(!options.shell_job && !options.file_locks);
        assert_eq!(RuntimeOptions::default().images(), Path::new("checkpoint"));
    }

    #[test]
    fn every_word_sets_its_option() {
        let none = format!("{:?}", RuntimeOptions::default());
        for name in SWITCHES {
            let (options, rest) = parse(&[&format!("--{name}")]);
            assert!(rest.is_empty(), "{name}");
            assert_ne!(format!("{options:?}"), none, "{name}");
            let (options, _) = parse(&[&format!("--{name}"), &format!("--{name}=0")]);
            assert_eq!(format!("{options:?}"), none, "{name}");
        }
        let value = |name: &str| match name {
            "page-server" => "127.0.0.1:1",
            "status-fd" => "2",
            "manage-cgroups-mode" => "ignore",
            "empty-ns" => "network",
            "network-lock" => "skip",
            "lsm-profile" => "selinux:a:b:c:d",
            "lsm-mount-context" => "a:b:c:d",
            _ => "path",
        };
        for name in VALUES {
            let (options, rest) = parse(&[&format!("--{name}"), value(name)]);
            assert!(rest.is_empty(), "{name}");
            assert_ne!(format!("{options:?}"), none, "{name}");
        }
    }

    #[test]
    fn faulty_values_are_told() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        let read = read.as_raw_fd().to_string();
        for (words, wanted) in [
            (&["--image-path"][..], "--image-path: a value is missing"),
            (&["--parent-path=/0"], "begins at the images directory"),
            (&["--page-server", "host"], "the value is host, wanted ADDRESS:PORT"),
            (&["--page-server=:1"], "wanted ADDRESS:PORT"),
            (&["--page-server=a:0"], "wanted ADDRESS:PORT"),
            (&["--page-server=a:70000"], "wanted ADDRESS:PORT"),
            (&["--status-fd=x"], "wanted a descriptor's number"),
            (&["--status-fd=9999"], "descriptor 9999: Bad file descriptor"),
            (&["--status-fd", &read], "is not open for writing"),
            (&["--manage-cgroups-mode=soft!"], "one of ignore, none"),
            (&["--empty-ns=ipc"], "the namespace is ipc, wanted network"),
            (&["--file-locks=maybe"], "the value is maybe, wanted true or false"),
            (&["--lsm-profile=x"], "--lsm-profile: "),
        ] {
            let error = RuntimeOptions::parse(words.iter().copied()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{words:?}: {error}");
        }
    }
}
