//! Checks that the restore has the options that the images ask for, and that what the caller gives
//! in the place of a resource is of the right kind.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use criu_images::NamespaceKind;
use criu_images::requirements::{GivenFile, Requirement, RestoreOption};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::need::Need;
use crate::value::External;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        let Requirement::Option(option) = requirement else { continue };
        found.extend(finding(saved, option));
        found.extend(given(saved, option));
    }
    found.extend(lazy(saved));
    found
}

/// A finding for an option that the images need on restore.
fn finding(saved: &Saved<'_>, option: &RestoreOption) -> Option<Finding> {
    let (look, opts) = (saved.look, &saved.look.opts);
    let shell_job = || vec![Need::ShellJob];
    let (needs, is_set, is_choice) = match option {
        RestoreOption::TcpEstablished(_) => {
            (vec![Need::TcpEstablished], opts.tcp_established(), true)
        }
        RestoreOption::TcpClose(_) => (vec![Need::TcpClose], opts.tcp_close(), false),
        RestoreOption::ExtUnixSk(_) => (vec![Need::ExtUnixSk], opts.ext_unix_sk(), false),
        RestoreOption::FileLocks(_) => (vec![Need::FileLocks], opts.file_locks(), false),
        RestoreOption::ForeignSession(_) => (shell_job(), opts.shell_job(), true),
        RestoreOption::ForeignTerminal(_) => {
            let is_set = opts.shell_job() || opts.orphan_pts_master();
            (vec![Need::ShellJob, Need::OrphanPtsMaster], is_set, true)
        }
        RestoreOption::LazyPages(_) => (vec![Need::LazyPages], opts.lazy_pages(), true),
        RestoreOption::Root => {
            let is_set = opts.root.is_some() || opts.mntns_compat_mode();
            (vec![Need::Root], is_set, true)
        }
        RestoreOption::InheritFd { key, .. } => {
            (vec![Need::InheritFd(key.clone())], saved.is_given(key.as_bytes()), true)
        }
        RestoreOption::Mount { key, .. } => {
            // With mnt[] CRIU finds the mount again by itself.
            let given = look.is_external(&format!("mnt[{key}]")) || look.finds_mounts();
            (vec![Need::External(External::mount(key, "PATH"))], given, true)
        }
        RestoreOption::Veth(name) => {
            let (inner, outer) = (name.into(), "OUTER".into());
            let need = External::Veth { inner, outer, bridge: None };
            (vec![Need::External(need)], look.is_external(&format!("veth[{name}]")), true)
        }
        RestoreOption::Macvlan(name) => {
            let need = External::Macvlan { inner: name.into(), outer: "OUTER".into() };
            (vec![Need::External(need)], look.is_external(&format!("macvlan[{name}]")), true)
        }
        other => (vec![Need::Line(other.option())], false, true),
    };
    let is_pipe = matches!(
        option,
        RestoreOption::InheritFd { file: GivenFile::ReadEnd | GivenFile::WriteEnd, .. }
    );
    if is_pipe && !is_set {
        return Some(pipe(option, needs));
    }
    let severity = match needs.first() {
        // CRIU goes on without it.
        Some(Need::FileLocks) if !is_set => Severity::Loses,
        // A configuration file may set it, which this crate cannot see.
        Some(Need::Line(_)) => Severity::Loses,
        _ if is_set => Severity::Info,
        _ => Severity::Needs,
    };
    let cause = match option {
        RestoreOption::TcpEstablished(_) => Some(Cause::ConnectedTcp),
        RestoreOption::ExtUnixSk(_) => Some(Cause::ExternalUnixSocket),
        RestoreOption::ForeignTerminal(_) => Some(Cause::ForeignTerminal),
        RestoreOption::ForeignSession(_) => Some(Cause::ForeignSession),
        RestoreOption::InheritFd { .. } => Some(Cause::ExternalNotGiven),
        RestoreOption::Mount { .. } => Some(Cause::ExternalMount),
        RestoreOption::Veth(_) => Some(Cause::VethPeer),
        RestoreOption::Root => Some(Cause::RootNeeded),
        _ => None,
    };
    let finding = Finding::new(severity, "the images need an option on restore");
    let finding = finding.detail(format!("{}: {}", option.option(), option.why()));
    Some(Finding { needs, is_choice, cause, ..finding })
}

