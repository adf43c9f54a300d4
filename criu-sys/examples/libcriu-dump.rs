//! Dumps a process with libcriu and ends the process: `libcriu-dump PID DIR [CRIU]`.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_int};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use criu_sys::{
    CRIU_LOG_DEBUG, criu_local_dump, criu_local_free_opts, criu_local_get_version,
    criu_local_init_opts, criu_local_set_images_dir_fd, criu_local_set_log_file,
    criu_local_set_log_level, criu_local_set_pid, criu_local_set_service_binary, criu_opts,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (pid, dir, criu) = match &args[..] {
        [pid, dir] => (pid, dir, OsString::from("criu")),
        [pid, dir, criu] => (pid, dir, criu.clone()),
        _ => {
            eprintln!("usage: libcriu-dump PID DIR [CRIU]");
            return ExitCode::from(2);
        }
    };
    let result = (|| -> Result<(), Box<dyn std::error::Error>> {
        let pid = pid.to_str().ok_or("not a process id")?.parse()?;
        let dir = File::open(dir)?;
        let criu = CString::new(criu.into_vec())?;
        dump(pid, &dir, &criu)
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("libcriu-dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dump(pid: c_int, dir: &File, criu: &CStr) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::new()?;
    let opts = options.0;

    // SAFETY: the options are live, and libcriu copies the string.
    done("service_binary", unsafe { criu_local_set_service_binary(opts, criu.as_ptr()) })?;
    // SAFETY: the options are live.
    let version = unsafe { criu_local_get_version(opts) };
    println!("CRIU {}", done("get_version", version)?);
    // SAFETY: the options are live.
    unsafe { criu_local_set_pid(opts, pid) };
    // SAFETY: the options are live, and the borrowed directory stays open longer than they do.
    unsafe { criu_local_set_images_dir_fd(opts, dir.as_raw_fd()) };
    // SAFETY: the options are live, and libcriu copies the string.
    done("log_file", unsafe { criu_local_set_log_file(opts, c"dump.log".as_ptr()) })?;
    // SAFETY: the options are live.
    unsafe { criu_local_set_log_level(opts, CRIU_LOG_DEBUG) };

    // SAFETY: the options are live, no callback is set, and this program has only one thread.
    done("dump", unsafe { criu_local_dump(opts) })?;
    println!("dumped {pid}");
    Ok(())
}

/// Options of libcriu, freed when the value is dropped.
struct Options(*mut criu_opts);

impl Options {
    fn new() -> io::Result<Self> {
        let mut opts = std::ptr::null_mut();
        // SAFETY: null says that there are no earlier options to free.
        match unsafe { criu_local_init_opts(&mut opts) } {
            0 => Ok(Self(opts)),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: libcriu made these options, and nobody has freed them.
        unsafe { criu_local_free_opts(self.0) };
    }
}

/// Returns the result of a libcriu function, unless the result is an error.
fn done(what: &str, result: c_int) -> Result<c_int, String> {
    match result {
        0.. => Ok(result),
        // After a request errno is CRIU's own number.
        _ => {
            let (error, errno) =
                (io::Error::from_raw_os_error(-result), io::Error::last_os_error());
            Err(format!("{what} failed: {error}; errno: {errno}"))
        }
    }
}
