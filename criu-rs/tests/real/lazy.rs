//! Memory on demand.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use criu_lab::place::alone;
use criu_lab::{names, soon};
use criu_rs::{Dump, HookResult, Hooks, Restore};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] =
    &[("a_restore_fetches_memory_on_demand", restore), ("a_dump_serves_memory_on_demand", dump)];

fn restore(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "32"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let before = target.count();
    let mut daemon = Command::new(&lab.program)
        .args(["lazy-pages", "-o", "lazy.log", "-D"])
        .arg(&images)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(soon(|| images.join("lazy-pages.socket").exists()));
    let restored = Restore::new(&images).lazy_pages(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert!(daemon.wait().unwrap().success());
    target.goes_on();
}

fn dump(lab: &Lab) {
    /// Connects when the dump listens, asks for nothing and goes.
    struct Fetch {
        port: u16,
        connected: bool,
    }
    impl Hooks for Fetch {
        fn status_ready(&mut self) -> HookResult {
            TcpStream::connect(("127.0.0.1", self.port))?;
            self.connected = true;
            Ok(())
        }
    }
    // CRIU wants pipes of 4 MiB, which without CAP_SYS_RESOURCE takes a higher limit.
    let _alone = alone("pipe-max-size");
    let limit = "/proc/sys/fs/pipe-max-size";
    let before = fs::read_to_string(limit).unwrap();
    fs::write(limit, "16777216").unwrap();
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "32"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut hooks = Fetch { port, connected: false };
    let dump = Dump::new(target.pid, &images).lazy_pages_at("127.0.0.1", port);
    let result = dump.run_with(&lab.criu, &mut hooks);
    fs::write(limit, before).unwrap();
    result.unwrap();
    assert!(hooks.connected);
    target.is_gone();
    let pages = names(&images).into_iter().filter(|name| name.starts_with("pages-"));
    let stored: u64 = pages.map(|name| fs::metadata(images.join(name)).unwrap().len()).sum();
    assert!(stored < 4 << 20, "{stored} bytes are in the images");
}
