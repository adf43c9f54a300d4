//! `pod inspect` and `pod verify`, on the checkpoint of a real process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_archive::UNWATCHED;
use criu_archive::record::{
    Container, File, Holder, Host, Image, Pod, RECORD, Record, Role, State, Tool, ToolKind,
};
use criu_lab::registry::Registry;
use serde_json::Value;

use crate::lab::{Lab, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_pod_s_record_is_shown_and_compared", shown_and_compared),
    ("the_head_of_a_checkpoint_of_gvisor_is_shown", head),
    ("wrong_uses_of_pod_words_are_told", wrong),
];

/// Dumps a process into a directory with a record, as the checkpoint of a pod.
fn checkpoint(lab: &Lab) -> (PathBuf, Record) {
    let directory = PathBuf::from(lab.dir("shop"));
    let images = lab.dir("shop/web");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "-R"]);
    target.goes_on();
    let version = lab.version.to_string();
    let mut record = Record::new("test 1");
    record.pod = Some(Pod::new("shop", "default", "1234-5678"));
    record.host = Some(Host::here());
    record.shared_namespaces = vec!["net".into()];
    let mut tool = Tool::new(ToolKind::Criu, version);
    tool.arguments = vec!["--leave-running".into()];
    let mut web = Container::new("web", "aa11", tool);
    web.image = Image::new("docker.io/library/web:1", "sha256:5566");
    let holder = Holder::open(&directory).unwrap();
    for (path, is_file) in holder.files().unwrap() {
        assert!(is_file, "{path}");
        let role = if path.contains("pages-") { Role::Pages } else { Role::Image };
        web.files.push(File::measured(&holder, path, role, UNWATCHED).unwrap());
    }
    assert!(web.files.len() > 10, "{web:?}");
    record.containers.push(web);
    record.state.advance(State::Complete).unwrap();
    record.write(&directory).unwrap();
    (directory, record)
}

/// Severities and texts of the findings.
fn findings(json: &Value) -> Vec<(String, String)> {
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let all = json["findings"].as_array().unwrap().iter();
    all.map(|finding| (text(finding, "severity"), text(finding, "text"))).collect()
}

fn shown_and_compared(lab: &Lab) {
    let (directory, mut record) = checkpoint(lab);
    let shown = lab.done(&["pod", "inspect", "shop"]).out;
    let version = lab.version.to_string();
    for said in [
        "pod           shop in default, uid 1234-5678\n",
        "state         complete\n",
        "shared        net\n",
        "container     web, aa11\n",
        &format!("  tool        criu {version}\n"),
        "  arguments   --leave-running\n",
        "  image       docker.io/library/web:1 sha256:5566\n",
        "web/inventory.img: ",
        &format!("machine       {}: Linux ", Host::here().name),
    ] {
        assert!(shown.contains(said), "no {said:?} in {shown}");
    }
    let json = lab.done(&["pod", "inspect", "shop", "--json"]).json();
    let bytes: u64 = record.all_files().map(|file| file.size.unwrap()).sum();
    assert_eq!((&json["kind"], &json["bytes"]), (&"directory".into(), &bytes.into()));
    assert_eq!(json["record"], serde_json::to_value(&record).unwrap());

    let good = lab.done(&["pod", "verify", "shop"]).out;
    assert_eq!(good, "nothing stands against a restore here\n");
    // An archive of the directory, plain, packed and encrypted.
    let tar = |options: &str, name: &str| {
        let mut command = Command::new("tar");
        let done = command.args([options, name, "shop"]).current_dir(&lab.dir).status();
        assert!(done.unwrap().success());
    };
    tar("-cf", "shop.tar");
    tar("-czf", "shop.tar.gz");
    fs::write(lab.path("pass"), "words of a test\n").unwrap();
    let pass = ["--passphrase-file", "pass"];
    lab.done(&[&["archive", "encrypt", "shop.tar", "shop.age"], &pass[..]].concat());
    let server = Registry::start(lab.dir("server").as_ref());
    let image = server.name("shop:v1");
    lab.done(&["push", "shop.tar", &image]);
    for (name, key) in
        [("shop.tar", &[][..]), ("shop.tar.gz", &[]), ("shop.age", &pass), (&image, &[])]
    {
        let json = lab.done(&[&["pod", "verify", name, "--json"], key].concat());
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!((&json["outcome"], findings(&json)), (&"done".into(), vec![]), "{name}");
        let json = lab.done(&[&["pod", "inspect", name, "--json"], key].concat());
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["kind"], "archive");
        assert_eq!(json["record"], serde_json::to_value(&record).unwrap());
    }

    // A check that was not made is told.
    let host = record.host.take();
    record.write(&directory).unwrap();
    let ran = lab.done(&["pod", "verify", "shop"]);
    let unknown = "note: the record says nothing of the machine of the checkpoint: ";
    assert!(ran.out.starts_with(unknown), "{ran:?}");
    assert!(ran.out.ends_with("\nnothing found; see above what was not compared\n"), "{ran:?}");
    record.host = host;

    // A newer CRIU made it, and another pages file is there.
    record.containers[0].tool.version = "99.1".to_owned();
    record.write(&directory).unwrap();
    let pages = fs::read_dir(directory.join("web")).unwrap().map(|entry| entry.unwrap().path());
    let pages = { pages }.find(|path| path.to_string_lossy().contains("pages-")).unwrap();
    let mut bytes = fs::read(&pages).unwrap();
    bytes[100] ^= 1;
    fs::write(&pages, bytes).unwrap();
    let ran = lab.run(&["pod", "verify", "shop"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let newer = format!(
        "error: container web: criu 99.1 made the checkpoint, {version} is here; that version or \
         a newer one is wanted\n    do: install criu 99.1 or newer\n"
    );
    assert!(ran.out.starts_with(&newer), "{ran:?}");
    assert!(ran.out.contains("the record says "), "{ran:?}");
    assert!(ran.out.ends_with("2 errors stand against a restore here\n"), "{ran:?}");
    let ran = lab.run(&["pod", "verify", "shop", "--json"]);
    assert_eq!((ran.code, &ran.json()["outcome"]), (Some(1), &"failed".into()));
    assert_eq!(findings(&ran.json()).len(), 2);
    // The archive is as it was, and no criu is found here.
    let without = || {
        let mut command = lab.command(&["pod", "verify", "shop.tar"]);
        command.env_remove("CRIU").env("PATH", lab.path("none"));
        command
    };
    let ran = run(without());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("criu made the checkpoint, and is not found here"), "{ran:?}");
    let tool = format!("criu={}", lab.criu.display());
    let ran = run(without().args(["--tool", &tool]));
    assert_eq!((ran.code, &*ran.out), (Some(0), "nothing stands against a restore here\n"));
}

