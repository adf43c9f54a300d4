//! `inspect`: sections, several checkpoints, memory and differences.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[("inspect_answers_the_four_questions", questions)];

/// Two dumps of one process, each in an archive as Podman exports it.
fn questions(lab: &Lab) {
    let target = lab.start_with(&["count"], |command| {
        command.env("DB_PASSWORD", "hunter2-of-a-test").env("HARMLESS", "seen")
    });
    let pid = target.pid();
    for name in ["old", "new"] {
        let top = lab.dir(name);
        let images = lab.dir(&format!("{name}/checkpoint"));
        lab.done(&["dump", "-t", &pid, "-D", &images, "--leave-running"]);
        fs::rename(format!("{images}/stats-dump"), format!("{top}/stats-dump")).unwrap();
        fs::write(format!("{images}/descriptors.json"), "[]").unwrap();
        let config = r#"{"id":"abc123","name":"shop","runtime":"runc","rootfsImageName":"img:1"}"#;
        fs::write(format!("{top}/config.dump"), config).unwrap();
        let spec = r#"{"ociVersion":"1","annotations":{"io.container.manager":"libpod",
            "evil":"\u001b[2J\u202e"},"mounts":[{"destination":"/data","source":"/srv"}]}"#;
        lab.dir(&format!("{name}/volumes"));
        fs::write(format!("{top}/volumes/kept.tar"), [0; 1024]).unwrap();
        fs::write(format!("{top}/deleted.files"), r#"["/etc/gone"]"#).unwrap();
        fs::write(format!("{top}/network.status"), NETWORK).unwrap();
        fs::write(format!("{top}/spec.dump"), spec).unwrap();
        fs::write(format!("{top}/stranger"), "").unwrap();
        let tar = ["-cf", &format!("{name}.tar"), "-C", name, "."].map(str::to_owned);
        let made = Command::new("tar").args(tar).current_dir(&lab.dir).status();
        assert!(made.unwrap().success());
        target.goes_on();
    }
    let inspect = |words: &[&str]| lab.done(&[&["inspect"], words].concat()).out;

    // What was running? The unpacked archive says the same.
    let all = inspect(&["old.tar", "--all"]);
    assert!(
        all.starts_with("shop\n├── image: img:1\n├── id: abc123\n├── runtime: runc\n"),
        "{all}"
    );
    assert!(all.contains("├── engine: podman\n") && all.contains("frozen time: "), "{all}");
    assert!(all.contains(&format!("[{pid}] /")) && all.contains("--payload count"), "{all}");
    assert!(all.contains("container: /data\n") && all.contains("[stack]"), "{all}");
    assert!(all.contains("note: stranger: is not a member that the engines write"), "{all}");
    assert!(!all.contains("hunter2") && !all.contains('\u{202e}') && !all.contains('\u{1b}'));
    let unpacked = inspect(&["old", "--ps-tree-cmd", "--files", "--metadata"]);
    assert_eq!(unpacked, inspect(&["old.tar", "--ps-tree-cmd", "--files", "--metadata"]));
    let environment = inspect(&["old.tar", "--ps-tree-env", "--pid", &pid]);
    assert!(environment.contains("─ HARMLESS=seen\n"), "{environment}");
    let below = ["old.tar", "--ps-tree", "--pid", &pid, "--descendants", "--security"];
    let below = inspect(&below);
    assert!(
        below.contains("── user 0; group 0\n") && below.contains("── seccomp off\n"),
        "{below}"
    );
    assert!(all.contains("│   ├── root "), "{all}");
    let tables = inspect(&["old.tar", "--files", "--format", "table"]);
    assert!(tables.contains("\nFILES\nCOMMAND ") && !tables.contains("CONTAINER"), "{tables}");
    let tables = inspect(&["old.tar", "--all", "--format", "table"]);
    for (title, row) in [
        ("CONTAINER", &["name", "shop"][..]),
        ("CONTAINER", &["engine", "podman"]),
        ("NETWORKS", &["podman", "eth0", "0a:58:0a:58:00:05", "10.88.0.1", "10.88.0.5/16"]),
        ("ANNOTATIONS", &["specification", "io.container.manager", "libpod"]),
        ("SIZES", &["1.0", "KiB", "volume", "kept"]),
        ("MOUNTS OF THE CONTAINER", &["-", "/data", "/srv", "-"]),
        ("ROOT FILE SYSTEM", &["deleted", "-", "-", "/etc/gone"]),
    ] {
        let (_, section) = tables.split_once(&format!("\n{title}\n")).unwrap_or_else(|| {
            let start = tables.strip_prefix(&format!("{title}\n"));
            ("", start.unwrap_or_else(|| panic!("no {title}: {tables}")))
        });
        let section = section.split("\n\n").next().unwrap();
        let is_there = section.lines().any(|line| line.split_whitespace().eq(row.iter().copied()));
        assert!(is_there, "{title} {row:?}: {section}");
    }
    let metadata = inspect(&["old.tar", "--metadata", "--format", "table"]);
    assert!(metadata.starts_with("CONTAINER\nFACT ") && !metadata.contains("FILES"), "{metadata}");
    let json = lab.done(&["inspect", "old.tar", "--all", "--json"]).json();
    assert_eq!((&json["schema"], &json["container"]["engine"]), (&1.into(), &"podman".into()));
    assert_eq!(json["processes"][0]["pid"].to_string(), pid);
    assert_eq!(json["open_files"]["tasks"][0]["fds"][0]["path"], "/dev/null");
    // Sections that were not asked for are absent.
    let json = lab.done(&["inspect", "old.tar", "--sockets", "--json"]).json();
    assert!(json["sockets"]["sockets"].is_array() && json.get("mappings").is_none(), "{json}");

    // Several checkpoints, one of which is none.
    let table = inspect(&["old.tar", "new.tar"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().skip(1).all(|line| line.starts_with("shop ")), "{table}");
    assert!(inspect(&["--list", "."]).contains("old.tar"));
    lab.run(&["inspect", "old.tar", "absent.tar"]).fails(1, &["absent.tar: "]);
    lab.run(&["inspect", "old.tar", "new.tar", "--all"]).fails(2, &["several are named"]);
    // Options that could not do anything together.
    for (words, said) in [
        (&["--html", "x", "-o", "y"][..], "--output"),
        (&["--html", "x", "--json"], "--json"),
        (&["--html", "x", "--format", "tree"], "--format"),
        (&["--hexdump", &pid, "--json"], "--json"),
        (&["--hexdump", &pid, "--pid", &pid], "--pid"),
        (&["--context", "8"], "--search"),
        (&["--context", "8", "--secrets"], "--secrets"),
        (&["--search", ""], "--search: "),
        (&["--search-regex", "("], "--search-regex: "),
        (&["--since", "new.tar", "--mounts"], "--mounts: --since does not show"),
        (&["--since", "new.tar", "--all", "--stats"], "--stats: --since does not show"),
        (&["--since", "new.tar", "--format", "table"], "--format table: --since"),
        (&["new.tar", "--pid", &pid], "--pid: is of one checkpoint, and several are named"),
        (&["new.tar", "--secrets"], "a search: is of one checkpoint"),
        (&["new.tar", "--format", "tree"], "--format tree: several checkpoints"),
        (&["--secrets", "--format", "tree"], "--format tree: a search"),
        (&["--secrets", "--files"], "--files: is shown without a search"),
        (&["--html", "x", "--files"], "--files: --html has everything"),
        (&["--html", "x", "--ps-tree-env", "--all"], "--all: --html has everything"),
    ] {
        let ran = lab.run(&[&["inspect", "old.tar"], words].concat());
        // With --json, the fault is on standard output.
        assert!(ran.code == Some(2) && (ran.err + &ran.out).contains(said), "{words:?}");
    }
    let list = ["inspect", "--list", ".", "--format", "tree"];
    lab.run(&list).fails(2, &["--format tree: --list prints a table"]);
    let list = ["inspect", "--list", ".", "--since", "old.tar"];
    lab.run(&list).fails(2, &["--since"]);
    assert!(!fs::exists(lab.path("x")).unwrap() && !fs::exists(lab.path("y")).unwrap());
    assert!(inspect(&["old.tar", "--html", "-"]).starts_with("<!"));
    assert_eq!(inspect(&["old.tar", "--files", "-o", "-"]), inspect(&["old.tar", "--files"]));
    lab.run(&["inspect", "old.tar", "--pid", "1", "--files"]).fails(1, &["no task 1"]);

    // What secrets are in memory?
    let secrets = inspect(&["old.tar", "--secrets"]);
    assert!(secrets.contains("assigned secret: DB_PASSWORD=hunte... (17 bytes)"), "{secrets}");
    assert!(!secrets.contains("hunter2"), "{secrets}");
    assert!(
        inspect(&["old.tar", "--secrets", "--reveal"]).contains("DB_PASSWORD=hunter2-of-a-test")
    );
    let found = inspect(&["old.tar", "--search", "hunter2-of", "--context", "12"]);
    assert!(found.contains("DB_PASSWORD=hunter2-of"), "{found}");
    lab.run(&["inspect", "old.tar", "--search-regex", "never[0-9]said[.]"]).fails(1, &[]);
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    inspect(&["old.tar", "--hexdump", &pid, "-o", "memory.txt"]);
    inspect(&["old.tar", "--html", "page.html"]);
    nix::sys::stat::umask(umask);
    let text = fs::read_to_string(lab.path("memory.txt")).unwrap();
    // The text may go on in the next line.
    let shown = text.lines().filter_map(|line| line.split('|').nth(1)).collect::<String>();
    assert!(shown.contains("DB_PASSWORD=hunter2-of-a-test"));
    assert!(fs::read_to_string(lab.path("page.html")).unwrap().contains("shop"));
    for name in ["memory.txt", "page.html"] {
        let mode = fs::metadata(lab.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }

    // What changed since?
    let since = inspect(&["new.tar", "--since", "old.tar"]);
    assert!(since.starts_with("new.tar since old.tar\n"), "{since}");
    let line = since.lines().find(|line| line.contains(&format!("~ [{pid}] "))).unwrap();
    assert!(line.contains(" differ"), "{since}");
    let same = inspect(&["old.tar", "--since", "old.tar"]);
    assert_eq!(same, "old.tar since old.tar\n└── nothing has changed\n");
}

/// Networks, as Podman writes them.
const NETWORK: &str = r#"{"podman":{"interfaces":{"eth0":{"mac_address":"0a:58:0a:58:00:05",
    "subnets":[{"ipnet":"10.88.0.5/16","gateway":"10.88.0.1"}]}}}}"#;
