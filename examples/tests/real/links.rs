//! Links named after words, versions, usage errors, completions and manual pages.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::names;

use crate::lab::{Lab, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("links_are_made_once_and_for_all_words", made),
    ("links_replace_nothing_else", replace_nothing),
    ("every_word_has_a_link_that_is_it", called),
    ("a_link_named_after_criu_s_own_word_is_handed_over", handed_over),
    ("every_word_has_a_version", version),
    ("usage_errors_have_one_style", usage),
    ("bash_completes_words_and_options", bash),
    ("completions_for_other_shells", other_shells),
    ("manual_pages_are_rendered", man),
];

/// A link to the program, with the name of a word.
pub fn link(lab: &Lab, word: &str) -> String {
    // Beside the test's own directory, which some tests list.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("links");
    fs::create_dir_all(&dir).unwrap();
    lab.done(&["links", dir.to_str().unwrap()]);
    dir.join(word).into_os_string().into_string().unwrap()
}

/// A program that shows the library.
pub fn example(name: &str) -> String {
    let path = Path::new(PROGRAM).with_file_name("examples").join(name);
    assert!(path.is_file(), "no {}: run `cargo build -p criu-cli --examples`", path.display());
    path.into_os_string().into_string().unwrap()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-rs");

/// Words that have a link.
const LINKED: &[&str] = &[
    "archive",
    "check",
    "container",
    "crit",
    "dump",
    "inspect",
    "lazy-pages",
    "page-server",
    "pre-dump",
    "preflight",
    "pull",
    "push",
    "restore",
    "start",
];

/// Words that criu has, too.
const CRIU_S: &[&str] = &["check", "dump", "lazy-pages", "page-server", "pre-dump", "restore"];

/// Words about the program itself.
const OWN: &[&str] = &["links", "completions", "man"];

fn made(lab: &Lab) {
    let program = fs::canonicalize(PROGRAM).unwrap();
    let (absolute, relative) = (lab.dir("absolute"), lab.dir("relative"));
    let ran = lab.done(&["links", &absolute]);
    assert_eq!(names(&absolute), LINKED);
    for word in LINKED {
        assert_eq!(fs::read_link(format!("{absolute}/{word}")).unwrap(), program);
        assert!(ran.out.contains(&format!("{absolute}/{word} -> {}\n", program.display())));
    }
    assert_eq!(ran.out.lines().count(), LINKED.len(), "{ran:?}");
    // Again, now relative, also in place of what is there, and with the name of criu.
    lab.done(&["links", "--relative", &relative]);
    lab.done(&["links", "--relative", "--as-criu", &relative]);
    assert_eq!(names(&relative).len(), LINKED.len() + 1);
    for word in LINKED.iter().chain(&["criu"]) {
        let path = PathBuf::from(format!("{relative}/{word}"));
        let target = fs::read_link(&path).unwrap();
        assert!(target.is_relative(), "{target:?}");
        assert_eq!(fs::canonicalize(path).unwrap(), program);
    }
    let said = lab.done(&["links", "--json", &absolute]).json();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["links"].as_array().unwrap().len(), LINKED.len());
    // One whose program is gone, as after a move.
    fs::remove_file(format!("{absolute}/crit")).unwrap();
    symlink("/gone/criu-rs", format!("{absolute}/crit")).unwrap();
    lab.done(&["links", &absolute]);
    assert_eq!(fs::read_link(format!("{absolute}/crit")).unwrap(), program);
}

fn replace_nothing(lab: &Lab) {
    let dir = lab.dir("taken");
    fs::write(format!("{dir}/dump"), "mine").unwrap();
    symlink("/bin/true", format!("{dir}/crit")).unwrap();
    symlink("/gone/crit", format!("{dir}/restore")).unwrap();
    let ran = lab.run(&["links", &dir]);
    ran.fails(1, &["criu-rs links: no link is made", "/dump", "/crit", "/restore"]);
    assert_eq!(names(&dir), ["crit", "dump", "restore"]);
    assert_eq!(fs::read_to_string(format!("{dir}/dump")).unwrap(), "mine");
    lab.run(&["links", "/no/such"]).fails(1, &["criu-rs links: cannot make a link at /no/such"]);
    lab.run(&["links"]).fails(2, &["<DIR>", "`criu-rs links --help`"]);
}

