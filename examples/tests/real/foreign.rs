//! Options that criu accepts for any word: each is given to the real criu and to this program.

use std::fs;

use criu_rs::Version;
use nix::sys::signal::Signal;

use crate::lab::{Lab, Ran, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("the_table_has_every_option_of_criu", complete),
    ("options_are_accepted_as_criu_accepts_them", accepted),
    ("values_are_read_in_the_forms_that_scripts_write", forms),
    ("options_are_refused_as_criu_refuses_them", refused),
    ("a_restore_takes_the_options_of_the_dump", restore),
    ("a_dump_takes_the_options_of_the_restore", dump),
    ("the_note_is_for_people", note),
    ("leave_running_undoes_leave_stopped", last_wins),
];

/// An option of criu, and a value that criu takes; `?` before the value if it may be missing.
struct Row {
    long: &'static str,
    short: &'static str,
    value: &'static str,
    /// Marks an option that CRIU 4.1.1 does not have.
    is_new: bool,
}

const fn old(long: &'static str, short: &'static str, value: &'static str) -> Row {
    Row { long, short, value, is_new: false }
}

const fn new(long: &'static str, short: &'static str, value: &'static str) -> Row {
    Row { long, short, value, is_new: true }
}

const OPTIONS: &[Row] = &[
    old("action-script", "", "/bin/true"),
    old("address", "", "192.0.2.1"),
    old("all", "", ""),
    new("allow-uprobes", "", ""),
    old("auto-dedup", "", ""),
    old("cgroup-dump-controller", "", "memory"),
    old("cgroup-props", "", "{}"),
    old("cgroup-props-file", "", "/dev/null"),
    old("cgroup-root", "", "memory:/new"),
    old("cgroup-yard", "", "/tmp"),
    old("close", "", "77"),
    new("compress", "c", ""),
    new("compress-acceleration", "", "2"),
    new("compress-block", "", "64K"),
    old("config", "", "/dev/null"),
    old("cpu-cap", "", "?none"),
    old("daemon", "", ""),
    new("decompress-threads", "", "2"),
    old("deprecated", "", ""),
    old("display-stats", "", ""),
    old("empty-ns", "", "net"),
    old("enable-external-masters", "", ""),
    old("enable-external-sharing", "", ""),
    old("enable-fs", "", "hugetlbfs"),
    old("evasive-devices", "", ""),
    old("exec-cmd", "", ""),
    old("experimental", "", ""),
    old("ext-mount-map", "M", "/data:data"),
    old("ext-unix-sk", "x", "?4711"),
    old("external", "", "dev[1/2]:x"),
    old("extra", "", ""),
    old("feature", "", "mnt_id"),
    old("file-locks", "l", ""),
    old("file-validation", "", "filesize"),
    old("force-irmap", "", ""),
    old("freeze-cgroup", "", "/tmp"),
    old("ghost-fiemap", "", ""),
    old("ghost-limit", "", "500M"),
    old("help", "h", ""),
    new("image-io-mode", "", "direct"),
    old("images-dir", "D", "img"),
    old("inherit-fd", "", "fd[0]:tty[1:2]"),
    old("irmap-scan-path", "", "/tmp"),
    old("join-ns", "J", "uts:/proc/self/ns/uts"),
    old("lazy-pages", "", ""),
    old("leave-running", "R", ""),
    old("leave-stopped", "s", ""),
    old("libdir", "L", "/tmp"),
    old("link-remap", "", ""),
    old("log-file", "o", "some.log"),
    old("log-pid", "", ""),
    old("lsm-mount-context", "", "system_u:object_r:x:s0"),
    old("lsm-profile", "", "apparmor:x"),
    old("manage-cgroups", "", "?soft"),
    old("mntns-compat-mode", "", ""),
    old("ms", "", ""),
    old("network-lock", "", "none"),
    old("no-default-config", "", ""),
    old("page-server", "", ""),
    old("pidfile", "", "pid"),
    new("plugin-option", "", "p.n=1"),
    old("port", "", "9"),
    old("pre-dump-mode", "", "read"),
    old("prev-images-dir", "", "../img"),
    old("ps-socket", "", "0"),
    old("restore-detached", "d", ""),
    old("restore-sibling", "S", ""),
    old("root", "r", "/"),
    old("shell-job", "j", ""),
    old("skip-file-rwx-check", "", ""),
    old("skip-in-flight", "", ""),
    old("skip-mnt", "", "/data"),
    old("status-fd", "", "1"),
    old("stream", "", ""),
    old("tcp-close", "", ""),
    old("tcp-established", "", ""),
    old("timeout", "", "20"),
    old("tls", "", ""),
    old("tls-cacert", "", "ca.pem"),
    old("tls-cacrl", "", "crl.pem"),
    old("tls-cert", "", "cert.pem"),
    old("tls-key", "", "key.pem"),
    old("tls-no-cn-verify", "", ""),
    old("track-mem", "", ""),
    old("tree", "t", "2147483646"),
    old("unprivileged", "", ""),
    old("verbosity", "v", "?4"),
    old("version", "V", ""),
    old("veth-pair", "", "eth0=veth1"),
    old("weak-sysctls", "", ""),
    old("work-dir", "W", "work"),
];

