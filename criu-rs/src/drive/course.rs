//! The course of an operation: its states, and what is to be done in each. It reads no clock and
//! touches no process.
//!
//! ```text
//!   Ready ── sent ──▶ Talking ── reply ──▶ Replied ── criu has ended ──▶ Over
//!                        └── connection closed ──▶ Leaving ──────────────▶
//! ```

use std::time::{Duration, Instant};

use super::stop::Stopping;
use crate::diagnosis::{End, StopMethod, StopReason};
use crate::error::Error;
use crate::hooks::Call;
use crate::options::RunLimits;
use crate::rpc::{Conversation, CriuReq, CriuReqType, CriuResp, Step, Verdict};
use crate::transport::{Endable, Heard, Next, Subject};

/// The course of one operation.
#[derive(Debug)]
pub(super) struct Course {
    phase: Phase,
    conversation: Conversation,
    pub(super) subject: Subject,
    /// The worker ends with the reply. Otherwise it waits for more, or becomes another program.
    worker_ends: bool,
    /// Only the worker's end is waited for, not its reply before.
    only_end: bool,
    grace: Duration,
    deadline: Duration,
    due: Option<Instant>,
    stopping: Option<Stopping>,
    /// The reason why an action was refused.
    refusal: Option<Error>,
}

#[derive(Debug)]
enum Phase {
    /// The request has not been sent.
    Ready(Vec<u8>),
    /// CRIU is at work.
    Talking,
    /// The worker has closed the connection, and should be ending since this time.
    Leaving(Instant),
    /// The reply has come. If the worker has to end first, it should be ending since this time.
    Replied(Box<CriuResp>, Option<Instant>),
    /// The outcome is known.
    Over,
}

/// A look at CRIU at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) now: Instant,
    /// The worker, if it is one of ours: whether it has ended.
    pub(super) worker: Option<bool>,
    pub(super) is_cancelled: bool,
}

/// An order of the course to its driver: the next step.
#[derive(Debug)]
pub(super) enum Order {
    /// Send the request, and ask again.
    Send(Vec<u8>),
    /// Receive from CRIU, and tell [`Course::hear`].
    Receive,
    /// Answer an action, tell [`Course::answer`], and ask again.
    Ask(Call),
    /// Take note of the reply, and ask again.
    Replied { success: bool },
    /// Forget the connection, which CRIU has closed, and ask again.
    Closed,
    /// Ask again at this time, or when there is something to see.
    Wait(Option<Instant>),
    /// Kill a worker that should have ended, and ask again at this time.
    Kill(Instant),
    /// The operation has succeeded.
    Finish(Box<CriuResp>),
    /// The operation has failed.
    Fail(Fault),
}

/// The way in which an operation has failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The operation was stopped.
    Stopped(StopReason, StopMethod),
    /// An action was refused. `has_replied`: a service went on all the same, to the end.
    Refused { refusal: Error, has_replied: bool },
    /// CRIU failed.
    Failed(End, Option<Box<CriuResp>>),
    /// CRIU broke the protocol.
    Broken(Error),
}

impl Course {
    pub(super) fn new(
        request: &CriuReq,
        subject: Subject,
        worker_ends: bool,
        limits: &RunLimits,
        now: Instant,
    ) -> Self {
        let (conversation, packet) = Conversation::new(request);
        Self {
            phase: Phase::Ready(packet),
            conversation,
            subject,
            worker_ends,
            only_end: false,
            grace: limits.grace,
            deadline: limits.deadline.unwrap_or_default(),
            due: limits.deadline.map(|limit| now + limit),
            stopping: None,
            refusal: None,
        }
    }

    /// Makes the worker's end the only thing to wait for.
    pub(super) fn wait_for_the_end_only(&mut self) {
        self.only_end = true;
    }

