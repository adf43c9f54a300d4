//! `archive list` and `archive extract`, on hostile archives and on an honest one.

#[path = "../../../archive/tests/hostile/corpus.rs"]
mod corpus;
#[path = "../../../archive/tests/hostile/made.rs"]
mod made;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use corpus::{At, corpus};
use criu_images::Text;

use crate::lab::{Lab, Ran, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("archive_refuses_each_hostile_archive", hostile),
    ("archive_lists_verifies_and_extracts_a_dump", honest),
];

fn hostile(lab: &Lab) {
    let dir = lab.dir("hostile");
    for hostile in corpus() {
        let path = format!("{dir}/a.tar");
        fs::write(&path, &hostile.bytes).unwrap();
        let to = format!("{dir}/to");
        let list = archive(lab, &["list", &path]);
        let extract = archive(lab, &["extract", &path, &to]);
        assert_eq!(
            list.code,
            Some(i32::from(hostile.at == At::Open)),
            "{}: {list:?}",
            hostile.name
        );
        let both = [("list", list), ("extract", extract)];
        for (word, ran) in both.iter().filter(|(_, ran)| ran.code != Some(0)) {
            let said = &ran.err;
            let start = format!("archive {word}: ");
            let has = said.starts_with(&start) && said.contains(hostile.reason);
            assert!(ran.code == Some(1) && has, "{}: {ran:?}", hostile.name);
            let shown = Text(hostile.member.as_bytes()).to_string();
            assert!(said.contains(&shown), "{}: {ran:?}", hostile.name);
        }
        assert!(!Path::new(&to).exists(), "{}", hostile.name);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{}", hostile.name);
    }
}

fn honest(lab: &Lab) {
    let images = lab.dir("checkpoint");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--leave-running"]);
    for (option, name, packing) in
        [("--zstd", "a.tar.zst", "zstd"), ("--gzip", "a.tar.gz", "gzip"), ("-h", "a.tar", "plain")]
    {
        let tar = ["-cf", name, option, "checkpoint"];
        assert!(Command::new("tar").args(tar).current_dir(&lab.dir).status().unwrap().success());
        let json = archive(lab, &["list", "--digests", "--verify", "--json", name]).json();
        assert_eq!(json["packing"], packing);
        assert_eq!(json["verified"]["has_digests"], false);
        let members = json["members"].as_array().unwrap();
        let files: Vec<_> = members.iter().filter(|member| member["kind"] == "file").collect();
        assert_eq!(files.len(), fs::read_dir(&images).unwrap().count());
        let digests: String = files
            .iter()
            .map(|file| (file["sha256"].as_str().unwrap(), file["path"].as_str().unwrap()))
            .map(|(digest, path)| format!("{digest}  {path}\n"))
            .collect();
        fs::write(lab.path("sums"), digests).unwrap();
        let check = ["--check", "--quiet", "sums"];
        assert!(
            Command::new("sha256sum").args(check).current_dir(&lab.dir).status().unwrap().success()
        );
        let whole = archive(lab, &["verify", "--json", name]).json();
        assert_eq!((&whole["count"], &whole["bytes"]), (&members.len().into(), &json["bytes"]));
        let shown = archive(lab, &["verify", name]).out;
        assert!(shown.contains("is whole: "), "{shown}");
        assert!(shown.ends_with("; there are no digests in it\n"), "{shown}");
        let shown = archive(lab, &["list", name]).out;
        assert!(
            shown.contains(" checkpoint/\n") && shown.contains("    inventory.img\n"),
            "{shown}"
        );
        // Into a directory, and from a pipe; the set is the same.
        let line = format!("cat {name} | {} extract - piped", link(lab, "archive"));
        let ran = run(lab.program("sh", &["-c", &line]));
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
        let some = archive(lab, &["extract", name, "out", "checkpoint/pages-*", "*/inventory.img"]);
        assert!(some.code == Some(0) && some.out.contains(" members, "), "{some:?}");
        assert!(Path::new(&lab.path("out/checkpoint/inventory.img")).exists());
        assert!(!Path::new(&lab.path("out/checkpoint/pstree.img")).exists());
        let mode = fs::metadata(lab.path("out")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        lab.done(&["crit", "check", "piped"]);
        let same = ["-r", "checkpoint", "piped/checkpoint"];
        assert!(Command::new("diff").args(same).current_dir(&lab.dir).status().unwrap().success());
        let taken = archive(lab, &["extract", name, "out"]);
        taken.fails(1, &["archive extract: ", "out: is not empty; name a new directory"]);
        let large = archive(lab, &["extract", "--limit", "1K", name, "large"]);
        large.fails(1, &["archive extract: ", " bytes, at most 1024 are read"]);
        for made in ["piped", "out"] {
            fs::remove_dir_all(lab.path(made)).unwrap();
        }
    }
    archive(lab, &["extract", "a.tar"]).fails(2, &["<DIRECTORY>"]);
    archive(lab, &["list", "absent"]).fails(1, &["archive list: absent: "]);
}

fn archive(lab: &Lab, words: &[&str]) -> Ran {
    run(lab.program(link(lab, "archive"), words))
}
