//! Text from outside: logs, values on the command line, rows of /proc.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use criu_images::search::Pattern;
use criu_images::{Text, kind};
use criu_rs::labels::SecurityModule;
use criu_rs::oci::Descriptors;
use criu_rs::{
    Action, External, InheritFd, JoinNs, JoinableNs, LsmProfile, MountContext, Pid, Version,
    fuzzing,
};

/// Runs a parser of text. The first byte chooses the parser.
pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which {
        SETTINGS => return settings(bytes),
        COPY => {
            match fuzzing::copy_notice(bytes) {
                Ok(notice) => assert!(notice.path().is_none_or(|path| path.is_absolute())),
                Err(error) => printable(&error),
            }
            return;
        }
        GUEST => {
            match fuzzing::guest(bytes) {
                Ok(regions) => assert!((1..bytes.len()).contains(&regions)),
                Err(error) => printable(&error),
            }
            return;
        }
        PROCESS => return fuzzing::process(bytes),
        _ => {}
    }
    match which % 12 {
        0 => log(bytes),
        1 => external(bytes),
        2 => stable::<Version>(&text),
        3 => stable::<JoinNs>(&text),
        4 => {
            if let Ok(fd) = text.parse::<InheritFd<'static>>() {
                assert!(!fd.key().is_empty());
            }
            stable::<Pid>(&text);
        }
        5 => {
            stable::<LsmProfile>(&text);
            stable::<MountContext>(&text);
        }
        6 => {
            if let Some(mount) = fuzzing::mount(bytes) {
                assert!(!mount.is_empty());
            }
        }
        7 => {
            if let Some((_, path)) = fuzzing::cgroup(bytes) {
                assert!(
                    path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..")
                );
            }
        }
        8 => labels(bytes),
        9 => descriptors(bytes),
        10 => {
            _ = text.parse::<Action>();
            _ = text.parse::<JoinableNs>();
            if let Some((kind, id)) = kind::Kind::of_file(&text) {
                assert_eq!(kind.file_name(id.unwrap_or(0)), text);
            }
            printable(&fuzzing::printable(bytes));
            printable(&Text(bytes).to_string());
        }
        _ => {
            _ = Pattern::hex(&text);
            _ = Pattern::regex(&text);
        }
    }
}

/// Checks that settings have names and lines of the file.
fn settings(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for setting in fuzzing::settings(bytes).into_iter().flatten() {
        assert!((1..=lines).contains(&setting.line), "{setting:?}");
        assert!(!setting.argument().is_empty(), "{setting:?}");
    }
}

/// The first byte that chooses configuration files.
const SETTINGS: u8 = 12;
/// The first byte that chooses the notice of copies.
const COPY: u8 = 13;
/// The first byte that chooses the memory of a virtual machine.
const GUEST: u8 = 14;
/// The first byte that chooses what `/proc` says of a process.
const PROCESS: u8 = 15;

/// Checks that a text moves the cursor of a terminal only by tabs and line ends.
fn printable(text: &str) {
    assert!(
        !text.contains(|char: char| criu_images::Text::hides(char) && char != '\t' && char != '\n'),
        "{text:?}"
    );
}

fn log(bytes: &[u8]) {
    let Some(found) = fuzzing::log(bytes) else { return };
    assert!(found.before.len() <= 5 && found.more.len() <= 31, "{found:?}");
    assert!(found.error.contains("Error ("), "{found:?}");
    for line in found.before.iter().chain([&found.error]).chain(&found.more) {
        // A byte may become an escape of six.
        assert!(line.len() <= 6 * 2048, "a line of {} bytes", line.len());
        printable(line);
    }
    printable(&found.to_string());
}

fn external(bytes: &[u8]) {
    if let Ok(external) = External::from_bytes(bytes) {
        let written = external.to_bytes();
        let again = External::from_bytes(&written).expect("what is written reads");
        assert_eq!(again, external, "{:?}", String::from_utf8_lossy(&written));
        assert_eq!(again.to_bytes(), written);
    }
}

/// Checks that a value that is written and parsed again stays the same.
fn stable<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        let again: T = written.parse().expect("what is written reads");
        assert_eq!(again, value, "{written:?}");
    }
}

fn labels(bytes: &[u8]) {
    for module in [SecurityModule::Apparmor, SecurityModule::Selinux] {
        if let Some(label) = fuzzing::label(module, bytes) {
            assert!(!label.as_bytes().is_empty());
            assert!(!label.as_bytes().contains(&b'\n'));
            printable(&label.to_string());
        }
    }
}

fn descriptors(bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("criu-fuzz-text-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder among the temporary ones");
        folder
    });
    fs::write(folder.join(Descriptors::FILE), bytes).expect("a file of ours");
    if let Ok(found) = Descriptors::load(folder) {
        found.save(folder).expect("a folder of ours");
        let again = Descriptors::load(folder).expect("what is saved loads");
        assert!(found.targets().eq(again.targets()));
    }
}
