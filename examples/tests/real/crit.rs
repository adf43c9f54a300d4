//! `crit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use criu_images::memory::PageSize;
use criu_images::source::Directory;
use criu_images::working_set::{Fingerprint, Recording, WorkingSet};
use criu_lab::place::Short;
use criu_lab::soon;

use crate::lab::{Lab, Ran, Target, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("crit_s_images_restore", round_trip),
    ("crit_shows_what_a_dump_holds", explore),
    ("crit_finds_what_is_missing", check),
    ("crit_writes_a_core_file", core),
    ("crit_says_what_has_changed", diff),
    ("crit_searches_and_shows_memory", memory),
    ("crit_s_edits_restore", edit),
    ("inspect_is_one_screen", inspect),
    ("crit_leaves_no_half_file", nonsense),
    ("crit_s_outputs_are_its_owner_s_alone", modes),
    ("no_name_in_images_acts_on_a_terminal", names),
];

fn crit(lab: &Lab, words: &[&str]) -> Ran {
    run(lab.program(link(lab, "crit"), words))
}

#[track_caller]
fn done(lab: &Lab, words: &[&str]) -> String {
    let ran = crit(lab, words);
    assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
    ran.out
}

fn checkpointed(lab: &Lab, words: &[&str]) -> (String, Target) {
    let images = lab.dir("img");
    let mut target = lab.start(words);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    (images, target)
}

/// Turns every image into JSON and back, in place; CRIU restores the result.
fn round_trip(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let before = target.count();
    let mut changed = 0;
    for entry in fs::read_dir(&images).unwrap() {
        let path = entry.unwrap().path();
        let image = path.to_str().unwrap();
        let is_raw = image.contains("/pages-") || !image.ends_with(".img");
        if is_raw {
            continue;
        }
        let was = fs::read(image).unwrap();
        fs::set_permissions(image, fs::Permissions::from_mode(0o600)).unwrap();
        done(lab, &["decode", "-i", image, "-o", "json", "--pretty"]);
        fs::write(image, "").unwrap();
        assert_eq!(done(lab, &["encode", "-i", "json", "-o", image]), "");
        assert_eq!(fs::read(image).unwrap(), was, "{image}");
        assert_eq!(fs::metadata(image).unwrap().permissions().mode() & 0o777, 0o600);
        changed += 1;
    }
    assert!(changed > 8, "{changed}");
    lab.done(&["restore", "-D", &images, "-d"]);
    assert!(target.goes_on() > before);
}

