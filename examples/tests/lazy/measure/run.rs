//! A restore that is measured.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criu_lab::oracle::{Remote, Report, Task};
use criu_lab::{soon, uffd};
use nix::sys::resource::{UsageWho, getrusage};

use super::Hall;
use crate::copies::Copy;
use crate::handler::{self, Handler};
use crate::scene::{Target, finish};
use crate::source::{self, Source};

/// A way to restore.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// A restore of all pages.
    Full,
    /// A lazy one.
    Lazy(handler::Kind),
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full restore",
            Self::Lazy(handler::Kind::Criu) => "criu lazy-pages",
            Self::Lazy(handler::Kind::Program) => "criu-rs lazy-pages",
            Self::Lazy(handler::Kind::Library(settings)) if settings.with_record => {
                "criu-rs with a record"
            }
            Self::Lazy(handler::Kind::Library(_)) => "criu-rs",
        }
    }
}

/// The times of a restore since its command was started.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The start of the command, since 1970.
    begun: Duration,
    /// The end of the command.
    pub restored: Duration,
    /// The end of what was waited for.
    pub answered: Duration,
    /// The first instruction of the restored process.
    pub first: Duration,
    /// The end of the task.
    pub end: Duration,
    /// The end of the daemon: all pages are there.
    pub filled: Duration,
    /// Processor time of the daemon.
    pub cpu: Duration,
    pub report: Report,
}

/// A saved oracle, for any number of restores.
pub struct Saved<'h> {
    hall: &'h Hall,
    target: Target,
    remote: Remote,
    pub images: std::path::PathBuf,
}

impl Hall {
    /// Saves an oracle.
    pub fn saved(&self) -> Saved<'_> {
        let _ = fs::remove_dir_all(self.scene.dir.join("images"));
        let (target, remote, images) = self.scene.saved(self.mebibytes, false);
        Saved { hall: self, target, remote, images }
    }

    /// Dumps an oracle that serves its pages, and restores it in another pid namespace.
    pub fn serve_from_dump(&self, side: handler::Kind, task: Task) -> Times {
        let images = self.scene.folder("images");
        fs::remove_dir_all(&images).unwrap();
        fs::create_dir(&images).unwrap();
        let (mut target, remote) = self.scene.oracle(self.mebibytes, false);
        let source = Source::dump(&self.scene, &target, &images);
        let work = self.scene.folder("work");
        let handler = Handler::start(side, &self.scene, &images, &source, &work);
        remote.give(task, "report");
        let command = self.restore(Side::Lazy(side), &images);
        let begun = now();
        let copy = Copy::start(&command, &self.scene.dir.join("status"));
        copy.is_restored().unwrap();
        let mut times = Times { begun, restored: now() - begun, ..Times::default() };
        times.take(&remote.report("report", Duration::from_secs(60)).unwrap());
        times.await_end(begun, handler);
        drop(copy);
        target.is_gone_alone();
        source.ends();
        times
    }

    fn restore(&self, side: Side, images: &Path) -> Command {
        let mut restore = self.scene.criu(&["restore", "-d", "-o", "restore.log", "-D"]);
        restore.arg(images).arg("-W").arg(self.scene.folder("work"));
        if !matches!(side, Side::Full) {
            restore.arg("--lazy-pages");
        }
        restore
    }
}

impl Saved<'_> {
    /// Restores once, has the oracle do a task, and ends the restored process.
    pub fn restore(&mut self, side: Side, kind: source::Kind, task: Task) -> Times {
        self.remote.give(task, "report");
        let Self { hall, target, remote, images } = self;
        let mut report = None;
        let mut times = hall.restored(target, images, side, kind, || {
            report = Some(remote.report("report", Duration::from_secs(60)).unwrap());
        });
        times.take(&report.unwrap());
        times
    }
}

impl Hall {
    /// Restores a saved process, waits for `during`, and ends the process.
    pub fn restored(
        &self,
        target: &mut Target,
        images: &Path,
        side: Side,
        kind: source::Kind,
        during: impl FnOnce(),
    ) -> Times {
        let source = match kind {
            source::Kind::PageServer => Source::server(images),
            source::Kind::Images => Source::images(),
        };
        let (scene, work) = (&self.scene, self.scene.folder("work"));
        let handler = match side {
            Side::Full => None,
            Side::Lazy(kind) => Some(Handler::start(kind, scene, images, &source, &work)),
        };
        let mut command = self.restore(side, images);
        let begun = now();
        finish(&mut command);
        let mut times = Times { begun, restored: now() - begun, ..Times::default() };
        during();
        times.answered = now() - begun;
        if matches!(side, Side::Lazy(handler::Kind::Library(settings)) if settings.record) {
            // A recording ends with the task.
            target.kill();
        }
        if let Some(handler) = handler {
            times.await_end(begun, handler);
            source.ends();
            if std::env::var_os("CRIU_RS_LAZY_LOGS").is_some() {
                println!("{}: {}", side.name(), handler::said(&work));
            }
        }
        target.end();
        times
    }
}

impl Times {
    fn take(&mut self, report: &Report) {
        report.is_right(0).unwrap();
        self.first = report.time("first").saturating_sub(self.begun);
        self.end = report.time("end").saturating_sub(self.begun);
        self.report = report.clone();
    }

    fn await_end(&mut self, begun: Duration, handler: Handler) {
        // Only the daemon is waited for meanwhile.
        let before = spent();
        handler.ends().unwrap();
        self.filled = now() - begun;
        self.cpu = spent() - before;
    }
}

/// Processes that keep processors busy. They end with this value.
pub struct Busy(Vec<Child>);

impl Busy {
    /// A process for each processor, bound to it.
    pub fn everywhere() -> Self {
        let number = std::thread::available_parallelism().unwrap().get();
        let spin = |processor: usize| {
            let mut command = Command::new("/proc/self/exe");
            command.args([SPIN, &processor.to_string()]).stdin(Stdio::null()).spawn().unwrap()
        };
        let busy = Self((0..number).map(spin).collect());
        let is_busy = |child: &Child| {
            let name = fs::read_to_string(format!("/proc/{}/cmdline", child.id()));
            name.is_ok_and(|name| name.contains(SPIN))
        };
        assert!(soon(|| busy.0.iter().all(is_busy)));
        std::thread::sleep(Duration::from_millis(20));
        busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `PROCESSOR`: computes for ever.
pub fn spin(words: &[String]) -> ! {
    uffd::pin(Some(words[0].parse().unwrap()));
    loop {
        std::hint::spin_loop();
    }
}

/// Processor time of the children that have been waited for.
fn spent() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micro = |time: nix::sys::time::TimeVal| {
        use nix::sys::time::TimeValLike;
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap())
    };
    micro(usage.user_time()) + micro(usage.system_time())
}

/// Returns the time since 1970.
pub fn now() -> Duration {
    std::time::UNIX_EPOCH.elapsed().unwrap()
}

/// The word that makes this program compute for ever.
pub const SPIN: &str = "--spin";
