//! A container's checkpoint and restore in an event loop, in one thread.
//!
//! `async-container BUNDLE PID DIRECTORY` saves a container, which ends, and brings it back.

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use criu_rs::oci::{Container, RestoreHooks};
use criu_rs::{Criu, Hooks, Restored, Session};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, bundle, pid, directory] = args.as_slice() else {
        eprintln!(
            "Usage: async-container BUNDLE PID DIRECTORY\n\nThe variable CRIU names the criu."
        );
        return ExitCode::from(2);
    };
    let ticks = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            print!(".");
            let _ = std::io::stdout().flush();
        }
    };
    tokio::select! {
        restored = there_and_back(bundle, pid, directory) => match restored {
            Ok(restored) => {
                println!("\nprocess {} runs again", restored.pid);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("\nasync-container: {error}");
                ExitCode::FAILURE
            }
        },
        () = ticks => ExitCode::FAILURE,
    }
}

async fn there_and_back(bundle: &str, pid: &str, directory: &str) -> Result<Restored> {
    let criu = Criu::at(std::env::var_os("CRIU").unwrap_or_else(|| "criu".into()));
    let container = Container::open(bundle)?;

    // A container's dump is a plain dump and the hooks that complete it.
    let checkpoint = container.checkpoint(pid.parse()?)?;
    let mut own = ();
    let (dump, mut hooks) = checkpoint.dump(directory).parts(&mut own)?;
    finish(dump.start(&criu)?, &mut hooks).await?;

    // What was prepared lives until the session is over.
    let restore = container.restore(directory)?.prepare(directory)?;
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let restore = restore.stdio([input.as_fd(), output.as_fd(), error.as_fd()]);
    let mut own = ();
    let mut hooks = RestoreHooks::new(&container, "async", &mut own);
    finish(restore.start(&criu)?, &mut hooks).await
}

/// Goes on with a session whenever its descriptor is ready.
async fn finish<T>(mut session: Session<T>, hooks: &mut dyn Hooks) -> Result<T> {
    // A duplicate, because the session has to be borrowed to go on.
    let descriptor = session.as_fd().try_clone_to_owned()?;
    // Newer versions of tokio want `unsafe` here, for types whose descriptor may change. This one's
    // cannot.
    #[allow(deprecated)]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    loop {
        if let Some(outcome) = session.advance(hooks)? {
            return Ok(outcome);
        }
        descriptor.readable().await?.clear_ready();
    }
}
