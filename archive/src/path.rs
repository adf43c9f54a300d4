//! Paths of members.

/// Returns a path without `.`, doubled slashes and a slash at an end; `None` if the path leads
/// upwards or is not UTF-8.
pub(crate) fn normal(path: &[u8]) -> Option<String> {
    let mut normal = String::new();
    for part in std::str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => push(&mut normal, part),
        }
    }
    Some(normal)
}

/// Follows a link from a folder; `None` if the link leads out of the archive or is not UTF-8.
pub(crate) fn follow(folder: &str, target: &[u8]) -> Option<String> {
    let mut folder = folder.to_owned();
    if target.starts_with(b"/") {
        return None;
    }
    for part in std::str::from_utf8(target).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." if folder.is_empty() => return None,
            ".." => folder.truncate(folder.rfind('/').unwrap_or(0)),
            part => push(&mut folder, part),
        }
    }
    Some(folder)
}

/// Splits a path into folder and name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Adds a part to a path.
pub(crate) fn push(path: &mut String, part: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(part);
}

/// Returns the path of a name in a folder.
pub(crate) fn join(folder: &str, name: &str) -> String {
    let mut path = folder.to_owned();
    push(&mut path, name);
    path
}
