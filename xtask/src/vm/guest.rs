//! The guests, and a boot of one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::steps::AGAIN;

/// A virtual machine for some of the tests.
pub(super) struct Guest {
    /// The name, which the tests read in `CRIU_RS_TEST_GUEST`.
    pub(super) name: &'static str,
    /// The guest has the older kernel.
    pub(super) is_old: bool,
    /// Further arguments of its kernel.
    arguments: &'static str,
    /// Parts of the names of its tests in the program `real`.
    pub(super) tests: &'static [&'static str],
    /// Parts of the names of its tests in the program `containers`.
    pub(super) containers: &'static [&'static str],
    /// The folder of `target/criu` with the only CRIU that is tested; `None` for all.
    pub(super) criu: Option<&'static str>,
    /// The guest also runs if it is not named. The other guest tests a CRIU that no package has.
    pub(super) is_usual: bool,
}

/// All guests. AppArmor is the default of Debian's kernel.
pub(super) const GUESTS: &[Guest] = &[
    Guest {
        name: "apparmor",
        is_old: false,
        arguments: "",
        tests: &["pre_dump", "apparmor"],
        containers: &["apparmor"],
        criu: None,
        is_usual: true,
    },
    Guest {
        name: "selinux",
        is_old: false,
        arguments: "security=selinux enforcing=1",
        tests: &["selinux"],
        containers: &[],
        criu: None,
        is_usual: true,
    },
    Guest {
        name: "old",
        is_old: true,
        arguments: "",
        tests: &["images_of_an_old_criu"],
        containers: &[],
        criu: Some("bookworm"),
        is_usual: true,
    },
    Guest {
        name: "scarce",
        is_old: false,
        arguments: "",
        tests: &["scarce", "io_uring"],
        containers: &[],
        criu: Some("experimental"),
        is_usual: true,
    },
    Guest {
        name: "libselinux",
        is_old: false,
        arguments: "security=selinux enforcing=1",
        tests: &["libselinux"],
        containers: &["libselinux"],
        criu: Some("selinux"),
        is_usual: false,
    },
];

impl Guest {
    /// Boots, runs the tests, and prints their output.
    pub(super) fn test(&self, kernel: &Path, disk: &Path) -> Result<()> {
        let name = self.name;
        let started = Instant::now();
        println!("guest {name}");
        // The emulated processor has faults: a guest that ends before its tests has a second try.
        let end = match self.boot(kernel, disk)? {
            End::BeforeTests => {
                println!("{AGAIN}the guest {name}, which ended before its tests");
                self.boot(kernel, disk)?
            }
            end => end,
        };
        println!("guest {name}: {:.1} s", started.elapsed().as_secs_f32());
        let fault = match end {
            End::Tests(0) => return Ok(()),
            End::Tests(status) => format!("tests failed in the guest {name} ({status})"),
            End::AmongTests => format!("the guest {name} died during its tests, see above"),
            End::BeforeTests => format!("the guest {name} ended before its tests, see above"),
        };
        Err(fault.into())
    }

    /// Boots once, and prints what the guest says.
    fn boot(&self, kernel: &Path, disk: &Path) -> Result<End> {
        let mut qemu = Command::new("timeout");
        qemu.args(["--kill-after=5", &LIMIT.as_secs().to_string(), "qemu-system-x86_64"])
            // Without pkeys and 5-level paging, which cost emulation time. QEMU 7.2 gets the flags
            // of cmpxchg16b wrong, which crashes kernels. Code that one processor changes while
            // another executes it crashes them, too: the scheduler, whenever CRIU sets a
            // breakpoint. So there is one processor.
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
        let (mut status, mut lacks, mut did_begin) = (None, false, false);
        if let Some(console) = child.stdout.take() {
            for said in BufReader::new(console).split(b'\n') {
                let said = said?;
                let said = String::from_utf8_lossy(&said);
                let said = said.trim_end();
                println!("{said}");
                lacks |= said.contains(NONE);
                did_begin |= said.starts_with(BEGIN);
                if let Some(number) = said.strip_prefix(STATUS) {
                    status = number.trim().parse().ok();
                }
            }
        }
        match (child.wait()?.code(), status) {
            (Some(TIMED_OUT), None) => {
                Err(format!("the guest {} hangs, see above", self.name).into())
            }
            _ if lacks => {
                let names = [self.tests, self.containers].concat().join(", ");
                Err(format!("no test of a program has one of {names} in its name").into())
            }
            (_, Some(status)) => Ok(End::Tests(status)),
            (_, None) if did_begin => Ok(End::AmongTests),
            (_, None) => Ok(End::BeforeTests),
        }
    }
}

/// The end of a boot.
enum End {
    /// The tests ended with this exit status.
    Tests(i32),
    /// The guest died after a test program had begun.
    AmongTests,
    /// The guest ended before a test program began.
    BeforeTests,
}

/// The start of the first line of a test program.
const BEGIN: &str = "running ";

/// The line of the tests if no test has that name.
const NONE: &str = "test result: ok. 0 passed";

/// The exit status of timeout(1) after the time is up.
const TIMED_OUT: i32 = 124;

/// The time limit of a guest.
const LIMIT: Duration = Duration::from_secs(400);

const KERNEL: &str = "console=ttyS0 panic=-1 quiet root=/dev/nvme0n1 rw init=/init mitigations=off";

/// The start of the line with the tests' exit status.
const STATUS: &str = "TESTS ENDED WITH";
