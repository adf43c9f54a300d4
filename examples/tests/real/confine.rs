//! Confined programs: the rights that a page server keeps, and the work that it does with them.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{self, Child};

use criu_images::memory::PageObject;
use criu_lab::soon;
use criu_rs::pages::proto::{Header, object_id};
use criu_rs::pages::{Client, Command, Layout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_page_server_keeps_no_rights", no_rights),
    ("a_page_server_for_another_s_directory_keeps_one_capability", one_capability),
    ("a_confined_page_server_frees_pages_of_its_parent_set", parent_set),
    ("a_confined_page_server_serves_and_cannot_write", lazy),
    ("a_page_server_that_starts_again_goes_on_with_its_numbers", numbers),
];

/// A server that is ended with the test.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    /// Starts `page-server` with words, and waits until it listens and is confined.
    fn start(lab: &Lab, words: &[&str]) -> Self {
        let all = [&["page-server", "-v4", "-o", "log"][..], words].concat();
        let place = words.iter().position(|word| *word == "-D").unwrap();
        let log = format!("{}/log", words[place + 1]);
        let before = fs::read_to_string(&log).unwrap_or_default().len();
        // Few descriptors at first, and more that the server may take.
        let command = lab.command(&all);
        let mut limited = process::Command::new("prlimit");
        limited.arg("--nofile=64:2048").arg(command.get_program()).args(command.get_args());
        let child = limited.current_dir(&lab.dir).spawn().unwrap();
        // The kernel chooses the port. The line comes when the server has confined itself.
        let port = || {
            let said = fs::read_to_string(&log).ok()?;
            let (_, rest) = said.get(before..)?.split_once("listens on 127.0.0.1 port ")?;
            Some(rest.split_once('\n')?.0.to_owned())
        };
        let mut found = None;
        assert!(soon(|| {
            found = port();
            found.is_some()
        }));
        Self { child, port: found.unwrap() }
    }

    /// Asks the server to end, and returns its exit status.
    fn end(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Returns a field of the server's row in /proc.
    fn status(&self, field: &str) -> String {
        status(self.child.id(), field)
    }

    /// The words of a dump into the server.
    fn dump<'a>(&'a self, pid: &'a str, images: &'a str) -> Vec<&'a str> {
        let dump = ["dump", "-R", "-t", pid, "-D", images, "--page-server"];
        [&dump[..], &["--address", "127.0.0.1", "--port", &self.port]].concat()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Returns a field of a process's row in /proc.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let row = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    row.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
}

/// Waits for a line in a server's log.
#[track_caller]
fn says(log: &str, text: &str) {
    assert!(soon(|| fs::read_to_string(log).unwrap().contains(text)), "no {text:?} in {log}");
}

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NONE: &str = "0000000000000000";

fn no_rights(lab: &Lab) {
    let (pages, outside, images) = (lab.dir("pages"), lab.dir("outside"), lab.dir("img"));
    let server = Server::start(lab, &["-D", &pages, "--each", "--sessions", "unlimited"]);
    says(&format!("{pages}/log"), "listens on");
    for set in SETS {
        assert_eq!(server.status(set), NONE, "{set}");
    }
    assert_eq!(
        (server.status("NoNewPrivs").as_str(), server.status("Seccomp").as_str()),
        ("1", "2")
    );
    says(&format!("{pages}/log"), "confined: no capabilities; Landlock version ");
    assert!(!fs::read_to_string(format!("{pages}/log")).unwrap().contains("not fully confined"));
    // The server has taken all descriptors that it may have.
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let row = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), ["2048"; 2]);
    let target = lab.start(&["memory", "4"]);
    // A directory outside that the server is led to after its start stays as it is.
    std::os::unix::fs::symlink(&outside, format!("{pages}/0")).unwrap();
    let ran = lab.run(&server.dump(&target.pid(), &lab.dir("vain")));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    target.goes_on();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    lab.done(&server.dump(&target.pid(), &images));
    assert!(soon(|| fs::exists(format!("{pages}/1/pages-65537.img")).unwrap()));

    let open = Server::start(lab, &["-D", &lab.dir("open"), "--no-confine"]);
    let own = status(std::process::id(), "CapEff");
    assert_eq!((open.status("CapEff"), open.status("NoNewPrivs")), (own, "0".to_owned()));
}