/// The head of a state file of gVisor, made by its description. Tests of the engines have real
/// ones.
fn head(lab: &Lab) {
    let directory = PathBuf::from(lab.dir("gvisor"));
    let map = br#"{"compression":"none","container_count":"2","x":"\u001b[2J"}"#;
    let head = [&b"gVisorSF"[..], &(map.len() as u64).to_be_bytes(), map, b"state"].concat();
    fs::write(directory.join("checkpoint.img"), head).unwrap();
    let holder = Holder::open(&directory).unwrap();
    let mut record = Record::new("test 1");
    let tool = Tool::new(ToolKind::Runsc, "0.0~20240729.0");
    record.containers = ["web", "db"].map(|name| Container::new(name, name, tool.clone())).into();
    let measured = File::measured(&holder, "checkpoint.img", Role::Image, UNWATCHED);
    record.files.push(measured.unwrap());
    record.state = State::Complete;
    record.write(&directory).unwrap();
    let shown = lab.done(&["pod", "inspect", "gvisor"]).out;
    let expected =
        "\nhead          checkpoint.img\n  of          runsc\n  says        compression: none\n";
    assert!(shown.contains(expected), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let json = lab.done(&["pod", "inspect", "gvisor", "--json"]).json();
    assert_eq!(
        (&json["heads"][0]["tool"], json["heads"].as_array().unwrap().len()),
        (&"runsc".into(), 1)
    );
    let tool = format!("runsc={}", criu_lab::place::runsc().display());
    lab.done(&["pod", "verify", "gvisor", "--tool", &tool]);
    // Only the very version restores it.
    record.containers[1].tool.version = "0.0~20230101.0".to_owned();
    record.write(&directory).unwrap();
    let ran = lab.run(&["pod", "verify", "gvisor", "--tool", &tool]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let said = "error: container db: runsc 0.0~20230101.0 made the checkpoint, 0.0~20240729.0 is \
                here; exactly that version is wanted\n    do: install runsc 0.0~20230101.0\n";
    assert!(ran.out.starts_with(said), "{ran:?}");
}

fn wrong(lab: &Lab) {
    let directory = PathBuf::from(lab.dir("shop"));
    for word in ["inspect", "verify"] {
        lab.run(&["pod", word, "none"]).fails(1, &["none: ", "No such file"]);
        lab.run(&["pod", word, "shop"]).fails(1, &["shop: criu-record.json: is missing"]);
        lab.run(&["pod", word]).fails(2, &["<DIR|ARCHIVE>"]);
    }
    lab.run(&["pod", "verify", "shop", "--tool", "lxc=/x"]).fails(2, &["KIND is criu, runsc"]);
    lab.run(&["pod", "frob"]).fails(2, &["frob"]);
    let path = directory.join("\u{1b}[2J");
    let json = r#"{"version":1,"state":"x\u001b[2J","containers":[{"name":"a\u001b[2J","tool":
        {"kind":"k\u001b[2J"},"files":[{"path":"\u001b[2J","role":"\u001b[2J","size":1}]}]}"#;
    fs::write(directory.join(RECORD), json).unwrap();
    fs::write(path, b"12").unwrap();
    for word in ["inspect", "verify"] {
        for form in [&[][..], &["--json"]] {
            let ran = lab.run(&[&["pod", word, "shop"], form].concat());
            assert_eq!(ran.code, Some(i32::from(word == "verify")), "{ran:?}");
            let is_steering = |char: char| char.is_control() && char != '\n';
            assert!(!ran.out.contains(is_steering) && ran.err.is_empty(), "{ran:?}");
        }
    }
    fs::write(directory.join(RECORD), json.replace("\"version\":1", "\"version\":2")).unwrap();
    lab.run(&["pod", "verify", "shop"]).fails(1, &["is 0x2, wanted 1, the version of the record"]);
    assert!(Path::new(&directory).is_dir());
}
