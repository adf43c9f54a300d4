//! Archives that podman has written, and archives for podman.

use std::fs;
use std::path::Path;
use std::process::Command;

use criu_lab::engines::{Podman, Tool, finish};
use serde_json::Value;

use crate::{Bed, Case, case, done, text};

pub const TESTS: &[Case] = &[
    case("archives_of_podman_are_read_and_come_back", exports),
    case("an_archive_made_of_images_is_restored_by_podman", created),
];

/// Each packing of podman's: our program reads the archive, and podman restores what we make of it.
fn exports(bed: &Bed) {
    let podman = Podman::new(bed);
    for (packing, options) in
        [("zstd", &[][..]), ("gzip", &["--compress", "gzip"]), ("plain", &["--compress", "none"])]
    {
        let archive = bed.dir.join(format!("{packing}.tar"));
        podman.run("c", &["--volume", "kept:/data", "--env", "SECRET=hunter2"]);
        podman.export("c", &archive, options);

        let listed = json(&["archive", "list", "--json", text(&archive)]);
        assert_eq!(listed["packing"], packing, "{listed}");
        let names = listed["members"].as_array().unwrap();
        for wanted in ["checkpoint/inventory.img", "volumes/kept.tar", "deleted.files"] {
            assert!(names.iter().any(|member| member["path"] == wanted), "{wanted}: {listed}");
        }
        let shown = json(&["inspect", "--json", "--ps-tree-cmd", text(&archive)]);
        let processes = shown["processes"].as_array().unwrap();
        let names = processes.iter().map(|process| process["name"].as_str().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["sh", "nc"], "{shown}");
        let [shell, nc] = [0, 1].map(|place| &processes[place]["arguments"]);
        assert_eq!((&shell[0], &shell[1]), (&"/bin/sh".into(), &"-c".into()), "{shown}");
        assert_eq!(*nc, serde_json::json!(["nc", "-l", "-p", "7007"]), "{shown}");
        // The screen has command lines where no memory has to be unpacked.
        let screen = done(&["inspect", text(&archive)]);
        let has_line = screen.contains("nc -l -p 7007");
        assert_eq!(has_line, packing == "plain", "{screen}");

        let ours = bed.dir.join(format!("ours-of-{packing}.tar"));
        done(&["archive", "convert", text(&archive), text(&ours)]);
        checkpointctl_accepts(bed, &ours);
        podman.import(&ours, "again", &[]);
        podman.has_its_root("again");
        podman.done(&["rm", "--force", "--time", "0", "--volumes", "again"]);
        podman.done(&["volume", "rm", "--all", "--force"]);
    }
}

/// runc checkpoints a container of podman's, and the archive is made of what a person has then:
/// images, the bundle, and the files that have changed.
fn created(bed: &Bed) {
    let podman = Podman::new(bed);
    podman.run("c", &[]);
    let look = |what: &str| podman.done(&["inspect", "--format", what, "c"]).trim().to_owned();
    let (id, bundle) = (look("{{.Id}}"), look("{{.OCIConfigPath}}"));
    let (image, root) = (look("{{.Image}}"), podman.done(&["mount", "c"]));
    let images = bed.dir("images");
    let runtime = podman.runtime(&["checkpoint", "--image-path", text(&images), &id]);
    finish(&mut { runtime }).done();
    let diff = bed.dir.join("diff.tar");
    let mut tar = Command::new("tar");
    tar.args(["-C", root.trim(), "-cf", text(&diff), "count", "etc/passwd"]);
    finish(&mut tar).done();
    // The folder of podman's container goes with the container.
    let kept = bed.dir("bundle");
    fs::copy(bundle, kept.join("config.json")).unwrap();
    podman.done(&["rm", "--force", "--time", "0", "c"]);

    let archive = bed.dir.join("made.tar");
    let words = ["archive", "create", text(&images), text(&archive), "--engine", "podman"];
    let more = ["--name", "made", "--image", Podman::IMAGE, "--image-id", &image];
    let rest = ["--bundle", text(&kept), "--rootfs-diff", text(&diff)];
    done(&[&words[..], &more, &rest].concat());
    checkpointctl_accepts(bed, &archive);
    podman.import(&archive, "again", &[]);
}

/// checkpointctl shows an archive with each of its words.
pub fn checkpointctl_accepts(bed: &Bed, archive: &Path) {
    let say = |words: &[&str]| {
        let home = bed.dir.join("home");
        Tool::new("checkpointctl", &home).run(&[words, &[text(archive)]].concat()).done()
    };
    let shown = say(&["show"]);
    assert!(shown.contains("runc"), "{shown}");
    let all = say(&["inspect", "--all", "--ps-tree-cmd", "--ps-tree-env", "--files", "--sockets"]);
    // It finds no memory, and so no command lines, in images of CRIU 4.3: not in podman's either.
    for wanted in ["[1]", "Engine: ", "Process tree", "7007", "Overview of mounts"] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    let memory = say(&["memparse"]);
    assert!(memory.contains("MEMORY SIZE") && memory.contains("sh"), "{memory}");
}

fn json(words: &[&str]) -> Value {
    serde_json::from_str(&done(words)).unwrap()
}
