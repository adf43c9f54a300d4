//! A set as an old CRIU would have written it, with images of their own for parts of today's core,
//! mm and files images. Memory files are left out: CRIUs that know them have `files.img`.

use criu_images::kind::{self, Kind};
use criu_images::proto::{CoreEntry, FileEntry, InventoryEntry, MmEntry, TaskKobjIdsEntry};
use criu_images::source::{InMemory, Source};
use criu_images::{Image, ImageSet};
use prost::Message;

use super::image;

/// Rewrites a set.
pub(crate) fn old_layout(files: &InMemory) -> InMemory {
    let mut old = files.clone();
    let set = ImageSet::new(files.clone()).unwrap();
    let mut put = |kind: &Kind, id: u64, messages: Vec<Vec<u8>>| {
        old.insert(kind.file_name(id), image(kind, &messages));
    };
    put(
        kind::INVENTORY,
        0,
        vec![InventoryEntry { fdinfo_per_id: None, ..set.inventory().clone() }.encode_to_vec()],
    );
    for task in set.checkpoint().unwrap().tasks() {
        let pid = u64::from(task.pid());
        for &tid in task.tids() {
            let tid = u64::from(tid);
            let mut core: CoreEntry = one(files, kind::CORE, tid);
            let thread = core.thread_core.as_mut().unwrap();
            if let Some(signals) = thread.signals_p.take() {
                put(kind::PSIGNAL, tid, encode(&signals.signals));
            }
            if let Some(task) = &mut core.tc {
                if let Some(creds) = thread.creds.take() {
                    put(kind::CREDS, tid, encode(&[creds]));
                }
                if let Some(timers) = task.timers.take() {
                    put(kind::ITIMERS, pid, encode(&[timers.real, timers.virt, timers.prof]));
                    put(kind::POSIX_TIMERS, pid, encode(&timers.posix));
                }
                if let Some(rlimits) = task.rlimits.take() {
                    put(kind::RLIMIT, pid, encode(&rlimits.rlimits));
                }
                put(kind::SIGACT, pid, encode(&std::mem::take(&mut task.sigactions)));
                if let Some(signals) = task.signals_s.take() {
                    put(kind::SIGNAL, pid, encode(&signals.signals));
                }
                core.ids = Some(one::<TaskKobjIdsEntry>(files, kind::IDS, pid));
            }
            put(kind::CORE, tid, vec![core.encode_to_vec()]);
        }
        if task.is_alive() {
            let mut mm: MmEntry = one(files, kind::MM, pid);
            put(kind::VMAS, pid, encode(&std::mem::take(&mut mm.vmas)));
            put(kind::MM, pid, vec![mm.encode_to_vec()]);
        }
    }
    let mut apart: Vec<(&Kind, Vec<Vec<u8>>)> = Vec::new();
    let mut add =
        |kind: &'static Kind, message: Vec<u8>| match apart.iter_mut().find(|a| a.0 == kind) {
            Some((_, messages)) => messages.push(message),
            None => apart.push((kind, vec![message])),
        };
    for mut entry in every::<FileEntry>(files, kind::FILES) {
        if let Some(poll) = &mut entry.epfd {
            for mut tfd in poll.tfd.drain(..) {
                tfd.id = entry.id;
                add(kind::EVENTPOLL_TFD, tfd.encode_to_vec());
            }
        }
        if let Some(notify) = &mut entry.ify {
            for mut wd in notify.wd.drain(..) {
                wd.id = entry.id;
                add(kind::INOTIFY_WD, wd.encode_to_vec());
            }
        }
        if let Some(notify) = &mut entry.ffy {
            for mut mark in notify.mark.drain(..) {
                mark.id = entry.id;
                add(kind::FANOTIFY_MARK, mark.encode_to_vec());
            }
        }
        macro_rules! members {
            ($($member:ident $kind:ident,)*) => {
                $(if let Some(mut file) = entry.$member.take() {
                    file.id = entry.id;
                    add(kind::$kind, file.encode_to_vec());
                })*
            };
        }
        members! {
            reg REG_FILES, ext EXT_FILES, nsf NS_FILES, efd EVENTFD_FILE, epfd EVENTPOLL_FILE,
            sgfd SIGNALFD, ify INOTIFY_FILE, ffy FANOTIFY_FILE, pipe PIPES, fifo FIFO, usk UNIXSK,
            isk INETSK, psk PACKETSK, nlsk NETLINK_SK, tty TTY_FILES, tunf TUNFILE, tfd TIMERFD,
            pidfd PIDFD, bpf BPFMAP_FILE,
        }
    }
    for (kind, messages) in apart {
        put(kind, 0, messages);
    }
    let tasks = set.checkpoint().unwrap();
    for task in tasks.tasks().filter(|task| task.is_alive()) {
        // The table by the task's pid, and its ids in the core image.
        let ids = task.ids().unwrap().unwrap();
        let table = kind::FDINFO.file_name(ids.files_id.into());
        if let Some(bytes) = read(files, &table) {
            old.insert(kind::FDINFO.file_name(task.pid().into()), bytes);
        }
    }
    old.remove("files.img");
    for task in tasks.tasks() {
        old.remove(&kind::IDS.file_name(task.pid().into()));
    }
    old
}

fn read(files: &InMemory, name: &str) -> Option<Vec<u8>> {
    let blob = files.open(name).unwrap()?;
    Some(blob.bytes().unwrap().to_vec())
}

fn one<M: Message + Default>(files: &InMemory, kind: &'static Kind, id: u64) -> M {
    let bytes = read(files, &kind.file_name(id)).unwrap();
    let mut image = Image::parse("image", &bytes, kind).unwrap();
    M::decode(image.next_entry().unwrap().unwrap().bytes()).unwrap()
}

fn every<M: Message + Default>(files: &InMemory, kind: &'static Kind) -> Vec<M> {
    let bytes = read(files, kind.file).unwrap();
    let mut image = Image::parse("image", &bytes, kind).unwrap();
    let next = || image.next_entry().unwrap().map(|entry| M::decode(entry.bytes()).unwrap());
    std::iter::from_fn(next).collect()
}

fn encode<M: Message>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().map(Message::encode_to_vec).collect()
}
