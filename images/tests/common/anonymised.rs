//! A dump of the kitchen, anonymised: nothing private is left, and the rest is as it was.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use criu_images::anonymise::Anonymous;
use criu_images::check;
use criu_images::kind::{self, Entries, Kind};
use criu_images::proto::{FileEntry, MntEntry, UtsnsEntry};
use criu_images::source::{Directory, Source};
use criu_images::{Image, ImageSet};

use super::PAGE;
use super::crit::compare;
use super::kitchen::Kitchen;

/// Texts of the process: memory, environment, paths, names, and contents of what it has open.
pub(crate) const SECRETS: &[&str] = &[
    // Environment, arguments, memory.
    "KITCHEN_TOKEN",
    "hunter2hunter2",
    "/kitchen.py",
    "in the pipe",
    "in the fifo",
    "two descriptors",
    "and more",
    // Paths and names.
    "/tmp/listener",
    "abstract",
    "locked",
    "scratch",
    "python3",
    "kitchen",
    // System V messages, and lines of files.
    "second one",
];

/// Secrets of the internet's families.
pub(crate) const INET_SECRETS: &[&str] = &["to the server", "to the client"];

/// Makes the copy, and compares it with the original.
pub(crate) fn is_anonymous(suite: &str, kitchen: &Kitchen, images: &Path, has_inet: bool) {
    let to = kitchen.path("anonymous");
    fs::create_dir(&to).unwrap();
    let source = Anonymous::new(Directory::open(images).unwrap());
    assert_eq!(source.left_out().unwrap(), ["dump.log"]);
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    for name in source.names().unwrap() {
        let blob = source.open(&name).unwrap().unwrap();
        let bytes = blob.to_vec(u64::MAX).unwrap();
        fs::write(to.join(&name), &bytes).unwrap();
        old.insert(name.clone(), fs::read(images.join(&name)).unwrap());
        new.insert(name, bytes);
    }
    assert_eq!(old.len() + 1, fs::read_dir(images).unwrap().count());

    nothing_is_left(kitchen, &old, &new, has_inet);
    structure_is_the_same(&old, &new);
    equal_pages_stay_equal(&old, &new);
    names_are_the_same_everywhere(&source, &old, &new);

    let said = |directory: &Path| -> Vec<_> {
        let found = check(&ImageSet::open(directory).unwrap());
        // Names are other ones.
        let plain = |text: String| text.split('/').next().unwrap_or_default().to_owned();
        found.into_iter().map(|found| (found.severity, plain(found.error.to_string()))).collect()
    };
    assert_eq!(said(&to), said(images));

    // CRIU reads the images, restores the network, and misses mount points that have other names.
    let log = kitchen.restore_fails(&to);
    assert!(log.contains("Restoring mount namespace"), "{log}");
    assert!(log.contains("No such file or directory"), "{log}");
    for fault in ["unpack", "Unexpected EOF", "Magic", "Corrupt", "corrupt", "BUG"] {
        assert!(!log.contains(fault), "{fault}: {log}");
    }
    fs::remove_file(to.join("restore.log")).unwrap();
    assert!(compare(suite, &to) > 60);
}

/// Searches for the secrets in UTF-8 and in UTF-16.
fn nothing_is_left(
    kitchen: &Kitchen,
    old: &BTreeMap<String, Vec<u8>>,
    new: &BTreeMap<String, Vec<u8>>,
    has_inet: bool,
) {
    let root = kitchen.path("root");
    let mut secrets: Vec<&str> = SECRETS.to_vec();
    secrets.extend(INET_SECRETS.iter().filter(|_| has_inet));
    secrets.push(root.parent().unwrap().file_name().unwrap().to_str().unwrap());
    for secret in secrets {
        let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let holders = |files: &BTreeMap<String, Vec<u8>>, text: &[u8]| -> Vec<String> {
            let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text);
            files.iter().filter(|(_, bytes)| holds(bytes)).map(|(name, _)| name.clone()).collect()
        };
        assert!(!holders(old, secret.as_bytes()).is_empty(), "{secret} is in no image");
        for text in [secret.as_bytes(), &wide] {
            assert_eq!(holders(new, text), [""; 0], "{secret}");
        }
    }
    // Addresses: 10.9.0.1, 10.9.0.2, 10.10.0.0.
    for address in [[10, 9, 0, 1], [10, 9, 0, 2], [10, 10, 0, 0]] {
        let holds = |bytes: &[u8]| bytes.windows(4).any(|part| part == address);
        let is_network = |name: &str| name.starts_with("route") || name.starts_with("ifaddr");
        let of = |files: &BTreeMap<String, Vec<u8>>| {
            files.iter().any(|(name, bytes)| is_network(name) && holds(bytes))
        };
        assert_eq!((of(old), of(new)), (has_inet, false), "{address:?}");
    }
}

