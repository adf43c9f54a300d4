//! Requests other than dump and restore.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use criu_images::ImageSet;
use criu_lab::{names, soon};
use criu_rs::{Check, CpuCap, CpuInfo, Criu, Dump, Error, Features, PageServer, Restore, Version};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("version", version),
    ("features_are_what_criu_answers", features),
    ("check", check),
    ("cpuinfo_is_recorded_and_compared", cpuinfo),
    ("one_criu_takes_several_questions", keep_open),
    ("a_page_server_as_a_child", page_server_child),
    ("a_page_server_in_the_background", page_server),
    ("a_page_server_over_a_socket_of_ours", page_server_socket),
    ("a_program_that_is_no_criu", no_criu),
];

fn version(lab: &Lab) {
    let build = lab.criu.build().unwrap();
    assert_eq!(build.version, lab.version);
    let said = std::process::Command::new(&lab.program).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.lines().next().unwrap(), format!("Version: {}", lab.version));
    assert_eq!(lab.criu.program().unwrap().as_ref(), Some(&lab.program));
}

fn features(lab: &Lab) {
    let Features { mem_track, lazy_pages, pidfd_store, mem_compression, .. } =
        lab.criu.features().unwrap();
    let cli = |name: &str| {
        let output = std::process::Command::new(&lab.program)
            .args(["check", "--feature", name])
            .output()
            .unwrap();
        Some(output.status.success())
    };
    assert_eq!(mem_track, cli("mem_dirty_track"));
    assert_eq!(lazy_pages, cli("uffd-noncoop"));
    assert_eq!(pidfd_store, cli("pidfd_store"));
    // A question that an older CRIU does not know is left open, not answered with no.
    let known = (lab.version >= Version::new(4, 3, 0)).then(|| cli("compress")).flatten();
    assert_eq!(mem_compression, known);
}

fn check(lab: &Lab) {
    lab.criu.check().unwrap();
    let logs = lab.dir("logs");
    Check::new().work_dir(&logs).run(&lab.criu).unwrap();
    assert_eq!(names(&logs), ["check.log"]);
}

fn cpuinfo(lab: &Lab) {
    let images = lab.dir("images");
    let info = CpuInfo::new(&images).cpu_cap(CpuCap::FPU | CpuCap::INS);
    info.dump(&lab.criu).unwrap();
    assert!(names(&images).contains(&"cpuinfo.img".into()));
    info.check(&lab.criu).unwrap();
    fs::write(images.join("cpuinfo.img"), "nonsense").unwrap();
    let error = info.check(&lab.criu).unwrap_err();
    assert!(error.failure().is_some_and(|failure| failure.said().is_some()), "{error}");
}

fn keep_open(lab: &Lab) {
    let images = lab.dir("images");
    let mut criu = lab.criu.keep_open().unwrap();
    let pid = criu.pid();
    assert!(pid.is_some());
    assert_eq!(criu.build().unwrap().version, lab.version);
    assert_eq!(criu.features().unwrap(), lab.criu.features().unwrap());
    criu.cpuinfo_dump(&CpuInfo::new(&images)).unwrap();
    criu.cpuinfo_check(&CpuInfo::new(&images)).unwrap();
    assert_eq!(criu.build().unwrap().version, lab.version);
    assert_eq!(criu.pid(), pid);
}

/// Loopback, any port.
fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn page_server_child(lab: &Lab) {
    let images = lab.dir("images");
    let server = PageServer::new(&images, anywhere()).spawn(&lab.criu).unwrap();
    assert_ne!(server.port(), 0);
    let mut target = lab.start(&["memory", "8"]);
    let dump = Dump::new(target.pid, &images).page_server("127.0.0.1", server.port());
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    assert!(server.wait().unwrap().success());
    assert!(names(&images).contains(&"pages-65537.img".into()));
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();

    // One that nobody waits for is ended.
    let server = PageServer::new(lab.dir("unused"), anywhere()).spawn(&lab.criu).unwrap();
    let pid = server.pid();
    drop(server);
    assert!(soon(|| {
        criu_lab::process::reap();
        criu_lab::process::state(pid).is_none()
    }));
}

fn page_server(lab: &Lab) {
    let images = lab.dir("images");
    let port = PageServer::new(&images, anywhere()).start(&lab.criu).unwrap();
    let mut target = lab.start(&["memory", "8"]);
    Dump::new(target.pid, &images).page_server("localhost", port).run(&lab.criu).unwrap();
    target.is_gone();
    // A server in the background writes its last file after the dump has ended.
    let is_whole = || {
        let set = ImageSet::open(&images)?;
        set.checkpoint()?.root().memory().map(drop)
    };
    assert!(soon(|| is_whole().is_ok()), "{:?}", is_whole());
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

fn page_server_socket(lab: &Lab) {
    let images = lab.dir("images");
    let (client, server) = UnixStream::pair().unwrap();
    let mut target = lab.start(&["memory", "8"]);
    let running = PageServer::new(&images, anywhere()).page_server_socket(&server);
    let running = running.spawn(&lab.criu).unwrap();
    drop(server);
    Dump::new(target.pid, &images).page_server_socket(&client).run(&lab.criu).unwrap();
    target.is_gone();
    drop(client);
    assert!(running.wait().unwrap().success());
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

fn no_criu(_: &Lab) {
    let error = Criu::at("/nonexistent/criu").version().unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot start /nonexistent/criu: "), "{error}");
    let error = Criu::at("no-such-criu").version().unwrap_err().to_string();
    assert!(error.contains("not found in PATH"), "{error}");
    let error = Criu::at("/bin/false").version().unwrap_err();
    assert_eq!(error.failure().unwrap().exit.unwrap().code(), Some(1), "{error}");
    let error = Criu::at("/bin/ls").version().unwrap_err().to_string();
    assert!(error.contains("cannot access 'swrk'"), "{error}");
}
