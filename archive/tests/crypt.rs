//! Archives that are encrypted, beside the program `age`.

#![cfg(feature = "age")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_archive::crypt::{
    Keys, Recipients, decrypt, decrypted, encrypt, is_encrypted, opened, opened_stream,
};
use criu_archive::{Archive, ErrorKind};
use criu_images::source::{Blob, ReadAt};
use criu_lab::place::engine;
use criu_lab::scratch;

/// Bytes that do not repeat.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn for_keys(keys: &[&Keys], plain: &[u8]) -> Vec<u8> {
    let mut recipients = Recipients::default();
    for recipient in keys.iter().flat_map(|keys| keys.recipients()) {
        recipients.add(&recipient).unwrap();
    }
    let mut to = encrypt(&recipients, Vec::new()).unwrap();
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

fn all(blob: &Blob) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
    blob.read_at(0, &mut bytes).map(|()| bytes)
}

/// Runs a program, and returns what it printed.
fn run(program: &str, words: &[&str], directory: &Path) -> Vec<u8> {
    let found = Command::new(engine(program)).args(words).current_dir(directory).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    found.stdout
}

#[test]
fn an_encrypted_file_is_read_at_any_place() {
    let (keys, other) = (Keys::generate(), Keys::generate());
    for len in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain = bytes(len);
        let encrypted = for_keys(&[&other, &keys], &plain);
        assert!(is_encrypted(&encrypted) && !is_encrypted(&plain));
        for keys in [&keys, &other] {
            let opened = decrypted("a", &Blob::from(encrypted.clone()), keys).unwrap();
            assert!(all(&opened).unwrap() == plain);
            for at in (0..len.saturating_sub(300)).step_by(4001).rev() {
                let mut part = [0; 300];
                opened.read_at(at as u64, &mut part).unwrap();
                assert!(part == plain[at..at + 300]);
            }
            assert!(opened.read_at(len as u64, &mut [0]).is_err());
            let mut stream = decrypt("a", &encrypted[..], keys).unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            assert!(read == plain);
        }
    }
}

#[test]
fn the_program_age_reads_and_writes_the_same_files() {
    let directory = scratch("crypt-age");
    let at = |name: &str| directory.join(name);
    let plain = bytes(300_000);
    fs::write(at("plain"), &plain).unwrap();
    run("age-keygen", &["-o", "theirs.txt"], &directory);
    let mut keys = Keys::default();
    keys.add_identities("theirs.txt", &fs::read_to_string(at("theirs.txt")).unwrap()).unwrap();
    let theirs = keys.recipients().next().unwrap();
    // Of the program.
    run("age", &["-r", &theirs, "-o", "theirs.age", "plain"], &directory);
    let opened = decrypted("a", &Blob::from(fs::read(at("theirs.age")).unwrap()), &keys).unwrap();
    assert!(all(&opened).unwrap() == plain);
    // Of ours, for two, with a file of recipients and with one of identities.
    let own = Keys::generate();
    let mut recipients = Recipients::default();
    recipients.add(&theirs).unwrap();
    let list = format!("# mine\n\n{}\n", own.recipients().next().unwrap());
    recipients.add_file("list", &list).unwrap();
    let mut to = encrypt(&recipients, fs::File::create(at("ours.age")).unwrap()).unwrap();
    to.write_all(&plain).unwrap();
    to.finish().unwrap();
    fs::write(at("own.txt"), own.to_identities()).unwrap();
    for identities in ["theirs.txt", "own.txt"] {
        assert!(run("age", &["-d", "-i", identities, "ours.age"], &directory) == plain);
    }
    // Text of age is told, and not read.
    run("age", &["-a", "-r", &theirs, "-o", "text.age", "plain"], &directory);
    let text = Blob::from(fs::read(at("text.age")).unwrap());
    let refused = decrypted("text.age", &text, &keys).unwrap_err().to_string();
    assert!(refused.contains("(age --armor)"), "{refused}");
}

#[test]
fn a_passphrase_opens_what_it_encrypted() {
    let plain = bytes(70_000);
    let recipients = Recipients::of_passphrase("correct horse".into());
    let mut to = encrypt(&recipients, Vec::new()).unwrap();
    to.write_all(&plain).unwrap();
    let encrypted = to.finish().unwrap();
    let blob = Blob::from(encrypted);
    let mut keys = Keys::default();
    keys.set_passphrase("correct horse".into());
    assert!(all(&decrypted("a", &blob, &keys).unwrap()).unwrap() == plain);
    keys.set_passphrase("battery staple".into());
    let refused = decrypted("a", &blob, &keys).unwrap_err().to_string();
    assert_eq!(refused, "a: is encrypted with another passphrase");
    let refused = decrypted("a", &blob, &Keys::generate()).unwrap_err().to_string();
    assert_eq!(refused, "a: is encrypted with a passphrase, and only identities are given");
}

