//! A complete checkpoint and restore of an OCI runtime:
//!
//! ```sh
//! runtime checkpoint BUNDLE PID IMAGES
//! runtime restore BUNDLE ID IMAGES STATE [CONSOLE-SOCKET]
//! ```

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use criu_rs::oci::{Cgroups, ConsoleSocket, Container, RestoreHooks};
use criu_rs::{Criu, HookResult, Hooks, Pid, Tcp};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let words: Vec<String> = std::env::args().skip(1).collect();
    run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs the words of the command line.
pub fn run(words: &[&str]) -> Result {
    match *words {
        ["checkpoint", bundle, pid, images] => checkpoint(bundle, pid.parse()?, images),
        ["restore", bundle, id, images, state] => restore(bundle, id, images, state, None),
        ["restore", bundle, id, images, state, console] => {
            restore(bundle, id, images, state, Some(ConsoleSocket::new(console)))
        }
        _ => Err("wanted: checkpoint BUNDLE PID IMAGES, or restore BUNDLE ID IMAGES STATE".into()),
    }
}

/// Saves a container whose first process is `pid`, and ends it.
fn checkpoint(bundle: &str, pid: Pid, images: &str) -> Result {
    // From config.json and the live container: external mounts, namespaces, freezer, streams.
    let container = Container::open(bundle)?;
    let checkpoint = container.checkpoint(pid)?;
    for external in checkpoint.external() {
        println!("stays outside: {external}");
    }

    // Options that the user of the runtime asked for.
    let dump = checkpoint
        .dump(images)
        .tcp(Tcp::Established)
        .file_locks(true)
        .deadline(Duration::from_secs(60));
    let dumped = dump.run(&Criu::new())?;
    println!("frozen for {:?}", dumped.stats?.frozen);
    Ok(())
}

/// The actions of this runtime while CRIU restores.
struct Adopt<'a> {
    state: &'a Path,
}

impl Hooks for Adopt<'_> {
    /// Records the process. Everything is made and nothing runs yet: the last moment to refuse.
    fn post_restore(&mut self, root: Pid) -> HookResult {
        Ok(std::fs::write(self.state.join("pid"), root.to_string())?)
    }
}

/// Restores a container.
fn restore(
    bundle: &str,
    id: &str,
    images: &str,
    state: &str,
    console: Option<ConsoleSocket>,
) -> Result {
    // Sources of external mounts, namespaces to join, labels, cgroups: values to look at.
    let container = Container::open(bundle)?.cgroups(Cgroups::at(format!("/runtime/{id}"))?);
    let plan = container.restore(images)?;
    for mount in plan.mounts() {
        println!("{} comes from {}", mount.point.display(), mount.source.display());
    }

    // Mount points, a root for CRIU, descriptors of namespaces: they go with `restore`.
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let restore = plan
        .prepare(state)?
        .stdio([input.as_fd(), output.as_fd(), error.as_fd()])
        .tcp(Tcp::Established)
        .file_locks(true)
        .deadline(Duration::from_secs(60));

    // The hooks of config.json run when the namespaces exist; then those of this runtime.
    let mut adopt = Adopt { state: Path::new(state) };
    let mut hooks = RestoreHooks::new(&container, id, &mut adopt);
    if let Some(console) = console {
        hooks = hooks.console(console);
    }
    let restored = restore.run_with(&Criu::new(), &mut hooks)?;
    println!("{id} runs again as process {}", restored.pid);
    Ok(())
}
