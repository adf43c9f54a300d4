//! The first process of a copy's pid namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::Duration;

use criu_rs::copies::{Arrival, Identity, Space};
use criu_rs::{
    Cancel, CopyNotice, HookResult, Hooks, InheritFd, Pid, ProbeCache, Restore, Restored,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Program;
use super::plan::LOG;
use super::wire::{self, Moment, News, Orders, Word};
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd;
use crate::options::{Apply, Verbosity};
use crate::own;
use crate::places::{keep_files_private, open_log};
use crate::shown::Shown;
use crate::signals::Signals;

/// Does the work of the first process of a copy. Its end ends the copy.
pub(super) fn run(program: &Program) -> Result<ExitCode, Fault> {
    let failed = |source: io::Error| Fault::system("learn about the copy", source);
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let orders = wire::receive::<Orders>(&control).map_err(failed)?;
    let Some((orders, _)) = orders else {
        return Err(Fault::usage("--inside is for criu-rs itself"));
    };
    own::take_name();
    fd::to_null(0)?;
    keep_files_private();
    let mut copy = Copy { program, orders, control };
    match copy.restore() {
        Ok((restored, arrival)) => copy.stay(&restored, arrival),
        Err(fault) => {
            let (text, error) = (Shown(&fault).to_string(), fault.to_json());
            copy.part(&News::Failed { text, error });
            Ok(fault.exit().into())
        }
    }
}

/// A copy, seen from the inside.
struct Copy<'a> {
    program: &'a Program,
    orders: Orders,
    /// The socket to the process that started this one. The copy ends when the other end does.
    control: OwnedFd,
}

impl Copy<'_> {
    /// Makes the namespaces, and restores the tasks in them.
    fn restore(&mut self) -> Result<(Restored, Arrival), Fault> {
        let (program, orders) = (self.program, &self.orders);
        let opened = |path: &std::path::Path| {
            let flags = (OFlag::O_DIRECTORY | OFlag::O_PATH).bits();
            let file = File::options().read(true).custom_flags(flags).open(path);
            file.map_err(|error| Fault::system(format!("open {}", path.display()), error))
        };
        let shared = |source: io::Error| Fault::system("share standard error", source);
        // What lies below a private directory is not seen any more from then on.
        let images = opened(program.images()?)?;
        let work_dir = opened(&orders.work_dir)?;
        let output = match &orders.output {
            Some(path) => open_log(path)
                .map_err(|error| Fault::system(format!("open {}", path.display()), error))?,
            None => File::from(io::stderr().as_fd().try_clone_to_owned().map_err(shared)?),
        };
        let notice = CopyNotice::read(&(&images).into())?.unwrap_or_default();
        let notice = program.notice.over(notice)?;
        let mut space = Space::new(&orders.hostname).network(program.net);
        for directory in &program.private {
            space = space.private(directory);
        }
        space.enter()?;

        let criu = program.reach.criu()?;
        let cancel = Cancel::new()?;
        let mut config = Config::default();
        let mut restore = Restore::new(&images).work_dir(&work_dir).log_file(LOG);
        restore = restore.cancel(&cancel).grace(GRACE).rst_sibling(true);
        if orders.lazy {
            restore = restore.lazy_pages(true);
        }
        if !program.verbosity.is_empty() {
            restore = restore.log_level(Verbosity::level(&program.verbosity));
        }
        restore = program.reach.apply(restore, &mut config)?;
        restore = program.around.apply(restore, &mut config)?;
        restore = program.files.apply(restore, &mut config)?;
        restore = program.network.apply(restore, &mut config)?;
        restore = program.cgroups.apply(restore, &mut config)?;
        restore = program.jobs.apply(restore, &mut config)?;
        for key in &orders.streams {
            restore = restore.inherit_fd(InheritFd::new(key, &output));
        }
        let config = config.into_file()?;
        if let Some(config) = &config {
            restore = restore.config_file(config.path());
        }

        let failed = |error| Fault::logged(error, &orders.log);
        let mut hooks = Steps { arrival: Arrival::new(identity(orders)?, notice), ran: None };
        let asked = Moment::now();
        let mut session = restore.start(&criu).map_err(failed)?;
        // Without its findings criu tries the kernel out again.
        if let Ok(Some(findings)) = ProbeCache::findings(&criu) {
            let _ = hooks.arrival.show_findings(&findings);
        }
        let mut is_over = false;
        let restored = loop {
            if let Some(restored) = session.advance(&mut hooks).map_err(failed)? {
                break restored;
            }
            let mut fds = vec![PollFd::new(session.as_fd(), PollFlags::POLLIN)];
            // Both the word to end and a closed end mean that the restore is not wanted.
            let control = (!is_over).then(|| self.control.as_fd());
            fds.extend(control.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for criu", source)),
            }
            if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) {
                cancel.cancel();
                is_over = true;
            }
        };
        let ran = hooks.ran.unwrap_or_else(Moment::now);
        // Whoever does not hear this is gone, and the copy ends at once.
        let _ = self.tell(&News::Runs { asked, ran }, restored.pidfd.as_ref());
        Ok((restored, hooks.arrival))
    }

    /// Reaps all processes of the namespace until the root task has ended or the other end of the
    /// socket is closed, and ends the rest.
    fn stay(&self, restored: &Restored, arrival: Arrival) -> Result<ExitCode, Fault> {
        let signals = Signals::hold(&[Signal::SIGCHLD])?;
        let root = nix::unistd::Pid::from_raw(restored.pid.as_raw());
        loop {
            while let Some(ended) = reaped() {
                if let Some(code) = code_of(ended, root) {
                    end(arrival);
                    self.part(&News::Ended(code));
                    return Ok(Exit::Done.into());
                }
            }
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for the tasks", source)),
            }
            if fds[1].any() == Some(true) {
                end(arrival);
                self.part(&News::Ended(ENDED));
                return Ok(Exit::Done.into());
            }
            while signals.next().is_some() {}
        }
    }

    fn tell(&self, news: &News, root: Option<&OwnedFd>) -> io::Result<()> {
        wire::send(&self.control, news, root.map(AsFd::as_fd))
    }

    /// Tells the end of the copy, and waits until that is heard.
    fn part(&self, news: &News) {
        let mut heard = self.tell(news, None).map(|()| Some(Word::End));
        while let Ok(Some(Word::End)) = heard {
            heard = wire::receive(&self.control).map(|word| word.map(|(word, _)| word));
        }
        if !matches!(heard, Ok(Some(Word::Bye))) {
            // The other end was killed, and its directories are left. The last copy removes them.
            let _ = fs::remove_dir_all(&self.orders.work_dir);
            let _ = self.orders.work_dir.parent().map(fs::remove_dir);
        }
    }
}