fn explore(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let pid = target.pid();
    let ps = done(lab, &["x", &images, "ps"]);
    let line = ps.lines().find(|line| line.trim_start().starts_with(&pid)).unwrap();
    assert!(line.contains(" count"), "{ps}");
    assert_eq!(line.split_whitespace().nth(2), Some(pid.as_str()), "{ps}");
    let fds = done(lab, &["x", &images, "fds"]);
    assert!(
        fds.contains(" device    device /dev/null") && fds.contains("txt file      /"),
        "{fds}"
    );
    assert!(done(lab, &["x", &images, "mems"]).contains("[heap]"));
    assert!(done(lab, &["x", &images, "rss"]).contains(" STORED "));
    assert_eq!(done(lab, &["x", &images, "sk"]).lines().count(), 1);
    assert!(done(lab, &["x", &images, "security"]).contains("seccomp off"));
    assert!(done(lab, &["x", &images, "ns"]).contains(" mnt "));
    assert_eq!(done(lab, &["x", &images, "mounts"]), "no mount namespace except the host's\n");
    for what in ["ps", "fds", "mems", "rss", "sk", "mounts", "ns", "security"] {
        let line = done(lab, &["x", &images, what, "--pid", &pid, "--json"]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(value.is_object() && line.lines().count() == 1, "{line}");
    }
    // Environments hold secrets: only whoever asks gets them.
    let ps = done(lab, &["x", &images, "ps", "--json"]);
    let with = done(lab, &["x", &images, "ps", "--json", "--env"]);
    assert!(!ps.contains("PATH=") && with.contains("\"PATH="), "{with}");
    crit(lab, &["x", &images, "ps", "--env"]).fails(2, &["--json"]);
    crit(lab, &["x", &images, "ps", "--pid", "1"]).fails(1, &["crit x: no task 1"]);
    let info = done(lab, &["info", &format!("{images}/pstree.img")]);
    assert_eq!(info, "{\n    \"magic\": \"PSTREE\",\n    \"count\": 1\n}\n");
    let shown = done(lab, &["show", &format!("{images}/pstree.img")]);
    assert!(shown.starts_with("{\n    \"magic\": \"PSTREE\",\n") && shown.ends_with("}\n"));
    // As JSON for programs it is one line.
    let line = done(lab, &["decode", "-i", &format!("{images}/pstree.img")]);
    assert_eq!(line.lines().count(), 1);
}

fn check(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    assert_eq!(done(lab, &["check", &images]), format!("nothing is wrong with {images}\n"));
    let core = format!("core-{}.img", target.pid());
    fs::remove_file(Path::new(&images).join(&core)).unwrap();
    let ran = crit(lab, &["check", &images]);
    assert_eq!((ran.code, ran.out), (Some(1), format!("error: {core}: is missing\n")));
    // The status counts even if nobody reads the findings.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let ran = run(lab.program(link(lab, "crit"), &["check", &images]).stdout(writer));
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{ran:?}");
}

fn core(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let ran = crit(lab, &["core", &images, &target.pid(), "-o", "core"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.starts_with(&format!("crit core: core: core of task {}: ", target.pid())),
        "{ran:?}"
    );
    assert!(fs::read(lab.path("core")).unwrap().starts_with(b"\x7fELF"));
    crit(lab, &["core", &images, "1"]).fails(1, &["crit core: no task 1"]);
}

/// Two dumps of one process, with time to count between.
fn diff(lab: &Lab) {
    let (first, second) = (lab.dir("first"), lab.dir("second"));
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &first, "--leave-running"]);
    target.goes_on();
    lab.done(&["dump", "-t", &target.pid(), "-D", &second, "--leave-running"]);
    assert_eq!(done(lab, &["diff", &first, &first]), "nothing has changed\n");
    let said = done(lab, &["diff", &first, &second]);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with(&format!("~ task {} ", target.pid())), "{said}");
    let dirty = lines.iter().find(|line| line.contains("[stack]")).unwrap();
    assert!(dirty.starts_with("  ~ pages of ") && dirty.ends_with(" differ"), "{said}");
    let diff: serde_json::Value =
        serde_json::from_str(&done(lab, &["diff", &first, &second, "--json"])).unwrap();
    let mapping = &diff["changed"][0]["dirty"][0];
    let ranges = mapping["ranges"].as_array().unwrap();
    let pages: u64 = ranges.iter().map(|range| range["pages"].as_u64().unwrap()).sum();
    assert_eq!(Some(pages), mapping["dirty"].as_u64());
    // A directory with two sets stands for neither. A link to a parent set does not count.
    let both = "crit diff: .: several folders in it have images; name one: ./first or ./second";
    crit(lab, &["diff", &first, "."]).fails(1, &[both]);
    let failed = lab.dir("failed");
    std::os::unix::fs::symlink(&first, lab.path("failed/parent")).unwrap();
    let said = crit(lab, &["diff", &first, &failed]);
    said.fails(1, &[&format!("crit diff: {failed}: inventory.img: is missing")]);
}

