//! libcriu's functions, linked or loaded.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use super::refusal::Refusal;

/// libcriu's functions, by name.
#[derive(Clone)]
pub(crate) struct Library(Arc<Symbols>);

enum Symbols {
    #[cfg(feature = "libcriu-link")]
    Linked,
    Loaded(Loaded),
}

/// A library that is loaded, and stays so.
struct Loaded {
    path: PathBuf,
    handle: *mut c_void,
}

// SAFETY: dlsym takes a handle in any thread, and nobody closes the handle.
unsafe impl Send for Loaded {}

// SAFETY: as above; the handle is never changed.
unsafe impl Sync for Loaded {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Library {
    /// The library that this program is linked with.
    #[cfg(feature = "libcriu-link")]
    pub(crate) fn linked() -> Self {
        Self(Arc::new(Symbols::Linked))
    }

    /// Loads a library: `libcriu.so.2`, or a path.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
        if cfg!(all(feature = "libcriu-link", target_env = "gnu")) {
            // Otherwise the library's own calls would go to the library that the program is linked
            // with.
            flags |= libc::RTLD_DEEPBIND;
        }
        // SAFETY: the name ends with a NUL, and the code that runs when libcriu is loaded touches
        // nothing of ours.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() {
            // SAFETY: the call has no conditions.
            let why = unsafe { libc::dlerror() };
            if why.is_null() {
                return Err(io::ErrorKind::NotFound.into());
            }
            // SAFETY: dlerror's text ends with a NUL and stays until this thread's next call.
            let why = unsafe { CStr::from_ptr(why) };
            return Err(io::Error::other(why.to_string_lossy()));
        }
        let library = Self(Arc::new(Symbols::Loaded(Loaded { path: path.into(), handle })));
        for name in NEEDED {
            library.symbol(name).map_err(io::Error::other)?;
        }
        Ok(library)
    }

    fn name(&self) -> String {
        match &*self.0 {
            #[cfg(feature = "libcriu-link")]
            Symbols::Linked => "libcriu".to_owned(),
            Symbols::Loaded(loaded) => loaded.path.display().to_string(),
        }
    }

    /// Returns the function of this name.
    pub(super) fn symbol(&self, name: &CStr) -> Result<*const c_void, Refusal> {
        let found = match &*self.0 {
            #[cfg(feature = "libcriu-link")]
            Symbols::Linked => super::linked::find(name),
            Symbols::Loaded(loaded) => {
                // SAFETY: the library stays loaded, and the name ends with a NUL.
                let found = unsafe { libc::dlsym(loaded.handle, name.as_ptr()) };
                Some(found.cast_const()).filter(|found| !found.is_null())
            }
        };
        found.ok_or_else(|| format!("{} has no {}", self.name(), name.to_string_lossy()))
    }
}

/// The functions that every libcriu must have.
const NEEDED: &[&CStr] = &[
    c"criu_local_init_opts",
    c"criu_local_free_opts",
    c"criu_local_set_service_binary",
    c"criu_local_set_images_dir_fd",
    c"criu_local_set_notify_cb",
    c"criu_notify_pid",
    c"criu_get_orphan_pts_master_fd",
    c"criu_local_dump",
    c"criu_local_restore",
];
