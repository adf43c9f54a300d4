//! Short programs, the page server, and words that are handed over.

use std::fs;
use std::path::Path;

use criu_lab::{names, soon};

use crate::lab::{Lab, TestFn, run};
use crate::links::{example, link};

pub const TESTS: &[(&str, TestFn)] = &[
    ("demo", demo),
    ("demo_as_json", demo_as_json),
    ("demo_on_a_terminal", demo_on_a_terminal),
    ("async_dump", async_dump),
    ("programs_of_their_own_and_links", own_programs),
    ("short_programs_show_the_library", short_programs),
    ("other_words_go_to_criu", handed_over),
    ("page_server_takes_criu_s_options", page_server),
    ("a_dump_goes_to_page_server_over_tls_and_a_relay", page_server_tls),
];

fn demo(lab: &Lab) {
    let place = lab.dir("tmp");
    let ran = run(lab.program(example("demo"), &[]).env("TMPDIR", &place));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("Every counter goes on from where it was"), "{ran:?}");
    assert!(ran.err.is_empty() && names(&place).is_empty(), "{ran:?}");
    let longest = ran.out.lines().map(str::len).max().unwrap();
    assert!(ran.out.lines().count() <= 24 && longest <= 110, "{}", ran.out);
    // Every process of it is gone, or this test would be told of what is left.
}

fn demo_as_json(lab: &Lab) {
    let place = lab.dir("tmp");
    let words = ["--json", "--keep", "--criu", lab.criu.to_str().unwrap()];
    let mut command = lab.program(example("demo"), &words);
    let said = run(command.env("TMPDIR", &place).env_remove("CRIU")).json();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["criu"], lab.version.to_string());
    assert_eq!(said["saved"]["tasks"].as_array().unwrap().len(), 4);
    assert_eq!(said["saved"]["tasks"][0]["threads"].as_array().unwrap().len(), 5);
    assert_eq!(said["counters"]["lost"], 0);
    let counters = said["counters"]["each"].as_array().unwrap();
    assert_eq!(counters.len(), 7);
    for counter in counters {
        let at = |key: &str| counter[key].as_u64().unwrap();
        assert!(at("saved") <= at("restored") && at("restored") < at("now"), "{counter}");
    }
    let images = said["images"].as_str().unwrap();
    assert!(names(images).contains(&"inventory.img".into()));
}