fn called(lab: &Lab) {
    for word in LINKED {
        let link = link(lab, word);
        let by_name = run(lab.program(&link, &["--help"]));
        assert_eq!(by_name.code, Some(0), "{by_name:?}");
        let by_word = lab.done(&[word, "--help"]);
        let usage = format!("Usage: {word} ");
        assert!(by_name.out.contains(&usage), "{word}: {by_name:?}");
        assert!(by_word.out.contains(&format!("Usage: criu-rs {word} ")), "{word}: {by_word:?}");
        // An error begins with the name that the program was called by.
        let wrong = run(lab.program(&link, &["--frob"]));
        let code = if CRIU_S.contains(word) { 1 } else { 2 };
        wrong.fails(code, &[&format!("{word}: unknown option `--frob`\n")]);
    }
    // A copy of another name is criu-rs.
    let other = lab.path("other");
    symlink(PROGRAM, &other).unwrap();
    run(lab.program(&other, &["frob"])).fails(1, &["criu-rs: unknown word `frob`"]);
}

fn handed_over(lab: &Lab) {
    let images = lab.dir("img");
    let link = lab.path("cpuinfo");
    symlink(PROGRAM, &link).unwrap();
    let ran = run(lab.program(&link, &["dump", "-D", &images]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(names(&images).contains(&"cpuinfo.img".into()));
    // Help does not promise what is not built.
    let help = lab.done(&["--help"]).out;
    let (own, handed) = help.split_once("Not built in").unwrap();
    assert!(own.contains("  page-server ") && !own.contains("  service "), "{help}");
    assert!(handed.contains("  service "), "{help}");
}

fn version(lab: &Lab) {
    let own = concat!("criu-rs ", env!("CARGO_PKG_VERSION"), "\n");
    let criu_s = run(lab.program(&lab.criu, &["--version"])).out;
    assert!(criu_s.starts_with(&format!("Version: {}\n", lab.version)), "{criu_s}");
    for word in LINKED.iter().chain(OWN) {
        for option in ["--version", "-V"] {
            let ran = lab.done(&[word, option]);
            // Words that take criu's options tell its version as criu does.
            let tells = CRIU_S.contains(word) || ["preflight", "start"].contains(word);
            let (out, err) = if tells { (&*criu_s, own) } else { (own, "") };
            assert_eq!((&*ran.out, &*ran.err), (out, err), "{word}");
        }
    }
    let inner = lab.done(&["crit", "x", "--version"]);
    assert_eq!(inner.out, own);
    for words in [&["--version"][..], &["-V"], &["-V", "--criu", &lab.criu.to_string_lossy()]] {
        let all = lab.done(words);
        assert_eq!((&*all.out, &*all.err), (&*criu_s, own), "{words:?}");
    }
    let without = run(lab.command(&["--version"]).env_remove("CRIU").env("PATH", "/nowhere"));
    assert_eq!((without.code, &*without.out), (Some(0), own));
}

fn usage(lab: &Lab) {
    for word in LINKED.iter().chain(OWN) {
        let ran = lab.run(&[word, "--frob"]);
        let code = if CRIU_S.contains(word) { 1 } else { 2 };
        let start = format!("criu-rs {word}: unknown option `--frob`\n");
        assert!(ran.code == Some(code) && ran.out.is_empty(), "{word}: {ran:?}");
        assert_eq!(ran.err, format!("{start}`criu-rs {word} --help` shows how it is used\n"));
    }
    for (words, said) in [
        (&["crit", "frob"][..], "criu-rs crit: unknown word `frob`\n"),
        (&["crit", "check", "a", "b"], "criu-rs crit check: unexpected `b`\n"),
        (&["container", "restore", "c"], "criu-rs container restore: "),
        (&["archive", "list", "a", "b"], "criu-rs archive list: unexpected `b`\n"),
        (&["page-server", "--port", "0"], "criu-rs page-server: invalid value '0'"),
        (&["dump", "-t", "1", "2"], "criu-rs dump: unexpected `2`\n"),
        (&["dump"], "criu-rs dump: "),
        (&["man", "frob"], "criu-rs man: unknown word `frob`\n"),
        (&["completions", "tcsh"], "criu-rs completions: invalid value 'tcsh'"),
        (&["completions", "bash", "frob"], "criu-rs completions: unknown word `frob`\n"),
        (&["frob"], "criu-rs: unknown word `frob`\n"),
    ] {
        let ran = lab.run(words);
        let code = if CRIU_S.contains(&words[0]) || words == ["frob"] { 1 } else { 2 };
        assert!(ran.code == Some(code) && ran.out.is_empty(), "{words:?}: {ran:?}");
        assert!(ran.err.starts_with(said), "{words:?}: {ran:?}");
        let pointer = ran.err.lines().last().unwrap();
        assert!(pointer.ends_with("--help` shows how it is used"), "{words:?}: {ran:?}");
    }
    // As JSON for whoever reads that.
    let said = lab.run(&["container", "restore", "--json"]).json();
    assert_eq!((said["outcome"].as_str(), said["exit_code"].as_u64()), (Some("usage"), Some(2)));
}

/// The script is loaded into a real bash, which completes as it does for a person.
fn bash(lab: &Lab) {
    let complete = |load: &str, words: &[&str]| {
        let script = format!(
            "{load}\ncomplete -p \"$1\" || exit 9\ncommand=$1; shift\n\
             COMP_WORDS=(\"$command\" \"$@\"); COMP_CWORD=$#\n\
             spec=$(complete -p \"$command\"); function=${{spec#*-F }}; function=${{function%% *}}\n\
             \"$function\" \"$command\" \"${{@: -1}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script, "bash"]).args(words).env("PROGRAM", PROGRAM);
        let ran = run(&mut bash);
        assert!(ran.code == Some(0) && ran.err.is_empty(), "{ran:?}");
        ran.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let whole = "source <(\"$PROGRAM\" completions bash)";
    let words = complete(whole, &["criu-rs", ""]);
    assert!(words[0].starts_with("complete ") && words[0].ends_with(" criu-rs"), "{words:?}");
    for word in LINKED.iter().chain(OWN).chain(&["service"]) {
        assert!(words.iter().any(|found| found == word), "no {word}: {words:?}");
    }
    assert_eq!(complete(whole, &["criu-rs", "pre"])[1..], ["pre-dump", "preflight"]);
    assert_eq!(complete(whole, &["criu-rs", "dump", "--leave-r"])[1..], ["--leave-running"]);
    assert_eq!(complete(whole, &["criu-rs", "crit", "se"])[1..], ["search", "seccomp"]);
    // What has no effect, or is for scripts only, is not offered.
    let options = complete(whole, &["criu-rs", "restore", "--"]);
    assert!(!options.iter().any(|option| option == "--tree" || option == "--daemon"));
    // For a link.
    let link = "source <(\"$PROGRAM\" completions bash dump)";
    assert_eq!(complete(link, &["dump", "--tcp-e"])[1..], ["--tcp-established"]);
    drop(lab.done(&["completions", "--help"]));
}

fn other_shells(lab: &Lab) {
    let zsh = lab.done(&["completions", "zsh"]).out;
    assert!(zsh.starts_with("#compdef criu-rs\n") && zsh.contains("--leave-running"), "{zsh}");
    let fish = lab.done(&["completions", "fish"]).out;
    assert!(fish.contains("complete -c criu-rs") && fish.contains("page-server"), "{fish}");
}

/// `man` shows each page, and has nothing to complain of.
fn man(lab: &Lab) {
    let dir = lab.dir("man1");
    lab.done(&["man", &dir]);
    let pages = names(&dir);
    for page in [
        "criu-rs.1",
        "criu-cri-proxy.1",
        "criu-rs-dump.1",
        "criu-rs-crit.1",
        "criu-rs-crit-search.1",
    ] {
        assert!(pages.contains(&page.to_owned()), "no {page}: {pages:?}");
    }
    for page in &pages {
        let path = format!("{dir}/{page}");
        let mut groff = Command::new("groff");
        let ran = run(groff.args(["-man", "-Tutf8", "-ww", "-P-cbou", &path]));
        assert!(ran.code == Some(0) && ran.err.is_empty(), "{page}: {ran:?}");
        let title = page.trim_end_matches(".1");
        assert!(ran.out.starts_with(title), "{page}: {}", ran.out);
        assert!(ran.out.contains("NAME") && ran.out.contains("SYNOPSIS"), "{page}: {}", ran.out);
    }
    let one = lab.done(&["man", "dump"]).out;
    assert_eq!(one, fs::read_to_string(format!("{dir}/criu-rs-dump.1")).unwrap());
    assert!(one.contains("Saves a process and all its descendants") && one.contains("tcp"));
    assert!(lab.done(&["man"]).out.contains("criu\\-rs"));
}
