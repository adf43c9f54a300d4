//! The rules that members of an archive keep. The documentation of
//! [`Archive`](crate::archive::Archive#rules) lists them for users.
//!
//! Two sorts of members are refused. An archive is refused as soon as its index is read if readers
//! could disagree about its members, or if a name leads out. Members that are harmful only in use
//! are listed: they are never read as files and never extracted.

use std::cmp::Ordering;

use super::Index;
use crate::error::{ErrorKind, Fault};
use crate::member::{Member, MemberKind};
use crate::path;
use crate::tar::{Found, Sort};

/// Checks a member by itself, whose first header is at an offset. Returns `None` for the root of
/// the archive.
///
/// # Errors
/// [`ErrorKind::Refused`] with the name.
pub(crate) fn member(found: Found, header: u64) -> Result<Option<Member>, Fault> {
    let Found { name, link, sort, mode, uid, gid, modified, start, size } = found;
    let fault = |why| Fault::from(ErrorKind::Refused(why)).of(String::from_utf8_lossy(&name));
    let path = plain(&name).map_err(|why| fault(why.of_name()))?;
    // The oldest form of tar has no kind for directories but the slash.
    let is_directory = sort == Sort::File && name.ends_with(b"/");
    if is_directory && size > 0 {
        return Err(fault("it is a directory with content"));
    }
    let kind = match sort {
        Sort::Directory => MemberKind::Directory,
        Sort::File if is_directory => MemberKind::Directory,
        Sort::File => MemberKind::File,
        Sort::SymbolicLink if link.len() > MAX_NAME => return Err(fault(Name::Long.of_target())),
        Sort::SymbolicLink => MemberKind::SymbolicLink(link.into()),
        Sort::HardLink => {
            plain(&link).map_err(|why| fault(why.of_target()))?;
            MemberKind::HardLink(link.into())
        }
        Sort::Sparse => MemberKind::Sparse,
        _ => MemberKind::Special,
    };
    if path.is_empty() {
        return match kind {
            MemberKind::Directory => Ok(None),
            _ => Err(fault("it has no name")),
        };
    }
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = u32::try_from(name).map_err(|_| fault(Name::Long.of_name()))?;
    let path = path.into();
    Ok(Some(Member { path, name, kind, mode, uid, gid, modified, header, start, size }))
}

/// Checks two members with one name. Programs that unpack keep the last, others find the first.
pub(super) fn twice(first: &Member, second: &Member) -> Result<(), Fault> {
    let both = [first, second];
    if both.iter().all(|member| *member.kind() == MemberKind::Directory) {
        return Ok(());
    }
    Err(refused("there are two members of this name", second))
}

/// Checks what members are for each other.
pub(super) fn together(index: &Index) -> Result<(), Fault> {
    let mut members: Vec<&Member> = index.iter().collect();
    // Each member stands right before those that have its path and more.
    members.sort_unstable_by(|a, b| by_parts(&a.path, &b.path));
    let pairs = members.iter().zip(members.iter().skip(1));
    for (outer, inner) in pairs {
        let rest = inner.path.strip_prefix(&*outer.path);
        let is_inside = rest.is_some_and(|rest| rest.starts_with('/'));
        if is_inside && *outer.kind() != MemberKind::Directory {
            return Err(refused("it lies in a member that is not a directory", inner));
        }
    }
    for member in members.iter().filter(|member| matches!(member.kind, MemberKind::HardLink(_))) {
        match index.target(member).map(Member::kind) {
            None => {
                return Err(refused("it is a link to a member that does not come before", member));
            }
            // Writers name the first of several names. A chain would take long to follow.
            Some(MemberKind::HardLink(_)) => {
                return Err(refused("it is a hard link to a hard link", member));
            }
            Some(MemberKind::Directory) => {
                return Err(refused("it is a hard link to a directory", member));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks that a member can be extracted.
///
/// # Errors
/// [`ErrorKind::Refused`] for a link that leads out, and for a member that is neither a file, nor a
/// directory, nor a link; [`ErrorKind::Unsupported`] for a sparse file.
pub(crate) fn extractable(index: &Index, member: &Member) -> Result<(), Fault> {
    let (folder, _) = path::split(&member.path);
    // A hard link to a symbolic link is that link in another folder.
    let kind = index.with_content(member).unwrap_or(member).kind();
    match kind {
        MemberKind::File | MemberKind::Directory | MemberKind::HardLink(_) => Ok(()),
        MemberKind::SymbolicLink(target) if stays_inside(folder, target) => Ok(()),
        MemberKind::SymbolicLink(_) => Err(refused(LEADS_OUT, member)),
        MemberKind::Sparse => {
            let kind = ErrorKind::Unsupported("sparse files in archives");
            Err(Fault::from(kind).of(&*member.path))
        }
        MemberKind::Special => Err(refused("it is a device, a FIFO or of an unknown kind", member)),
    }
}

/// Returns true for the target of a symbolic link in a folder that leads to a place in the archive,
/// whatever other links there are.
pub(crate) fn stays_inside(folder: &str, target: &[u8]) -> bool {
    path::follow(folder, target).is_some() && !target.contains(&0) && goes_up_first(target)
}

/// Reason to refuse a symbolic link that may lead out of the archive.
pub(crate) const LEADS_OUT: &str = "it is a link that leads out of the archive";

/// Reasons why a path is refused, for a name and for the target of a hard link.
#[derive(Clone, Copy)]
enum Name {
    Zero,
    NotUtf8,
    Absolute,
    Upwards,
    Long,
}

impl Name {
    fn of_name(self) -> &'static str {
        match self {
            Self::Zero => "its name has a zero byte",
            Self::NotUtf8 => "its name is not UTF-8",
            Self::Absolute => "its name is an absolute path",
            Self::Upwards => "its name has `..`",
            Self::Long => "its name is longer than any path",
        }
    }

    fn of_target(self) -> &'static str {
        match self {
            Self::Zero => "the target of the link has a zero byte",
            Self::NotUtf8 => "the target of the link is not UTF-8",
            Self::Absolute => "the target of the link is an absolute path",
            Self::Upwards => "the target of the link has `..`",
            Self::Long => "the target of the link is longer than any path",
        }
    }
}

/// Returns the path of a name that stays inside.
fn plain(name: &[u8]) -> Result<String, Name> {
    if name.len() > MAX_NAME {
        return Err(Name::Long);
    }
    if name.contains(&0) {
        return Err(Name::Zero);
    }
    if name.starts_with(b"/") {
        return Err(Name::Absolute);
    }
    let text = std::str::from_utf8(name).map_err(|_| Name::NotUtf8)?;
    path::normal(text.as_bytes()).ok_or(Name::Upwards)
}

/// Returns true if `..` stands at the beginning of a target alone. Behind another link it would
/// lead to the directory above that link's target, which may lie outside.
fn goes_up_first(target: &[u8]) -> bool {
    let parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.skip_while(|part| *part == b"..").all(|part| part != b"..")
}

/// Compares paths as if the slash came before all other characters.
fn by_parts(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let differ = a.iter().zip(b).find(|(a, b)| a != b);
    match differ {
        Some((b'/', _)) => Ordering::Less,
        Some((_, b'/')) => Ordering::Greater,
        Some((a, b)) => a.cmp(b),
        None => a.len().cmp(&b.len()),
    }
}

fn refused(why: &'static str, member: &Member) -> Fault {
    Fault::from(ErrorKind::Refused(why)).of(&*member.path)
}

/// Longest name of a member, and longest target of a link: the kernel's `PATH_MAX`.
const MAX_NAME: usize = 4096;
