//! A server, and the processes that are dumped into it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use criu_lab::{process, soon};
use criu_rs::Pid;

/// A live payload.
pub type Target = criu_lab::Target<Pid>;

/// A CRIU, and a directory to work in.
#[derive(Debug)]
pub struct Scene {
    pub criu: PathBuf,
    pub dir: PathBuf,
}

/// A page server, the built program. It is killed with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub images: PathBuf,
}

/// The descriptors, threads and memory of a server.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub descriptors: usize,
    pub threads: usize,
    /// Bytes of memory that it took at most.
    pub memory: u64,
}

impl Scene {
    pub fn new(criu: &Path, dir: PathBuf) -> Self {
        Self { criu: criu.into(), dir }
    }

    /// `criu-rs WORDS`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
        command.args(words).current_dir(&self.dir).env("CRIU", &self.criu);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a server on loopback, with at most so many open descriptors.
    pub fn serve(&self, name: &str, words: &[&str], descriptors: u32) -> Server {
        let images = self.dir.join(name);
        let place = images.to_string_lossy();
        let own = ["page-server", "-D", &place];
        let command = self.command(&[&own[..], words].concat());
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={descriptors}")).arg(command.get_program());
        limited.args(command.get_args()).current_dir(&self.dir).stdin(Stdio::null());
        let log = self.dir.join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        let child = limited.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        // The kernel chooses the port. The server tells it when it has confined itself.
        let mut server = Server { child, address: (Ipv4Addr::LOCALHOST, 0).into(), images };
        let listens = soon(|| {
            let said = fs::read_to_string(&log).unwrap();
            let rest = said.split_once("listens on 127.0.0.1 port ").map(|(_, rest)| rest);
            let Some((port, _)) = rest.and_then(|rest| rest.split_once('\n')) else { return false };
            server.address.set_port(port.parse().unwrap());
            true
        });
        assert!(listens, "the server does not listen");
        server
    }

    /// Starts payloads with so many MiB of memory.
    pub fn targets(&self, number: usize, mebibytes: u32) -> Vec<Target> {
        let start = |n| {
            let words = ["memory", &mebibytes.to_string()];
            Target::start(&words, &self.dir.join(format!("count-{n}")), |command| command)
        };
        (0..number).map(start).collect()
    }

    /// Dumps all payloads at once into a server, and lets them run on. Returns the time that each
    /// dump took, or the reason why it failed.
    pub fn dump(
        &self,
        name: &str,
        targets: &[Target],
        server: &Server,
    ) -> Vec<Result<Duration, String>> {
        thread::scope(|scope| {
            let dump = |(n, target): (usize, &Target)| {
                let images = self.dir.join(format!("{name}-{n}"));
                fs::create_dir(&images).unwrap();
                let (pid, place) = (target.pid(), images.to_string_lossy().into_owned());
                let port = server.address.port().to_string();
                let words = ["dump", "-R", "-t", &pid, "-D", &place, "--page-server"];
                let to = ["--address", "127.0.0.1", "--port", &port];
                let mut dump = self.command(&[&words[..], &to].concat());
                scope.spawn(move || {
                    let begun = Instant::now();
                    let ran = dump.output().unwrap();
                    let took = begun.elapsed();
                    fs::remove_dir_all(images).unwrap();
                    if ran.status.success() {
                        Ok(took)
                    } else {
                        Err(String::from_utf8_lossy(&ran.stderr).into_owned())
                    }
                })
            };
            let dumps: Vec<_> = targets.iter().enumerate().map(dump).collect();
            dumps.into_iter().map(|dump| dump.join().unwrap()).collect()
        })
    }
}

impl Server {
    /// Tells if the server has not ended.
    pub fn goes_on(&self) -> bool {
        process::reap();
        !process::has_ended(Pid::from(&self.child))
    }

    /// Connects, as the user of this thread.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Returns what the server has open and has taken.
    pub fn spent(&self) -> Spent {
        let own = format!("/proc/{}", self.child.id());
        let entries = |name: &str| fs::read_dir(format!("{own}/{name}")).unwrap().count();
        let status = fs::read_to_string(format!("{own}/status")).unwrap();
        let row = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = row.split_whitespace().next().unwrap().parse().unwrap();
        let (descriptors, threads) = (entries("fd"), entries("task"));
        Spent { descriptors, threads, memory: kilobytes << 10 }
    }

    /// Returns the paths of all files below the images directory, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        fn below(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    below(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        below(&self.images, &mut found);
        found.sort();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
