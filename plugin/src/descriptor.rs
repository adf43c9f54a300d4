//! The descriptor by which CRIU knows the plugin.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::panic::catch_unwind;

use crate::hooks;

/// A description of a plugin, which CRIU looks up by the name `CR_PLUGIN_DESC`.
#[derive(Debug)]
#[repr(C)]
pub struct Descriptor {
    name: *const c_char,
    init: extern "C" fn(stage: c_int) -> c_int,
    exit: extern "C" fn(stage: c_int, result: c_int),
    version: c_uint,
    max_hooks: c_uint,
    hooks: [Option<Hook>; MOST_HOOKS],
}

type Hook = extern "C" fn(pid: c_int) -> c_int;

// SAFETY: the pointer leads to a constant text.
unsafe impl Sync for Descriptor {}

/// The descriptor of this plugin.
// SAFETY: CRIU reads a symbol of this name and layout, and nothing else has the name.
#[unsafe(no_mangle)]
pub static CR_PLUGIN_DESC: Descriptor = Descriptor {
    name: NAME.as_ptr(),
    init,
    exit,
    version: VERSION,
    max_hooks: HOOKS,
    hooks: table(),
};

const fn table() -> [Option<Hook>; MOST_HOOKS] {
    let mut hooks: [Option<Hook>; MOST_HOOKS] = [None; MOST_HOOKS];
    hooks[CHECKPOINT_DEVICES] = Some(checkpoint_devices);
    hooks
}

/// CRIU has loaded the plugin. A failure ends the dump: that is needed only if CRIU would save
/// holders, because a dump without holders is complete too.
extern "C" fn init(stage: c_int) -> c_int {
    #[cfg(target_arch = "x86_64")]
    let calls = crate::calls::all();
    #[cfg(not(target_arch = "x86_64"))]
    let calls = crate::session::Calls;
    match catch_unwind(|| hooks::begin(stage, &calls)) {
        Ok(true) => 0,
        _ => -libc::EIO,
    }
}

/// CRIU is about to unload the plugin. The tasks are still stopped.
extern "C" fn exit(_stage: c_int, result: c_int) {
    let _ = catch_unwind(|| hooks::end(result == 0));
}

/// CRIU has stopped all tasks, and traces them. It calls this once for each task.
extern "C" fn checkpoint_devices(pid: c_int) -> c_int {
    match catch_unwind(|| hooks::task(pid)) {
        // CRIU asks the next plugin, and goes on.
        Ok(true) => -libc::ENOTSUP,
        _ => -libc::EIO,
    }
}

const NAME: &CStr = c"criu-rs";

/// Version 0.2.0 of CRIU's interface for plugins.
const VERSION: c_uint = 0x0000_0200;

/// Number of hooks: those that CRIU has since version 4.0. A CRIU refuses a plugin with more hooks
/// than its own.
const MOST_HOOKS: usize = 12;
const HOOKS: c_uint = 12;
const _: () = assert!(HOOKS as usize == MOST_HOOKS);

/// The hook that CRIU calls for each task when all are stopped.
const CHECKPOINT_DEVICES: usize = 11;
