//! Running an instant capture.

use std::error::Error as StdError;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};

use criu_images::ImageSet;
use criu_images::source::Source;
use criu_plugin::journal::{Field, State};

use super::delta::Delta;
use super::error::InstantError;
use super::flags::Flags;
use super::guard::Guard;
#[cfg(feature = "pod")]
use super::held::Late;
use super::held::{Held, Holders};
use super::images::Taker;
use super::library::Library;
use super::memory::Memory;
use super::options::InstantOptions;
use super::orphans;
#[cfg(feature = "pod")]
use super::outcome::ReadOut;
use super::outcome::{InstantCapture, Reading, TaskCapture, Way, WhyNot};
use super::plan::{Plan, Verdict};
use super::read::{Agreed, Job, Sink};
use super::shared::{self, Shared};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::host::namespaces::in_user_namespace;
use crate::host::tree;
use crate::operation::{Captured, Dump, Dumped};
use crate::pages::tape::Tape;
use crate::pages::{Client, Pool};
use crate::sys::proc_link;
use crate::undo::ImagesDir;
use crate::value::{InvalidValue, Pid};

impl Dump<'_> {
    /// Runs the dump with a freeze that hardly depends on the memory of the tasks. The memory is
    /// read from forks of the tasks into the images directory, while the tasks run on: see
    /// [`instant`](crate::instant).
    ///
    /// If the dump ends the tasks ([`AfterDump::Kill`](crate::AfterDump::Kill)), it runs as
    /// [`capture`](Self::capture) does. A [`deadline`](Self::deadline) bounds the dump, and not the
    /// reading after it: cancel that by [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// See [`Error`](crate::Error). [`Error::NotOverSocket`](crate::Error::NotOverSocket) if criu
    /// is not started by this process. After an error the tasks run on, and no holder is left.
    pub fn instant(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        round(self, criu, options, To::Directory, hooks, None)
    }

    /// Runs the dump as [`instant`](Self::instant) does, and sends the memory to a page server. All
    /// other images go into the images directory.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub fn instant_to(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        server: Client,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        round(self, criu, options, To::Server(server), hooks, None)
    }

    /// Runs the dump as [`instant`](Self::instant) does, and gives all images to a function, which
    /// writes them wherever they are to be. No page is written to the images directory.
    ///
    /// The function is called in the background, once, when the tasks run on. The source has what
    /// the directory would have: CRIU's images, log and statistics, and the pages, which are read
    /// from the holders. A reader that has read a pages file to its end, in order, has the pages as
    /// they were at the dump: if a holder is lost, a read fails. The pages can be read until the
    /// function returns. Then CRIU's images are removed from the images directory.
    ///
    /// ```no_run
    /// use criu_archive::UNWATCHED;
    /// use criu_archive::convert::Parts;
    /// use criu_archive::metadata::Engine;
    /// use criu_archive::write::Options;
    /// use criu_rs::instant::InstantOptions;
    /// use criu_rs::{AfterDump, Criu, Dump, Pid};
    ///
    /// let pid: Pid = "4711".parse()?;
    /// let dump = Dump::new(pid, "/var/tmp/empty").after_dump(AfterDump::LeaveRunning);
    /// let capture = dump.instant_into(
    ///     &Criu::new(),
    ///     &InstantOptions::new(),
    ///     |images| {
    ///         let archive = Parts::new("images", images).conversion(Engine::Unknown)?;
    ///         archive.draft().save("/ckpt/web.tar", &Options::default(), UNWATCHED)?;
    ///         Ok(())
    ///     },
    ///     &mut (),
    /// )?;
    /// capture.reading.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`instant`](Self::instant). [`Error::InvalidValue`](crate::Error::InvalidValue) for a
    /// dump that ends its tasks or has a parent set, and with
    /// [`verify`](InstantOptions::verify). [`Reading::wait`] returns
    /// [`InstantError::Taker`] with the function's error.
    pub fn instant_into<F>(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        take: F,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture>
    where
        F: FnOnce(Arc<dyn Source>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let has_parent = criu.configure(&self.common)?.opts.message().parent_img.is_some();
        let refused = [
            (has_parent, "parent_img", "a dump without a parent set"),
            (options.verify, "verify", "a dump whose pages stay in the images directory"),
        ];
        if let Some((_, found, wanted)) = refused.into_iter().find(|(is_so, ..)| *is_so) {
            return Err(InvalidValue::new(INTO, found, wanted).into());
        }
        round(self, criu, options, To::Taker(Taker(Box::new(take))), hooks, None)
    }
}

