//! The guests' disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guest::GUESTS;
use super::{APPARMOR_PARSER, KMOD, Machine, SECILC, Tests, name, only};
use crate::workspace::target_dir;
use crate::{Result, criu, process};

impl Machine {
    /// Makes the disk from which all guests boot.
    pub(super) fn fill(&self, disk: &Path, tests: &Tests) -> Result<()> {
        let root = disk.with_extension("root");
        let _ = fs::remove_dir_all(&root);
        for folder in ["proc", "sys", "dev", "run", "tmp", "root", "bin", "lib/modules", "usr/lib"]
        {
            fs::create_dir_all(root.join(folder))?;
        }
        let place = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(place(&target_dir().join("tmp")))?;
        // A folder may be a link. The programs name their loader by the path without links.
        let folder = |link: &Path| -> Result<PathBuf> {
            let folder = link.canonicalize()?;
            fs::create_dir_all(place(&folder))?;
            if link != folder {
                symlink(&folder, place(link))?;
            }
            Ok(folder)
        };
        let (link, crius) = (criu::folder(), folder(&criu::folder())?);
        let copy = |from: &Path| -> Result<()> {
            // The link of the disk leads out of the disk until the guest boots.
            let at = from.strip_prefix(&link).map_or(from.into(), |rest| crius.join(rest));
            let to = place(&at);
            fs::create_dir_all(to.parent().unwrap_or(&root))?;
            let mut copy = Command::new("cp");
            process::read(copy.args(["-a", "--dereference"]).arg(from).arg(to)).map(drop)
        };
        // The tests limit their time with timeout of coreutils, and CRIU packs with GNU tar; those
        // of busybox differ.
        let find = |name| process::which(name).ok_or(format!("{name} is not installed"));
        let (timeout, tar) = (find("timeout")?, find("tar")?);
        // CRIU loads the plugin beside the tests.
        copy(&tests.real.with_file_name("libcriu_plugin.so"))?;
        for program in [&tests.real, &tests.containers, &timeout, &tar] {
            copy(program)?;
            for library in libraries(program)? {
                copy(&library)?;
            }
        }
        let runtimes = folder(&target_dir().join("runtimes"))?;
        process::read(Command::new("cp").arg("-a").arg(runtimes.join(".")).arg(place(&runtimes)))?;
        for program in criu::unpacked() {
            let program = crius.join(program.strip_prefix(&link)?);
            let suite = program.ancestors().nth(3).unwrap_or(&program);
            fs::create_dir_all(place(suite))?;
            // Older packages still have libraries in /lib; crun loads libcriu, in the folder
            // `link`.
            for folder in ["usr", "lib", "link"].map(|folder| suite.join(folder)) {
                if folder.exists() {
                    process::read(Command::new("cp").arg("-a").arg(&folder).arg(place(suite)))?;
                }
            }
        }
        let dir = &self.prefix.dir;
        fs::create_dir_all(place(dir))?;
        process::read(Command::new("cp").arg("-a").arg(dir.join("usr")).arg(place(dir)))?;
        // kmod acts as depmod if it is called by that name.
        let depmod = root.join("bin/depmod");
        symlink(dir.join(KMOD), &depmod)?;
        // The kernel looks for modules in /lib. Older packages have them there, newer ones in /usr.
        let folder = root.join("lib/modules");
        let new = only(&place(dir).join("usr/lib/modules"), "")?;
        fs::rename(&new, folder.join(name(&new)))?;
        let old = only(&self.old.dir.join("lib/modules"), "")?;
        process::read(Command::new("cp").arg("-a").arg(&old).arg(&folder))?;
        for modules in [new, old] {
            let release = name(&modules);
            process::read(Command::new(&depmod).arg("--basedir").arg(&root).arg(release))?;
        }
        symlink("/lib/modules", root.join("usr/lib/modules"))?;
        fs::copy(dir.join("usr/bin/busybox"), root.join("bin/busybox"))?;
        symlink(dir.join(APPARMOR_PARSER), root.join("bin/apparmor_parser"))?;
        // The parser warns if its file is missing, and CRIU takes the warning for a file's name.
        // Without the other file, libselinux takes SELinux for switched off.
        for file in ["etc/apparmor/parser.conf", "etc/selinux/config"].map(|file| root.join(file)) {
            fs::create_dir_all(file.parent().unwrap_or(&root))?;
            fs::write(file, "")?;
        }
        self.compile_policy(&root.join("policy"))?;

        let init = INIT
            .replace("@KMOD@", &dir.join(KMOD).display().to_string())
            .replace("@PROGRAMS@", &format!("{} {}", timeout.display(), tar.display()))
            .replace("@LIBRARIES@", &criu::link().display().to_string())
            .replace("@REAL@", &tests.real.display().to_string())
            .replace("@CONTAINERS@", &tests.containers.display().to_string())
            .replace("@GUESTS@", &cases());
        let file = root.join("init");
        fs::write(&file, init)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;

        let _ = fs::remove_file(disk);
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(disk).arg("2G");
        process::read(&mut make)?;
        Ok(fs::remove_dir_all(&root)?)
    }