    /// Returns the time at which the operation has to be over.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Over;
    }

    /// Says whether actions are refused because the operation is being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Says whether an action has been refused.
    pub(super) fn has_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Keeps the reason why an action is refused.
    pub(super) fn refuse(&mut self, why: Error) {
        self.refusal = Some(why);
    }

    /// Gives the worker no more time: its tasks are saved and being killed.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.stopping = Some(Stopping::new(StopReason::Cancelled, now));
    }

    /// Begins to stop, if the operation was cancelled or is past its deadline. Returns whether it
    /// has just begun.
    pub(super) fn notice(&mut self, seen: Seen) -> bool {
        if self.is_stopping() {
            return false;
        }
        let why = if seen.is_cancelled {
            StopReason::Cancelled
        } else if self.due.is_some_and(|due| seen.now >= due) {
            StopReason::Deadline(self.deadline)
        } else {
            return false;
        };
        let grace = match self.subject {
            Subject::None => Duration::ZERO,
            _ => self.grace,
        };
        self.stopping = Some(Stopping::new(why, seen.now + grace));
        true
    }

    /// Returns what is to be done now.
    pub(super) fn next(
        &mut self,
        seen: Seen,
        worker: Option<&mut impl Endable>,
        hang_up: impl FnOnce(),
    ) -> Order {
        let has_ended = seen.worker == Some(true);
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Ready(packet) => match &self.stopping {
                Some(stopping) => Order::Fail(Fault::Stopped(stopping.why, StopMethod::NotStarted)),
                None => {
                    self.phase = Phase::Talking;
                    Order::Send(packet)
                }
            },
            Phase::Talking => {
                self.phase = Phase::Talking;
                Order::Receive
            }
            Phase::Leaving(_) if has_ended => self.died(seen),
            Phase::Leaving(since) => {
                self.phase = Phase::Leaving(since);
                self.linger(seen, worker, hang_up)
            }
            Phase::Replied(reply, since) => {
                if self.worker_ends && seen.worker == Some(false) {
                    let since = since.unwrap_or(seen.now);
                    self.phase = Phase::Replied(reply, Some(since));
                    return see_out(seen.now, since);
                }
                self.settle(reply)
            }
            Phase::Over => Order::Wait(None),
        }
    }

    /// Takes what was received while [`Seen`] was seen, and returns what is to be done.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        seen: Seen,
        worker: Option<&mut impl Endable>,
        hang_up: impl FnOnce(),
    ) -> Order {
        match heard {
            Heard::Packet(packet) => match self.conversation.receive(&packet.bytes, packet.fds) {
                Ok(Step::Hook(call)) => Order::Ask(call),
                Ok(Step::Done(reply)) => {
                    let success = reply.success;
                    self.phase = Phase::Replied(reply, None);
                    Order::Replied { success }
                }
                Err(error) => self.fail(Fault::Broken(error.into())),
            },
            Heard::Nothing if seen.worker == Some(true) => self.died(seen),
            Heard::Nothing => self.linger(seen, worker, hang_up),
            Heard::Closed if seen.worker.is_none() => self.died(seen),
            Heard::Closed => {
                self.phase = Phase::Leaving(seen.now);
                Order::Closed
            }
        }
    }

    /// Returns the packet that answers an action.
    pub(super) fn answer(&mut self, verdict: &Verdict) -> Vec<u8> {
        self.conversation.answer(verdict)
    }

    /// Goes on with stopping, or sets the time of the next look: nothing has come.
    fn linger(
        &mut self,
        seen: Seen,
        worker: Option<&mut impl Endable>,
        hang_up: impl FnOnce(),
    ) -> Order {
        if let Some(stopping) = &mut self.stopping {
            return match stopping.advance(seen.now, worker, hang_up) {
                Next::Wait(until) => Order::Wait(Some(until)),
                Next::Over(how) => {
                    let why = stopping.why;
                    self.fail(Fault::Stopped(why, how))
                }
            };
        }
        if let Phase::Leaving(since) = self.phase {
            return see_out(seen.now, since);
        }
        // A worker that is only waited for may not end as it should.
        let patrol = self.only_end.then(|| seen.now + PATROL);
        Order::Wait(self.due.into_iter().chain(patrol).min())
    }

    fn settle(&mut self, reply: Box<CriuResp>) -> Order {
        if let Some(refusal) = self.refusal.take() {
            return self.fail(Fault::Refused { refusal, has_replied: true });
        }
        let kind = CriuReqType::try_from(reply.r#type).unwrap_or(CriuReqType::Empty);
        if reply.success && kind != CriuReqType::Empty {
            return Order::Finish(reply);
        }
        if let Some(stopping) = &self.stopping {
            return Order::Fail(Fault::Stopped(stopping.why, StopMethod::Refused));
        }
        let is_empty = kind == CriuReqType::Empty;
        let end = if is_empty { End::NotUnderstood } else { End::Refused };
        self.fail(Fault::Failed(end, Some(reply)))
    }

    fn died(&mut self, seen: Seen) -> Order {
        if let Some(stopping) = &self.stopping {
            let how = stopping.method(seen.worker.is_some());
            let why = stopping.why;
            return self.fail(Fault::Stopped(why, how));
        }
        match self.refusal.take() {
            Some(refusal) => self.fail(Fault::Refused { refusal, has_replied: false }),
            None => self.fail(Fault::Failed(End::Died, None)),
        }
    }

    fn fail(&mut self, fault: Fault) -> Order {
        self.phase = Phase::Over;
        Order::Fail(fault)
    }
}