fn structure_is_the_same(old: &BTreeMap<String, Vec<u8>>, new: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in old {
        let (kind, _) = Kind::of_file(name).unwrap();
        let copy = &new[name];
        // Registers that are zero take less room; archives of files are emptied.
        if kind != kind::CORE && !Anonymous::empties(kind) {
            assert_eq!(copy.len(), bytes.len(), "{name}");
        }
        if kind.entries != Entries::Raw {
            assert_eq!(entries(name, copy, kind), entries(name, bytes, kind), "{name}");
        }
    }
}

fn entries(name: &str, bytes: &[u8], kind: &'static Kind) -> usize {
    let mut image = Image::parse(name, bytes, kind).unwrap();
    let mut count = 0;
    while let Some(entry) = image.next_entry().unwrap() {
        image.payload(&entry).unwrap();
        count += 1;
    }
    count
}

fn equal_pages_stay_equal(old: &BTreeMap<String, Vec<u8>>, new: &BTreeMap<String, Vec<u8>>) {
    let (mut there, mut back) = (HashMap::new(), HashMap::new());
    for (name, bytes) in old.iter().filter(|(name, _)| name.starts_with("pages-")) {
        let pages = bytes.chunks(PAGE as usize).zip(new[name].chunks(PAGE as usize));
        for (page, copy) in pages {
            assert_eq!(page.iter().all(|byte| *byte == 0), copy.iter().all(|byte| *byte == 0));
            assert_eq!(*there.entry(page).or_insert(copy), copy);
            assert_eq!(*back.entry(copy).or_insert(page), page);
        }
    }
    assert!(there.len() > 20, "{}", there.len());
}

/// Compares the names in the images with the pseudonyms.
fn names_are_the_same_everywhere(
    source: &Anonymous,
    old: &BTreeMap<String, Vec<u8>>,
    new: &BTreeMap<String, Vec<u8>>,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| {
        let (mut files_in_use, mut mounts, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        for (name, bytes) in files {
            let (kind, _) = Kind::of_file(name).unwrap();
            if ![kind::FILES, kind::MNTS, kind::UTSNS].contains(&kind) {
                continue;
            }
            let mut image = Image::parse(name, bytes, kind).unwrap();
            while let Some(entry) = image.next_entry().unwrap() {
                if kind == kind::FILES {
                    let file: FileEntry = entry.decode().unwrap();
                    files_in_use.extend(file.reg.map(|file| file.name));
                } else if kind == kind::MNTS {
                    let mount: MntEntry = entry.decode().unwrap();
                    mounts.push(mount.mountpoint);
                } else {
                    let host: UtsnsEntry = entry.decode().unwrap();
                    hosts.push(host.nodename);
                }
            }
        }
        (files_in_use, mounts, hosts)
    };
    let (files, mounts, hosts) = names(old);
    assert!(files.len() > 10 && mounts.len() > 4 && hosts.len() == 1);
    let path = |paths: Vec<Vec<u8>>| paths.iter().map(|path| source.path(path)).collect();
    let hosts = hosts.iter().map(|host| source.name(host)).collect();
    let wanted: (Vec<_>, Vec<_>, Vec<_>) = (path(files), path(mounts), hosts);
    assert_eq!(names(new), wanted);
}