/// The place for the pages.
pub(super) enum To {
    /// The images directory.
    Directory,
    /// A page server.
    Server(Client),
    /// A function.
    Taker(Taker),
}

/// Runs a dump with holders. A delta leaves pages to the images of an earlier round, and keeps the
/// holders.
pub(super) fn round(
    dump: &Dump<'_>,
    criu: &Criu,
    options: &InstantOptions,
    to: To,
    hooks: &mut dyn Hooks,
    delta: Option<Box<dyn Delta>>,
) -> Result<InstantCapture> {
    if ends_tasks(dump, criu)? {
        return ends(dump, criu, options, to, hooks);
    }
    let kept = delta.as_ref().map(|delta| delta.own()).unwrap_or_default();
    let plan = Plan::of(&[dump.pid()], options, &kept).pop().unwrap_or_default();
    let ready = Ready::new(dump, criu, options, plan, &kept)?;
    ready.run(hooks, to, delta)
}

/// Says whether the tasks end with a dump.
pub(crate) fn ends_tasks(dump: &Dump<'_>, criu: &Criu) -> Result<bool> {
    Ok(!criu.configure(&dump.common)?.opts.leaves_tasks())
}

/// An instant capture that is made ready, before anything is frozen.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    dump: Dump<'a>,
    criu: Criu,
    plan: Plan,
    library: Library,
    shared: Arc<Shared>,
    guard: Guard,
    tape: Tape,
    /// The images directory.
    held: Arc<OwnedFd>,
    /// Says whether the pages are as readable as the other images, for the user who restores them:
    /// those of a tree in a user namespace are.
    others_read: bool,
    verify: bool,
    /// Flags of mappings that are read before the freeze.
    flags: Flags,
}

impl<'a> Ready<'a> {
    /// Makes captures of several trees ready, which are dumped at one time.
    ///
    /// # Errors
    /// As [`Dump::instant`], with the number of the dump. Nothing was touched.
    /// [`Error::InvalidValue`] for a dump that ends its tasks.
    #[cfg(feature = "pod")]
    pub(crate) fn all(
        dumps: impl Iterator<Item = Dump<'a>>,
        criu: &Criu,
        options: &InstantOptions,
    ) -> Result<Vec<Self>, (usize, Error)> {
        let dumps: Vec<Dump<'a>> = dumps.collect();
        let roots: Vec<Pid> = dumps.iter().map(Dump::pid).collect();
        let plans = Plan::of(&roots, options, &[]);
        let one = |(dump, plan): (&Dump<'a>, Plan)| {
            if ends_tasks(dump, criu)? {
                let wanted = "one that leaves the tasks running or stopped, as another one does";
                let what = "the dump of a pod's instant capture";
                return Err(InvalidValue::new(what, "one that ends the tasks", wanted).into());
            }
            Self::new(dump, criu, options, plan, &[])
        };
        let made = dumps.iter().zip(plans).enumerate();
        made.map(|(number, dump)| one(dump).map_err(|error| (number, error))).collect()
    }

    fn new(
        dump: &Dump<'a>,
        criu: &Criu,
        options: &InstantOptions,
        plan: Plan,
        kept: &[(Pid, u64)],
    ) -> Result<Self> {
        refuse(criu.configure(&dump.common)?.opts.message())?;
        let library = Library::make(options.plugin.as_deref(), criu, dump)?;
        orphans::clear(dump.pid(), kept)?;
        // The pages and the images go into the same directory, even if its path comes to lead
        // elsewhere.
        let Some((directory, held)) = dump.common.opts.images.hold()? else {
            let why = "the images directory is one that only CRIU sees";
            let why = io::Error::new(io::ErrorKind::Unsupported, why);
            return Err(Error::system("capture memory", why));
        };
        let mut dump = dump.clone().hide_holders(kept.to_vec());
        dump.common.opts.images = directory;
        let shared = Shared::new(&plan, kept).map_err(|e| Error::system("make a journal", e))?;
        let shared = Arc::new(shared);
        let guard = Guard::start(shared.as_fd()).map_err(|e| Error::system("start a guard", e))?;
        let pool = pool(options.pool.unwrap_or_else(|| plan.pool()))?;
        let tape = Tape::new(pool, Some(&proc_link(held.as_fd()))).map_err(InstantError::from)?;
        let criu = library.applied(criu, &shared);
        let others_read = in_user_namespace(dump.pid());
        let is_early = options.early_flags;
        let flags = if is_early { Flags::read(&plan, &shared) } else { Flags::default() };
        Ok(Self {
            dump,
            criu,
            plan,
            library,
            shared,
            guard,
            tape,
            held,
            others_read,
            verify: options.verify,
            flags,
        })
    }

