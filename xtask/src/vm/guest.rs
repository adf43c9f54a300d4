//! The guests, and a boot of one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// A virtual machine for some of the tests.
pub(super) struct Guest {
    /// The tests hear it in `CRIU_RS_TEST_GUEST`.
    pub(super) name: &'static str,
    /// Whether it has the older kernel.
    pub(super) is_old: bool,
    /// What its kernel is told besides.
    arguments: &'static str,
    /// What the names of its tests have in them.
    pub(super) tests: &'static [&'static str],
    /// The folder of `target/criu` whose CRIU alone is tested.
    pub(super) criu: Option<&'static str>,
    /// Whether it runs unless it is named. One that does not tests a CRIU that nobody has packed.
    pub(super) is_usual: bool,
}

/// All of them. AppArmor is what Debian's kernel has unless it is told otherwise.
pub(super) const GUESTS: &[Guest] = &[
    Guest {
        name: "apparmor",
        is_old: false,
        arguments: "",
        tests: &["pre_dump", "apparmor"],
        criu: None,
        is_usual: true,
    },
    Guest {
        name: "selinux",
        is_old: false,
        arguments: "security=selinux enforcing=1",
        tests: &["selinux"],
        criu: None,
        is_usual: true,
    },
    Guest {
        name: "old",
        is_old: true,
        arguments: "",
        tests: &["images_of_an_old_criu"],
        criu: Some("bookworm"),
        is_usual: true,
    },
    Guest {
        name: "libselinux",
        is_old: false,
        arguments: "security=selinux enforcing=1",
        tests: &["libselinux"],
        criu: Some("selinux"),
        is_usual: false,
    },
];

impl Guest {
    /// Boots, runs the tests, and prints what they print.
    pub(super) fn test(&self, kernel: &Path, disk: &Path) -> Result<()> {
        let name = self.name;
        let started = Instant::now();
        println!("guest {name}");
        // The emulated processor is not without faults: a guest that says nothing has a second try.
        let status = match self.boot(kernel, disk)? {
            None => {
                eprintln!("the guest {name} ended without a word: once more");
                self.boot(kernel, disk)?
            }
            status => status,
        };
        println!("guest {name}: {:.1} s", started.elapsed().as_secs_f32());
        match status {
            Some(0) => Ok(()),
            Some(status) => Err(format!("tests failed in the guest {name} ({status})").into()),
            None => {
                let silent = "ended without saying how the tests went, see above";
                Err(format!("the guest {name} {silent}").into())
            }
        }
    }

    /// Returns the tests' exit status, `None` when the guest ends before them.
    fn boot(&self, kernel: &Path, disk: &Path) -> Result<Option<i32>> {
        let mut qemu = Command::new("timeout");
        qemu.args(["--kill-after=5", &LIMIT.as_secs().to_string(), "qemu-system-x86_64"])
            // Without pkeys and 5-level paging, which cost emulation time. QEMU 7.2 gets the flags of
            // cmpxchg16b wrong, which crashes kernels, and so does code that one processor changes while
            // another executes it: as the scheduler, whenever CRIU sets a breakpoint.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max,-la57,-pku,-cx16"])
            .args(["-smp", "1", "-m", "1536", "-display", "none", "-nodefaults", "-no-reboot"])
            .args(["-nic", "none", "-serial", "stdio", "-kernel"])
            .arg(kernel)
            .args(["-append", &format!("{KERNEL} guest={} {}", self.name, self.arguments)])
            .arg("-drive")
            .arg(format!("file={},if=none,id=d,format=raw,snapshot=on", disk.display()))
            .args(["-device", "nvme,drive=d,serial=r"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = qemu.spawn().map_err(|error| format!("cannot start qemu: {error}"))?;
        let (mut status, mut lacks) = (None, false);
        if let Some(console) = child.stdout.take() {
            for said in BufReader::new(console).split(b'\n') {
                let said = said?;
                let said = String::from_utf8_lossy(&said);
                let said = said.trim_end();
                println!("{said}");
                lacks |= said.contains(NONE);
                if let Some(number) = said.strip_prefix(STATUS) {
                    status = number.trim().parse().ok();
                }
            }
        }
        match (child.wait()?.code(), status) {
            (Some(TIMED_OUT), None) => Err("the guest hangs, see above".into()),
            _ if lacks => {
                Err(format!("no test has one of {} in its name", self.tests.join(", ")).into())
            }
            _ => Ok(status),
        }
    }
}

/// What the tests say when there is none of that name.
const NONE: &str = "test result: ok. 0 passed";

/// What timeout(1) ends with when time is up.
const TIMED_OUT: i32 = 124;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(400);

const KERNEL: &str = "console=ttyS0 panic=-1 quiet root=/dev/nvme0n1 rw init=/init mitigations=off";

/// Begins the line with the tests' exit status.
const STATUS: &str = "TESTS ENDED WITH";
