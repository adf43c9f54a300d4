//! A conversation with a criu that sends arbitrary bytes.

use std::fs::File;
use std::os::fd::OwnedFd;

use arbitrary::{Arbitrary, Unstructured};
use criu_rs::rpc::{
    Conversation, CriuNotify, CriuReq, CriuReqType, CriuResp, ProtocolError, Step, Verdict,
};
use criu_rs::{Action, External};
use prost::Message;

/// Messages of the criu.
#[derive(Arbitrary, Debug)]
enum Packet {
    Bytes(Vec<u8>),
    Reply { kind: i32, success: bool, errno: Option<i32>, text: Option<Vec<u8>> },
    Notify { action: u8, name: Option<Vec<u8>>, pid: Option<i32>, fds: u8 },
    Answered { verdict: u8 },
}

/// Goes through a conversation.
pub fn run(data: &[u8]) {
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
        let fds: Vec<OwnedFd> =
            (0..fds).filter_map(|_| File::open("/dev/null").ok()).map(Into::into).collect();
        let step = talk.receive(&sent, fds);
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
