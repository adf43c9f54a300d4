//! podman with runc, its images and containers below one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use procfs::process::{Process, all_processes};

use super::tools::{Said, finish, path, trusting};
use super::workload::{WORDS, root_file_system};
use crate::containers::Bed;
use crate::place::{engine, engines, unpacked};
use crate::process::ProcessId;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::soon;

/// A podman whose store lies in a directory of its own. Its containers go with it.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    /// The root file system of its images.
    image: PathBuf,
    path: String,
}

impl Podman {
    /// Makes the store, and the image [`Podman::IMAGE`].
    pub fn new<P: ProcessId, C>(bed: &Bed<P, C>) -> Self {
        let sandbox = Sandbox::check().expect("a sandbox");
        let dir = bed.dir("podman");
        let path = path(&sandbox, bed.runtime.criu());
        let mut podman = Self { path, image: PathBuf::new(), dir };
        podman.configure();
        podman.image = root_file_system(&podman.dir);
        podman.make(Self::IMAGE, WORDS);
        podman
    }

    /// The image whose containers count.
    pub const IMAGE: &str = "localhost/count:1";

    /// The command with words of it.
    pub fn command(&self, words: &[&str]) -> Command {
        // Outside of a sandbox no runtime may run, whatever happened since.
        Sandbox::check().expect("a sandbox");
        let mut command = Command::new(engine("podman"));
        command.env_clear().env("PATH", &self.path).env("HOME", self.dir.join("home"));
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        command.args(words);
        command
    }

    /// The command of its runtime, with words of that.
    pub fn runtime(&self, words: &[&str]) -> Command {
        Sandbox::check().expect("a sandbox");
        let mut command = Command::new(unpacked("sbin/runc"));
        command.env("PATH", &self.path).args(words);
        command
    }

    /// Runs it with words to its end.
    #[track_caller]
    pub fn say(&self, words: &[&str]) -> Said {
        finish(&mut self.command(words))
    }

