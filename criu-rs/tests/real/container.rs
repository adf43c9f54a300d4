//! Payloads in namespaces and a root file system of their own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use criu_lab::rootfs::{everybody, open_the_way, place_program};
use criu_rs::Pid;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::lab::{Lab, Target};

/// `CLONE_NEWTIME`, which the nix crate does not name.
pub const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// A counting process, process 1 of its pid namespace.
pub struct Container {
    pub target: Target,
    /// The root file system, which is a mount point outside.
    pub root: PathBuf,
    outer: Option<Child>,
}

/// The parts in which a container differs from others.
#[derive(Default)]
pub struct Plan<'a> {
    /// Namespaces of its own, in addition to `NEWNS` and `NEWPID`.
    pub namespaces: Option<CloneFlags>,
    /// Bind mounts: each a directory outside, and its mount point inside.
    pub binds: &'a [(&'a Path, &'a str)],
    /// A file from outside that the container has open.
    pub held: Option<&'a Path>,
    /// A process whose network, IPC and UTS namespaces the container enters.
    pub joins: Option<Pid>,
    /// A process whose children's pid namespace the container enters, instead of one of its own.
    pub pid_namespace: Option<Pid>,
    /// The AppArmor profile.
    pub profile: Option<&'a str>,
    /// The words of `/program`, which the container executes instead of a payload.
    pub program: Option<&'a str>,
    /// The payload and its words. The default payload counts.
    pub payload: &'a [&'a str],
}

impl Container {
    /// Starts a container. `NEWNS` and `NEWPID` are always among its namespaces.
    pub fn start(lab: &Lab, namespaces: CloneFlags) -> Self {
        Self::launch(lab, &Plan { namespaces: Some(namespaces), ..Plan::default() })
    }

    /// Starts a container that has a file from outside open.
    pub fn start_holding(lab: &Lab, file: &Path) -> Self {
        Self::launch(lab, &Plan { held: Some(file), ..Plan::default() })
    }

    /// Starts a container with an AppArmor profile.
    pub fn start_confined(lab: &Lab, profile: &str) -> Self {
        Self::launch(lab, &Plan { profile: Some(profile), ..Plan::default() })
    }

    /// Starts a container with bind mounts: each a directory outside, and its mount point inside.
    pub fn start_with(lab: &Lab, namespaces: CloneFlags, binds: &[(&Path, &str)]) -> Self {
        Self::launch(lab, &Plan { namespaces: Some(namespaces), binds, ..Plan::default() })
    }

    /// Starts a container in a user namespace whose first process becomes another program, as user
    /// 7.
    pub fn start_program(lab: &Lab, program: &Path, words: &[&str]) -> Self {
        let root = root_file_system(lab);
        let copy = root.join("program");
        fs::copy(program, &copy).unwrap();
        let said = Command::new("ldd").arg(program).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let libraries = said.lines().filter_map(|line| {
            let (_, path) = line.split_once(" => ")?;
            path.split_whitespace().next()
        });
        for library in libraries.map(Path::new) {
            fs::copy(library, root.join("lib64").join(library.file_name().unwrap())).unwrap();
        }
        let words = words.join(" ");
        let namespaces = Some(CloneFlags::CLONE_NEWUSER);
        Self::launch_in(root, &Plan { namespaces, program: Some(&words), ..Plan::default() })
    }

    /// Starts a container as planned.
    pub fn launch(lab: &Lab, plan: &Plan<'_>) -> Self {
        let container = Self::launch_in(root_file_system(lab), plan);
        container.target.goes_on();
        container
    }

    fn launch_in(root: PathBuf, plan: &Plan<'_>) -> Self {
        let namespaces = plan.namespaces.unwrap_or(CloneFlags::empty());
        mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--payload", "contain", "/count"]).arg(&root);
        command.arg(namespaces.bits().to_string());
        for (outside, inside) in plan.binds {
            fs::create_dir_all(root.join(inside.trim_start_matches('/'))).unwrap();
            command.arg(outside).arg(inside);
        }
        command.envs(plan.held.map(|file| (HELD, file)));
        command.envs(plan.joins.map(|pid| (JOINS, pid.to_string())));
        command.envs(plan.pid_namespace.map(|pid| (PID_NAMESPACE, pid.to_string())));
        command.envs(plan.profile.map(|profile| (PROFILE, profile)));
        command.envs(plan.program.map(|words| (PROGRAM, words)));
        command.env(PAYLOAD, plan.payload.join(" "));
        let mut outer = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(outer.stdout.take().unwrap());
        let mut line = String::new();
        if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
            said.read_line(&mut line).unwrap();
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{map}", outer.id()), "0 100000 65536\n").unwrap();
            }
            outer.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            line.clear();
        }
        said.read_line(&mut line).unwrap();
        let pid: Pid = line.trim().parse().expect("the id of the container's first process");
        let target = Target::at(pid, root.join("count"));
        Self { target, root, outer: Some(outer) }
    }

    /// Waits until the container has ended.
    #[track_caller]
    pub fn is_gone(&mut self) {
        self.outer.take().unwrap().wait().unwrap();
        self.target.is_gone();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.target.end();
        if let Some(mut outer) = self.outer.take() {
            let _ = outer.kill();
            let _ = outer.wait();
        }
        umount2(&self.root, MntFlags::MNT_DETACH).unwrap();
    }
}

