//! The plugin's file, and the directory in which criu finds it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::error::InstantError;
use super::shared::Shared;
use crate::config::Setting;
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::operation::{Dump, Scratch};
use crate::value::Pid;

/// Finds the plugin without a dump: the file at `named`, or `libcriu_plugin.so` in the first of
/// these directories that has it: `deps` beside the running program, the directory of the running
/// program, `deps` beside that directory, `/usr/lib/criu-rs`, `/usr/local/lib/criu-rs`.
///
/// # Errors
/// [`InstantError::NoPlugin`] with the paths that were looked at. [`InstantError::Plugin`] if the
/// file is not a plugin for criu, or can be written by others than root and the user of this
/// process.
pub fn find_plugin(named: Option<&Path>) -> Result<PathBuf, InstantError> {
    let looked = match named {
        Some(path) => vec![path.to_owned()],
        None => places(),
    };
    let Some(path) = looked.iter().find(|path| path.exists()) else {
        return Err(InstantError::NoPlugin { looked });
    };
    open(path)?;
    Ok(path.clone())
}

fn places() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent);
    let beside = folder.map(|folder| [folder.join("deps"), folder.into(), folder.join("../deps")]);
    let installed = INSTALLED.iter().map(PathBuf::from);
    let folders = beside.into_iter().flatten().chain(installed);
    folders.map(|folder| folder.join(NAME)).collect()
}

/// Opens the plugin, if it can be trusted.
fn open(path: &Path) -> Result<File, InstantError> {
    let refused = |why: String| InstantError::Plugin { path: path.to_owned(), why };
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = open.map_err(|error| refused(error.to_string()))?;
    let meta = file.metadata().map_err(|error| refused(error.to_string()))?;
    if !meta.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(refused(format!("it belongs to user {uid}, not to root or this user")));
    }
    if mode & 0o022 != 0 {
        return Err(refused(format!("others can write it: its mode is {mode:04o} (chmod go-w)")));
    }
    let mut bytes = Vec::new();
    let read = (&mut file).take(LARGEST).read_to_end(&mut bytes);
    read.map_err(|error| refused(error.to_string()))?;
    if !bytes.starts_with(ELF) {
        return Err(refused("it is not a shared library".to_owned()));
    }
    if !bytes.split(|byte| *byte == 0).any(|text| text.ends_with(DESCRIPTOR)) {
        return Err(refused("it is not a plugin for criu".to_owned()));
    }
    Ok(file)
}

/// A directory in which criu finds the plugin, beside the plugins that it would load without.
#[derive(Debug)]
pub(super) struct Library {
    folder: Scratch,
    /// Tells that the directory is in use.
    _lock: Flock<OwnedFd>,
    /// The plugin. The directory has a link to this descriptor, so criu loads the file that was
    /// looked at, whatever comes to its path.
    _plugin: File,
}

impl Library {
    /// Makes the directory for one dump.
    ///
    /// # Errors
    /// [`Error::NotOverSocket`] if criu is not started by this process, [`Error::Config`] if a
    /// configuration file of criu's names another directory; the plugin is not found or not usable.
    pub(super) fn make(named: Option<&Path>, criu: &Criu, dump: &Dump<'_>) -> Result<Self> {
        let why = "criu finds the plugin by its environment";
        criu.transport().require_worker("an instant capture", why)?;
        refuse_configured(criu, dump.named_config().as_deref())?;
        let plugin = open(&find_plugin(named)?)?;
        let above = std::env::temp_dir();
        remove_left(&above);
        let failed = |source| Error::system("make a directory for the plugin", source);
        let folder = Scratch::below(&above, PREFIX).map_err(failed)?;
        let lock = lock(folder.path()).map_err(failed)?;
        let library = Self { folder, _lock: lock, _plugin: plugin };
        library.link_others(criu)?;
        let own = format!("/proc/{}/fd/{}", Pid::this(), library._plugin.as_fd().as_raw_fd());
        library.link(Path::new(&own), OsStr::new(LINK))?;
        Ok(library)
    }

    /// Returns the criu that loads the plugin and finds the journal.
    pub(super) fn applied(&self, criu: &Criu, shared: &Shared) -> Criu {
        let criu = criu.clone().env(DIRECTORY, self.folder.path());
        criu.env(criu_plugin::journal::VARIABLE, shared.path())
    }