/// Words that both programs have, with options that make them end at once.
const WORDS: &[(&str, &[&str])] = &[
    ("dump", &["-t", "2147483646"]),
    ("pre-dump", &["-t", "2147483646"]),
    ("restore", &[]),
    ("check", &[]),
    ("page-server", &["--address", "192.0.2.1", "--port", "9"]),
];

/// Options that end the program, or depend on the machine or on each other. Tests of their words
/// have them, and the tests below.
const APART: &[&str] = &[
    "compress",
    "compress-acceleration",
    "compress-block",
    "daemon",
    "exec-cmd",
    "help",
    "lazy-pages",
    "ms",
    "page-server",
    "restore-sibling",
    "stream",
    "tls",
    "track-mem",
    "unprivileged",
    "version",
];

/// Options that only the words of the second list take.
const BOUND: &[(&str, &[&str])] = &[
    ("inherit-fd", &["restore"]),
    ("mntns-compat-mode", &["restore"]),
    ("exec-cmd", &["restore"]),
    ("stream", &["dump", "restore"]),
];

fn known(lab: &Lab) -> impl Iterator<Item = &'static Row> {
    let is_new = lab.version >= Version::new(4, 3, 0);
    OPTIONS.iter().filter(move |row| is_new || !row.is_new)
}

impl Row {
    fn fits(&self, word: &str) -> bool {
        let bound = BOUND.iter().find(|(option, _)| *option == self.long);
        bound.is_none_or(|(_, words)| words.contains(&word)) && !APART.contains(&self.long)
    }

    fn value(&self) -> &str {
        self.value.trim_start_matches('?')
    }

    /// `--name=value`
    fn joined(&self) -> Vec<String> {
        let value = self.value();
        vec![format!("--{}{}{value}", self.long, if value.is_empty() { "" } else { "=" })]
    }

    /// `--name value`, without a value that may be missing.
    fn apart(&self) -> Vec<String> {
        let mut words = vec![format!("--{}", self.long)];
        if !self.value.is_empty() && !self.value.starts_with('?') {
            words.push(self.value.into());
        }
        words
    }

    /// `-nvalue`
    fn letter(&self) -> Vec<String> {
        let has_letter = !self.short.is_empty();
        has_letter.then(|| format!("-{}{}", self.short, self.value())).into_iter().collect()
    }
}