fn demo_on_a_terminal(lab: &Lab) {
    let ran =
        run(lab.program("script", &["--quiet", "--return", "-c", &example("demo"), "/dev/null"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("\x1b[") && ran.out.contains("Every counter goes on"), "{ran:?}");
}

fn async_dump(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "100"]);
    let program = &example("async-dump");
    let ran = run(lab.program(program, &[&target.pid(), &images]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("..") && ran.out.contains("frozen for"), "{ran:?}");
    target.goes_on();
    let again = run(lab.program(program, &[&target.pid(), &images]));
    again.fails(1, &["holds a checkpoint already"]);
    run(lab.program(program, &[])).fails(2, &["Usage: async-dump PID DIRECTORY"]);
}

fn own_programs(lab: &Lab) {
    let target = lab.start(&["count"]);
    let images = lab.dir("img");
    let ran = run(lab.program(link(lab, "dump"), &["-t", &target.pid(), "-D", &images, "-R"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.starts_with("dump: process "), "{ran:?}");
    target.goes_on();
    for program in ["restore", "pre-dump"] {
        let ran = run(lab.program(link(lab, program), &["--frob", "--exit-codes"]));
        ran.fails(2, &["unknown option `--frob`"]);
        // As criu is called.
        let ran = run(lab.program(link(lab, program), &[program, "--frob"]));
        ran.fails(1, &["unknown option `--frob`"]);
    }
    assert_eq!(run(lab.program(link(lab, "check"), &[])).code, Some(0));
}

/// A process is saved by one program, looked at by another, and brought back by a third.
fn short_programs(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["lock"]);
    let pid = target.pid();
    let dump = |images: &str| run(lab.program(example("dump"), &[&pid, images]));
    dump(&images).fails(1, &["dump: ", "a process holds a file lock"]);
    drop(target);
    fs::remove_file(lab.path("count")).unwrap();
    target = lab.start(&["count"]);
    let pid = target.pid();
    let ran = run(lab.program(example("dump"), &[&pid, &images]));
    assert!(ran.code == Some(0) && ran.out.contains("frozen for"), "{ran:?}");
    let look = run(lab.program(example("look"), &[&images]));
    assert!(look.code == Some(0) && look.out.starts_with(&format!("{pid} ")), "{look:?}");
    assert!(look.out.contains(" pages stored of ") && look.out.contains("/dev/null"), "{look:?}");
    target.signal(nix::sys::signal::Signal::SIGKILL);
    target.is_gone();
    let before = target.count();
    let mut restore = lab.program(example("restore"), &[&images]);
    let mut restore = restore.stdout(std::process::Stdio::null()).spawn().unwrap();
    assert!(soon(|| target.count() > before));
    target.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(restore.wait().unwrap().code(), Some(7));
    for name in ["dump", "look", "restore"] {
        run(lab.program(example(name), &[])).fails(2, &[&format!("Usage: {name} ")]);
    }
}

fn handed_over(lab: &Lab) {
    let images = lab.dir("img");
    lab.done(&["cpuinfo", "dump", "-D", &images]);
    assert!(names(&images).contains(&"cpuinfo.img".into()));
    lab.done(&["-D", &images, "-v4", "cpuinfo", "check"]);
    // criu's own answer, and its own code.
    let ran = lab.run(&["dedup", "-D", &lab.path("nowhere")]);
    assert!(ran.code == Some(1) && ran.err.contains("Error (criu/"), "{ran:?}");
    // The criu that is named, and options of this program left out.
    let criu = format!("--criu={}", lab.criu.display());
    let words = ["cpuinfo", "check", "-D", &images, &criu, "--exit-codes"];
    assert_eq!(run(lab.command(&words).env_remove("CRIU").env("PATH", "/nowhere")).code, Some(0));
    let _ = fs::remove_dir_all(images);
}

/// A dump into the server, by CRIU's own options, and errors without a dump.
fn page_server(lab: &Lab) {
    let (images, pages) = (lab.dir("img"), lab.dir("pages"));
    let program = &link(lab, "page-server");
    let target = lab.start(&["memory", "8"]);
    let [first, second] = [(); 2].map(|()| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port().to_string()
    });
    // In the background, as a script starts it: it listens when the program has ended.
    let words = ["-D", &pages, "--port", &first, "--daemon", "--pidfile", "pid", "-o", "log"];
    let ran = run(lab.program(program, &words));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let port = ["--page-server", "--address", "127.0.0.1", "--port", &first];
    lab.done(
        &[&["dump", "-t", &target.pid(), "-D", &images, "--leave-running"][..], &port].concat(),
    );
    let log = format!("{pages}/log");
    assert!(soon(|| fs::read_to_string(&log).unwrap().contains(" pages of ")));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.starts_with(&format!("listens on 127.0.0.1 port {first}\n127.0.0.1:")), "{log}");
    let pid: i32 = fs::read_to_string(format!("{pages}/pid")).unwrap().parse().unwrap();
    let pid = criu_rs::Pid::try_from(pid).unwrap();
    assert!(soon(|| {
        criu_lab::process::reap();
        criu_lab::process::state(pid).is_none()
    }));
    assert!(names(&pages).iter().any(|name| name == "pages-65537.img"));
    target.goes_on();

    // A pid file that is taken: nothing goes on in the background.
    let taken = run(lab.program(program, &words));
    taken.fails(1, &["page-server: ", "/pid: File exists"]);
    assert!(crate::memory::listeners(&first).is_empty());

    // Several sessions, each on its own, until it is asked to stop.
    let words = ["-D", &pages, "--port", &second, "--sessions", "unlimited", "--each", "--json"];
    let mut server = lab.program(program, &words);
    let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
    assert!(soon(|| std::net::TcpStream::connect(format!("127.0.0.1:{second}")).is_ok()));
    let again = lab.dir("again");
    let port = ["--page-server", "--address", "127.0.0.1", "--port", &second];
    lab.done(
        &[&["dump", "-t", &target.pid(), "-D", &again, "--leave-running"][..], &port].concat(),
    );
    // The first connection, which only looked whether the server listens, was no session.
    assert!(soon(|| names(format!("{pages}/0")).iter().any(|n| n == "pages-65537.img")));
    let server_pid = criu_rs::Pid::from(&server);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server_pid.as_raw()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut server.stdout.unwrap(), &mut said).unwrap();
    let mut lines =
        said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["outcome"], "done");
    assert!(lines.next().is_none());

    for (words, code, said) in [
        (&["-D", "/nonexistent", "--ps-socket", "0"][..], 1, "page-server: "),
        (&["--address", "0.0.0.0"], 1, "other machines can reach this address"),
        (&["--sessions", "none"], 2, "unlimited"),
        (&["--port", "0"], 2, "0 is not in 1.."),
        (&["--tls", "--tls-cacert", "/none.pem"], 1, "/none.pem: No such file"),
    ] {
        run(lab.program(program, &[words, &["--exit-codes"]].concat())).fails(code, &[said]);
        run(lab.program(program, words)).fails(1, &[said]);
    }
}