    /// Links the plugins that criu would load from the directory that it takes otherwise.
    fn link_others(&self, criu: &Criu) -> Result<()> {
        let Some(folder) = usual(criu)? else { return Ok(()) };
        let doing = |source| Error::system(format!("list {}", folder.display()), source);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(doing)?,
        };
        for entry in entries {
            let name = entry.map_err(doing)?.file_name();
            if name.as_bytes().ends_with(b".so") && name != LINK {
                self.link(&folder.join(&name), &name)?;
            }
        }
        Ok(())
    }

    fn link(&self, to: &Path, name: &OsStr) -> Result<()> {
        let made = symlink(to, self.folder.path().join(name));
        made.map_err(|source| Error::system("link a plugin", source))
    }
}

/// Removes the directories of dumps whose process was killed.
fn remove_left(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_one = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        let is_own = |meta: fs::Metadata| {
            meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o777 == 0o700
        };
        if !is_one || !fs::symlink_metadata(&path).is_ok_and(is_own) {
            continue;
        }
        // The link is made after the lock is taken, and goes with the directory.
        let is_complete = || fs::symlink_metadata(path.join(LINK)).is_ok();
        if let (true, Ok(_lock)) = (is_complete(), lock(&path)) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Locks a directory as one that is in use.
fn lock(path: &Path) -> io::Result<Flock<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(path, flags, Mode::empty())?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// Refuses a directory of plugins in a configuration file, which would win over that of this
/// capture.
fn refuse_configured(criu: &Criu, named: Option<&Path>) -> Result<()> {
    let mut settings = criu.config_files().settings()?;
    if let Some(path) = named {
        settings.extend(Setting::read(path)?);
    }
    let Some(setting) = settings.iter().find(|setting| setting.name == "libdir") else {
        return Ok(());
    };
    let reason = "an instant capture makes a directory of plugins: name yours in the variable \
                  CRIU_LIBS_DIR instead, and its plugins are loaded, too";
    Err(setting.refused(reason).into())
}

/// Returns the directory from which a criu would load plugins.
fn usual(criu: &Criu) -> Result<Option<PathBuf>> {
    let set = criu.environment().iter().rev().find(|(name, _)| name == DIRECTORY);
    let set: Option<OsString> = match set {
        Some((_, value)) => Some(value.clone()),
        None => std::env::var_os(DIRECTORY),
    };
    if let Some(folder) = set {
        return Ok(Some(folder.into()));
    }
    let program = criu.program()?;
    let bytes = program.and_then(|program| {
        let mut bytes = Vec::new();
        let read = File::open(program).ok()?.take(LARGEST).read_to_end(&mut bytes);
        read.ok().map(|_| bytes)
    });
    Ok(bytes.and_then(|bytes| built_in(&bytes)))
}

/// Finds the directory that a criu program was built with: a text like `/usr/lib/criu/`.
fn built_in(program: &[u8]) -> Option<PathBuf> {
    let texts = program.split(|byte| *byte == 0);
    let is_folder =
        |text: &&[u8]| text.starts_with(b"/") && text.ends_with(b"/criu/") && text.len() < LONGEST;
    let mut found = texts.filter(is_folder).filter(|text| text.windows(4).any(|at| at == b"/lib"));
    found.next().map(|text| OsStr::from_bytes(text).into())
}

/// The name of the plugin's file.
const NAME: &str = "libcriu_plugin.so";

/// The beginning of the name of a directory in which criu finds it.
const PREFIX: &str = "criu-rs-plugin-";

/// The name of the link to it.
const LINK: &str = "criu_instant.so";

/// The variable that names the directory of criu's plugins.
const DIRECTORY: &str = "CRIU_LIBS_DIR";

/// The directories of an installed plugin.
const INSTALLED: &[&str] = &["/usr/lib/criu-rs", "/usr/local/lib/criu-rs"];

/// The first bytes of a shared library.
const ELF: &[u8] = b"\x7fELF";

/// The symbol that criu looks for in a plugin.
const DESCRIPTOR: &[u8] = b"CR_PLUGIN_DESC";

/// Bytes of a criu program or a plugin that are read. Debian's criu has 3 MiB.
const LARGEST: u64 = 64 << 20;

/// The longest path of a directory in a criu program, in bytes.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn refusal(path: &Path) -> String {
        find_plugin(Some(path)).unwrap_err().to_string()
    }

    #[test]
    fn a_plugin_that_others_can_write_or_that_is_none_is_refused() {
        let folder = Scratch::below(&std::env::temp_dir(), "criu-rs-test-").unwrap();
        let path = folder.path().join(NAME);
        assert!(refusal(&path).starts_with("no plugin at /"), "{}", refusal(&path));
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(refusal(&path).ends_with("it is not a shared library"), "{}", refusal(&path));
        fs::write(&path, "\x7fELF\x02\0malloc\0").unwrap();
        assert!(refusal(&path).ends_with("it is not a plugin for criu"), "{}", refusal(&path));
        fs::write(&path, "\x7fELF\x02\0CR_PLUGIN_DESC\0").unwrap();
        assert_eq!(find_plugin(Some(&path)).unwrap(), path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(refusal(&path).contains("its mode is 0664"), "{}", refusal(&path));
        assert!(refusal(folder.path()).ends_with("not a regular file"));
    }

    #[test]
    fn a_service_cannot_load_the_plugin() {
        let dump = Dump::new(Pid::this(), "/tmp");
        let error = Library::make(None, &Criu::service("/run/criu.socket"), &dump).unwrap_err();
        assert!(matches!(error, Error::NotOverSocket { .. }), "{error}");
    }

    #[test]
    fn plugins_of_the_usual_directory_are_linked_beside() {
        let folder = Scratch::below(&std::env::temp_dir(), "criu-rs-test-").unwrap();
        let plugin = folder.path().join(NAME);
        fs::write(&plugin, "\x7fELF\0CR_PLUGIN_DESC\0").unwrap();
        let others = folder.path().join("others");
        fs::create_dir(&others).unwrap();
        fs::write(others.join("gpu_plugin.so"), "gpu").unwrap();
        fs::write(others.join("README"), "no").unwrap();
        let criu = Criu::at("/nonexistent").env(DIRECTORY, &others);
        let dump = Dump::new(Pid::this(), "/tmp");
        let library = Library::make(Some(&plugin), &criu, &dump).unwrap();
        let at = library.folder.path().to_owned();
        let mut names: Vec<_> =
            fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [LINK, "gpu_plugin.so"]);
        // Another file at the path is not what criu loads.
        fs::remove_file(&plugin).unwrap();
        fs::write(&plugin, "another").unwrap();
        assert_eq!(fs::read(at.join(LINK)).unwrap(), b"\x7fELF\0CR_PLUGIN_DESC\0");
        assert_eq!(fs::read(at.join("gpu_plugin.so")).unwrap(), b"gpu");
        drop(library);
        assert!(!at.exists());
        let config = folder.path().join("criu.conf");
        fs::write(&config, "libdir /opt/plugins\n").unwrap();
        let error = Library::make(Some(&plugin), &criu, &dump.config_file(&config)).unwrap_err();
        assert!(error.to_string().contains("criu.conf:1: libdir: an instant"), "{error}");
    }

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_nothing_else() {
        let above = Scratch::below(&std::env::temp_dir(), "criu-rs-test-").unwrap();
        let make = |name: &str, is_complete: bool, mode: u32| {
            let path = above.path().join(name);
            fs::create_dir(&path).unwrap();
            if is_complete {
                symlink("/proc/1/fd/3", path.join(LINK)).unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let left = make("criu-rs-plugin-left", true, 0o700);
        let others = [
            make("criu-rs-plugin-used", true, 0o700),
            make("criu-rs-plugin-new", false, 0o700),
            make("criu-rs-plugin-shared", true, 0o755),
            make("another", true, 0o700),
        ];
        let _used = lock(&others[0]).unwrap();
        remove_left(above.path());
        assert!(!left.exists());
        assert!(others.iter().all(|path| path.exists()), "{others:?}");
    }

    #[test]
    fn the_directory_that_a_criu_was_built_with_is_found() {
        let program = b"\0/usr/share/criu/\0by default /usr/lib/criu/\n\0/usr/lib64/criu/\0x";
        assert_eq!(built_in(program), Some("/usr/lib64/criu/".into()));
        assert_eq!(built_in(b"\0/var/lib\0"), None);
    }
}