/// Ends all tasks, and then takes back what the copy was given.
fn end(arrival: Arrival) {
    // All processes of the namespace but this one.
    let _ = kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL);
    while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
    drop(arrival);
}

fn reaped() -> Option<WaitStatus> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    }
}

/// Returns the code of the root task, if it was the root task that ended.
fn code_of(status: WaitStatus, root: nix::unistd::Pid) -> Option<i32> {
    match status {
        WaitStatus::Exited(pid, code) if pid == root => Some(code),
        WaitStatus::Signaled(pid, signal, _) if pid == root => Some(128 + signal as i32),
        _ => None,
    }
}

/// Makes the identity of a copy.
fn identity(orders: &Orders) -> Result<Identity, Fault> {
    let identity = Identity::new(orders.copy, orders.copies, &orders.hostname);
    let mut identity = identity.map_err(|error| Fault::system("get random bytes", error))?;
    for (name, value) in &orders.variables {
        let added = identity.variable(name, value);
        identity = added.map_err(|error| Fault::usage(format!("--env: {error}")))?;
    }
    Ok(identity)
}

/// The time that criu has to undo a restore. The kernel undoes the rest with the namespaces.
const GRACE: Duration = Duration::from_millis(300);

/// The code of a root task that is ended here.
const ENDED: i32 = 128 + Signal::SIGKILL as i32;

/// The hooks of the restore: those of the arrival, and a clock.
struct Steps {
    arrival: Arrival,
    ran: Option<Moment>,
}

impl Hooks for Steps {
    fn pre_restore(&mut self) -> HookResult {
        self.arrival.pre_restore()
    }

    fn post_restore(&mut self, root: Pid) -> HookResult {
        self.arrival.post_restore(root)
    }

    fn pre_resume(&mut self) -> HookResult {
        self.arrival.pre_resume()
    }

    fn post_resume(&mut self) -> HookResult {
        self.ran = Some(Moment::now());
        Ok(())
    }
}
