//! The process of `data/kitchen.py`: starts, dumps and restores it, and asks it if its state is
//! unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criu_lab::process::apart;
use criu_lab::{place, scratch, within};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// The process, and the directory it works in.
pub(crate) struct Kitchen {
    suite: String,
    directory: PathBuf,
    /// Pid of the root of its pid namespace, seen from outside.
    pub(crate) pid: Option<u32>,
    pub(crate) limit: (Option<u64>, Option<u64>),
    /// External key of its /usr.
    pub(crate) key: &'static str,
    /// The parent of the process until a restore.
    unshare: Option<Child>,
}

impl Kitchen {
    pub(crate) fn start(suite: &str, words: &[&str]) -> Self {
        // What `unshare` and `criu` leave behind comes to us and not to whoever may never wait for
        // it.
        set_child_subreaper(true).unwrap();
        let directory = scratch(&format!("kitchen-{suite}-{}", words.len()));
        let root = directory.join("root");
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::create_dir(directory.join("images")).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kitchen.py");
        fs::copy(program, root.join("kitchen.py")).unwrap();
        let mut flags = vec!["--fork", "--pid", "--mount", "--net", "--ipc", "--uts", "--time"];
        if words.contains(&"user") {
            flags.extend(["--user", "--map-root-user"]);
        }
        let script = format!("{}/kitchen.py", root.display());
        let unshare = Command::new("setsid")
            .arg("unshare")
            .args(flags)
            .args(["/usr/bin/python3", &script])
            .arg(&root)
            .args(words)
            .env("KITCHEN_TOKEN", "hunter2hunter2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut kitchen = Self {
            suite: suite.to_owned(),
            directory,
            pid: None,
            limit: (None, None),
            key: "usr",
            unshare: Some(unshare),
        };
        let ready = kitchen.path("root/tmp/ready");
        wait_for("it is ready", || ready.exists());
        let unshare = kitchen.unshare.as_ref().unwrap().id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let children = fs::read_to_string(children).unwrap();
        let pid = children.trim().parse().unwrap();
        kitchen.pid = Some(pid);
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut numbers = line.split_whitespace().skip(3).map(|n| n.parse().ok());
        kitchen.limit = (numbers.next().unwrap(), numbers.next().unwrap());
        kitchen
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn ready(&self) -> BTreeMap<String, serde_json::Value> {
        serde_json::from_slice(&fs::read(self.path("root/tmp/ready")).unwrap()).unwrap()
    }

    /// Address of the memory in which each word holds its own address.
    pub(crate) fn area(&self) -> u64 {
        self.ready()["area"].as_u64().unwrap()
    }

    /// Pids of the root, the zombie, the leader of another session, and the stopped task.
    pub(crate) fn pids(&self) -> [u32; 4] {
        let ready = self.ready();
        let pids = ready["pids"].as_array().unwrap().iter();
        pids.map(|pid| pid.as_u64().unwrap() as u32).collect::<Vec<_>>().try_into().unwrap()
    }

    pub(crate) fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        let copied = Command::new("cp").arg("-a").args([from, &to]).status().unwrap();
        assert!(copied.success());
        to
    }

    pub(crate) fn criu(&self) -> PathBuf {
        place::criu(&self.suite)
    }

    pub(crate) fn dump(&mut self) {
        let images = self.path("images");
        let mut criu = Command::new(self.criu());
        criu.args(["dump", "-v4", "-o", "dump.log", "-t", &self.pid.unwrap().to_string(), "-D"])
            .arg(&images)
            .args(["--external", "mnt[/usr]:usr", "--tcp-established", "--file-locks"])
            .args(["--ghost-limit", "100M"]);
        run(criu, &images.join("dump.log"));
        self.reap();
    }

    /// Restores the images in a directory, with the options that `restore_needs` names.
    pub(crate) fn restore(&mut self, images: &Path) {
        let root = self.path("root");
        _ = fs::remove_file(root.join("tmp/report"));
        let pidfile = images.join("pid");
        _ = fs::remove_file(&pidfile);
        run(self.restoring(images, &pidfile), &images.join("restore.log"));
        let pid = fs::read_to_string(pidfile).unwrap().trim().parse().unwrap();
        self.pid = Some(pid);
    }

    /// Restores images that do not fit the files here. Returns what CRIU says.
    pub(crate) fn restore_fails(&self, images: &Path) -> String {
        let command = self.restoring(images, &images.join("pid"));
        let mut apart = apart(command.get_program());
        let output = apart.args(command.get_args()).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&fs::read(images.join("restore.log")).unwrap()).into_owned()
    }

    fn restoring(&self, images: &Path, pidfile: &Path) -> Command {
        let root = self.path("root");
        // A root that CRIU can move into its place is a mount of its own.
        let mount = "mount --make-rprivate / && mount --bind \"$1\" \"$1\" && shift && exec \"$@\"";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "bash", "-c", mount, "bash"]).arg(&root).arg(self.criu());
        unshare.args(["restore", "-v4", "-o", "restore.log", "-d", "-D"]).arg(images);
        unshare.arg("--root").arg(&root).arg("--pidfile").arg(pidfile);
        unshare.args(["--tcp-established", "--file-locks", "--external"]);
        unshare.arg(format!("mnt[{}]:/usr", self.key));
        unshare
    }

    /// The process's own report of what has changed.
    pub(crate) fn report(&self) -> String {
        let pid = Pid::from_raw(self.pid.unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        let report = self.path("root/tmp/report");
        wait_for("it has looked", || report.exists());
        fs::read_to_string(report).unwrap()
    }

    /// Numbers of seccomp filters of its threads.
    pub(crate) fn filters(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid.unwrap())).unwrap();
        let mut counts: Vec<u32> = tasks
            .map(|task| {
                let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
                let line = status.lines().find(|line| line.starts_with("Seccomp_filters")).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            })
            .collect();
        counts.sort_unstable();
        counts
    }

    pub(crate) fn end(&mut self) {
        if let Some(pid) = self.pid {
            let pid = Pid::from_raw(pid.try_into().unwrap());
            _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            self.reap();
        }
    }

    /// Waits until the process is gone. Its parent may be another process.
    pub(crate) fn reap(&mut self) {
        if let Some(pid) = self.pid.take() {
            _ = waitpid(Pid::from_raw(pid.try_into().unwrap()), None);
            let proc = PathBuf::from(format!("/proc/{pid}"));
            wait_for("it is gone", || !proc.exists());
        }
        if let Some(mut unshare) = self.unshare.take() {
            unshare.wait().unwrap();
        }
    }
}

impl Drop for Kitchen {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let pid = Pid::from_raw(pid.try_into().unwrap());
            _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Runs a command in a session of its own, without any descriptor of the test runner.
fn run(command: Command, log: &Path) {
    let output = apart(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let errors: Vec<_> = log.lines().filter(|line| line.contains("Error")).collect();
    assert!(output.status.success(), "{output:?} {errors:#?}");
}

fn wait_for(what: &str, is: impl FnMut() -> bool) {
    assert!(within(Duration::from_secs(20), is), "waited for: {what}");
}