fn memory(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let (pid, file) = (target.pid(), lab.path("count"));
    // Its command line is on its stack.
    let found = done(lab, &["search", &images, &file, "--mapping", "stack", "-C", "8"]);
    let line = found.lines().find(|line| line.contains("--payload")).unwrap_or(&found);
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!((words[0], words[2]), (pid.as_str(), "[stack]:"), "{found}");
    let address = words[1];
    let hex: String = file.bytes().map(|byte| format!("{byte:02x}")).collect();
    let same = done(lab, &["search", &images, &hex, "--hex", "--perm", "rw..", "--json"]);
    let hits: Vec<serde_json::Value> =
        same.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = u64::from_str_radix(address, 16).unwrap();
    assert!(hits.iter().any(|hit| hit["address"] == at && hit["text"] == file), "{same}");
    let pattern = "[-]-payload\\x00c[o]unt\\x00";
    let count = done(lab, &["search", &images, "--regex", pattern, "--count", "--pid", &pid]);
    assert!(count.trim().parse::<u64>().unwrap() >= 1, "{count}");

    let size = file.len();
    let shown = done(lab, &["memory", &images, &pid, &format!("{address}+{size:x}")]);
    assert!(shown.starts_with(&format!("{at:016x}  2f ")) && shown.contains("|/"), "{shown}");
    let raw = done(lab, &["memory", "--raw", &images, &pid, &format!("0x{address}+{size:x}")]);
    assert_eq!(raw, file);

    let none = crit(lab, &["search", &images, "nobody says this \u{1}"]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (Some(1), "", ""));
    for (words, code, said) in [
        (&["search", &images, "0g", "--hex"][..], 1, "crit search: "),
        (&["search", &images, "(", "--regex"], 1, "crit search: "),
        (&["search", &images, "a", "--perm", "rw"], 1, "--perm takes four letters"),
        (&["search", &images, "a", "--pid", "1"], 1, "crit search: no task 1"),
        (&["search", &images, "a", "--range", "9-1"], 2, "has no bytes"),
        (&["memory", &images, &pid, "0+10"], 1, "nothing is mapped there"),
        (&["memory", &images, &pid, "ffffffffffffffff+2"], 2, "ends past the last address"),
    ] {
        crit(lab, words).fails(code, &[said]);
    }
}

/// A process that counts into one file, and, restored, into another.
fn edit(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let (old, new) = (lab.path("count"), lab.path("sum"));
    let edit = format!("path:{old}={new}");
    let files = fs::read(format!("{images}/files.img")).unwrap();
    assert_eq!(done(lab, &["edit", "-n", &images, &edit]), "files.img: 1 change\n");
    assert_eq!(fs::read(format!("{images}/files.img")).unwrap(), files);
    for wrong in
        ["frob:a=b", "path:a", "path:a=b", "port:80=x", "drop-filter:3", "address:::1=1.1.1.1"]
    {
        let text = crit(lab, &["edit", &images, &edit, wrong]);
        text.fails(1, &["crit edit: "]);
        assert_eq!(fs::read(format!("{images}/files.img")).unwrap(), files, "{wrong}");
    }
    assert_eq!(done(lab, &["edit", &images, &edit]), "files.img: 1 change\n");
    assert_eq!(done(lab, &["edit", &images, &edit]), "nothing to change\n");
    let was = target.count();
    fs::rename(&old, &new).unwrap();
    lab.done(&["restore", "-D", &images, "-d"]);
    let sum = || fs::read_to_string(&new).unwrap().trim().parse().unwrap_or(0);
    assert!(soon(|| sum() > was));
    assert!(!Path::new(&old).exists());
    let pid = target.pid();
    let seccomp = done(lab, &["seccomp", &images]);
    assert!(seccomp.starts_with(&format!("task {pid}, thread {pid} ")), "{seccomp}");
    assert!(seccomp.lines().all(|line| line.ends_with(": off")), "{seccomp}");
    crit(lab, &["seccomp", &images, "1"]).fails(1, &["crit seccomp: no task 1"]);
}

