//! Tests of tapes: sessions in memory and in a file, and those that come to no good end.

use std::os::unix::net::UnixStream;

use criu_lab::{names, scratch};

use super::*;
use crate::pages::client::Client;
use crate::pages::model::{PAGE, Random, Sent, bytes, record};
use crate::pages::proto::{Command, Header, LAZY, Layout, PARENT, PRESENT, object_id};
use crate::pages::recording::RecordedRun;
use crate::pages::sink::PageRun;

const TASK: PageObject = PageObject::Task(7);

fn random_session(random: &mut Random) -> Sent {
    let mut objects = Vec::new();
    for number in 0..random.below(6) {
        let object = match random.below(3) {
            0 => PageObject::Shared(number),
            _ => PageObject::Task(u32::try_from(number).unwrap() + 1),
        };
        let (mut at, mut pages) = (random.below(9) * PAGE, Vec::new());
        for _ in 0..random.below(300) {
            let flags = [PRESENT, PRESENT | LAZY, LAZY][usize::try_from(random.below(3)).unwrap()];
            pages.push((at, at ^ number, flags));
            at += (1 + random.below(3)) * PAGE;
        }
        objects.push((object, pages));
    }
    objects
}

/// Checks that a recording has what was sent.
fn check(recording: &Recording, sent: &Sent) {
    let mut all: Vec<_> = sent.iter().map(|(object, _)| *object).collect();
    all.sort_by_key(|object| (matches!(object, PageObject::Task(_)), *object));
    assert_eq!(recording.objects().collect::<Vec<_>>(), all);
    let mut payload = 0;
    for (object, pages) in sent {
        let mut runs = recording.runs(*object).unwrap();
        for (page, number, flags) in pages {
            let RecordedRun { run, at } = runs.next().unwrap().unwrap();
            assert_eq!(run, PageRun { address: *page, pages: 1, flags: *flags });
            if flags & PRESENT != 0 {
                let mut read = vec![0; 4096];
                recording.read_at(at, &mut read).unwrap();
                assert!(read == bytes(*number), "{page:x} of {object:?}");
                payload += PAGE;
            }
        }
        assert_eq!(runs.next().unwrap(), None);
    }
    assert_eq!(recording.bytes(), payload);
    assert!(recording.runs(PageObject::Task(99)).is_none());
}

#[test]
fn sessions_of_both_layouts_are_recorded_in_memory_and_in_a_file() {
    let directory = scratch("tape");
    let mut random = Random(0x7a9e);
    let (mut spilled, mut kept) = (0, 0);
    for round in 0..40 {
        let sent = random_session(&mut random);
        let recording = record(sent.clone(), Layout::ALL[round % 2], Some(&directory));
        match recording.spilled() {
            0 => kept += 1,
            _ => spilled += 1,
        }
        assert_eq!(names(&directory), [""; 0], "the file has a name");
        check(&recording, &sent);
    }
    assert!(spilled > 10 && kept > 3, "{spilled} {kept}");
}

/// A tape of 1 MiB, and the end that a dump writes to.
fn tape(spill: Option<&Path>) -> (Tape, UnixStream) {
    let tape = Tape::new(Pool::new(1).unwrap(), spill).unwrap();
    let socket = tape.as_fd().try_clone_to_owned().unwrap();
    (tape, socket.into())
}

fn header(command: Command, flags: u16, pages: u64, address: u64, id: u64) -> [u8; 32] {
    Header { command, flags, pages, address, id }.to_bytes(Layout::Wide).unwrap()
}