    /// Runs it with words, which must succeed. Returns its output.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> String {
        self.say(words).done()
    }

    /// Pushes the image to a registry. Returns its name there.
    #[track_caller]
    pub fn push(&self, registry: &Registry) -> String {
        self.push_as(Self::IMAGE, &registry.name("count:1"))
    }

    /// Pushes an image for the process that holds a pod. Returns its name there.
    #[track_caller]
    pub fn push_pause(&self, registry: &Registry) -> String {
        let image = "localhost/pause:1";
        self.make(image, &["/bin/sleep", "1000000"]);
        self.push_as(image, &registry.name("pause:1"))
    }

    #[track_caller]
    fn push_as(&self, image: &str, name: &str) -> String {
        let to = format!("docker://{name}");
        self.done(&["push", "--quiet", "--tls-verify=false", image, &to]);
        name.to_owned()
    }

    /// Makes an image whose containers run words.
    #[track_caller]
    fn make(&self, name: &str, words: &[&str]) {
        let change = format!("ENTRYPOINT {}", serde_json::to_string(words).unwrap());
        finish(self.command(&["import", "--change", &change]).arg(&self.image).arg(name)).done();
    }

    /// Starts a container without a network, with further options, and waits until it counts.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str]) {
        self.run_image(Self::IMAGE, name, options);
    }

    /// Does the same with an image of another name.
    #[track_caller]
    pub fn run_image(&self, image: &str, name: &str, options: &[&str]) {
        let words = ["run", "--detach", "--network", "none", "--name", name];
        self.done(&[&words, options, &[image]].concat());
        self.goes_on(name);
    }

    /// Pulls an image from a registry.
    #[track_caller]
    pub fn pull(&self, image: &str) {
        self.done(&["pull", "--quiet", "--tls-verify=false", image]);
    }

    /// Checkpoints a container into an archive, with further options, and removes it and its
    /// volumes.
    #[track_caller]
    pub fn export(&self, name: &str, to: &Path, options: &[&str]) {
        let to = to.to_str().unwrap();
        let words = ["container", "checkpoint", "--export", to];
        self.done(&[&words, options, &[name]].concat());
        self.done(&["rm", "--force", "--volumes", name]);
        self.done(&["volume", "rm", "--all", "--force"]);
    }

    /// Restores a container of an archive under a name, with further options, and waits until it
    /// counts on. Returns the number that it had reached at the checkpoint or later.
    #[track_caller]
    pub fn import(&self, from: &Path, name: &str, options: &[&str]) -> u64 {
        let from = from.to_str().unwrap();
        let words = ["container", "restore", "--keep", "--import", from, "--name", name];
        let said = self.say(&[&words, options].concat());
        assert!(said.is_done, "{}{}", said.err, self.faults());
        self.goes_on(name)
    }

    /// The faults in CRIU's logs of restores.
    fn faults(&self) -> String {
        let mut faults = String::new();
        for folder in fs::read_dir(self.dir.join("store/vfs-containers")).into_iter().flatten() {
            let log = folder.unwrap().path().join("userdata/restore.log");
            for line in fs::read_to_string(log).unwrap_or_default().lines() {
                if line.contains("Error") {
                    faults += line;
                    faults += "\n";
                }
            }
        }
        faults
    }

    /// Checks that a restored container has the files that it had changed.
    #[track_caller]
    pub fn has_its_root(&self, name: &str) {
        assert!(self.cat(name, "/etc/passwd").done().ends_with("changed\n"));
        assert!(self.cat(name, "/etc/passwd.old").failed().contains("No such file"));
        assert_eq!(self.cat(name, "/data/kept").done(), "kept\n");
    }

    fn cat(&self, container: &str, path: &str) -> Said {
        self.say(&["exec", container, "/bin/cat", path])
    }

    /// The id of [`Podman::IMAGE`], of 64 digits.
    pub fn image_id(&self) -> String {
        self.done(&["image", "inspect", "--format", "{{.Id}}", Self::IMAGE]).trim().to_owned()
    }

    /// The number to which a container has counted.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.cat(name, "/count").out.trim().parse().unwrap_or(0)
    }

    /// Waits until a container has counted on. Returns its number.
    #[track_caller]
    pub fn goes_on(&self, name: &str) -> u64 {
        let (mut first, mut last) = (0, 0);
        let is_counting = soon(|| {
            last = self.count(name);
            first = if first == 0 { last } else { first };
            last > first
        });
        assert!(is_counting, "{name} does not count on from {first}: {}", self.state());
        last
    }

    fn state(&self) -> String {
        let said = self.say(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]);
        said.out + &said.err
    }

    fn configure(&self) {
        trusting(&self.dir.join("home"));
        let engines = engines();
        let containers = format!(
            "[containers]\ndefault_sysctls = []\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             conmon_path = [\"{}/bin/conmon\"]\nhelper_binaries_dir = [\"{}/lib/podman\"]\n\
             runtime = \"runc\"\n[engine.runtimes]\nrunc = [\"{}\"]\n",
            engines.display(),
            engines.display(),
            unpacked("sbin/runc").display(),
        );
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/podman\"\ngraphroot = \"{}\"\n",
            self.dir.join("store").display(),
        );
        fs::write(self.dir.join("containers.conf"), containers).unwrap();
        fs::write(self.dir.join("storage.conf"), storage).unwrap();
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Mounts of containers would keep the directory from being removed.
        let _ = self.say(&["rm", "--all", "--force", "--time", "0"]);
        // A container that has ended is cleaned up in the background, which writes there.
        soon(|| !is_at_work());
    }
}

/// Returns true while a podman or its watch over a container runs in the sandbox.
fn is_at_work() -> bool {
    let is_its = |process: Process| {
        let stat = process.stat().ok();
        stat.is_some_and(|stat| stat.state != 'Z' && matches!(&*stat.comm, "podman" | "conmon"))
    };
    all_processes().unwrap().flatten().any(is_its)
}
