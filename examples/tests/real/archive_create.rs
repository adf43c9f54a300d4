//! `archive create` of directories and bundles that make no archive.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::lab::{Lab, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("archive_create_says_what_is_wrong_and_where", refuses),
    ("a_reproducible_archive_for_an_engine_has_no_time_of_its_files", same),
];

fn same(lab: &Lab) {
    let images = lab.dir("img");
    let inventory = lab.path("img/inventory.img");
    let made = |seconds: u64, words: &[&str]| {
        fs::write(&inventory, "").unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(&inventory).unwrap().set_modified(time).unwrap();
        lab.done(&[&["archive", "create", &images, "a.tar", "--engine"], words].concat());
        fs::read(lab.path("a.tar")).unwrap()
    };
    for engine in ["podman", "cri-o", "containerd"] {
        let same = [engine, "--name", "web", "--reproducible"];
        assert!(made(1_600_000_000, &same) == made(1_700_000_000, &same), "{engine}");
        let other = &same[..3];
        assert!(made(1_600_000_000, other) != made(1_700_000_000, other), "{engine}");
        // An archive for no engine has no metadata: a conversion makes these up.
        let to = match engine {
            "podman" => "containerd",
            _ => "podman",
        };
        let converted = [1_600_000_000, 1_700_000_000].map(|seconds| {
            made(seconds, &["none"]);
            lab.done(&["archive", "convert", "a.tar", "b.tar", "--to", to, "--reproducible"]);
            fs::read(lab.path("b.tar")).unwrap()
        });
        assert!(converted[0] == converted[1], "{to}");
    }
}

fn refuses(lab: &Lab) {
    let (images, bundle, empty) = (lab.dir("img"), lab.dir("bundle"), lab.dir("empty"));
    fs::write(lab.path("img/inventory.img"), "").unwrap();
    let (config, out, junk) =
        (lab.path("bundle/config.json"), lab.path("out.tar"), lab.path("junk"));
    fs::write(&junk, "junk").unwrap();
    let fails = |code, words: &[&str], said: &[&str]| {
        let words = [&["create", words[0], &out], &words[1..]].concat();
        run(lab.program(link(lab, "archive"), &words)).fails(code, said);
        assert!(!Path::new(&out).exists(), "{words:?}");
    };
    let start = [&*images, "--engine", "podman"];

    fails(1, &[&lab.path("none"), "--engine", "podman"], &["none: cannot be read: No such file"]);
    let want = "empty: has no inventory.img: name the directory";
    fails(1, &[&empty, "--engine", "podman"], &[want]);
    fails(2, &[&images], &["--engine podman, cri-o, containerd, or none"]);
    fails(2, &[&start[..], &["--id", "7"]].concat(), &["64 hexadecimal digits are wanted"]);
    fails(1, &[&start[..], &["--rootfs-diff", &junk]].concat(), &["junk: is not a tar archive"]);
    let said = ["junk: is neither a directory of images nor a tar archive"];
    fails(1, &[&start[..], &["--from-archive", &junk]].concat(), &said);
    fails(
        1,
        &[&start[..], &["--strict"]].concat(),
        &["missing: spec.dump: there is no specification"],
    );

    let with_bundle = [&start[..], &["--bundle", &bundle]].concat();
    fails(1, &with_bundle, &["bundle/config.json: No such file"]);
    fs::create_dir(&config).unwrap();
    fails(1, &with_bundle, &["bundle/config.json: is not a regular file"]);
    fs::remove_dir(&config).unwrap();
    // A FIFO is not waited for.
    nix::unistd::mkfifo(&*config, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fails(1, &with_bundle, &["bundle/config.json: is not a regular file"]);
    fs::remove_file(&config).unwrap();
    for (text, said) in [
        ("{", "bundle/config.json: is no valid JSON: EOF while parsing an object"),
        (r#"{"mounts": 3}"#, "bundle/config.json: is no valid JSON: invalid type: integer `3`"),
        (&"[".repeat(70), "bundle/config.json: is no valid JSON: is nested more than 64 deep"),
    ] {
        fs::write(&config, text).unwrap();
        fails(1, &with_bundle, &[said]);
    }
    fs::File::create(&config).unwrap().set_len(1 << 40).unwrap();
    fails(1, &with_bundle, &["config.json: has 1099511627776 bytes, at most 16777216 are read"]);
}
