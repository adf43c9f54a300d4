//! `archive create` of directories and bundles that make no archive.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[("archive_create_says_what_is_wrong_and_where", refuses)];

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
