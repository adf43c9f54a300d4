//! Probes of the kernel that criu is about to make, and that will fail.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::job::Job;
use crate::diagnosis::{Cause, Failure};
use crate::host::loopback;
use crate::rpc::{CriuOpts, CriuReqType};
use crate::transport::Link;

/// Returns the failure that an operation would end with, if criu were asked for it.
///
/// CRIU connects a socket over the loopback interface to find out what the kernel can do. If the
/// interface is down, the connection fails; if it has an address too, only after minutes. CRIU
/// keeps its findings in a file, and does not probe again while it has the file.
pub(super) fn foresee(job: &Job, link: &Link) -> Option<Box<Failure>> {
    let kind = CriuReqType::try_from(job.request.r#type).unwrap_or_default();
    let probes = !matches!(kind, CriuReqType::Version | CriuReqType::WaitPid);
    let unprivileged = job.request.opts.as_ref().is_some_and(CriuOpts::unprivileged);
    let has_findings = || loopback::findings(unprivileged).is_some();
    if !probes || has_findings() || !loopback::is_down() || !is_here(link) {
        return None;
    }
    Some(Box::new(Failure::not_asked(job.operation, Cause::LoopbackDown, None)))
}

/// Returns true if the worker is criu itself, in this thread's network namespace. A script may
/// start criu in another one.
fn is_here(link: &Link) -> bool {
    let Some(pid) = link.worker.as_ref().and(link.pid()) else { return false };
    let of = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let name = of("exe").and_then(|exe| exe.file_name().map(OsStr::to_owned));
    // A loader that is given criu as its first word.
    let is_criu =
        |name: &OsStr| name.as_bytes().starts_with(b"criu") || name.as_bytes().starts_with(b"ld-");
    let own = fs::read_link(Path::new("/proc/thread-self/ns/net")).ok();
    name.is_some_and(|name| is_criu(&name)) && own.is_some() && own == of("ns/net")
}