/// Sends bytes as far as they are taken, and nothing more. Returns the socket, for the answers.
fn send(mut socket: UnixStream, bytes: Vec<u8>) -> UnixStream {
    let _ = socket.write_all(&bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    socket
}

#[test]
fn bytes_may_come_in_pieces_of_any_size() {
    let directory = scratch("tape-pieces");
    let id = object_id(TASK);
    let mut session = header(Command::Open2, 0, 0, 0, id).to_vec();
    session.extend(header(Command::Parent, 0, 0, 0, id));
    let mut sent = Vec::new();
    for number in 0..300 {
        session.extend(header(Command::AddF, PRESENT, 1, number * PAGE, id));
        session.extend(bytes(number));
        sent.push((number * PAGE, number, PRESENT));
    }
    session.extend(header(Command::Close, 0, 0, 0, 0));
    for most in [1, 31, 33, 4093, 70_001] {
        let (tape, mut socket) = tape(Some(&directory));
        let session = session.clone();
        let sender = thread::spawn(move || {
            let mut random = Random(most);
            let mut rest = &session[..];
            // Pieces of one byte for the first headers and where the memory is full.
            while !rest.is_empty() {
                let at = session.len() - rest.len();
                let edge = at < 200 || (at > (1 << 20) - 5000 && at < (1 << 20) + 5000);
                let size = if edge { 1 + random.below(most) } else { 64 << 10 };
                let size = usize::try_from(size).unwrap().min(rest.len());
                socket.write_all(&rest[..size]).unwrap();
                rest = &rest[size..];
            }
            socket
        });
        let _socket = sender.join().unwrap();
        let recording = tape.finish().unwrap();
        assert!(recording.spilled() > 100_000);
        check(&recording, &vec![(TASK, sent.clone())]);
    }
}

#[test]
fn a_session_without_an_open_and_one_that_only_closes_are_recorded() {
    let (tape, socket) = tape(None);
    let mut session = header(Command::Open, 0, 0, 0, object_id(PageObject::Shared(1))).to_vec();
    for (object, number) in [(TASK, 1), (PageObject::Task(8), 2), (TASK, 3)] {
        session.extend(header(Command::Add, PRESENT, 1, number * PAGE, object_id(object)));
        session.extend(bytes(number));
    }
    session.extend(header(Command::Close, 0, 0, 0, 0));
    let _socket = send(socket, session);
    let recording = tape.finish().unwrap();
    // An object that comes again keeps what came last.
    let mut runs = recording.runs(TASK).unwrap();
    assert_eq!(runs.next().unwrap().unwrap().run.address, 3 * PAGE);
    assert_eq!(runs.next().unwrap(), None);
    assert_eq!(recording.objects().count(), 3);
    for layout in Layout::ALL {
        let (tape, socket) = super::tests::tape(None);
        Client::new(Socket::from(socket), layout).close().unwrap();
        assert_eq!(tape.finish().unwrap().objects().count(), 0);
    }
}

#[test]
fn what_does_not_fit_fails_without_a_directory() {
    let (tape, socket) = tape(None);
    let mut session = header(Command::Open2, 0, 0, 0, object_id(TASK)).to_vec();
    session.extend(header(Command::AddF, PRESENT, 300, 0, object_id(TASK)));
    session.resize(300 * 4096 + 64, 0);
    let _socket = send(socket, session);
    let (pool, error) = tape.discard();
    assert!(matches!(error, Some(PagesError::TooMuch(1_048_576))), "{error:?}");
    assert_eq!(pool.unwrap().size(), 1 << 20);
}

#[test]
fn a_dump_that_breaks_off_or_breaks_the_protocol_is_an_error() {
    let open = header(Command::Open2, 0, 0, 0, object_id(TASK)).to_vec();
    let (tape, socket) = tape(None);
    let _socket = send(socket, open.clone());
    let error = tape.finish().unwrap_err();
    assert!(matches!(error, PagesError::Gone(32)), "{error}");
    // After a failed dump that is no error of the tape, whether criu waits for an answer or not.
    let (tape, socket) = super::tests::tape(None);
    drop(send(socket, open.clone()));
    assert!(matches!(tape.discard(), (Some(_), None)));
    let (tape, socket) = super::tests::tape(None);
    let _socket = send(socket, open.clone());
    assert!(matches!(tape.discard(), (Some(_), None)));
    let get = header(Command::Get, 0, 1, PAGE, 7).to_vec();
    let hole = header(Command::AddF, PRESENT | PARENT, 1, 0, object_id(TASK)).to_vec();
    for wrong in [get, hole, vec![0xff; 32]] {
        let (tape, socket) = super::tests::tape(None);
        let _socket = send(socket, [open.clone(), wrong].concat());
        let error = tape.finish().unwrap_err();
        let is_wrong = matches!(error, PagesError::Protocol(_) | PagesError::NoPage { .. });
        assert!(is_wrong, "{error}");
    }
}

/// 40 MiB of headers without bytes, and more objects than the limit, with a pool of 1 MiB.
#[test]
fn headers_without_end_take_no_memory_and_objects_have_a_limit() {
    let directory = scratch("tape-headers");
    let (tape, socket) = tape(Some(&directory));
    let mut session = header(Command::Open2, 0, 0, 0, object_id(TASK)).to_vec();
    let pages = 1 << 20;
    for number in 0..pages {
        session.extend(header(Command::AddF, LAZY, 1, number * PAGE, object_id(TASK)));
    }
    session.extend(header(Command::Close, 0, 0, 0, 0));
    let _socket = send(socket, session);
    let recording = tape.finish().unwrap();
    assert_eq!(recording.spilled(), (pages + 2) * 32 - (1 << 20));
    let mut runs = recording.runs(TASK).unwrap();
    for _ in 0..1000 {
        runs.next().unwrap().unwrap();
    }
    let (tape, socket) = super::tests::tape(Some(&directory));
    let opens = 0..ServerLimits::default().objects + 1;
    let opens =
        opens.flat_map(|id| header(Command::Open, 0, 0, 0, object_id(PageObject::Shared(id))));
    let _socket = send(socket, opens.collect());
    let error = tape.finish().unwrap_err();
    assert!(matches!(error, PagesError::TooMany(262_144)), "{error}");
}