fn one_capability(lab: &Lab) {
    let (pages, images) = (lab.dir("pages"), lab.dir("img"));
    chown(&pages, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&pages, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::start(lab, &["-D", &pages]);
    says(&format!("{pages}/log"), "confined: capabilities CAP_DAC_OVERRIDE; ");
    let override_alone = "0000000000000002";
    for (set, kept) in SETS.iter().zip([NONE, override_alone, override_alone, override_alone]) {
        assert_eq!(server.status(set), kept, "{set}");
    }
    let target = lab.start(&["memory", "4"]);
    lab.done(&server.dump(&target.pid(), &images));
    assert!(soon(|| fs::exists(format!("{pages}/pages-65537.img")).unwrap()));
}

fn parent_set(lab: &Lab) {
    let [first, copy, second] = ["first", "copy", "second"].map(|name| lab.dir(name));
    let target = lab.start(&["memory", "4"]);
    lab.done(&["dump", "-R", "-t", &target.pid(), "-D", &first]);
    for entry in fs::read_dir(&first).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), Path::new(&copy).join(entry.file_name())).unwrap();
    }
    let pages = Path::new(&first).join("pages-1.img");
    let before = pages.metadata().unwrap();
    let words = ["-D", &second, "--prev-images-dir", "../first", "--auto-dedup"];
    let server = Server::start(lab, &words);
    assert_eq!(server.status("CapEff"), NONE);
    // CRIU sends an increment only where the kernel tracks changed memory.
    let address = format!("127.0.0.1:{}", server.port);
    let mut client = Client::connect(address, Layout::Wide).unwrap();
    client.send_set(&copy).unwrap();
    client.close().unwrap();
    says(&format!("{second}/log"), " pages of ");
    let after = pages.metadata().unwrap();
    assert_eq!(before.len(), after.len());
    assert!(after.blocks() < before.blocks() / 2, "{} of {}", after.blocks(), before.blocks());
}

fn lazy(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "4"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let names = |images: &str| {
        let entries = fs::read_dir(images).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.filter(|name| name != "log").collect();
        names.sort();
        names
    };
    let before = names(&images);
    let words = ["-D", &images, "--lazy-pages", "--sessions", "2"];
    let server = Server::start(lab, &words);
    assert_eq!((server.status("CapEff").as_str(), server.status("Seccomp").as_str()), (NONE, "2"));
    let mut writer = TcpStream::connect(format!("127.0.0.1:{}", server.port)).unwrap();
    let id = object_id(PageObject::Task(target.pid().parse().unwrap()));
    let open = Header { command: Command::Open2, flags: 0, pages: 0, address: 0, id };
    writer.write_all(&open.to_bytes(Layout::Wide).unwrap()).unwrap();
    says(&format!("{images}/log"), "127.0.0.1:");
    drop(writer);
    assert_eq!(names(&images), before);

    let daemon = ["lazy-pages", "-D", &images, "-o", "lazy.log", "--page-server"];
    let place = ["--address", "127.0.0.1", "--port", &server.port];
    let mut daemon = lab.command(&[&daemon[..], &place].concat()).spawn().unwrap();
    assert!(soon(|| fs::exists(format!("{images}/lazy-pages.socket")).unwrap()));
    assert_eq!(status(daemon.id(), "NoNewPrivs"), "1");
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.goes_on();
    assert!(daemon.wait().unwrap().success());
}

fn numbers(lab: &Lab) {
    let pages = lab.dir("pages");
    let target = lab.start(&["memory", "4"]);
    let words = ["-D", &pages, "--each", "--sessions", "unlimited"];
    for run in ["first", "second"] {
        let server = Server::start(lab, &words);
        for dump in ["one", "two"] {
            lab.done(&server.dump(&target.pid(), &lab.dir(&format!("{run}-{dump}"))));
        }
        if run == "second" {
            // A session that fails is no failure of the server.
            let mut socket = TcpStream::connect(format!("127.0.0.1:{}", server.port)).unwrap();
            let id = object_id(PageObject::Task(7));
            let open = Header { command: Command::Open2, flags: 0, pages: 0, address: 0, id };
            socket.write_all(&open.to_bytes(Layout::Wide).unwrap()).unwrap();
            drop(socket);
            let failed =
                |line: &str| line.starts_with("127.0.0.1:") && !line.contains(" pages of ");
            let log = || fs::read_to_string(format!("{pages}/log")).unwrap();
            assert!(soon(|| log().lines().any(failed)));
        }
        assert_eq!(server.end(), Some(0));
    }
    target.goes_on();
    let mut sessions = criu_lab::names(&pages);
    sessions.retain(|name| name.parse::<u64>().is_ok());
    // The session that failed may have left a directory.
    assert_eq!(sessions[..4], ["0", "1", "2", "3"]);
    for session in &sessions[..4] {
        let files = criu_lab::names(format!("{pages}/{session}"));
        assert!(files.contains(&"pages-65537.img".to_owned()), "{session}: {files:?}");
    }
}