/// A finding for one end of a pipe: a restore makes a pipe whose other end nobody has.
fn pipe(option: &RestoreOption, needs: Vec<Need>) -> Finding {
    let what = "the other end of a pipe is not in the images, and the restore does not give it";
    let RestoreOption::InheritFd { key, file } = option else {
        return Finding::new(Severity::Loses, what);
    };
    let effect = match file {
        GivenFile::WriteEnd => "nobody reads it: who writes to it gets SIGPIPE",
        _ => "nobody writes to it: who reads it sees the end of the input",
    };
    let detail = format!("{key}: {effect}");
    Finding { needs, ..Finding::new(Severity::Loses, what).detail(detail) }
}

/// Checks that a resource that the caller gives is there and of the right kind.
fn given(saved: &Saved<'_>, option: &RestoreOption) -> Option<Finding> {
    match option {
        RestoreOption::InheritFd { key, file } => descriptor(saved, key, *file),
        RestoreOption::Mount { key, target } => mount(saved, key, target),
        RestoreOption::Root => root(saved),
        RestoreOption::Veth(name) => veth(saved, name),
        _ => None,
    }
}

fn descriptor(saved: &Saved<'_>, key: &str, wanted: GivenFile) -> Option<Finding> {
    let given = saved.restore.common.opts.inherit.iter().find(|fd| fd.key() == key)?;
    let copy = given.duplicate().ok()?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", copy.as_raw_fd())).ok()?;
    let kind = std::fs::metadata(format!("/proc/self/fd/{}", copy.as_raw_fd())).ok()?.file_type();
    let is_namespace = |of: NamespaceKind| link.to_string_lossy().starts_with(&format!("{of}:["));
    let (fits, wanted) = match wanted {
        // A FIFO, a socket or a terminal does as well.
        GivenFile::File | GivenFile::ReadEnd | GivenFile::WriteEnd => return None,
        GivenFile::Terminal => (kind.is_char_device(), "a terminal".to_owned()),
        GivenFile::Socket => (kind.is_socket(), "a socket".to_owned()),
        GivenFile::Namespace(of) => (is_namespace(of), format!("a {of} namespace")),
        _ => return None,
    };
    (!fits).then(|| {
        let what = "a descriptor that the restore gives is not of the kind that the images want";
        let found = link.to_string_lossy().escape_debug().to_string();
        let detail = format!("{key} is {wanted}, given is {found}");
        Finding { what: what.into(), ..Finding::blocks(Cause::ExternalNotGiven) }.detail(detail)
    })
}

fn mount(saved: &Saved<'_>, key: &str, target: &str) -> Option<Finding> {
    let path = external(saved, &format!("mnt[{key}]"))?;
    (!path.is_empty() && !Path::new(&path).exists()).then(|| {
        let finding = Finding::blocks(Cause::MountSourceMissing);
        finding.path(path).detail(format!("for the mount at {target}"))
    })
}

/// The value that the caller gives for an external resource.
fn external(saved: &Saved<'_>, name: &str) -> Option<String> {
    let given = saved.look.opts.external.iter().find_map(|text| {
        let rest = text.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b":").map(<[u8]>::to_vec)
    });
    given.map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// Checks that the name of the outer end of a pair is free.
fn veth(saved: &Saved<'_>, name: &str) -> Option<Finding> {
    let outer = external(saved, &format!("veth[{name}]")).filter(|_| saved.is_ours())?;
    let outer = outer.split('@').next().unwrap_or_default();
    nix::net::if_::if_nametoindex(outer).ok()?;
    let detail = outer.escape_debug().to_string();
    Some(Finding::blocks(Cause::InterfaceExists).detail(detail))
}

fn root(saved: &Saved<'_>) -> Option<Finding> {
    let root =
        PathBuf::from(String::from_utf8_lossy(saved.look.opts.root.as_deref()?).into_owned());
    (!root.is_dir()).then(|| {
        let what = "the new root directory of the tasks does not exist";
        Finding::new(Severity::Blocks, what).path(root)
    })
}

/// Checks that somebody answers requests for pages, in the work directory.
fn lazy(saved: &Saved<'_>) -> Option<Finding> {
    if !saved.look.opts.lazy_pages() {
        return None;
    }
    let opts = &saved.restore.common.opts;
    let work = opts.work.as_ref().unwrap_or(&opts.images).path();
    (!work.join(LAZY_SOCKET).exists())
        .then(|| Finding::blocks(Cause::NoLazyPagesDaemon).path(work.join(LAZY_SOCKET)))
}

/// The socket of `criu lazy-pages`.
const LAZY_SOCKET: &str = "lazy-pages.socket";
