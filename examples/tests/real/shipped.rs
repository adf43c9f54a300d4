//! `archive create`, `convert`, `encrypt` and `decrypt`, the keys of all words that read archives,
//! and what a user does wrong with them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criu_lab::names;
use criu_lab::process::{holds, send};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Ran, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_archive_is_made_converted_encrypted_and_restored", way),
    ("wrong_uses_of_archive_words_are_told_and_leave_nothing", wrong),
    ("an_interrupted_archive_word_leaves_nothing", interrupted),
];

/// The whole way of a dump: into an archive, encrypted, and back from the encrypted file.
fn way(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let create = ["archive", "create", &images];
    let podman = ["--engine", "podman", "--name", "web", "--image", "docker.io/library/web:1"];
    let made = lab.done(&[&create[..], &["web.tar"], &podman, &["--json"]].concat()).json();
    assert_eq!((&made["engine"], &made["packing"]), (&"podman".into(), &"seekable zstd".into()));
    let notes = made["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["member"] == "spec.dump"), "{notes:?}");
    let said = lab.done(&[&create[..], &["web.tar"], &podman].concat()).out;
    assert!(said.starts_with("web.tar: ") && said.contains("seekable zstd, for Podman"), "{said}");
    let shown = lab.done(&["inspect", "web.tar", "--json"]).json();
    assert_eq!(shown["container"]["name"], "web");
    // For no engine: the images, and nothing that is made up.
    lab.done(&[&create[..], &["plain.tar", "--engine", "none", "--pack", "plain"]].concat());
    let listed = lab.done(&["archive", "list", "--json", "plain.tar"]).json();
    assert_eq!(listed["packing"], "plain");
    let is_made_up = |path: &str| ["config.dump", "spec.dump"].contains(&path);
    let members = listed["members"].as_array().unwrap();
    assert!(!members.iter().any(|member| is_made_up(member["path"].as_str().unwrap())));
    // The same bytes each time, for any number of threads, and through a pipe.
    let same = [&create[..], &["--engine", "none", "--reproducible"]].concat();
    for (name, threads) in [("one.tar", "1"), ("four.tar", "4")] {
        lab.done(&[&same[..], &[name, "--threads", threads]].concat());
    }
    let one = fs::read(lab.path("one.tar")).unwrap();
    assert!(one == fs::read(lab.path("four.tar")).unwrap());
    let piped = lab.command(&[&same[..], &["-"]].concat()).output().unwrap();
    assert!(piped.status.success() && piped.stdout == one, "{:?}", piped.stderr.len());

    let convert = |words: &[&str]| lab.done(&[&["archive", "convert"], words].concat());
    let json = convert(&["web.tar", "crio.tar", "--to", "cri-o", "--json"]).json();
    assert_eq!((&json["from"], &json["engine"]), (&"podman".into(), &"cri-o".into()));
    let same = convert(&["web.tar", "same.tar", "--json"]).json();
    assert_eq!((&same["from"], &same["engine"]), (&"podman".into(), &"podman".into()));
    assert_eq!(json["packing"], "plain");
    let strict = ["archive", "convert", "web.tar", "x.tar", "--to", "containerd", "--strict"];
    let strict = lab.run(&strict);
    strict.fails(1, &["--strict: a restore would lack something\n  "]);
    assert!(!Path::new(&lab.path("x.tar")).exists());
    // Packed anew, the members stay.
    convert(&["plain.tar", "again.tar", "--pack", "gzip"]);
    let again = lab.done(&["archive", "list", "--json", "again.tar"]).json();
    assert_eq!((&again["packing"], &again["members"]), (&"gzip".into(), &listed["members"]));

    // Keys: of age, and a passphrase. The encrypted archive stays seekable.
    let age_keygen = criu_lab::place::engine("age-keygen");
    let made = run(lab.program(&age_keygen, &["-o", "key"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let key = fs::read_to_string(lab.path("key")).unwrap();
    let recipient = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    lab.done(&["archive", "encrypt", "web.tar", "web.age", "--recipient", recipient]);
    let plain = run(lab
        .program(criu_lab::place::engine("age"), &["-d", "-i", "key", "web.age"])
        .stdout(Stdio::null()));
    assert_eq!(plain.code, Some(0), "{plain:?}");
    let key = ["--identity", "key"];
    for words in [&["archive", "list", "web.age"][..], &["inspect", "web.age", "--json"]] {
        let there = lab.done(&[words, &key].concat()).out;
        let here: Vec<&str> =
            words.iter().map(|word| if *word == "web.age" { "web.tar" } else { word }).collect();
        assert_eq!(there.replace("web.age", "web.tar"), lab.done(&here).out, "{words:?}");
    }
    lab.done(&[&["archive", "extract", "web.age", "out"], &key[..]].concat());
    lab.done(&["crit", "check", "out"]);
    lab.done(&[&["crit", "x", "web.age", "ps"], &key[..]].concat());
    lab.done(&[&["archive", "decrypt", "web.age", "back.tar"], &key[..]].concat());
    assert!(fs::read(lab.path("back.tar")).unwrap() == fs::read(lab.path("web.tar")).unwrap());

    // From the encrypted file, and later from the unpacked directory.
    let work = lab.dir("work");
    for place in ["web.age", "out"] {
        let restore = ["restore", "-d", "-D", place, "-W", &work];
        if place == "web.age" {
            lab.run(&restore).fails(1, &["web.age: is encrypted: name --identity FILE"]);
        }
        lab.done(&[&restore[..], &key].concat());
        target.restored_as(target.pid);
        target.goes_on();
        target.end();
    }
}

/// Makes a small archive of images that no process is needed for, and a key for it.
fn scene(lab: &Lab) {
    let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/tests/data/pipeline");
    let copied = Command::new("cp").args(["-r", pipeline, &lab.path("img")]).status().unwrap();
    assert!(copied.success());
    lab.done(&["archive", "create", "img", "a.tar", "--engine", "none"]);
    for (name, text) in [("key", IDENTITY), ("pass", "words of a test\n"), ("other", OTHER)] {
        fs::write(lab.path(name), text).unwrap();
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    lab.done(&["archive", "encrypt", "a.tar", "a.age", "--identity", "key"]);
    lab.done(&["archive", "encrypt", "a.tar", "p.age", "--passphrase-file", "pass"]);
}

fn wrong(lab: &Lab) {
    scene(lab);
    let path = |name: &str| lab.path(name);
    let whole = fs::read(path("a.tar")).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("text"), "some text\n".repeat(100)).unwrap();
    fs::write(path("cut.tar"), &whole[..whole.len() / 2]).unwrap();
    let age = fs::read(path("a.age")).unwrap();
    fs::write(path("cut.age"), &age[..age.len() / 2]).unwrap();
    lab.dir("dir");
    fs::write(path("old"), "old").unwrap();
    fs::hard_link(path("a.tar"), path("b.tar")).unwrap();
    lab.done(&["push", "a.tar", "oci-archive:layout.tar:v1"]);
    let before = names(&lab.dir);
    // An output that is what is read, under any name.
    let layout = fs::read(path("layout.tar")).unwrap();
    for words in [
        &["archive", "convert", "a.tar", "a.tar"][..],
        &["archive", "convert", "a.tar", "./b.tar"],
        &["archive", "anonymise", "a.tar", "-o", "a.tar/"],
        &["archive", "encrypt", "a.tar", "a.tar", "--identity", "key"],
        &["archive", "decrypt", "a.age", "./a.age", "--identity", "key"],
        &["archive", "create", "img", "img/inventory.img", "--engine", "none"],
        &["archive", "create", "img", "a.tar", "--engine", "none", "--from-archive", "b.tar"],
        &["pull", "oci-archive:layout.tar", "layout.tar"],
        &["pull", "oci-archive:layout.tar:v1", "oci-archive:layout.tar:v2"],
        &["push", "a.tar", "oci-archive:a.tar"],
    ] {
        lab.run(words).fails(2, &["is the file that is read"]);
    }
    assert!(fs::read(path("a.tar")).unwrap() == whole);
    // Without a name, the archive in a layout gets another name than the layout.
    lab.done(&["pull", "oci-archive:layout.tar"]);
    let pulled = path("layout-checkpoint.tar.zst");
    assert!(fs::read(&pulled).unwrap() == whole);
    fs::remove_file(&pulled).unwrap();
    assert!(fs::read(path("layout.tar")).unwrap() == layout);
    let key = ["--identity", "key"];
    // Each file that is no archive, for each word that reads one.
    for (file, said) in [
        ("empty", "empty: is empty"),
        ("text", "text: is neither a directory of images nor a tar archive"),
        ("cut.tar", "ends early"),
        ("dir", "dir: "),
        ("none", "none: cannot be read: No such file"),
        ("a.age", "a.age: is encrypted: name --identity FILE or --passphrase-file FILE"),
    ] {
        for words in [
            &["archive", "list", file][..],
            &["archive", "extract", file, "new"],
            &["archive", "convert", file, "old"],
            &["inspect", file],
            &["inspect", file, "--html", "old"],
            &["inspect", file, "-o", "old"],
        ] {
            lab.run(words).fails(1, &[said]);
        }
        let json = lab.run(&["archive", "list", "--json", file]);
        let error = &json.json()["error"]["message"];
        assert!(error.as_str().unwrap().contains(said), "{json:?}");
    }
    for (words, code, said) in [
        (&["create", "img", "old"][..], 2, "--engine podman, cri-o, containerd, or none"),
        (&["create", "dir", "old", "--engine", "none"], 1, "dir: has no inventory.img"),
        (&["create", "a.tar", "old", "--engine", "none"], 1, "a.tar: cannot be read: Not a dir"),
        (&["create", "img", "no/a.tar", "--engine", "none"], 1, "no/a.tar: No such file"),
        (&["create", "img", "dir", "--engine", "none"], 1, "dir: Is a directory"),
        (&["create", "img", "/dev/full", "--engine", "none"], 1, "No space left on device"),
        (&["create", "img", "old", "--engine", "podman", "--id", "7"], 2, "64 hexadecimal digits"),
        (&["create", "img", "old", "--engine", "docker"], 2, "podman, cri-o, containerd"),
        (&["create", "img", "old", "--engine", "podman", "--bundle", "dir"], 1, "dir/config.json"),
        (&["create", "img", "old", "--engine", "podman", "--rootfs-diff", "text"], 1, "text: is"),
        (&["create", "img", "-", "--engine", "none", "--json"], 2, "cannot both go to standard"),
        (&["create", "img"], 2, "`criu-rs archive create --help`"),
        (&["convert", "a.tar", "old", "--to", "docker"], 2, "podman, cri-o, containerd"),
        (&["convert", "a.tar", "old", "--level", "15", "--pack", "gzip"], 2, "from 1 to 9"),
        (&["convert", "a.tar", "old", "--level", "1", "--pack", "plain"], 2, "no levels"),
        (&["anonymise", "a.tar", "-o", "new", "--threads", "2"], 2, "only zstd"),
        (&["convert", "a.tar", "/dev/full"], 1, "No space left on device"),
        (&["extract", "a.tar", "dir", "absent"], 1, "absent: is missing"),
        (&["extract", "a.tar", "dir", "check*nope"], 1, "check*nope: no member fits"),
        (&["extract", "a.tar", "dir", "--limit", "5"], 1, "--limit allows more"),
        (&["extract", "a.tar", "old"], 1, "old"),
        (&["encrypt", "a.tar", "old"], 2, "nobody could open the file"),
        (&["encrypt", "a.tar", "old", "-r", "age1x"], 2, "--recipient: age1x: is not a recipient"),
        (&["encrypt", "a.tar", "old", "-R", "key"], 1, "key: line 1: is a secret identity"),
        (&["encrypt", "a.tar", "old", "--passphrase-file", "empty"], 1, "has no passphrase"),
        (
            &["encrypt", "a.tar", "-", "--identity", "key", "--json"],
            2,
            "cannot both go to standard",
        ),
        (&["encrypt", "dir", "old", "--identity", "key"], 1, "dir: is a directory"),
        (&["encrypt", "a.tar", "/dev/full", "--identity", "key"], 1, "No space left on device"),
        (&["decrypt", "a.age", "old"], 2, "a key is needed"),
        (&["decrypt", "a.age", "old", "--identity", "other"], 1, "no identity fits"),
        (&["decrypt", "a.age", "old", "--passphrase-file", "pass"], 1, "encrypted for recipients"),
        (&["decrypt", "p.age", "old", "--identity", "key"], 1, "encrypted with a passphrase"),
        (&["decrypt", "p.age", "old", "--passphrase-file", "text"], 1, "another passphrase"),
        (&["decrypt", "a.tar", "old", "--identity", "key"], 1, "a.tar: is not encrypted"),
        (&["decrypt", "empty", "old", "--identity", "key"], 1, "empty: is empty"),
        (&["decrypt", "cut.age", "old", "--identity", "key"], 1, "cut.age: "),
        (&["decrypt", "a.age", "old", "--identity", "text"], 1, "text: line 1: is not an identity"),
        (&["decrypt", "a.age", "old", "--identity", "none"], 1, "none: No such file"),
        (&["list", "a.age", "--identity", "other"], 1, "a.age: is encrypted for others"),
        (&["list", "cut.age", "--identity", "key"], 1, "cut.age: "),
        (&["list", "localhost:1/x"], 1, "fetched first, with `criu-rs pull`"),
        (&["list", "oci-archive:layout.tar:v1"], 1, "fetched first, with `criu-rs pull`"),
        (&["list", "a.tar", "--frob"], 2, "`criu-rs archive list --help` shows how it is used"),
    ] {
        let ran = lab.run(&[&["archive"], words].concat());
        assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
        // With --json the reason is in the JSON.
        let place = if words.contains(&"--json") { &ran.out } else { &ran.err };
        assert!(place.contains(said), "{words:?}: {ran:?}");
    }
    lab.run(&["push", "a.age", "oci:new:v1"]).fails(1, &["a.age: is encrypted, and no engine"]);
    lab.run(&["pull", "a.tar"]).fails(2, &["a.tar: is no image: is a file, and need not"]);
    lab.run(&["push", "img", "oci:new:v1"]).fails(1, &["img: is a directory", "archive create"]);
    // The old file is as it was, and nothing lies beside it.
    assert_eq!(fs::read_to_string(path("old")).unwrap(), "old");
    assert_eq!(names(&lab.dir), before);
    // All words tell what they did in one form.
    for (words, out) in [
        (&["create", "img", "1.tar", "--engine", "none"][..], "1.tar"),
        (&["convert", "a.tar", "2.tar"], "2.tar"),
        (&["anonymise", "a.tar", "-o", "3.tar"], "3.tar"),
        (&["extract", "a.tar", "4"], "4"),
        (&["encrypt", "a.tar", "5", "--identity", "key"], "5"),
        (&["decrypt", "5", "6", "--identity", "key"], "6"),
        (&["list", "6"], ""),
    ] {
        let json = lab.done(&[&["archive"], words, &["--json"]].concat()).json();
        assert_eq!((&json["program"], &json["outcome"]), (&"archive".into(), &"done".into()));
        let path = if out.is_empty() { None } else { Some(out) };
        assert_eq!(json["path"].as_str(), path, "{json}");
        assert!(json["bytes"].as_u64() > Some(0), "{json}");
        assert!(words[0].ends_with("crypt") || !json["members"].is_null(), "{json}");
    }
    // A key that others can read is used, and noted.
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let noted = lab.done(&[&["archive", "list", "a.age"], &key[..]].concat());
    assert!(noted.err.starts_with("note: key: other users can read this secret"), "{noted:?}");
    // An output that exists is replaced.
    lab.done(&[&["archive", "decrypt", "a.age", "old"], &key[..]].concat());
    assert!(fs::read(path("old")).unwrap() == whole);
    // Its reader has seen enough.
    let line = format!("{} archive decrypt a.age - --identity key | head -c 9 | wc -c", PROGRAM);
    let ran = run(lab.program("sh", &["-c", &line]));
    assert!(ran.code == Some(0) && ran.out == "9\n" && !ran.err.contains("Broken"), "{ran:?}");
    let help = |word: &str| -> Ran { lab.done(&["archive", word, "--help"]) };
    for word in ["create", "convert", "list", "extract", "encrypt", "decrypt"] {
        let ran = help(word);
        let longest = ran.out.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100) && ran.out.contains("--identity"), "{word}: {ran:?}");
    }
}

/// Work that reads from a pipe to which nothing comes any more.
fn interrupted(lab: &Lab) {
    scene(lab);
    let before = names(&lab.dir);
    let key = ["--passphrase-file", "pass"];
    for (word, code) in [
        (&["archive", "encrypt", "-", "new"][..], 4),
        (&["archive", "decrypt", "-", "new"], 4),
        (&["inspect", "-", "-o", "new"], 4),
    ] {
        let words = [word, &key].concat();
        let mut child =
            lab.command(&words).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It waits for more of the file.
        let mut input = child.stdin.take().unwrap();
        let bytes = fs::read(lab.path("p.age")).unwrap();
        std::io::Write::write_all(&mut input, &bytes[..bytes.len() / 2]).unwrap();
        interrupt(&child, Signal::SIGINT, || names(&lab.dir) != before);
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), status.signal()), (Some(code), None), "{word:?}: {said}");
        assert!(said.contains("SIGINT"), "{said}");
        assert_eq!(names(&lab.dir), before, "{word:?}");
    }
    // Packing that takes long enough to be stopped.
    let large = fs::File::create(lab.path("img/pages-9.img")).unwrap();
    large.set_len(1 << 30).unwrap();
    for word in [
        &["archive", "create", "img", "new", "--engine", "none", "--level", "9"][..],
        &["archive", "create", "img", "new", "--engine", "none", "--pack", "plain"],
    ] {
        let mut child = lab.command(word).stderr(Stdio::piped()).spawn().unwrap();
        interrupt(&child, Signal::SIGTERM, || names(&lab.dir) != before);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(4), "{word:?}");
        assert_eq!(names(&lab.dir), before, "{word:?}");
    }
    assert!(!Path::new(&lab.path("new")).exists());
    // A pull that unpacks.
    large.set_len(512 << 20).unwrap();
    lab.done(&["archive", "create", "img", "large.tar", "--engine", "none"]);
    lab.done(&["push", "large.tar", "oci:layout:v1"]);
    let before = names(&lab.dir);
    let words = ["pull", "oci:layout:v1", "fresh/"];
    let mut child = lab.command(&words).stderr(Stdio::piped()).spawn().unwrap();
    interrupt(&child, Signal::SIGTERM, || {
        names(&lab.dir).iter().any(|name| name.starts_with(".fresh"))
    });
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(names(&lab.dir), before);
}

/// Stops a program at the first sight of the file that it makes, so that its work does not end
/// before the signal comes. A program holds signals back before it makes a file.
fn interrupt(child: &Child, signal: Signal, is_at_work: impl FnMut() -> bool) {
    let pid = i32::try_from(child.id()).unwrap();
    assert!(criu_lab::soon(is_at_work), "the program makes no file");
    send(pid, Signal::SIGSTOP);
    assert!(holds(pid, signal), "the program does not hold {signal} back");
    send(pid, signal);
    send(pid, Signal::SIGCONT);
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-rs");
/// Identities that age-keygen made for these tests.
pub const IDENTITY: &str =
    "AGE-SECRET-KEY-19C863DMAH3KDLVH7YN8PHUCTRW4CTE0EENMYX3DZNU5Q00ZGDKMS9A3LW9\n";
const OTHER: &str = "AGE-SECRET-KEY-1F9H4L4TCE6X40PM9ZK0L9R3ADNZVL0869ZG4L2RL4VE6H0M59TEQ72PKJU\n";
