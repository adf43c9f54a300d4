//! Images in which older CRIUs keep what today's keep in core, mm and files images. Their content
//! is put where today's images have it.

use std::collections::HashMap;

use crate::error::{ErrorKind, Result};
use crate::file::File;
use crate::kind::{self, Kind};
use crate::proto::{
    BpfmapFileEntry, CoreEntry, CredsEntry, EventfdFileEntry, EventpollFileEntry,
    EventpollTfdEntry, ExtFileEntry, FanotifyFileEntry, FanotifyMarkEntry, FifoEntry, InetSkEntry,
    InotifyFileEntry, InotifyWdEntry, ItimerEntry, NetlinkSkEntry, NsFileEntry, PacketSockEntry,
    PidfdEntry, PipeEntry, PosixTimerEntry, RegFileEntry, RlimitEntry, SaEntry, SiginfoEntry,
    SignalQueueEntry, SignalfdEntry, TaskCoreEntry, TaskRlimitsEntry, TaskTimersEntry,
    TimerfdEntry, TtyFileEntry, TunfileEntry, UnixSkEntry,
};
use crate::schema::Entry;
use crate::store::Store;

/// Adds what the core image of a living task lacks.
pub(crate) fn complete_task(
    store: &Store,
    pid: u32,
    task: &mut TaskCoreEntry,
    core: &mut CoreEntry,
) -> Result<()> {
    let id = pid.into();
    if task.timers.is_none() {
        task.timers = timers(store, id)?;
    }
    if task.rlimits.is_none() {
        let rlimits: Vec<RlimitEntry> = all(store, kind::RLIMIT, id)?;
        task.rlimits = (!rlimits.is_empty()).then_some(TaskRlimitsEntry { rlimits });
    }
    if task.sigactions.is_empty() {
        let actions: Vec<SaEntry> = all(store, kind::SIGACT, id)?;
        task.sigactions = actions;
    }
    if task.signals_s.is_none() {
        task.signals_s = signals(store, kind::SIGNAL, id)?;
    }
    if let Some(thread) = &mut core.thread_core {
        if thread.creds.is_none() {
            thread.creds = store.optional::<CredsEntry>(kind::CREDS, id)?;
        }
    }
    complete_thread(store, pid, core)
}

/// Adds what the core image of a thread lacks.
pub(crate) fn complete_thread(store: &Store, tid: u32, core: &mut CoreEntry) -> Result<()> {
    if let Some(thread) = core.thread_core.as_mut().filter(|thread| thread.signals_p.is_none()) {
        thread.signals_p = signals(store, kind::PSIGNAL, tid.into())?;
    }
    Ok(())
}

fn timers(store: &Store, pid: u64) -> Result<Option<TaskTimersEntry>> {
    let mut interval = all::<ItimerEntry>(store, kind::ITIMERS, pid)?.into_iter();
    let posix: Vec<PosixTimerEntry> = all(store, kind::POSIX_TIMERS, pid)?;
    let three = (interval.next(), interval.next(), interval.next());
    Ok(match three {
        (Some(real), Some(virt), Some(prof)) => Some(TaskTimersEntry { real, virt, prof, posix }),
        _ if posix.is_empty() => None,
        _ => Some(TaskTimersEntry { posix, ..Default::default() }),
    })
}

fn signals(store: &Store, kind: &'static Kind, id: u64) -> Result<Option<SignalQueueEntry>> {
    let signals: Vec<SiginfoEntry> = all(store, kind, id)?;
    Ok((!signals.is_empty()).then_some(SignalQueueEntry { signals }))
}

/// Calls `each` with every open file of a set without `files.img`.
pub(crate) fn files(
    store: &Store,
    mut each: impl FnMut(u32, File) -> Result<(), ErrorKind>,
) -> Result<()> {
    macro_rules! kinds {
        ($($kind:ident $entry:ty => $file:expr;)*) => {
            $(store.for_each(kind::$kind, 0, |entry: $entry| each(entry.id, $file(entry)))?;)*
        };
    }
    kinds! {
        REG_FILES RegFileEntry => File::Regular;
        EXT_FILES ExtFileEntry => File::External;
        NS_FILES NsFileEntry => File::Namespace;
        EVENTFD_FILE EventfdFileEntry => File::Eventfd;
        SIGNALFD SignalfdEntry => File::Signalfd;
        PIPES PipeEntry => File::Pipe;
        FIFO FifoEntry => File::Fifo;
        UNIXSK UnixSkEntry => |socket| File::Unix(Box::new(socket));
        INETSK InetSkEntry => |socket| File::Inet(Box::new(socket));
        PACKETSK PacketSockEntry => |socket| File::Packet(Box::new(socket));
        NETLINK_SK NetlinkSkEntry => |socket| File::Netlink(Box::new(socket));
        TTY_FILES TtyFileEntry => File::Tty;
        TUNFILE TunfileEntry => File::Tun;
        TIMERFD TimerfdEntry => File::Timerfd;
        PIDFD PidfdEntry => File::Pidfd;
        BPFMAP_FILE BpfmapFileEntry => |map| File::BpfMap(Box::new(map));
    }
    // Watched files are in further images.
    let mut targets: HashMap<u32, Vec<EventpollTfdEntry>> = HashMap::new();
    store.for_each(kind::EVENTPOLL_TFD, 0, |entry: EventpollTfdEntry| {
        targets.entry(entry.id).or_default().push(entry);
        Ok(())
    })?;
    store.for_each(kind::EVENTPOLL_FILE, 0, |mut entry: EventpollFileEntry| {
        entry.tfd.extend(targets.remove(&entry.id).unwrap_or_default());
        each(entry.id, File::Eventpoll(entry))
    })?;
    let mut watches: HashMap<u32, Vec<InotifyWdEntry>> = HashMap::new();
    store.for_each(kind::INOTIFY_WD, 0, |entry: InotifyWdEntry| {
        watches.entry(entry.id).or_default().push(entry);
        Ok(())
    })?;
    store.for_each(kind::INOTIFY_FILE, 0, |mut entry: InotifyFileEntry| {
        entry.wd.extend(watches.remove(&entry.id).unwrap_or_default());
        each(entry.id, File::Inotify(entry))
    })?;
    let mut marks: HashMap<u32, Vec<FanotifyMarkEntry>> = HashMap::new();
    store.for_each(kind::FANOTIFY_MARK, 0, |entry: FanotifyMarkEntry| {
        marks.entry(entry.id).or_default().push(entry);
        Ok(())
    })?;
    store.for_each(kind::FANOTIFY_FILE, 0, |mut entry: FanotifyFileEntry| {
        entry.mark.extend(marks.remove(&entry.id).unwrap_or_default());
        each(entry.id, File::Fanotify(entry))
    })
}

fn all<M: Entry>(store: &Store, kind: &'static Kind, id: u64) -> Result<Vec<M>> {
    let mut entries = Vec::new();
    store.for_each(kind, id, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}