    /// Compiles the SELinux policy of the guest that enforces it.
    fn compile_policy(&self, to: &Path) -> Result<()> {
        let source = to.with_extension("cil");
        fs::write(&source, include_str!("policy.cil"))?;
        let mut secilc = Command::new(self.prefix.dir.join(SECILC));
        secilc.args(["--policyvers", POLICY_VERSION, "--filecontext", "/dev/null", "--output"]);
        process::read(secilc.arg(to).arg(&source)).map(drop)
    }
}

/// Returns the tests of each guest, as shell code for its first process.
fn cases() -> String {
    let case = |guest: &super::Guest| {
        let criu = guest.criu.map(|suite| {
            let program = criu::of_suite(suite);
            format!(" export CRIU_RS_TEST_CRIU={};", program.display())
        });
        format!(
            "{}) tests='{}'; containers='{}';{} ;;\n",
            guest.name,
            guest.tests.join(" "),
            guest.containers.join(" "),
            criu.unwrap_or_default()
        )
    };
    GUESTS.iter().map(case).collect()
}

/// Returns the libraries that a program loads, with its loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let list = process::read(criu::with_library(Command::new("ldd").arg(program)))?;
    let files = list.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(files.map(PathBuf::from).collect())
}

/// The newest policy version that the guest's kernel reads.
const POLICY_VERSION: &str = "33";

/// The script of process 1 in the guests. Without `lo` and the modules every criu command fails.
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
mount -t securityfs sec /sys/kernel/security
ip link set lo up
# The kernel itself asks for modules there.
mkdir /sbin
ln -s @KMOD@ /sbin/modprobe
ln -sf @PROGRAMS@ /bin
/sbin/modprobe -a unix_diag inet_diag tcp_diag udp_diag raw_diag af_packet_diag netlink_diag tun veth nf_tables
read line </proc/cmdline
line=${line#*guest=}
export CRIU_RS_TEST_GUEST=${line%% *}
case $CRIU_RS_TEST_GUEST in
@GUESTS@esac
if [ -e /sys/fs/selinux ]; then
    mount -t selinuxfs selinuxfs /sys/fs/selinux
    # In one piece, as the kernel wants it.
    dd if=/policy of=/sys/fs/selinux/load bs=1M 2>/dev/null
    printf u:r:free_t:s0-s0:c0.c3 >/proc/self/attr/current
fi
status=0
export LD_LIBRARY_PATH=@LIBRARIES@
for test in $tests; do
    setsid @REAL@ $test --test-threads 1 --color never </dev/null || status=$?
done
for test in $containers; do
    setsid @CONTAINERS@ $test --test-threads 1 --color never </dev/null || status=$?
done
echo TESTS ENDED WITH $status
sync
poweroff -f
";
