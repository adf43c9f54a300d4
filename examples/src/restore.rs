//! `restore`: brings a process tree back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Args;
use criu_cri::coordinator::Joined;
use criu_rs::{HookResult, Hooks, Pid, Restore, Restored};
use serde_json::json;

use crate::config::Config;
use crate::descriptors;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::held::Held;
use crate::keys::KeyArgs;
use crate::later::Later;
use crate::options::{
    Apply, Cgroups, Common, Coordinated, Files, Images, Jobs, Lazy, Network, Reach, RestoreOnly,
    ShutNetwork,
};
use crate::output::{Output, micros};
use crate::parent::Parent;
use crate::places::note_writers;
use crate::program::{self, Given};
use crate::progress::Progress;
use crate::remote::RegistryArgs;
use crate::settings;
use crate::word::hand_over;

/// Options of `restore`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    restore: RestoreOnly,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    lazy: Lazy,
    #[command(flatten)]
    later: Later,
    #[command(flatten)]
    cgroups: Cgroups,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    coordinated: Coordinated,
    #[command(flatten)]
    shut_network: ShutNetwork,
    #[command(flatten)]
    reach: Reach,
}

impl program::Program for Program {
    const WORD: &'static str = "restore";
    const ABOUT: &'static str = "Brings a saved process tree back.";
    const MORE: &'static str = "\
Without --restore-detached the program stays the parent of the tree until its last child has ended,
and hands signals on to the root. Then its exit status is 0, as for criu; with --exit-codes it is
that of the root, or 128 and the number of the signal that killed the root. When a restore fails or
is stopped it leaves no process behind.

Examples:
  criu-rs restore -D img                           bring the tree in img back, and wait for it
  criu-rs restore -D img -d                        bring it back, and leave it alone
  criu-rs restore -D img -j                        a job of this terminal
  criu-rs restore -D img -d --pidfile pid          write the root's process id to img/pid
  criu-rs restore -D img --inherit-fd 'fd[1]:pipe:[4711]'
                                                   put standard output in the place of that pipe
  criu-rs restore -D img --exec-cmd -- supervise   become supervise, the tree's parent
  criu-rs restore -D img --lazy                    let it run at once, and bring its memory later
  criu-rs restore -D checkpoint.tar.zst --lazy     the same, from an archive
  criu-rs restore -D registry.example.org/counter:v1 --lazy
                                                   the same, from a registry

With --lazy the memory comes as from `criu-rs lazy-pages`: the program stays until all memory is
there, also with --restore-detached, and a signal that ends it before ends the tree.

--images-dir may name an archive, ARCHIVE:FOLDER, or an image in a registry or layout. CRIU reads
files: they are written to a private directory in the work directory, which is the current one
unless given, and removed at the end. With --lazy only the images and the pages that CRIU itself
reads are written; all others come from the archive or registry, those of a recorded working set
first.
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        self.restore.check()?;
        if self.restore.restore_sibling == Some(true) {
            if self.coordinated.is_given() {
                let why = "--coordinator does not go with --restore-sibling, for which criu itself \
                           is executed";
                return Err(Fault::usage(why));
            }
            return Err(self.as_sibling(given));
        }
        if self.restore.leave_running {
            output.say("--leave-running has no effect on restore, except to undo --leave-stopped");
        }
        if self.later.lazy && (self.lazy.lazy_pages || self.restore.exec_cmd) {
            let other = if self.lazy.lazy_pages { "--lazy-pages" } else { "--exec-cmd" };
            return Err(Fault::usage(format!("--lazy and {other} exclude each other")));
        }
        self.common.prepare()?;
        self.keys.hold().map_err(Fault::Failed)?;
        self.registry.hold();
        let held = Held::open(self.images.path(), &self.common, self.later.time(), output)?;
        let images = held.directory();
        if !held.is_laid_out() {
            note_writers(output, "--images-dir", images);
        }
        let common = held.common(&self.common);
        common.note_work_dir(output);
        let criu = self.reach.criu()?;
        let stays = !self.restore.detaches() && !self.restore.exec_cmd;
        let parent = stays.then(Parent::new).transpose()?;
        let drive = Drive::new()?;

        let mut config = Config::default();
        let mut restore =
            Restore::new(images).cancel(drive.cancel()).rst_sibling(!self.restore.detaches());
        // Not every CRIU has the option, and one that is set asks for the version.
        if self.lazy.lazy_pages {
            restore = restore.lazy_pages(true);
        }
        restore = self.reach.apply(restore, &mut config)?;
        restore = common.apply(restore, &mut config)?;
        restore = self.restore.apply(restore, &mut config)?;
        restore = self.files.apply(restore, &mut config)?;
        restore = self.network.apply(restore, &mut config)?;
        restore = self.cgroups.apply(restore, &mut config)?;
        restore = self.jobs.apply(restore, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            restore = restore.config_file(config.path());
        }

