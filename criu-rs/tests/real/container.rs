//! Payloads in namespaces and a root file system of their own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
    /// Its root file system, a mount point out here.
    pub root: PathBuf,
    outer: Option<Child>,
}

impl Container {
    /// Starts one. `NEWNS` and `NEWPID` are always among its namespaces.
    pub fn start(lab: &Lab, namespaces: CloneFlags) -> Self {
        Self::start_with(lab, namespaces, &[])
    }

    /// Starts one that has a file from outside open.
    pub fn start_holding(lab: &Lab, file: &Path) -> Self {
        Self::launch(lab, CloneFlags::empty(), &[], Some(file))
    }

    /// Starts one with bind mounts: a directory outside, and where to mount it inside.
    pub fn start_with(lab: &Lab, namespaces: CloneFlags, binds: &[(&Path, &str)]) -> Self {
        Self::launch(lab, namespaces, binds, None)
    }

    fn launch(
        lab: &Lab,
        namespaces: CloneFlags,
        binds: &[(&Path, &str)],
        held: Option<&Path>,
    ) -> Self {
        let root = root_file_system(lab);
        mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--payload", "contain", "/count"]).arg(&root);
        command.arg(namespaces.bits().to_string());
        for (outside, inside) in binds {
            fs::create_dir_all(root.join(inside.trim_start_matches('/'))).unwrap();
            command.arg(outside).arg(inside);
        }
        command.envs(held.map(|file| (HELD, file)));
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
        target.goes_on();
        Self { target, root, outer: Some(outer) }
    }

    /// Waits until it has ended.
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
    let root = lab.dir("root");
    for folder in ["dev", "lib64", "proc", "old"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let everybody = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    everybody(&root, 0o777);
    let program = root.join("payload");
    fs::copy("/proc/self/exe", &program).unwrap();
    everybody(&program, 0o755);
    let maps = procfs::process::Process::myself().unwrap().maps().unwrap();
    for map in maps {
        let procfs::process::MMapPath::Path(path) = map.pathname else { continue };
        if path.to_string_lossy().contains(".so") {
            // By the name that programs want: of libc.so.6.1, libc.so.6.
            let name = path.file_name().unwrap().to_str().unwrap();
            let end = name.split_once(".so.").and_then(|(_, rest)| rest.find('.'));
            let end = end.map_or(name.len(), |at| name.find(".so.").unwrap() + 4 + at);
            let copy = root.join("lib64").join(&name[..end]);
            fs::copy(&path, &copy).unwrap();
            everybody(&copy, 0o755);
        }
    }
    let null = root.join("dev/null");
    mknod(&null, SFlag::S_IFCHR, Mode::all(), makedev(1, 3)).unwrap();
    everybody(&null, 0o666);
    // The path to it must be open to the users of a user namespace.
    for folder in
        root.ancestors().skip(1).take_while(|f| f.ends_with("tmp") || f != &Path::new("/"))
    {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        if mode & 0o001 == 0 {
            everybody(folder, mode | 0o011);
        }
    }
    root
}

/// What the outer process does: it makes the namespaces, and waits.
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
    let rest = flags - CloneFlags::CLONE_NEWUSER;
    unshare(rest | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).unwrap();
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

/// What the first process inside does before it becomes the payload.
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
    let error = Command::new("/payload")
        .args(["--payload", "count", file])
        .env_clear()
        .env("LD_LIBRARY_PATH", "/lib64")
        .exec();
    panic!("{error}");
}

/// Names the file that a container has open from outside.
const HELD: &str = "CRIU_RS_HELD";