#[test]
fn keys_that_do_not_fit_are_told() {
    let keys = Keys::generate();
    let encrypted = for_keys(&[&keys], b"secret");
    let blob = Blob::from(encrypted.clone());
    let refused = |blob: &Blob, keys: &Keys| decrypted("a", blob, keys).unwrap_err().to_string();
    assert_eq!(refused(&blob, &Keys::generate()), "a: is encrypted for others: no identity fits");
    let mut passphrase = Keys::default();
    passphrase.set_passphrase("x".into());
    let want = "a: is encrypted for recipients: an identity of one is needed";
    assert_eq!(refused(&blob, &passphrase), want);
    let none = decrypted("a", &blob, &Keys::default()).unwrap_err();
    assert!(matches!(none.kind(), ErrorKind::Encrypted));
    let closed = Archive::new("a", blob).unwrap_err();
    assert!(matches!(closed.kind(), ErrorKind::Encrypted), "{closed}");
    let plain = Blob::from(bytes(1000));
    assert_eq!(refused(&plain, &keys), "a: is not encrypted with age");
    // Texts that are no keys. A secret is never shown.
    let recipient = keys.recipients().next().unwrap();
    let secret = keys.to_identities();
    let mut own = Keys::default();
    let said = |error: criu_archive::Error| error.to_string();
    assert_eq!(
        said(own.add_identities("k", &format!("#\n\n{recipient}")).unwrap_err()),
        "k: line 3: is a recipient; an identity is AGE-SECRET-KEY-1..."
    );
    let none = said(own.add_identities("k", "# nothing\n").unwrap_err());
    assert_eq!(none, "k: has no identity: make one with age-keygen");
    let mut recipients = Recipients::default();
    let line = secret.lines().last().unwrap();
    let refused = said(recipients.add(line).unwrap_err());
    assert!(refused.contains("is a secret identity") && !refused.contains(line), "{refused}");
    let refused = said(recipients.add("ssh-ed25519 AAAA").unwrap_err());
    assert!(refused.contains("key of SSH"), "{refused}");
    let refused = said(recipients.add_file("r", &format!("{recipient}\nage1x")).unwrap_err());
    assert_eq!(
        refused,
        "r: line 2: is not a recipient, which starts with age1 and has 62 characters"
    );
    let refused = encrypt(&Recipients::default(), Vec::new()).unwrap_err().to_string();
    assert_eq!(refused, "there is no recipient");
    let mut both = Recipients::of_passphrase("x".into());
    both.add(&recipient).unwrap();
    let refused = encrypt(&both, Vec::new()).unwrap_err().to_string();
    assert_eq!(refused, "a file is encrypted for recipients or with a passphrase, not both");
}

#[test]
fn a_cut_or_changed_file_is_found() {
    let keys = Keys::generate();
    let plain = bytes(140_000);
    let encrypted = for_keys(&[&keys], &plain);
    for len in (0..encrypted.len()).step_by(1499) {
        let blob = Blob::from(encrypted[..len].to_vec());
        assert!(decrypted("a", &blob, &keys).is_err(), "{len}");
        let stream = decrypt("a", &encrypted[..len], &keys);
        let read = stream.map(|mut stream| stream.read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "{len}");
    }
    for at in (0..encrypted.len()).step_by(1013) {
        let mut changed = encrypted.clone();
        changed[at] ^= 4;
        let read = decrypted("a", &Blob::from(changed), &keys).map(|blob| all(&blob));
        assert!(!matches!(read, Ok(Ok(_))), "{at}");
    }
    // After an error other places are read.
    let mut changed = encrypted.clone();
    changed[100_000] ^= 1;
    let opened = decrypted("a", &Blob::from(changed), &keys).unwrap();
    let mut part = [0; 100];
    let refused = opened.read_at(90_000, &mut part).unwrap_err().to_string();
    assert_eq!(refused, "the encrypted file is damaged, or ends early");
    opened.read_at(10_000, &mut part).unwrap();
    assert!(part == plain[10_000..10_100]);
    // A header without an end.
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    endless.extend(b"-> X25519 abc\n".repeat(10_000));
    let refused = decrypted("a", &Blob::from(endless), &keys).unwrap_err().to_string();
    assert_eq!(refused, "a: has a header of age above 64 KiB");
}

#[test]
fn threads_read_one_encrypted_file_at_once() {
    let keys = Keys::generate();
    let plain = bytes(400_000);
    let opened = decrypted("a", &Blob::from(for_keys(&[&keys], &plain)), &keys).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6usize {
            let (opened, plain) = (&opened, &plain);
            scope.spawn(move || {
                for step in 0..30usize {
                    let at = (step * 13_577 + thread * 61_111) % (plain.len() - 999);
                    let mut part = [0; 999];
                    opened.read_at(at as u64, &mut part).unwrap();
                    assert!(part == plain[at..at + 999]);
                }
            });
        }
    });
}

#[test]
fn what_is_not_encrypted_is_opened_as_it_is() {
    let keys = Keys::generate();
    let plain = bytes(5000);
    for (form, len) in [(plain.clone(), 5000), (for_keys(&[&keys], &plain), 5000), (vec![7], 1)] {
        let blob = opened("a", &Blob::from(form.clone()), &keys).unwrap();
        assert_eq!(blob.len(), len);
        let mut stream = opened_stream("a", io::Cursor::new(form), &keys).unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert!(read == all(&blob).unwrap() && (len == 1 || read == plain));
    }
}

/// Bytes that count how many of them are read.
#[derive(Debug)]
struct Counting(Blob, Arc<AtomicU64>);

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.read_at(offset, buf)
    }
}

#[test]
fn a_part_of_a_large_file_is_read_without_the_rest() {
    let keys = Keys::generate();
    let plain = bytes(3 << 20);
    let read = Arc::new(AtomicU64::new(0));
    let blob = Blob::new(Counting(for_keys(&[&keys], &plain).into(), Arc::clone(&read)));
    let opened = decrypted("a", &blob, &keys).unwrap();
    let mut part = [0; 4096];
    opened.read_at(2_000_000, &mut part).unwrap();
    assert!(part == plain[2_000_000..2_004_096]);
    let read = read.load(Ordering::Relaxed);
    assert!(read < 240 << 10, "{read}");
}
