//! Numbers that name the directories of sessions and rounds below an images directory.

use std::fs;
use std::io;
use std::path::Path;

/// Returns the first number above those of all entries of a directory: 0 if no name is a number.
///
/// So a server or a series that is started again stores beside what is there, and mixes no two.
///
/// # Errors
/// The errors of reading the directory, and an entry that has the last number there is.
pub(crate) fn first_free(images: &Path) -> io::Result<u64> {
    let mut first = 0;
    for entry in fs::read_dir(images)? {
        let name = entry?.file_name();
        if let Some(taken) = name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            let next = taken.checked_add(1);
            let next = next.ok_or_else(|| io::Error::other(format!("no number above {taken}")))?;
            first = first.max(next);
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_those_that_are_there() {
        let name = format!("criu-rs-numbers-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        assert_eq!(first_free(&folder).unwrap(), 0);
        for (entry, first) in [("log", 0), ("-3", 0), ("2", 3), ("0", 3), ("11", 12), ("3x", 12)] {
            fs::create_dir(folder.join(entry)).unwrap();
            assert_eq!(first_free(&folder).unwrap(), first, "{entry}");
        }
        // A link and a file have a number too, wherever the link leads.
        fs::write(folder.join("20"), "").unwrap();
        std::os::unix::fs::symlink("/nonexistent", folder.join("21")).unwrap();
        assert_eq!(first_free(&folder).unwrap(), 22);
        fs::create_dir(folder.join(u64::MAX.to_string())).unwrap();
        first_free(&folder).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        first_free(&folder).unwrap_err();
    }
}