    /// Runs the dump, and begins to read the memory. The images are kept if `agreed` agrees.
    ///
    /// # Errors
    /// As [`Dump::instant`]. The holders are in `late` then.
    #[cfg(feature = "pod")]
    pub(crate) fn run_agreed(
        self,
        hooks: &mut dyn Hooks,
        agreed: Agreed,
        late: &Late,
    ) -> Result<InstantCapture> {
        self.try_run(hooks, To::Directory, None, Some(agreed)).map_err(|(error, holders)| {
            holders.into_iter().for_each(|holders| late.put(*holders));
            error
        })
    }

    fn run(
        self,
        hooks: &mut dyn Hooks,
        to: To,
        delta: Option<Box<dyn Delta>>,
    ) -> Result<InstantCapture> {
        self.try_run(hooks, to, delta, None).map_err(|(error, _holders)| error)
    }

    /// Runs the dump. The holders of one that has failed end when the caller drops them.
    fn try_run(
        self,
        hooks: &mut dyn Hooks,
        to: To,
        delta: Option<Box<dyn Delta>>,
        agreed: Option<Agreed>,
    ) -> Result<InstantCapture, (Error, Option<Box<Holders>>)> {
        let Self { dump, criu, plan, library, shared, guard, tape, flags, held, .. } = self;
        let (others_read, verify) = (self.others_read, self.verify);
        // However this function ends, the holders end: also if a hook panics.
        let mut holders = Holders::new(Arc::clone(&shared), guard);
        let (result, images) = save(&dump, &criu, &tape, &holders, hooks);
        drop(library);
        let dumped = match result {
            Ok(dumped) => dumped,
            Err(error) => {
                let (_, failed) = tape.discard();
                let error = failed.map_or(error, |first| InstantError::from(first).into());
                return Err((error, Some(Box::new(holders))));
            }
        };
        let look = || -> Result<_, InstantError> {
            let set = ImageSet::open(proc_link(held.as_fd()))?;
            holders.open(&set)?;
            let tasks = ways(&plan, &shared, holders.tasks(), &set)?;
            Ok((tasks, tape.finish()?, flags.told(&shared)?))
        };
        let (tasks, recording, flags) = match look() {
            Ok(found) => found,
            Err(error) => return Err((error.into(), Some(Box::new(holders)))),
        };
        let sink = match to {
            To::Directory => Sink::Directory { others_read },
            To::Server(server) => Sink::Server(server),
            To::Taker(taker) => Sink::Taker(Some(taker)),
        };
        let cancel = dump.common.limits.cancel.clone();
        let memory = Arc::new(Memory::new(recording, holders));
        let job =
            Job { memory, flags, sink, directory: held, images, cancel, verify, delta, agreed };
        // Without a thread the holders end at once.
        let reading = job.start().map_err(|error| (error, None))?;
        Ok(InstantCapture { dumped, tasks, reading })
    }
}

/// Runs the dump. The guard of the images is returned, because images without pages are not a
/// checkpoint, and must not replace one.
fn save(
    dump: &Dump<'_>,
    criu: &Criu,
    tape: &Tape,
    holders: &Holders,
    hooks: &mut dyn Hooks,
) -> (Result<Dumped>, Option<ImagesDir>) {
    let dump = dump.clone().page_server_socket(tape);
    let (keep, kept) = mpsc::channel();
    let session = dump.begin_and(criu, true, move |watched| {
        // The receiver lives on in this function.
        let _ = keep.send(watched.keep_tasks());
    });
    let result = session.and_then(|session| {
        holders.wait_for(session.pid())?;
        session.finish(hooks)
    });
    (result, kept.try_recv().ok().flatten())
}