/// This program and its libraries, and a null device.
fn root_file_system(lab: &Lab) -> PathBuf {
    let mut names = (1..).map(|n| format!("root-{n}"));
    let root = lab.dir(&names.find(|name| !lab.dir.join(name).exists()).unwrap());
    for folder in ["dev", "lib64", "proc", "old"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    everybody(&root, 0o777);
    place_program(&root);
    let null = root.join("dev/null");
    mknod(&null, SFlag::S_IFCHR, Mode::all(), makedev(1, 3)).unwrap();
    everybody(&null, 0o666);
    open_the_way(&root);
    root
}

/// The task of the outer process: makes the namespaces, and waits.
pub fn contain(words: &[&str]) {
    let (file, root, flags) = (words[0], words[1], words[2].parse::<i32>().unwrap());
    let flags = CloneFlags::from_bits_retain(flags);
    let mut answer = String::new();
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        unshare(CloneFlags::CLONE_NEWUSER).unwrap();
        println!("map me");
        std::io::stdin().read_line(&mut answer).unwrap();
        nix::unistd::setgid(0.into()).unwrap();
        nix::unistd::setuid(0.into()).unwrap();
    }
    let enter = |pid: &str, kind: &str| {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/{kind}")).unwrap();
        nix::sched::setns(namespace, CloneFlags::empty()).unwrap();
    };
    if let Ok(pid) = std::env::var(JOINS) {
        ["net", "ipc", "uts"].iter().for_each(|kind| enter(&pid, kind));
    }
    let rest = flags - CloneFlags::CLONE_NEWUSER;
    unshare(rest | CloneFlags::CLONE_NEWNS).unwrap();
    match std::env::var(PID_NAMESPACE) {
        Ok(pid) => enter(&pid, "pid_for_children"),
        Err(_) => unshare(CloneFlags::CLONE_NEWPID).unwrap(),
    }
    let mut child = Command::new("/proc/self/exe")
        .args(["--payload", "init", file, root])
        .args(&words[3..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    println!("{}", child.id());
    child.wait().unwrap();
}

/// The task of the first process inside before it becomes the payload.
pub fn init(words: &[&str]) {
    let (file, root, binds) = (words[0], Path::new(words[1]), &words[2..]);
    // A descriptor that stays over the exec.
    let held = std::env::var_os(HELD).map(|path| fs::File::open(path).unwrap());
    let _held = held.map(|file| nix::unistd::dup(&file).unwrap());
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(root), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    for bind in binds.chunks(2) {
        let place = root.join(bind[1].trim_start_matches('/'));
        mount(Some(bind[0]), &place, none, MsFlags::MS_BIND, none).unwrap();
    }
    mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), none).unwrap();
    nix::unistd::pivot_root(root, &root.join("old")).unwrap();
    nix::unistd::chdir("/").unwrap();
    umount2("/old", MntFlags::MNT_DETACH).unwrap();
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    nix::unistd::dup2_stdin(&null).unwrap();
    nix::unistd::dup2_stdout(&null).unwrap();
    nix::unistd::dup2_stderr(&null).unwrap();
    if let Some(words) = std::env::var_os(PROGRAM) {
        nix::unistd::setgroups(&[]).unwrap();
        nix::unistd::setgid(7.into()).unwrap();
        nix::unistd::setuid(7.into()).unwrap();
        let error = Command::new("/program")
            .args(words.to_str().unwrap().split(' '))
            .env_clear()
            .env("LD_LIBRARY_PATH", "/lib64")
            .exec();
        panic!("{error}");
    }
    if let Ok(profile) = std::env::var(PROFILE) {
        fs::write("/proc/thread-self/attr/exec", format!("exec {profile}")).unwrap();
    }
    let payload = std::env::var(PAYLOAD).unwrap_or_default();
    let words: Vec<&str> = payload.split_whitespace().collect();
    let (name, words) = words.split_first().unwrap_or((&"count", &[]));
    let error = Command::new("/payload")
        .args(["--payload", name, file])
        .args(words)
        .env_clear()
        .env("LD_LIBRARY_PATH", "/lib64")
        .exec();
    panic!("{error}");
}

/// Gives the words of the program that a container executes instead.
const PROGRAM: &str = "CRIU_RS_PROGRAM";

/// Names the file that a container has open from outside.
const HELD: &str = "CRIU_RS_HELD";
/// Names the process whose namespaces a container enters.
const JOINS: &str = "CRIU_RS_JOINS";
/// Names the process whose pid namespace a container enters.
const PID_NAMESPACE: &str = "CRIU_RS_PID_NAMESPACE";
/// Names the payload of a container.
const PAYLOAD: &str = "CRIU_RS_PAYLOAD";
/// Names the profile of a container.
const PROFILE: &str = "CRIU_RS_PROFILE";