/// Sends pages by CRIU, by a relay, and by a relay without a certificate.
fn page_server_tls(lab: &Lab) {
    let (images, ca) = (lab.dir("img"), lab.path("ca"));
    let authority = criu_lab::certs::Authority::new(Path::new(&ca));
    authority.sign_for_loopback(1);
    let [ca, cert, key] = ["ca.pem", "1.cert", "1.key"].map(|name| format!("{ca}/{name}"));
    let tls = ["--tls", "--tls-cacert", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = free.port().to_string();
    let address = ["--address", "127.0.0.1", "--port", &port];
    let pages = lab.dir("pages");
    let server = ["-D", &pages, "--sessions", "3", "--each"];
    let words = [&server[..], &address, &tls].concat();
    let mut server = lab.program(link(lab, "page-server"), &words);
    let mut server = server.stderr(std::process::Stdio::piped()).spawn().unwrap();
    assert!(soon(|| !crate::memory::listeners(&port).is_empty()));
    let target = lab.start(&["memory", "8"]);
    // A client without a certificate is no session.
    let vain = lab.dir("vain");
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &vain, "--page-server", "--relay"];
    lab.run(&[&dump[..], &address].concat()).fails(1, &[]);
    target.goes_on();
    for (n, extra) in [&tls[..], &[&["--relay"][..], &tls].concat()].iter().enumerate() {
        let images = lab.dir(&format!("img-{n}"));
        let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--page-server"];
        lab.done(&[&dump[..], &address, extra].concat());
        target.goes_on();
        assert!(names(format!("{pages}/{n}")).iter().any(|name| name == "pages-65537.img"));
    }
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--page-server", "--capture"];
    let small = lab.coded(&[&dump[..], &["4M"], &address, &tls].concat());
    small.fails(2, &["--capture: some", "do not fit into 4.00 MiB"]);
    lab.done(&[&dump[..], &["32M"], &address, &tls].concat());
    assert!(names(format!("{pages}/2")).iter().any(|name| name == "pages-65537.img"));
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut server.stderr.unwrap(), &mut said).unwrap();
    assert!(said.contains(": no session: agree on TLS: "), "{said}");

    let alone = ["dump", "-t", &target.pid(), "-D", &images, "--relay"];
    lab.coded(&alone).fails(2, &["--relay needs --page-server"]);
    let nobody = [&alone[..], &["--page-server"], &address].concat();
    lab.coded(&nobody).fails(2, &["--relay: cannot reach 127.0.0.1"]);
}
