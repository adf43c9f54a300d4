//! A second machine, as far as engines see machines.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sandbox::Sandbox;

/// A network namespace and mounts with an empty `/run`, joined to the sandbox by a pair of virtual
/// interfaces. The other files and the process ids are those of the sandbox.
#[derive(Debug)]
pub struct Node {
    /// A process that waits in the namespaces.
    holder: Child,
}

impl Node {
    /// Makes the node, and gives it [`Node::ADDRESS`] and the sandbox [`Node::SANDBOX`].
    ///
    /// # Panics
    /// Panics outside of a sandbox, or if the network cannot be made.
    #[track_caller]
    pub fn join() -> Self {
        Sandbox::check().expect("a sandbox");
        let begin = "mount -t tmpfs run /run && ip link set lo up && echo up && exec sleep 1000000";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", begin]);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "no namespaces of a node's own");
        let node = Self { holder };
        let pid = node.holder.id().to_string();
        let ip = |words: &[&str]| run(Command::new("ip").args(words));
        ip(&["link", "add", "node", "type", "veth", "peer", "name", "cable", "netns", &pid]);
        ip(&["address", "add", &format!("{}/24", Self::SANDBOX), "dev", "node"]);
        ip(&["link", "set", "node", "up"]);
        let ip = |words: &[&str]| run(node.command(Path::new("ip")).args(words));
        ip(&["address", "add", &format!("{}/24", Self::ADDRESS), "dev", "cable"]);
        ip(&["link", "set", "cable", "up"]);
        node
    }

    /// The address of the node.
    pub const ADDRESS: &str = "10.77.0.2";

    /// The address of the sandbox in the same network.
    pub const SANDBOX: &str = "10.77.0.1";

    /// The command of a program on the node.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target"]).arg(self.holder.id().to_string());
        command.arg("--").arg(program);
        command
    }

    /// The path by which the sandbox reaches a path of the node.
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{command:?}: {status:?}");
}