/// Gives a worker that should be ending its time. Without a pidfd nothing tells that it has ended.
fn see_out(now: Instant, since: Instant) -> Order {
    let again = now + Duration::from_millis(20);
    if now > since + EXIT_TIME { Order::Kill(again) } else { Order::Wait(Some(again)) }
}

/// The time that a worker may take to end after its reply, or after it has closed the connection.
const EXIT_TIME: Duration = Duration::from_secs(5);

/// The time between looks for a reply that nothing announces.
const PATROL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::rpc::CriuNotify;
    use crate::sys::seqpacket::Packet;
    use crate::transport::Scripted;
    use crate::value::Pid;

    /// A course with a worker and a clock of its own.
    struct Trial {
        course: Course,
        worker: Option<Scripted>,
        now: Instant,
        is_cancelled: bool,
        hung_up: bool,
    }

    impl Trial {
        /// A dump that may take `deadline`, and two seconds of grace.
        fn dump(deadline: Option<Duration>) -> Self {
            let subject = Subject::Tasks { root: Pid::this(), end: true };
            let request = CriuReq { r#type: CriuReqType::Dump.into(), ..Default::default() };
            let now = Instant::now();
            let limits = RunLimits { deadline, ..Default::default() };
            let course = Course::new(&request, subject, true, &limits, now);
            let worker = Some(Scripted::new(subject));
            Self { course, worker, now, is_cancelled: false, hung_up: false }
        }

        fn seen(&self) -> Seen {
            let worker = self.worker.as_ref().map(|worker| worker.ended);
            Seen { now: self.now, worker, is_cancelled: self.is_cancelled }
        }

        fn next(&mut self) -> Order {
            let seen = self.seen();
            self.course.notice(seen);
            self.course.next(seen, self.worker.as_mut(), || self.hung_up = true)
        }

        fn hear(&mut self, heard: Heard) -> Order {
            assert!(matches!(self.next(), Order::Receive));
            let seen = self.seen();
            self.course.hear(heard, seen, self.worker.as_mut(), || self.hung_up = true)
        }

        fn send(mut self) -> Self {
            assert!(matches!(self.next(), Order::Send(_)));
            self
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    fn packet(response: &CriuResp) -> Heard {
        Heard::Packet(Packet { bytes: response.encode_to_vec(), fds: Vec::new() })
    }

    fn reply(success: bool) -> Heard {
        packet(&CriuResp { r#type: CriuReqType::Dump.into(), success, ..Default::default() })
    }

    fn action(name: &str) -> Heard {
        let notify = CriuNotify { script: Some(name.into()), ..Default::default() };
        packet(&CriuResp {
            r#type: CriuReqType::Notify.into(),
            success: true,
            notify: Some(notify),
            ..Default::default()
        })
    }

    const DEADLINE: Duration = Duration::from_secs(5);
    const GRACE: Duration = Duration::from_secs(2);

    #[test]
    fn a_dump_that_was_cancelled_before_is_never_asked_for() {
        let mut trial = Trial::dump(None);
        trial.is_cancelled = true;
        let order = trial.next();
        assert!(
            matches!(
                order,
                Order::Fail(Fault::Stopped(StopReason::Cancelled, StopMethod::NotStarted))
            ),
            "{order:?}"
        );
    }

    #[test]
    fn past_its_deadline_a_dump_waits_for_an_action_until_the_grace_is_over() {
        let mut trial = Trial::dump(Some(DEADLINE)).send();
        let due = trial.now + DEADLINE;
        assert!(matches!(trial.hear(Heard::Nothing), Order::Wait(Some(at)) if at == due));
        trial.pass(DEADLINE);
        assert!(matches!(trial.hear(Heard::Nothing), Order::Wait(Some(at)) if at == due + GRACE));
        assert!(trial.worker.as_ref().unwrap().done.is_empty());

        trial.pass(GRACE);
        trial.worker.as_mut().unwrap().is_safe = true;
        assert!(matches!(trial.hear(Heard::Nothing), Order::Wait(Some(_))));
        assert_eq!(trial.worker.as_ref().unwrap().done, ["terminate"]);
        let order = trial.hear(Heard::Closed);
        assert!(matches!(order, Order::Closed), "{order:?}");
        let order = trial.next();
        let stopped = Fault::Stopped(StopReason::Deadline(DEADLINE), StopMethod::Killed);
        assert_eq!(format!("{order:?}"), format!("{:?}", Order::Fail(stopped)));
    }

    #[test]
    fn a_refused_action_ends_a_stopped_dump_with_criu_s_own_reply() {
        let mut trial = Trial::dump(None).send();
        trial.is_cancelled = true;
        let Order::Ask(call) = trial.hear(action("post-dump")) else { panic!("no action") };
        assert_eq!(call.name, "post-dump");
        assert!(trial.course.is_stopping());
        trial.course.answer(&Verdict::Refuse);
        assert!(matches!(trial.hear(reply(false)), Order::Replied { success: false }));
        assert!(matches!(trial.next(), Order::Wait(Some(_))), "criu has not ended yet");
        trial.worker.as_mut().unwrap().ended = true;
        let order = trial.next();
        assert!(matches!(order, Order::Fail(Fault::Stopped(_, StopMethod::Refused))), "{order:?}");
    }

    #[test]
    fn a_success_counts_although_the_deadline_has_passed_meanwhile() {
        let mut trial = Trial::dump(Some(DEADLINE)).send();
        assert!(matches!(trial.hear(reply(true)), Order::Replied { success: true }));
        trial.pass(DEADLINE);
        assert!(matches!(trial.next(), Order::Wait(Some(_))));
        trial.worker.as_mut().unwrap().ended = true;
        assert!(matches!(trial.next(), Order::Finish(_)));
    }

    #[test]
    fn a_worker_that_closes_the_connection_is_killed_if_it_does_not_end() {
        let mut trial = Trial::dump(None).send();
        assert!(matches!(trial.hear(Heard::Closed), Order::Closed));
        assert!(matches!(trial.next(), Order::Wait(Some(_))));
        trial.pass(EXIT_TIME + Duration::from_millis(1));
        assert!(matches!(trial.next(), Order::Kill(_)));
        trial.worker.as_mut().unwrap().ended = true;
        assert!(matches!(trial.next(), Order::Fail(Fault::Failed(End::Died, None))));
    }

    #[test]
    fn a_last_word_is_heard_although_the_worker_has_ended() {
        let mut trial = Trial::dump(None).send();
        trial.worker.as_mut().unwrap().ended = true;
        assert!(matches!(trial.hear(reply(true)), Order::Replied { success: true }));
        assert!(matches!(trial.next(), Order::Finish(_)));
    }

    #[test]
    fn a_service_is_told_that_it_is_left_and_given_time_to_notice() {
        let mut trial = Trial::dump(None).send();
        trial.worker = None;
        trial.is_cancelled = true;
        assert!(matches!(trial.hear(Heard::Nothing), Order::Wait(Some(_))));
        assert!(!trial.hung_up);
        trial.pass(GRACE);
        assert!(matches!(trial.hear(Heard::Nothing), Order::Wait(Some(_))));
        assert!(trial.hung_up);
        trial.pass(Duration::from_secs(6));
        let order = trial.hear(Heard::Nothing);
        assert!(
            matches!(order, Order::Fail(Fault::Stopped(_, StopMethod::Disconnected))),
            "{order:?}"
        );
    }
}
