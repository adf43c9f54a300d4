//! containerd with its plugin for Kubernetes (CRI), and runc.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cri::{Client, Container, Pod, PodNetwork, State};
use super::grpc::Refusal;
use super::node::Node;
use super::tools::path;
use crate::containers::Bed;
use crate::place::{engine, unpacked};
use crate::process::ProcessId;
use crate::sandbox::Sandbox;
use crate::soon;

/// A running containerd. It ends when the value is dropped.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    client: Client,
    dir: PathBuf,
    path: String,
    /// The folder `/run` of its node.
    run: PathBuf,
    command: Command,
}

/// The properties of a containerd.
#[derive(Debug, Default)]
pub struct ContainerdWanted<'w> {
    /// The node that it runs on, in place of the sandbox.
    pub node: Option<&'w Node>,
    /// A file with the certificates of the authorities that it trusts.
    pub authority: Option<&'w Path>,
}

impl Containerd {
    /// Starts containerd, with `pause` as the image of the process that holds a pod.
    ///
    /// # Panics
    /// Panics if containerd does not answer. The message is its log.
    pub fn start<P: ProcessId, C>(bed: &Bed<P, C>, pause: &str) -> Self {
        Self::with(bed, pause, &ContainerdWanted::default())
    }

    /// Starts a containerd of some properties, in the same manner.
    ///
    /// # Panics
    /// Panics if containerd does not answer. The message is its log.
    pub fn with<P: ProcessId, C>(
        bed: &Bed<P, C>,
        pause: &str,
        wanted: &ContainerdWanted<'_>,
    ) -> Self {
        let program = engine("containerd");
        let (name, mut command, run) = match wanted.node {
            None => ("containerd", Command::new(program), PathBuf::from("/run")),
            Some(node) => ("containerd-node", node.command(&program), node.path(Path::new("/run"))),
        };
        let sandbox = Sandbox::check().expect("a sandbox");
        let dir = bed.dir(name);
        give_networks(&dir.join("cni"));
        fs::write(dir.join("config.toml"), config(&dir, pause)).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        let socket = run.join(SOCKET);
        command.arg("--config").arg(dir.join("config.toml"));
        let path = path(&sandbox, bed.runtime.criu());
        command.env_clear().env("PATH", &path).stdin(Stdio::null());
        if let Some(authority) = wanted.authority {
            command.env("SSL_CERT_FILE", authority);
        }
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let (child, client) = up(&mut command, &socket, &dir);
        Self { child, client, dir, path, run, command }
    }

