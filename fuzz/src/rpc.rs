//! A conversation with a criu that sends arbitrary bytes, and hand-overs of tasks.

use std::fs::File;
use std::os::fd::OwnedFd;

use arbitrary::{Arbitrary, Unstructured};
use criu_rs::rpc::{
    Conversation, CriuNotify, CriuReq, CriuReqType, CriuResp, ProtocolError, Step, Verdict,
};
use criu_rs::{Action, External, fuzzing};
use prost::Message;

/// Messages of the criu.
#[derive(Arbitrary, Debug)]
enum Packet {
    Bytes(Vec<u8>),
    Reply { kind: i32, success: bool, errno: Option<i32>, text: Option<Vec<u8>> },
    Notify { action: u8, name: Option<Vec<u8>>, pid: Option<i32>, fds: u8 },
    Answered { verdict: u8 },
}

/// Goes through a conversation, or a hand-over to `lazy-pages.socket`.
pub fn run(data: &[u8]) {
    if let Some((&HANDOVER, rest)) = data.split_first() {
        return handover(rest);
    }
    let mut bytes = Unstructured::new(data);
    let kind = bytes.int_in_range(0..=13).unwrap_or(0);
    let request = CriuReq { r#type: kind, ..Default::default() };
    let (mut talk, packet) = Conversation::new(&request);
    assert_eq!(CriuReq::decode(&packet[..]).ok(), Some(request));
    let mut state = State::Listening;
    while !bytes.is_empty() {
        let Ok(packet) = Packet::arbitrary(&mut bytes) else { return };
        let (sent, fds) = match packet {
            Packet::Bytes(bytes) => (bytes, 0),
            Packet::Reply { kind, success, errno, text } => {
                let reply = CriuResp {
                    r#type: kind,
                    success,
                    cr_errno: errno,
                    cr_errmsg: text,
                    ..Default::default()
                };
                (reply.encode_to_vec(), 0)
            }
            Packet::Notify { action, name, pid, fds } => {
                let known = Action::ALL.get(usize::from(action)).map(|action| action.name().into());
                let notify = CriuNotify { script: known.or(name), pid };
                let kind = CriuReqType::Notify.into();
                let reply = CriuResp {
                    r#type: kind,
                    success: true,
                    notify: Some(notify),
                    ..Default::default()
                };
                (reply.encode_to_vec(), fds % 3)
            }
            Packet::Answered { verdict } => {
                answer(&mut talk, verdict);
                if state == State::Asked {
                    state = State::Listening;
                }
                continue;
            }
        };
        let step = talk.receive(&sent, nulls(fds));
        if state != State::Listening {
            assert!(matches!(step, Err(ProtocolError::OutOfTurn)), "{step:?}");
            state = State::Over;
            continue;
        }
        state = match step {
            Ok(Step::Hook(call)) => {
                assert!(!matches!(call.action, Action::PostRestore) || call.root.is_some());
                State::Asked
            }
            Ok(Step::Done(_)) => State::Over,
            Err(error) => {
                assert!(!matches!(error, ProtocolError::OutOfTurn));
                assert!(!error.to_string().is_empty());
                State::Over
            }
        };
    }
}

/// The first byte that chooses a hand-over.
const HANDOVER: u8 = 0xff;

/// Takes messages. The first byte of each has the number of its descriptors in two bits, and the
/// number of its bytes in the others.
fn handover(mut data: &[u8]) {
    fuzzing::handover(std::iter::from_fn(|| {
        let (&head, rest) = data.split_first()?;
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(head & 0x3f)));
        data = rest;
        Some((bytes.to_vec(), nulls(head >> 6)))
    }));
}

/// Opens descriptors that a peer might send.
fn nulls(number: u8) -> Vec<OwnedFd> {
    (0..number).filter_map(|_| File::open("/dev/null").ok()).map(Into::into).collect()
}

/// Hand-overs of two tasks and a zombie: whole, in pieces, too early, twice.
pub(crate) fn handovers() -> Vec<Vec<u8>> {
    let number = |number: i32| [&[4][..], &number.to_ne_bytes()].concat();
    let uffd = vec![0x41, 0];
    let (first, second, zombie, end) = (number(1), number(2), number(-3), number(0x5253_5446));
    let parts = |parts: &[&Vec<u8>]| {
        let parts = parts.iter().flat_map(|part| part.iter().copied());
        std::iter::once(HANDOVER).chain(parts).collect()
    };
    vec![
        parts(&[&first, &uffd, &second, &uffd, &zombie, &end]),
        parts(&[&vec![3, 2, 0, 0], &vec![1, 0], &uffd, &zombie, &first, &uffd, &end, &end]),
        parts(&[&first, &uffd, &end]),
        parts(&[&first, &uffd, &first]),
        parts(&[&first, &vec![0x81, 0], &second, &vec![0x41, 1], &number(-1)]),
    ]
}

#[derive(Debug, PartialEq)]
enum State {
    Listening,
    Asked,
    Over,
}

fn answer(talk: &mut Conversation, verdict: u8) {
    let verdict = match verdict % 3 {
        0 => Verdict::GoOn,
        1 => Verdict::GoOnWith(vec![External::UnixSocket(7)]),
        _ => Verdict::Refuse,
    };
    let packet = CriuReq::decode(&talk.answer(&verdict)[..]).expect("an answer is a message");
    assert_eq!(packet.r#type(), CriuReqType::Notify);
    assert_eq!(packet.notify_success, Some(verdict != Verdict::Refuse));
}
