//! A request to CRIU and its course, without a socket.

use std::os::fd::OwnedFd;

use prost::Message;

use super::{CriuOpts, CriuReq, CriuReqType, CriuResp};
use crate::hooks::{Action, Call};
use crate::value::{External, Pid};

/// A request to CRIU: any number of actions, each answered, then a reply.
///
/// ```text
/// new ──request──▶ receive ──▶ Step::Hook ── answer ──▶ receive ──▶ … ──▶ Step::Done
/// ```
///
/// A conversation does not hold a socket: packets go in, packets come out.
///
/// ```
/// use criu_rs::rpc::{Conversation, CriuReq, CriuReqType, CriuResp, Step};
/// use prost::Message;
///
/// let request = CriuReq { r#type: CriuReqType::Version.into(), ..Default::default() };
/// let (mut conversation, packet) = Conversation::new(&request);
/// // … send `packet`, receive an answer:
/// let kind = CriuReqType::Version.into();
/// let answer = CriuResp { r#type: kind, success: true, ..Default::default() };
/// match conversation.receive(&answer.encode_to_vec(), Vec::new())? {
///     Step::Done(reply) => assert!(reply.success),
///     Step::Hook(call) => panic!("{call:?}"),
/// }
/// # Ok::<(), criu_rs::rpc::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Conversation {
    expects: CriuReqType,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// A packet from CRIU comes next.
    Listening,
    /// CRIU waits for the answer to an action.
    Asked,
    /// The reply or an error has ended the conversation.
    Over,
}

/// The meaning of a packet from CRIU.
#[derive(Debug)]
pub enum Step {
    /// CRIU has reached an action and waits for [`Conversation::answer`].
    Hook(Call),
    /// The reply that ends the conversation.
    Done(Box<CriuResp>),
}

/// The answer to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// CRIU may go on.
    GoOn,
    /// CRIU may go on, with these external resources in addition to those of the request
    /// (query-ext-files).
    GoOnWith(Vec<External>),
    /// CRIU must give up.
    Refuse,
}

/// A packet from CRIU that breaks the protocol.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The packet is not a reply.
    #[error("criu sent {size} bytes that are not a reply: {source}")]
    Undecodable {
        /// Size of the packet.
        size: usize,
        /// The decoder's error.
        source: prost::DecodeError,
    },
    /// The reply answers another request.
    #[error("criu answered a {} request with a reply of type {found}", expected.as_str_name())]
    WrongReply {
        /// The type of the expected reply.
        expected: CriuReqType,
        /// The type found.
        found: i32,
    },
    /// A notification does not name an action.
    #[error("criu sent a notification without an action")]
    NoAction,
    /// A notification lacks a part that belongs to its action.
    #[error("criu's {action} notification lacks {missing}")]
    Incomplete {
        /// The action.
        action: Action,
        /// The missing part.
        missing: &'static str,
    },
    /// A packet came while CRIU should wait for an answer, or after its reply.
    #[error("criu sent a packet out of turn")]
    OutOfTurn,
    /// A packet is larger than any reply.
    #[error("criu sent a packet of {size} bytes, larger than the limit of {limit}")]
    TooLarge {
        /// The packet's size.
        size: usize,
        /// The largest size accepted.
        limit: usize,
    },
}