fn inspect(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["lock"]);
    let pid = target.pid();
    lab.done(&["dump", "-t", &pid, "-D", &images, "--file-locks", "--leave-running"]);
    let inspect = |words: &[&str]| {
        let ran = run(lab.program(link(lab, "inspect"), words));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        ran.out
    };
    let tar = |words: &[&str]| {
        let made = std::process::Command::new("tar").args(words).current_dir(&lab.dir).status();
        assert!(made.unwrap().success());
    };
    let screen = inspect(&[&images]);
    assert!(screen.starts_with(&format!("root        {pid} /")), "{screen}");
    assert!(screen.contains("\n  --file-locks  1 lock\n"), "{screen}");
    assert!(screen.lines().count() < 24, "{screen}");
    // A working set, and one that a restore ignores.
    let mut recording = Recording::new(PageSize::K4);
    recording.touch(pid.parse().unwrap(), 0x1000, Duration::from_millis(2));
    let source = Directory::open(&images).unwrap();
    let fingerprint = Fingerprint::of(&source).unwrap();
    recording.finish(fingerprint, Duration::from_secs(1)).save(&source).unwrap();
    let with_set = inspect(&[&images]);
    assert!(with_set.contains("\n\nworking set 1 page, 4 KiB of "), "{with_set}");
    assert!(with_set.lines().last().unwrap().contains(" 2.000   2.000 "), "{with_set}");
    tar(&["cf", "set.tar", "./img"]);
    let json = inspect(&["--json", "set.tar"]);
    assert!(json.contains(r#""working_set":{"page_size":4096,"pages":1,"bytes":4096"#), "{json}");
    let file = lab.path(&format!("img/{}", WorkingSet::FILE));
    fs::write(&file, "garbage").unwrap();
    let ignored = inspect(&[&images]);
    assert!(ignored.contains("\nworking set ignored: working-set.bin: "), "{ignored}");
    done(lab, &["check", &images]);
    fs::remove_file(&file).unwrap();
    // An archive with one folder of images, and an archive with two.
    tar(&["cf", "one.tar", "./img"]);
    assert_eq!(inspect(&["one.tar"]), screen);
    fs::rename(&images, lab.path("a")).unwrap();
    tar(&["cf", "two.tar", "--transform", "s,^a,b,", "a"]);
    tar(&["rf", "two.tar", "a"]);
    assert_eq!(inspect(&["two.tar:b"]), screen);
    let both = run(lab.program(link(lab, "inspect"), &["two.tar"]));
    both.fails(1, &["several folders in it have images; name one: two.tar:a or two.tar:b"]);
    // Packed, as Podman exports by default, and through a pipe, a FIFO and a redirection.
    for (option, name) in [("--gzip", "packed.tar.gz"), ("--zstd", "packed.tar.zst")] {
        tar(&[option, "-cf", name, "a"]);
        // The screen of a compressed archive has names for command lines, which are in memory.
        let named = inspect(&[name]);
        assert!(named.starts_with(&format!("root        {pid} ")) && named != screen, "{named}");
        // The first line is the name of the archive.
        let tree = |name: &str| {
            let text = inspect(&[name, "--ps-tree-cmd"]);
            text.split_once('\n').unwrap().1.to_owned()
        };
        assert_eq!(tree(name), tree("a"));
        let shown = done(lab, &["show", &format!("{name}:a/pstree.img")]);
        assert_eq!(shown, done(lab, &["show", "a/pstree.img"]));
        done(lab, &["check", name]);
        let in_shell = |line: &str| {
            let line = line.replace("PACKED", name).replace("inspect", &link(lab, "inspect"));
            let ran = run(lab.program("bash", &["-c", &line]));
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
            assert_eq!(ran.out, named, "{line}");
        };
        in_shell("cat PACKED | inspect -");
        in_shell("inspect - < PACKED");
        in_shell("inspect <(cat PACKED)");
        in_shell("cat PACKED | inspect /dev/stdin:a");
    }
    let advice = "xz -d < packed.tar.xz > packed.tar";
    let said =
        format!("packed.tar.xz: is compressed with xz, which has to be unpacked first: {advice}");
    tar(&["-cJf", "packed.tar.xz", "a"]);
    run(lab.program(link(lab, "inspect"), &["packed.tar.xz"])).fails(1, &[&said]);
    let unpack =
        std::process::Command::new("sh").args(["-c", advice]).current_dir(&lab.dir).status();
    assert!(unpack.unwrap().success());
    assert_eq!(inspect(&["packed.tar"]), screen);
    // An engine's export, unpacked: the images are in a folder. Then two folders have images.
    fs::create_dir(lab.path("x")).unwrap();
    fs::rename(lab.path("a"), lab.path("x/checkpoint")).unwrap();
    assert_eq!(inspect(&["x"]), screen);
    tar(&["xf", "two.tar", "-C", "x", "b"]);
    let both = run(lab.program(link(lab, "inspect"), &["x"]));
    both.fails(1, &["x: several folders in it have images; name one: x/b or x/checkpoint"]);
    // One image, alone and in an archive; files that are none.
    let image = "x/checkpoint/pstree.img";
    assert_eq!(done(lab, &["show", "two.tar:a/pstree.img"]), done(lab, &["show", image]));
    assert_eq!(done(lab, &["info", "two.tar:b/pstree.img"]), done(lab, &["info", image]));
    crit(lab, &["show", "two.tar:a/absent.img"]).fails(1, &["is not in the archive"]);
    for (path, said) in [
        (image, "is one image; give the directory that holds all of them"),
        ("/etc/passwd", "/etc/passwd: is neither a directory of images nor a tar archive"),
        ("/dev/null", "/dev/null: is neither a directory of images nor a tar archive"),
    ] {
        run(lab.program(link(lab, "inspect"), &[path])).fails(1, &[said]);
    }
    // The link to a parent set, and the socket of `criu lazy-pages`.
    std::os::unix::fs::symlink("../b", lab.path("x/checkpoint/parent")).unwrap();
    let short = Short::link(lab.path("x/checkpoint").as_ref());
    let socket = short.join("lazy-pages.socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let parent = ", version 2, on top of a parent set\n";
    assert_eq!(inspect(&["x/checkpoint"]), screen.replacen(", version 2\n", parent, 1));
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--json", "two.tar:a"])).unwrap();
    assert_eq!(json["needs"][0]["option"], "--file-locks");
    assert_eq!(json["processes"][0]["pid"].to_string(), pid);
    run(lab.program(link(lab, "inspect"), &["absent"])).fails(1, &["inspect: absent: "]);
    let absent = run(lab.program(link(lab, "inspect"), &["--json", "absent"]));
    let said = absent.json();
    assert_eq!((absent.code, &said["outcome"]), (Some(1), &"failed".into()), "{said}");
    assert!(said["error"]["message"].as_str().unwrap().starts_with("absent: "), "{said}");
}

fn nonsense(lab: &Lab) {
    fs::write(lab.path("text"), "no image").unwrap();
    fs::write(lab.path("old"), "old").unwrap();
    for words in [
        &["decode", "-i", "text", "-o", "old"][..],
        &["encode", "-i", "text", "-o", "old"],
        &["core", ".", "-o", "old"],
    ] {
        crit(lab, words).fails(1, &[&format!("crit {}: ", words[0])]);
        assert_eq!(fs::read_to_string(lab.path("old")).unwrap(), "old");
    }
    crit(lab, &["show", "text"])
        .fails(1, &["text: byte 0: magic 0x69206f6e is not that of any image"]);
    crit(lab, &["show", "absent"]).fails(1, &["absent: No such file"]);
    crit(lab, &["x", ".", "ps"]).fails(1, &["inventory.img: is missing"]);
    crit(lab, &["x", ".", "everything"]).fails(2, &["possible values"]);
    crit(lab, &["frob"]).fails(2, &["frob"]);
    crit(lab, &[]).fails(2, &["Usage: crit"]);
    // Nothing is left of what failed.
    let mut left = criu_lab::names(&lab.dir);
    left.sort();
    assert_eq!(left, ["old", "text"]);
}

/// The modes of all outputs, with a umask that allows everything.
fn modes(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let pstree = format!("{images}/pstree.img");
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    // A file that everybody can write, planted at the name of an output.
    fs::write(lab.path("planted"), "").unwrap();
    fs::set_permissions(lab.path("planted"), fs::Permissions::from_mode(0o666)).unwrap();
    done(lab, &["decode", "-i", &pstree, "-o", "json"]);
    done(lab, &["decode", "-i", &pstree, "-o", "planted"]);
    done(lab, &["encode", "-i", "json", "-o", "image"]);
    assert_eq!(crit(lab, &["core", &images, &target.pid(), "-o", "core"]).code, Some(0));
    nix::sys::stat::umask(umask);
    for name in ["json", "planted", "image", "core"] {
        let mode = fs::metadata(lab.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    // A link is replaced, and what it leads to stays as it is.
    fs::write(lab.path("victim"), "kept").unwrap();
    std::os::unix::fs::symlink("victim", lab.path("link")).unwrap();
    done(lab, &["decode", "-i", &pstree, "-o", "link"]);
    assert_eq!(fs::read_to_string(lab.path("victim")).unwrap(), "kept");
    assert!(!fs::symlink_metadata(lab.path("link")).unwrap().is_symlink());
    // Standard output by its name, into a file.
    let out = fs::File::create(lab.path("out")).unwrap();
    let words = ["decode", "-i", &pstree, "-o", "/dev/stdout"];
    assert_eq!(run(lab.program(link(lab, "crit"), &words).stdout(out)).code, Some(0));
    assert!(fs::read_to_string(lab.path("out")).unwrap().starts_with("{\"magic\": \"PSTREE\""));
    assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());
}

/// Names with control and format characters, in every text and JSON that crit and inspect print.
fn names(lab: &Lab) {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline");
    let (old, new) = (lab.dir("old"), lab.dir("new"));
    for entry in fs::read_dir(sample).unwrap() {
        let entry = entry.unwrap();
        for to in [&old, &new] {
            fs::copy(entry.path(), Path::new(to).join(entry.file_name())).unwrap();
        }
    }
    let nasty = "\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{9b}2J\x1b[8m\r\ncause: x\ndo: rm";
    let escaped = serde_json::to_string(nasty).unwrap();
    let escaped = escaped.trim_matches('"');
    for (image, key) in [("core-10139", "comm"), ("files", "name"), ("core-10141", "comm")] {
        let image = format!("{new}/{image}.img");
        done(lab, &["decode", "-i", &image, "-o", "json"]);
        let json = fs::read_to_string(lab.path("json")).unwrap();
        let changed = json.replace(&format!("\"{key}\": \""), &format!("\"{key}\": \"{escaped}"));
        assert_ne!(json, changed, "{image}");
        fs::write(lab.path("json"), changed).unwrap();
        done(lab, &["encode", "-i", "json", "-o", &image]);
    }
    fs::write(Path::new(&new).join(format!("{nasty}.img")), "").unwrap();
    let mut said = Vec::new();
    for view in ["ps", "fds", "mems", "rss", "sk", "mounts", "ns", "security"] {
        said.push(crit(lab, &["x", &new, view]));
        said.push(crit(lab, &["x", &new, view, "--json"]));
    }
    said.push(crit(lab, &["x", &new, "ps", "--json", "--env"]));
    said.push(crit(lab, &["seccomp", &new]));
    said.push(crit(lab, &["check", &new]));
    said.push(crit(lab, &["diff", &old, &new]));
    said.push(crit(lab, &["search", &new, "sh"]));
    said.push(crit(lab, &["search", &new, "sh", "--json"]));
    said.push(crit(lab, &["show", &format!("{new}/files.img")]));
    said.push(crit(lab, &["show", &format!("{new}/{nasty}.img")]));
    said.push(crit(lab, &["x", &format!("{new}/{nasty}"), "ps"]));
    said.push(crit(lab, &["core", &new, "-o", &format!("{new}/{nasty}")]));
    said.push(crit(lab, &[nasty]));
    said.push(crit(lab, &["check", &new, nasty]));
    said.push(lab.run(&["inspect", &new]));
    said.push(lab.run(&["inspect", &new, "--json"]));
    said.push(lab.run(&["dump", "-t", nasty]));
    said.push(lab.run(&["dump", nasty]));
    let mut shown = 0;
    for ran in said {
        for text in [&ran.out, &ran.err] {
            let acts = |char: char| char != '\n' && criu_images::Text::hides(char);
            assert!(!text.chars().any(acts), "{ran:?}");
            let forged = |line: &str| line.starts_with("cause: x") || line.starts_with("do: rm");
            assert!(!text.lines().any(forged), "{text}");
            shown += usize::from(text.to_lowercase().contains("u{202e}"));
            shown += usize::from(text.contains("u202e"));
        }
    }
    assert!(shown > 12, "{shown}");
}