fn real(lab: &Lab, words: &[String]) -> Ran {
    places(lab);
    run(lab.program(&lab.criu, &words.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn ours(lab: &Lab, words: &[String]) -> Ran {
    places(lab);
    lab.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Tells if the real criu takes a command line: it complains of something else, if of anything.
fn takes(ran: &Ran) -> bool {
    let complaints = ["Error (criu/config.c", "Error (criu/crtools.c", "Usage:", "unrecognized"];
    let said = format!("{}{}", ran.out, ran.err);
    !complaints.iter().any(|complaint| said.contains(complaint))
}

/// Makes the directories that options name, without what the last run has left there.
fn places(lab: &Lab) {
    for dir in ["img", "work"].map(|name| lab.path(name)) {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
    }
}

fn complete(lab: &Lab) {
    let said = real(lab, &["--help".into()]);
    let help = format!("{}{}", said.out, said.err);
    let mut found: Vec<String> = Vec::new();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    for part in help.split("--").skip(1) {
        found.push(part.split(|c| !is_name(c)).next().unwrap().to_owned());
    }
    // getopt lists the names that begin with a letter, also those that help leaves out.
    for letter in 'a'..='z' {
        let said = real(lab, &["restore".into(), format!("--{letter}")]).err;
        let Some((_, names)) = said.split_once("possibilities: ") else { continue };
        let names = names.lines().next().unwrap().split(' ');
        found.extend(names.map(|name| name.trim_matches('\'')[2..].to_owned()));
    }
    found.sort();
    found.dedup();
    assert!(found.len() > 80, "{found:?}");
    let rows: Vec<&str> = known(lab).map(|row| row.long).collect();
    for name in found.iter().filter(|name| !name.is_empty() && *name != "no-") {
        let plain = name.strip_prefix("no-").unwrap_or(name);
        assert!(rows.contains(&name.as_str()) || rows.contains(&plain), "--{name} is new");
    }
    for row in known(lab) {
        let is_known = found.iter().any(|name| name == row.long);
        assert!(is_known, "--{} is not criu's", row.long);
    }
}

/// Gives all options at once, in each form that people write them in.
fn accepted(lab: &Lab) {
    type Form = fn(&Row) -> Vec<String>;
    let forms: [Form; 3] = [Row::joined, Row::apart, Row::letter];
    for (word, rest) in WORDS.iter().chain(&[("preflight", &["-t", "2147483646"][..])]) {
        for form in forms {
            let line = |rows: &[&Row]| -> Vec<String> {
                let options = rows.iter().flat_map(|row| form(row));
                let start = [(*word).to_owned(), "-D".into(), "img".into()];
                let rest = rest.iter().map(|word| (*word).to_owned());
                start.into_iter().chain(options).chain(rest).collect()
            };
            let rows: Vec<&Row> = known(lab).filter(|row| row.fits(word)).collect();
            assert!(rows.len() > 60);
            let check = |rows: &[&Row]| {
                let line = line(rows);
                let real = (*word != "preflight").then(|| real(lab, &line));
                let ours = ours(lab, &line);
                let is_taken = real.as_ref().is_none_or(takes);
                (is_taken && matches!(ours.code, Some(0 | 1)), format!("{real:?}\n{ours:?}"))
            };
            let (is_done, said) = check(&rows);
            if !is_done {
                for row in &rows {
                    let (is_done, said) = check(&[row]);
                    assert!(is_done, "{word} {:?}: {said}", form(row));
                }
                panic!("{word}, all together: {said}");
            }
            let note = ours(lab, &line(&rows)).err;
            let end = format!(" no effect on {word}");
            let notes = note.lines().filter(|line| line.ends_with(&end));
            assert!(notes.count() == 1, "{word}: {note}");
        }
    }
}

/// Gives values in forms that scripts write, and switches that undo nothing.
fn forms(lab: &Lab) {
    for given in [
        &["--tree", " 7 "][..],
        &["--port", " 9"],
        &["--status-fd", " 1"],
        &["--timeout", "20 "],
        &["--ghost-limit", "500MB"],
        &["--ghost-limit", "1 M"],
        &["--cpu-cap=cpu,"],
        &["--cpu-cap=^cpu^fpu"],
        &["--cpu-cap="],
        &["-verbosity=0"],
        &["--verbosity=x"],
        &["--no-stream"],
        &["--no-mntns-compat-mode"],
        &["--no-restore-sibling", "--no-daemon"],
        &["-sRjl"],
    ] {
        let words = [&["check", "-D", "img"], given].concat();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (real, ours) = (real(lab, &words), ours(lab, &words));
        assert!(takes(&real) && real.code == Some(0), "{words:?}: {real:?}");
        assert_eq!(ours.code, Some(0), "{words:?}: {ours:?}");
    }
}

fn refused(lab: &Lab) {
    let both = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (real, ours) = (real(lab, &words), ours(lab, &words));
        let says = format!("{words:?}: {real:?}\n{ours:?}");
        assert!(!takes(&real) && real.code == Some(1) && ours.code == Some(1), "{says}");
        assert!(ours.err.starts_with("criu-rs "), "{says}");
    };
    for (word, rest) in WORDS {
        let start = [&[*word, "-D", "img"][..], rest].concat();
        let refuse = |more: &[&str]| both(&[&start[..], more].concat());
        refuse(&["--frob"]);
        refuse(&["--ms"]);
        refuse(&["--manage-cgroups="]);
        refuse(&["--tree", "abc"]);
        refuse(&["--port"]);
        refuse(&["--leave-running=yes"]);
        refuse(&["--restore-sibling"]);
        refuse(&["--join-ns", "frob:1"]);
        refuse(&["--empty-ns", "pid"]);
        refuse(&["--network-lock", "frob"]);
        for (option, words) in BOUND.iter().filter(|(_, words)| !words.contains(word)) {
            let row = OPTIONS.iter().find(|row| row.long == *option).unwrap();
            let option = row.joined();
            let command: &[&str] = if row.long == "exec-cmd" { &["--", "true"] } else { &[] };
            refuse(&[&[option[0].as_str()], command].concat());
            assert!(!words.contains(word));
        }
    }
    both(&["pre-dump", "-D", "img", "-t", "2147483646", "--lazy-pages"]);
    // Switches of its own that criu does not have are not taken for others' words.
    lab.coded(&["restore", "--capture", "1G"]).fails(2, &["--capture is an option of dump"]);
}

/// Gives the options of a dump to restores of a real process.
fn restore(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    for given in [
        &["--ghost-limit=500M"][..],
        &["--skip-in-flight"],
        &["--leave-running"],
        &["--timeout", "20"],
        &["--force-irmap"],
        &["--network-lock", "skip"],
        &["--address", "127.0.0.1", "--port", "9"],
        &["-t", "1"],
        &["--page-server", "--ps-socket", "0", "--track-mem"],
        &["--compress", "--compress-acceleration", "2", "--tls", "--tls-key=key.pem"],
        &["--freeze-cgroup", "/tmp", "--cgroup-props", "{}", "--feature", "mnt_id", "--all"],
    ] {
        let ran = lab.done(&[&["restore", "-D", &images, "-d"][..], given].concat());
        let notes: Vec<&str> = ran.err.lines().filter(|l| l.contains("no effect")).collect();
        assert!(notes.len() == 1, "{given:?}: {ran:?}");
        for option in given.iter().filter(|word| word.starts_with("--")) {
            let name = option.split('=').next().unwrap();
            assert!(
                notes[0].contains(name) && notes[0].starts_with("criu-rs restore: "),
                "{ran:?}"
            );
        }
        target.goes_on();
        target.signal(Signal::SIGKILL);
        target.is_gone();
    }
}

/// Gives the options of a restore to dumps of a real process.
fn dump(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    for given in [
        &["-d"][..],
        &["--root", "/"],
        &["--weak-sysctls"],
        &["--skip-file-rwx-check"],
        &["--pidfile", "pid", "--no-restore-detached"],
        &["--port", "9", "--address", "127.0.0.1"],
        &["--ps-socket", "99"],
        &["--veth-pair", "eth0=veth1", "--join-ns", "uts:/proc/self/ns/uts"],
    ] {
        let words = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--overwrite"];
        let ran = lab.done(&[&words[..], given].concat());
        let notes = ran.err.lines().filter(|line| line.contains("no effect on a dump without "));
        let notes = notes.chain(ran.err.lines().filter(|line| line.ends_with("no effect on dump")));
        assert_eq!(notes.count(), 1, "{given:?}: {ran:?}");
        target.goes_on();
    }
    assert!(!fs::exists(format!("{images}/pid")).unwrap());
}

fn note(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let words = ["dump", "-R", "-t", &target.pid(), "-D", &images, "-d"];
    let said = lab.done(&[&words[..], &["--json"]].concat()).json();
    assert_eq!(said["outcome"], "done");
    let ran = lab.done(&[&words[..], &["--overwrite"]].concat());
    assert!(ran.err.starts_with("criu-rs dump: --restore-detached has no effect on dump\n"));
    assert!(ran.out.is_empty(), "{ran:?}");
}

/// For criu, too, both are one setting.
fn last_wins(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let before = target.count();
    lab.done(&["restore", "-D", &images, "-d", "-s", "-R"]);
    assert!(target.goes_on() > before);
    target.signal(Signal::SIGKILL);
    target.is_gone();
    lab.done(&["restore", "-D", &images, "-d", "-R", "-s"]);
    assert!(criu_lab::soon(|| target.state() == Some('T')));
}