impl Conversation {
    /// Begins a conversation. The returned bytes are the packet to send.
    pub fn new(request: &CriuReq) -> (Self, Vec<u8>) {
        // CRIU answers PAGE_SERVER_CHLD with a PAGE_SERVER reply.
        let expects = match request.r#type() {
            CriuReqType::PageServerChld => CriuReqType::PageServer,
            kind => kind,
        };
        (Self { expects, state: State::Listening }, request.encode_to_vec())
    }

    /// Takes a packet and the descriptors that came with it.
    ///
    /// Descriptors that do not belong to the packet's action are closed.
    ///
    /// # Errors
    /// [`ProtocolError`]. The conversation is then over.
    pub fn receive(&mut self, packet: &[u8], fds: Vec<OwnedFd>) -> Result<Step, ProtocolError> {
        let before = std::mem::replace(&mut self.state, State::Over);
        if before != State::Listening {
            return Err(ProtocolError::OutOfTurn);
        }
        let reply = CriuResp::decode(packet)
            .map_err(|source| ProtocolError::Undecodable { size: packet.len(), source })?;
        match CriuReqType::try_from(reply.r#type) {
            Ok(CriuReqType::Notify) => {
                let call = call(reply, fds)?;
                self.state = State::Asked;
                Ok(Step::Hook(call))
            }
            Ok(kind) if kind == self.expects || kind == CriuReqType::Empty => {
                Ok(Step::Done(Box::new(reply)))
            }
            _ => Err(ProtocolError::WrongReply { expected: self.expects, found: reply.r#type }),
        }
    }

    /// Returns the packet that answers the action just received.
    pub fn answer(&mut self, verdict: &Verdict) -> Vec<u8> {
        if self.state == State::Asked {
            self.state = State::Listening;
        }
        let opts = match verdict {
            Verdict::GoOnWith(externals) => Some(CriuOpts {
                images_dir_fd: -1,
                external: externals.iter().map(External::to_bytes).collect(),
                ..Default::default()
            }),
            Verdict::GoOn | Verdict::Refuse => None,
        };
        CriuReq {
            r#type: CriuReqType::Notify.into(),
            notify_success: Some(*verdict != Verdict::Refuse),
            opts,
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// Reads the action of a notification.
fn call(reply: CriuResp, fds: Vec<OwnedFd>) -> Result<Call, ProtocolError> {
    let notify = reply.notify.ok_or(ProtocolError::NoAction)?;
    let name = notify.script.as_deref().ok_or(ProtocolError::NoAction)?;
    let name = String::from_utf8_lossy(name).into_owned();
    let action = name.parse().unwrap_or(Action::Other);
    let root = notify.pid.and_then(Pid::new);
    let lacks = |missing| Err(ProtocolError::Incomplete { action, missing });
    match action {
        Action::PostRestore | Action::SetupNamespaces if root.is_none() => lacks("the root task"),
        Action::OrphanPtsMaster if fds.is_empty() => lacks("the terminal's master"),
        Action::OrphanPtsMaster | Action::Other => Ok(Call { action, name, root, fds }),
        _ => Ok(Call { action, name, root, fds: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::CriuNotify;

    fn asked(kind: CriuReqType) -> Conversation {
        Conversation::new(&CriuReq { r#type: kind.into(), ..Default::default() }).0
    }

    fn reply(kind: CriuReqType) -> Vec<u8> {
        CriuResp { r#type: kind.into(), success: true, ..Default::default() }.encode_to_vec()
    }

    fn notify(script: Option<&str>, pid: Option<i32>) -> Vec<u8> {
        let notify = CriuNotify { script: script.map(Into::into), pid };
        let notify = Some(notify);
        CriuResp { r#type: CriuReqType::Notify.into(), success: true, notify, ..Default::default() }
            .encode_to_vec()
    }

    #[test]
    fn every_action_is_answered_and_the_reply_ends_it() {
        let mut talk = asked(CriuReqType::Restore);
        for &action in Action::ALL {
            let fds = vec![OwnedFd::from(std::fs::File::open("/dev/null").unwrap())];
            let step = talk.receive(&notify(Some(action.name()), Some(7)), fds).unwrap();
            let Step::Hook(call) = step else { panic!("{step:?}") };
            assert_eq!((call.action, call.root), (action, Pid::new(7)));
            assert_eq!(call.fds.len(), usize::from(action == Action::OrphanPtsMaster));
            let ack = CriuReq::decode(talk.answer(&Verdict::GoOn).as_slice()).unwrap();
            assert_eq!((ack.r#type(), ack.notify_success), (CriuReqType::Notify, Some(true)));
        }
        let end = talk.receive(&reply(CriuReqType::Restore), vec![]);
        assert!(matches!(end, Ok(Step::Done(_))));
        let after = talk.receive(&reply(CriuReqType::Restore), vec![]);
        assert!(matches!(after, Err(ProtocolError::OutOfTurn)));
    }

    #[test]
    fn externals_ride_on_the_answer() {
        let mut talk = asked(CriuReqType::Dump);
        talk.receive(&notify(Some("query-ext-files"), None), vec![]).unwrap();
        let answer = talk.answer(&Verdict::GoOnWith(vec![External::UnixSocket(7)]));
        let answer = CriuReq::decode(answer.as_slice()).unwrap();
        assert_eq!(answer.opts.unwrap().external, [b"unix[7]"]);
    }

    #[test]
    fn an_unknown_action_keeps_its_name_and_its_descriptors() {
        let mut talk = asked(CriuReqType::Dump);
        let fds = vec![OwnedFd::from(std::fs::File::open("/dev/null").unwrap())];
        match talk.receive(&notify(Some("pre-lunch"), Some(-1)), fds).unwrap() {
            Step::Hook(call) => {
                assert_eq!((call.action, call.name.as_str()), (Action::Other, "pre-lunch"));
                assert_eq!((call.root, call.fds.len()), (None, 1));
            }
            Step::Done(_) => panic!("not a reply"),
        }
    }

    #[test]
    fn a_packet_that_breaks_the_protocol_is_an_error() {
        let wrong = |packet: &[u8]| asked(CriuReqType::Dump).receive(packet, vec![]).unwrap_err();
        assert!(matches!(wrong(&[0xff]), ProtocolError::Undecodable { size: 1, .. }));
        assert!(matches!(wrong(&reply(CriuReqType::Restore)), ProtocolError::WrongReply { .. }));
        assert!(matches!(wrong(&[8, 99, 16, 1]), ProtocolError::WrongReply { found: 99, .. }));
        assert!(matches!(wrong(&reply(CriuReqType::Notify)), ProtocolError::NoAction));
        assert!(matches!(wrong(&notify(None, None)), ProtocolError::NoAction));
        for action in ["post-restore", "setup-namespaces", "orphan-pts-master"] {
            let error = wrong(&notify(Some(action), None));
            assert!(matches!(error, ProtocolError::Incomplete { .. }), "{error}");
        }
        let mut talk = asked(CriuReqType::Dump);
        talk.receive(&notify(Some("pre-dump"), None), vec![]).unwrap();
        let early = talk.receive(&reply(CriuReqType::Dump), vec![]);
        assert!(matches!(early, Err(ProtocolError::OutOfTurn)));
    }

    #[test]
    fn a_child_page_server_answers_as_a_page_server() {
        let mut talk = asked(CriuReqType::PageServerChld);
        assert!(talk.receive(&reply(CriuReqType::PageServer), vec![]).is_ok());
    }
}