    /// Kills containerd, whose containers run on, and starts it again.
    ///
    /// # Panics
    /// Panics if containerd does not answer. The message is its log.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.socket());
        (self.child, self.client) = up(&mut self.command, &self.run.join(SOCKET), &self.dir);
    }

    /// The process of containerd.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of the socket, as the sandbox sees the path.
    pub fn socket(&self) -> PathBuf {
        self.run.join(SOCKET)
    }

    /// Starts a pod in the network of the sandbox.
    #[track_caller]
    pub fn pod(&self, name: &str) -> PodHandle<'_> {
        self.pod_in(name, PodNetwork::Machine)
    }

    /// Starts a pod.
    #[track_caller]
    pub fn pod_in(&self, name: &str, network: PodNetwork) -> PodHandle<'_> {
        let logs = self.dir.join(name);
        fs::create_dir(&logs).unwrap();
        let config = Pod::new(name, &logs, network);
        let id = self.client.run_pod(&config).unwrap_or_else(|refusal| self.panic(&refusal));
        PodHandle { engine: self, id, config, logs }
    }

    /// Pulls an image. Returns the engine's name for it.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn pull(&self, image: &str) -> Result<String, Refusal> {
        self.client.pull(image)
    }

    /// Checkpoints a container into an archive at `to`. The container runs on.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn checkpoint(&self, container: &str, to: &Path) -> Result<(), Refusal> {
        self.client.checkpoint(container, to)
    }

    /// The bundle of a container that runs, with its root file system in `rootfs`.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.run.join("containerd/io.containerd.runtime.v2.task/k8s.io").join(container)
    }

    /// The command of its runtime, with words of that.
    pub fn runtime(&self, words: &[&str]) -> Command {
        Sandbox::check().expect("a sandbox");
        let mut command = Command::new(unpacked("sbin/runc"));
        command.env("PATH", &self.path).args(["--root", "/run/containerd/runc/k8s.io"]);
        command.args(words);
        command
    }

    #[track_caller]
    fn panic(&self, refusal: &Refusal) -> ! {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        panic!("{refusal}\n{end}");
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts containerd, and waits until it answers.
fn up(command: &mut Command, socket: &Path, dir: &Path) -> (Child, Client) {
    let child = command.spawn().unwrap();
    let mut client = None;
    let is_up = soon(|| {
        client = Client::new(socket).ok();
        client.is_some()
    });
    assert!(is_up, "{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
    (child, client.unwrap())
}

/// A pod, which is removed when the value is dropped.
#[derive(Debug)]
pub struct PodHandle<'a> {
    engine: &'a Containerd,
    id: String,
    config: Pod,
    logs: PathBuf,
}

impl PodHandle<'_> {
    /// Makes a container of an image, or of an archive at a path, and starts it. Each mount is a
    /// path of this machine and the path in the container. Returns the container's id.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn run(
        &self,
        name: &str,
        image: &str,
        mounts: &[(&Path, &str)],
    ) -> Result<String, Refusal> {
        self.run_words(name, (image, &[]), mounts)
    }

    /// Does the same with words in place of those of the image.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn run_words(
        &self,
        name: &str,
        of: (&str, &[&str]),
        mounts: &[(&Path, &str)],
    ) -> Result<String, Refusal> {
        let client = &self.engine.client;
        let id = client.create((&self.id, &self.config), name, of, mounts)?;
        client.start(&id)?;
        Ok(id)
    }

    /// Ends a container, and removes it.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn remove(&self, container: &str) -> Result<(), Refusal> {
        self.engine.client.remove(container)
    }

    /// Waits until a container that runs has counted on in its log, and beyond `least`. Returns the
    /// last number.
    ///
    /// The log of a restored container begins with that of the archive, which containerd copied
    /// after the dump, when the container ran on. Only there may be a step back, to a number beyond
    /// `least`.
    ///
    /// # Panics
    /// Panics if the container has ended, or does not count so far.
    #[track_caller]
    pub fn counts_beyond(&self, container: &str, name: &str, least: u64) -> u64 {
        let numbers = || -> Vec<u64> {
            let text = fs::read_to_string(self.logs.join(format!("{name}.log")));
            let text = text.unwrap_or_default();
            // Lines are: time, stream, tag, what was written.
            text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
        };
        let before = numbers().last().map_or(least, |&last| last.max(least));
        let counted = soon(|| numbers().last().is_some_and(|&last| last > before));
        let status: Container = match self.engine.client.status(container) {
            Ok(status) => status,
            Err(refusal) => self.engine.panic(&refusal),
        };
        let numbers = numbers();
        assert!(
            counted && status.state() == State::Running && goes_on(&numbers, least),
            "{name} has not counted beyond {least}: {status:?} {numbers:?}",
        );
        *numbers.last().unwrap()
    }
}

/// Returns true if numbers rise, or step back once to a number beyond `least`.
fn goes_on(numbers: &[u64], least: u64) -> bool {
    let mut runs = numbers.chunk_by(|one, next| one <= next);
    runs.next();
    runs.next().is_none_or(|run| run[0] > least) && runs.next().is_none()
}

impl Drop for PodHandle<'_> {
    fn drop(&mut self) {
        let _ = self.engine.client.remove_pod(&self.id);
    }
}

/// Makes a folder with the plugin of networks, which gives a pod's network a loopback and nothing
/// else, and says that the pod has an address.
fn give_networks(dir: &Path) {
    fs::create_dir_all(dir.join("plugins")).unwrap();
    let list = r#"{"cniVersion": "1.0.0", "name": "empty", "plugins": [{"type": "empty"}]}"#;
    fs::write(dir.join("empty.conflist"), list).unwrap();
    let plugin = r#"#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]}'
elif [ "$CNI_COMMAND" = ADD ]; then
    nsenter --net="$CNI_NETNS" ip link set lo up
    echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}],
        "ips": [{"address": "10.9.0.2/24", "interface": 0}]}'
fi
"#;
    for name in ["empty", "loopback"] {
        let path = dir.join("plugins").join(name);
        fs::write(&path, plugin).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
}

/// The configuration: the settings that such a machine needs, and two runtimes. An annotation names
/// a file of CRIU's options to `runc`, and none does to `plain`.
fn config(dir: &Path, pause: &str) -> String {
    let (root, cni) = (dir.join("root"), dir.join("cni"));
    let runc = unpacked("sbin/runc");
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
[grpc]
address = "/run/{SOCKET}"
[ttrpc]
address = "/run/{SOCKET}.ttrpc"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
enable_selinux = false
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{cni}/plugins"]
conf_dir = "{cni}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
container_annotations = ["org.criu.config"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.plain]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.plain.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
        root = root.display(),
        cni = cni.display(),
        runc = runc.display(),
    )
}

/// The socket of the engine, in `/run`, which each node has for itself.
const SOCKET: &str = "containerd.sock";
