//! `cargo xtask vm`: tests that need another kernel, in a small virtual machine.
//!
//! Pre-dumps want a kernel that tracks changed memory, which not every machine has. Debian's does. The
//! guest is emulated, so that it runs anywhere: its disk holds a shell, the CRIUs of the tests and the
//! built tests themselves, all at the paths they have outside.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::workspace::{cargo, target_dir};
use crate::{Result, criu, process, programs, setup};

/// Runs the tests in a guest, printing what it prints.
pub(crate) fn run() -> Result<()> {
    Machine::provide()?.test()
}

/// What a guest is made of.
pub(crate) struct Machine {
    /// Debian's kernel, its modules, and a static busybox.
    prefix: Prefix,
    kernel: PathBuf,
}

impl Machine {
    /// Finds or installs everything that a guest needs.
    pub(crate) fn provide() -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            return Err("the virtual machine is an x86-64 one, for an x86-64 host".into());
        }
        setup::for_tests(false)?;
        programs::provide(PROGRAMS)?;
        let prefix = Prefix {
            dir: target_dir().join("vm").join(SUITE),
            packages: &["linux-image-cloud-amd64", "busybox-static", "kmod"],
            programs: &["usr/bin/kmod"],
            libraries: &[],
        };
        if !prefix.is_installed() {
            prefix.install(&Archive::debian(&[SUITE])?, false)?;
        }
        let kernel = only(&prefix.dir.join("boot"), "vmlinuz-")?;
        Ok(Self { prefix, kernel })
    }

    /// Runs the tests in a guest, printing what it prints.
    fn test(&self) -> Result<()> {
        let test = build()?;
        let disk = target_dir().join("vm").join("disk.img");
        self.fill(&disk, &test)?;
        // The emulated processor is not without faults: a guest that says nothing has a second try.
        let status = match self.boot(&disk)? {
            None => {
                eprintln!("the guest ended without a word: once more");
                self.boot(&disk)?
            }
            status => status,
        };
        match status {
            Some(0) => Ok(()),
            Some(status) => Err(format!("tests failed in the virtual machine ({status})").into()),
            None => Err("the guest ended without saying how the tests went, see above".into()),
        }
    }

    /// Makes the guest's disk.
    fn fill(&self, disk: &Path, test: &Path) -> Result<()> {
        let root = disk.with_extension("root");
        let _ = fs::remove_dir_all(&root);
        for folder in ["proc", "sys", "dev", "run", "tmp", "root", "bin", "lib", "usr/lib"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let place = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let copy = |from: &Path| -> Result<()> {
            let to = place(from);
            fs::create_dir_all(to.parent().unwrap_or(&root))?;
            process::read(Command::new("cp").args(["-a", "--dereference"]).arg(from).arg(&to))
                .map(drop)
        };
        // The tests limit their time with coreutils' timeout; busybox' is another.
        let timeout = process::which("timeout").ok_or("timeout is not installed")?;
        for program in [test, &timeout] {
            copy(program)?;
            for library in libraries(program)? {
                copy(&library)?;
            }
        }
        fs::create_dir_all(place(&target_dir().join("tmp")))?;
        for program in criu::unpacked() {
            let suite = program.ancestors().nth(3).unwrap_or(&program);
            fs::create_dir_all(place(suite))?;
            let usr = suite.join("usr");
            process::read(Command::new("cp").arg("-a").arg(&usr).arg(place(suite)))?;
        }
        let dir = &self.prefix.dir;
        fs::create_dir_all(place(dir))?;
        process::read(Command::new("cp").arg("-a").arg(dir.join("usr")).arg(place(dir)))?;
        for lib in ["lib", "usr/lib"] {
            symlink(dir.join("usr/lib/modules"), root.join(lib).join("modules"))?;
        }
        fs::copy(dir.join("usr/bin/busybox"), root.join("bin/busybox"))?;
        let release = name(&only(&dir.join("usr/lib/modules"), "")?);
        // kmod is depmod when it is called so.
        let depmod = root.join("bin/depmod");
        symlink(dir.join("usr/bin/kmod"), &depmod)?;
        let copied = place(dir).join("usr");
        process::read(Command::new(&depmod).arg("--basedir").arg(copied).arg(&release))?;
        let init = INIT
            .replace("@KMOD@", &dir.join("usr/bin/kmod").display().to_string())
            .replace("@TIMEOUT@", &timeout.display().to_string())
            .replace("@TEST@", &test.display().to_string())
            .replace("@FILTER@", FILTER);
        let file = root.join("init");
        fs::write(&file, init)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;

        let _ = fs::remove_file(disk);
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(disk).arg("2G");
        process::read(&mut make)?;
        Ok(fs::remove_dir_all(&root)?)
    }

    /// Boots from the disk; returns the tests' exit status, `None` when the guest ends before them.
    fn boot(&self, disk: &Path) -> Result<Option<i32>> {
        let mut qemu = Command::new("timeout");
        qemu.args(["--kill-after=5", &LIMIT.as_secs().to_string(), "qemu-system-x86_64"])
            // Without pkeys and 5-level paging, which cost emulation time. QEMU 7.2 gets the flags of
            // cmpxchg16b wrong, which crashes kernels, and so does code that one processor changes while
            // another executes it: as the scheduler, whenever CRIU sets a breakpoint.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max,-la57,-pku,-cx16"])
            .args(["-smp", "1", "-m", "1536", "-display", "none", "-nodefaults", "-no-reboot"])
            .args(["-nic", "none", "-serial", "stdio", "-kernel"])
            .arg(&self.kernel)
            .args(["-append", KERNEL])
            .arg("-drive")
            .arg(format!("file={},if=none,id=d,format=raw,snapshot=on", disk.display()))
            .args(["-device", "nvme,drive=d,serial=r"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = qemu.spawn().map_err(|error| format!("cannot start qemu: {error}"))?;
        let mut status = None;
        if let Some(console) = child.stdout.take() {
            for said in BufReader::new(console).split(b'\n') {
                let said = said?;
                let said = String::from_utf8_lossy(&said);
                let said = said.trim_end();
                println!("{said}");
                if said.contains(NONE) {
                    return Err(format!("no test has {FILTER} in its name").into());
                }
                if let Some(number) = said.strip_prefix(STATUS) {
                    status = number.trim().parse().ok();
                }
            }
        }
        match (child.wait()?.code(), status) {
            (Some(TIMED_OUT), None) => Err("the guest hangs, see above".into()),
            _ => Ok(status),
        }
    }
}

/// Builds the tests of a real CRIU; returns the program.
fn build() -> Result<PathBuf> {
    let mut build = cargo(&["test", "--package", "criu-rs", "--test", "real", "--no-run"]);
    build.arg("--message-format=json").stderr(Stdio::inherit());
    let output = build.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err("the tests do not build, see above".into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let key = "\"executable\":\"";
    let mut found = messages.lines().filter_map(|line| line.split_once(key)?.1.split('"').next());
    Ok(found.next_back().ok_or("cargo does not say where the tests are")?.into())
}

/// The libraries that a program loads, its loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let list = process::read(Command::new("ldd").arg(program))?;
    let files = list.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(files.map(PathBuf::from).collect())
}

/// The one entry of a folder whose name begins like this.
fn only(folder: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| name(path).starts_with(start))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(format!("{} should have one {start}*", folder.display()).into()),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

/// Where the guest's packages come from: the suite of the kernel.
const SUITE: &str = "trixie";

/// What the names of the tests that need the guest's kernel have in them.
const FILTER: &str = "pre_dump";

/// What the tests say when there is none of that name.
const NONE: &str = "test result: ok. 0 passed";

/// What runs the guest, and makes its disk.
const PROGRAMS: &[(&str, &str)] =
    &[("qemu-system-x86_64", "qemu-system-x86"), ("mke2fs", "e2fsprogs")];

/// What timeout(1) ends with when time is up.
const TIMED_OUT: i32 = 124;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(240);

const KERNEL: &str = "console=ttyS0 panic=-1 quiet root=/dev/nvme0n1 rw init=/init mitigations=off";

/// Begins the line with the tests' exit status.
const STATUS: &str = "TESTS ENDED WITH";

/// Process 1 of the guest. Without `lo` and the modules every criu command fails.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root CRIU_RS_TEST_TRACKS_MEMORY=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cg /sys/fs/cgroup
ip link set lo up
# The kernel itself asks for modules there.
mkdir /sbin
ln -s @KMOD@ /sbin/modprobe
ln -sf @TIMEOUT@ /bin/timeout
/sbin/modprobe -a unix_diag inet_diag tcp_diag udp_diag raw_diag af_packet_diag netlink_diag tun veth nf_tables
setsid @TEST@ @FILTER@ --test-threads 1 --color never </dev/null
echo TESTS ENDED WITH $?
sync
poweroff -f
";