/// Refuses options with which the memory is not read in the freeze, or not kept as pages.
fn refuse(message: &crate::rpc::CriuOpts) -> Result<()> {
    for (is_set, name) in [(message.lazy_pages(), "lazy_pages"), (message.stream(), "stream")] {
        if is_set {
            let wanted = "a dump into a directory";
            return Err(InvalidValue::new("an instant capture", name, wanted).into());
        }
    }
    Ok(())
}

/// Runs a capture of tasks that end with it.
fn ends(
    dump: &Dump<'_>,
    criu: &Criu,
    options: &InstantOptions,
    to: To,
    hooks: &mut dyn Hooks,
) -> Result<InstantCapture> {
    let tasks = all_end(dump);
    let all = options.clone().least(u64::MAX);
    let plan = || Plan::of(&[dump.pid()], &all, &[]).pop().unwrap_or_default();
    let pool = pool(options.pool.unwrap_or_else(|| plan().pool()))?;
    let captured = match to {
        To::Directory => dump.capture(criu, pool, hooks),
        To::Server(server) => dump.capture_to(criu, pool, server, hooks),
        To::Taker(_) => {
            let wanted = "one that leaves the tasks running or stopped";
            return Err(InvalidValue::new(INTO, "one that ends the tasks", wanted).into());
        }
    };
    let Captured { dumped, writing, .. } = captured?;
    Ok(InstantCapture { dumped, tasks, reading: Reading::of_capture(writing) })
}

/// Runs a plain dump of tasks that end with it, for a pod: everything is written before the first
/// task ends. A capture would write after that was agreed on.
///
/// # Errors
/// As [`Dump::run`]. The tasks run on.
#[cfg(feature = "pod")]
pub(crate) fn ended(dump: &Dump<'_>, criu: &Criu, hooks: &mut dyn Hooks) -> Result<InstantCapture> {
    let tasks = all_end(dump);
    let dumped = dump.run_with(criu, hooks)?;
    let captured = dumped
        .stats
        .as_ref()
        .map_or(0, |stats| stats.pages_written.saturating_add(stats.shpages_written.unwrap_or(0)));
    let reading = Reading::written(ReadOut { captured, ..ReadOut::default() });
    Ok(InstantCapture { dumped, tasks, reading })
}

/// The tasks of a dump that ends them.
fn all_end(dump: &Dump<'_>) -> Vec<TaskCapture> {
    let task = |pid| TaskCapture { pid, way: Way::Captured(WhyNot::Ends) };
    tree::descendants(dump.pid()).into_iter().map(task).collect()
}

fn pool(bytes: usize) -> Result<Pool> {
    Pool::new(bytes).map_err(|source| Error::system("allocate a pool", source))
}

/// Returns the way of each task in the images.
fn ways(
    plan: &Plan,
    shared: &Shared,
    held: &[Held],
    set: &ImageSet,
) -> Result<Vec<TaskCapture>, InstantError> {
    let (journal, checkpoint) = (shared.journal()?, set.checkpoint()?);
    let idle = shared::idle(&journal);
    let mut tasks = Vec::new();
    for record in journal.records() {
        let Some(pid) = shared::pid(&record, Field::Task) else { continue };
        let planned = plan.tasks.iter().find(|task| task.pid == pid);
        let why_not = || match (planned.map(|task| &task.verdict), record.state()) {
            (Some(Verdict::Capture(why)), _) => why.clone(),
            (_, Some(State::GivenUp)) => shared::given_up(&record),
            _ => idle.clone().unwrap_or(WhyNot::Unasked),
        };
        let inner = u32::try_from(record.get(Field::Inner)).ok();
        // A task that has ended and is not reaped has no memory.
        let is_saved =
            inner.and_then(|inner| checkpoint.task(inner)).is_some_and(|task| task.is_alive());
        let way = match held.iter().find(|held| held.pid == pid) {
            Some(Held { pages, fork, .. }) => Way::Held { pages: *pages, fork: *fork },
            None if is_saved => Way::Captured(why_not()),
            // The task had ended by then.
            None => continue,
        };
        tasks.push(TaskCapture { pid, way });
    }
    Ok(tasks)
}

/// The name of an [`instant_into`](Dump::instant_into) in errors.
const INTO: &str = "an instant capture into a function";