        let log = common.log(images, "restore.log");
        let mut pidfile = PidFile::new(self.restore.pidfile.as_deref(), common.work_dir(images));
        let lost = restore.lost_pipes();
        // The signals are held back by now, and stay so on the threads that bring memory.
        let pages = self.later.pages(&held, output)?;
        let progress = Progress::of_time("restoring");
        let begun = Instant::now();
        let member = self.coordinated.member(drive.cancel(), self.reach.deadline())?;
        let mut member = self.shut_network.given_to(member)?;
        let run = |hooks: &mut dyn Hooks| match &pages {
            None => {
                let restored = drive.run(restore.start(&criu), hooks, &progress, &log);
                restored.map(|restored| (restored, None))
            }
            Some(pages) => {
                let started = restore.lazy(pages).start(&criu);
                let restored = drive.run(started, hooks, &progress, &log);
                restored.map(|(restored, memory)| (restored, Some(memory)))
            }
        };
        let restored = match &mut member {
            None => run(&mut pidfile),
            // A member waits for others inside of a hook.
            Some(member) => drive.watch(|| run(&mut Joined::new(member, &mut pidfile)))?,
        };
        drop(member);
        let (restored, memory) = restored.map_err(|fault| common.name_log(fault))?;
        drop(progress);
        common.print_log();
        pidfile.keep();
        self.tell(output, &restored, begun.elapsed());
        held.tell(output);
        for need in lost {
            let option = need.argument();
            output.say(format!("nobody has the other end of a pipe: {option} would give one"));
        }
        if let Some(parent) = parent {
            let later = &self.later;
            let (end, came) = std::thread::scope(|scope| {
                let memory = memory.as_ref();
                let come = |memory| scope.spawn(move || later.accompany(memory, images, output));
                let come = memory.map(come);
                let end = parent.stay(&restored, drive.received());
                (end, come.map_or(Ok(()), |come| come.join().unwrap_or(Ok(()))))
            });
            let end = end?;
            if came.is_err() {
                // It is said by now.
                return Ok(Exit::Failed.into());
            }
            return Ok(if self.reach.exit_codes { end } else { Exit::Done.into() });
        }
        if let Some(memory) = memory {
            self.later.stay(memory, &drive, images, output)?;
        }
        // Signals from now on are for the command.
        drop(drive);
        drop(held);
        if self.restore.exec_cmd { Err(self.become_command()) } else { Ok(Exit::Done.into()) }
    }
}

impl Program {
    fn tell(&self, output: &Output, restored: &Restored, elapsed: Duration) {
        let stats = restored.stats.as_ref().ok();
        output.done(
            format!("process {} runs again after {elapsed:.1?}", restored.pid),
            json!({
                "pid": restored.pid.as_raw(),
                "images": self.images.path().to_string_lossy(),
                "detached": self.restore.detaches(),
                "elapsed_us": micros(elapsed),
                "statistics": stats,
            }),
        );
        if let (Some(true), Some(stats)) = (self.jobs.display_stats, stats) {
            output.print(stats);
        }
    }

    /// Becomes the command, which is then the tree's parent, as with `criu`. Returns only if that
    /// fails.
    fn become_command(&self) -> Fault {
        let Some((program, args)) = self.restore.command.split_first() else {
            return Fault::usage("--exec-cmd needs a command after --");
        };
        self.common.end_log();
        if let Err(fault) = descriptors::give_back() {
            return fault;
        }
        let source = Command::new(program).args(args).exec();
        Fault::system(format!("execute {}", program.to_string_lossy()), source)
    }

    /// Becomes `criu`. The tree's parent is to be the parent of this program, and only the process
    /// that forks the tree can give it to its own parent. Returns only if that fails.
    fn as_sibling(&self, given: &Given) -> Fault {
        match self.reach.only_here() {
            Some(option) => Fault::usage(format!(
                "{option} does not go with --restore-sibling, for which criu itself is executed"
            )),
            None => {
                if let Err(fault) = settings::refuse_pipe(&given.all) {
                    return fault;
                }
                let args = [&["restore".into()], given.for_criu.as_slice()].concat();
                hand_over(self.reach.criu_path(), &args)
            }
        }
    }
}

/// The file for the root's process id.
struct PidFile {
    path: Option<PathBuf>,
    written: bool,
}

impl PidFile {
    fn new(path: Option<&Path>, work_dir: &Path) -> Self {
        Self { path: path.map(|path| work_dir.join(path)), written: false }
    }

    /// Keeps the file, since the restore is complete.
    fn keep(mut self) {
        self.written = false;
    }
}

impl Hooks for PidFile {
    fn post_restore(&mut self, root: Pid) -> HookResult {
        let Some(path) = &self.path else { return Ok(()) };
        let named = |error| format!("--pidfile: cannot write {}: {error}", path.display());
        // An existing file is not overwritten, as by CRIU.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(named)?;
        self.written = true;
        write!(file, "{root}").map_err(named)?;
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let (true, Some(path)) = (self.written, &self.path) {
            let _ = fs::remove_file(path);
        }
    }
}
