//! The members of the jobs and the barriers between them, without sockets.
//!
//! A request that arrives, a connection that ends and time that passes are events. Each event
//! returns what is to be done with connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::dependencies::Dependencies;
use super::event::Event;
use super::limits::Limits;
use super::message::{Graph, KUBESCR, Request, What};
use super::step::Step;
use super::ties::Ties;

/// The number of a connection.
pub(super) type Ticket = u64;

/// An action on a connection, or a note for whoever watches.
#[derive(Debug)]
pub(super) enum Deed {
    /// Answers a connection. The connection stays if `hold` is set, and ends otherwise.
    Answer { ticket: Ticket, answer: Answer, hold: bool },
    /// Closes a connection that was held.
    Close(Ticket),
    /// Tells whoever watches.
    Note(Event),
}

/// The members of all jobs. A job is what the dependencies tie together, in both directions.
#[derive(Debug)]
pub(super) struct Jobs {
    limits: Limits,
    members: BTreeMap<String, Member>,
    ties: Ties,
    dependencies: Dependencies,
    deeds: Vec<Deed>,
}

#[derive(Debug)]
struct Member {
    is_dump: bool,
    /// The last step that the member has come to.
    reached: Step,
    begun: Instant,
    waiting: Option<Waiting>,
    /// The connection that stays for as long as the operation takes.
    held: Option<Ticket>,
    state: State,
    /// The number of the job as whose part the member last went through an operation.
    last_job: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    since: Instant,
    hold: bool,
}

#[derive(Debug, PartialEq)]
enum State {
    Active,
    Done,
    Failed(String),
}

impl Jobs {
    pub(super) fn new(limits: Limits, graph: Graph) -> Self {
        let (members, ties, deeds) = (BTreeMap::new(), Ties::default(), Vec::new());
        Self { limits, members, ties, dependencies: Dependencies::new(graph), deeds }
    }

    /// Takes the request of a connection.
    pub(super) fn request(&mut self, ticket: Ticket, request: Request, now: Instant) -> Vec<Deed> {
        let Request { id, what } = request;
        let answer = match what {
            What::AddDependencies(graph) => Some(self.add_dependencies(&id, graph)),
            What::Step { step: step @ (Step::PreDump | Step::PreRestore), needs, hold } => {
                let waiting = Waiting { ticket, since: now, hold };
                self.register(id, step, needs, waiting)
            }
            What::Step { step, .. } => self.step(id, step, ticket, now),
        };
        if let Some(answer) = answer {
            self.deeds.push(Deed::Answer { ticket, answer, hold: false });
        }
        std::mem::take(&mut self.deeds)
    }

    /// Notes that a connection has ended.
    pub(super) fn gone(&mut self, ticket: Ticket) -> Vec<Deed> {
        let has = |member: &Member| {
            let waits = member.waiting.as_ref().is_some_and(|waiting| waiting.ticket == ticket);
            waits || member.held == Some(ticket)
        };
        let found = self.members.iter_mut().find(|(_, member)| has(member));
        if let Some((id, member)) = found {
            let id = id.clone();
            let when = match member.waiting.take() {
                Some(_) => format!("while it waited at {}", member.reached),
                None => format!("after {}", member.reached),
            };
            member.held = None;
            if member.state == State::Active {
                let reason = format!("{id}: its connection has ended {when}");
                self.fail(&id, reason);
            }
        }
        std::mem::take(&mut self.deeds)
    }

    /// Fails the jobs whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Deed> {
        while let Some((id, reason)) = self.expired(now) {
            self.end(&id, reason, true);
        }
        std::mem::take(&mut self.deeds)
    }

    /// Returns the next moment at which a job's time may be over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let active = self.members.values().filter(|member| member.state == State::Active);
        active.filter_map(|member| self.end_of(member)).min()
    }

    fn end_of(&self, member: &Member) -> Option<Instant> {
        let waits = member.waiting.as_ref();
        let barrier = waits.and_then(|waiting| waiting.since.checked_add(self.limits.barrier));
        let total = member.begun.checked_add(self.limits.total);
        barrier.into_iter().chain(total).min()
    }

    /// Finds an active member whose time is over, and says why.
    fn expired(&self, now: Instant) -> Option<(String, String)> {
        let is_over = |member: &Member| {
            member.state == State::Active && self.end_of(member).is_some_and(|end| end <= now)
        };
        let (id, member) = self.members.iter().find(|(_, member)| is_over(member))?;
        if now.duration_since(member.begun) >= self.limits.total {
            let limit = seconds(self.limits.total);
            let at = member.reached;
            return Some((
                id.clone(),
                format!("the job takes longer than {limit}; {id} is at {at}"),
            ));
        }
        let job = self.job(id);
        let is_late = |id: &&String| {
            let other = self.members.get(*id).filter(|other| is_with(other, member));
            other.is_none_or(|other| other.reached < member.reached)
        };
        let late: Vec<&str> = job.iter().filter(is_late).map(String::as_str).collect();
        let (limit, at) = (seconds(self.limits.barrier), member.reached);
        let have = if late.len() == 1 { "has" } else { "have" };
        Some((id.clone(), format!("{} {have} not come to {at} within {limit}", few(&late))))
    }

    fn add_dependencies(&mut self, id: &str, graph: Graph) -> Answer {
        if id != KUBESCR {
            return Answer::Refused(format!("only {KUBESCR} sets dependencies, and not {id}"));
        }
        let new = graph.keys().filter(|id| !self.dependencies.has(id)).count();
        if self.dependencies.rows().saturating_add(new) > self.limits.members {
            let limit = self.limits.members;
            return Answer::Refused(format!(
                "dependencies of more than {limit} members, the limit"
            ));
        }
        self.dependencies.extend(graph);
        Answer::Ack
    }

    fn register(
        &mut self,
        id: String,
        step: Step,
        needs: Vec<String>,
        waiting: Waiting,
    ) -> Option<Answer> {
        if let Some(member) = self.members.get(&id) {
            if member.waiting.is_some() || member.held.is_some() {
                return Some(Answer::AlreadyConnected);
            }
            // Iterative dumps register several times before the last of them goes further.
            let is_new = matches!(member.reached, Step::PreDump | Step::PreRestore);
            if member.state == State::Active && !is_new {
                let at = member.reached;
                self.fail(&id, format!("{id}: it has begun anew after {at}"));
            }
        } else if self.members.len() >= self.limits.members && !self.forget_one() {
            let limit = self.limits.members;
            return Some(Answer::Refused(format!("{limit} members are there, the limit")));
        }
        let needs = if needs.is_empty() { self.dependencies.of(&id) } else { needs };
        if let Some(need) =
            needs.iter().find(|need| self.has_passed(need, &id, step, waiting.since))
        {
            let done = if step.is_of_dump() { "saved" } else { "restored" };
            return Some(Answer::Refused(format!(
                "{need} has been {done} without {id}, which it does not name"
            )));
        }
        if !self.ties.tie(&id, &needs, self.limits.members) {
            let limit = self.limits.members;
            return Some(Answer::Refused(format!("{limit} members are there, the limit")));
        }
        let member = Member {
            is_dump: step == Step::PreDump,
            reached: step,
            begun: waiting.since,
            waiting: Some(waiting),
            held: None,
            state: State::Active,
            last_job: self.members.get(&id).and_then(|old| old.last_job),
        };
        self.members.insert(id.clone(), member);
        self.deeds.push(Deed::Note(Event::Registered { id: id.clone(), step }));
        if self.job(&id).len() == 1 {
            self.deeds.push(Deed::Note(Event::Alone { id: id.clone() }));
        }
        self.settle(&id);
        None
    }

    /// Tells if a member has gone through an operation as part of a job without another one, which
    /// names it and would have waited for it.
    fn has_passed(&self, need: &str, id: &str, step: Step, now: Instant) -> bool {
        let Some(member) = self.members.get(need).filter(|member| member.state == State::Done)
        else {
            return false;
        };
        let was_with = self.members.get(id).is_some_and(|own| own.last_job == member.last_job);
        let is_recent = now.saturating_duration_since(member.begun) < self.limits.barrier;
        need != id && member.is_dump == step.is_of_dump() && !was_with && is_recent
    }

    /// Forgets the member that has been over for longest. Returns `false` if all are active.
    fn forget_one(&mut self) -> bool {
        let over = self.members.iter().filter(|(_, member)| member.state != State::Active);
        let oldest = over.min_by_key(|(_, member)| member.begun).map(|(id, _)| id.clone());
        oldest.is_some_and(|id| self.members.remove(&id).is_some())
    }

    fn step(&mut self, id: String, step: Step, ticket: Ticket, now: Instant) -> Option<Answer> {
        let Some(member) = self.members.get_mut(&id) else { return Some(Answer::NotConnected) };
        let unlocks_dump = member.is_dump && step == Step::NetworkUnlock;
        match &member.state {
            // CRIU unlocks the network after every dump that leaves tasks behind.
            State::Done | State::Failed(_) if unlocks_dump => return Some(Answer::Ack),
            State::Failed(reason) => return Some(Answer::Failed(reason.clone())),
            State::Done if member.is_dump && step == Step::PostDump => {
                return Some(Answer::CheckpointExists);
            }
            State::Done => return Some(Answer::NotConnected),
            State::Active => {}
        }
        if member.waiting.is_some() {
            return Some(Answer::AlreadyConnected);
        }
        if unlocks_dump {
            let at = member.reached;
            self.fail(&id, format!("{id}: its dump has ended after {at}"));
            return Some(Answer::Ack);
        }
        if step.is_of_dump() != member.is_dump {
            let what = if member.is_dump { "a dump" } else { "a restore" };
            let why = format!("{id} has begun {what}, and {step} does not belong to it");
            return Some(Answer::Refused(why));
        }
        if step <= member.reached {
            return Some(Answer::AlreadyConnected);
        }
        member.reached = step;
        if step == Step::PostResume {
            self.finish(&id);
            return Some(Answer::Ack);
        }
        member.waiting = Some(Waiting { ticket, since: now, hold: false });
        self.deeds.push(Deed::Note(Event::Came { id: id.clone(), step }));
        self.settle(&id);
        None
    }

    /// Lets the members of a job go on that wait for nobody any more.
    fn settle(&mut self, id: &str) {
        let job = self.job(id);
        let Some(member) = self.members.get(id) else { return };
        let is_dump = member.is_dump;
        let mut common: Option<Step> = None;
        for other in &job {
            let other = self.members.get(other).filter(|other| is_with(other, member));
            let Some(other) = other else { return };
            common = Some(common.map_or(other.reached, |common| common.min(other.reached)));
        }
        let Some(common) = common else { return };
        let mut passed: BTreeMap<Step, Vec<String>> = BTreeMap::new();
        for id in job {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(Waiting { ticket, hold, .. }) =
                member.waiting.take_if(|_| member.reached <= common)
            else {
                continue;
            };
            if hold {
                member.held = Some(ticket);
            }
            self.deeds.push(Deed::Answer { ticket, answer: Answer::Ack, hold });
            let at = member.reached;
            if is_dump && at == Step::PostDump {
                self.finish(&id);
            }
            passed.entry(at).or_default().push(id);
        }
        let notes = passed.into_iter().map(|(step, ids)| Deed::Note(Event::Passed { step, ids }));
        self.deeds.extend(notes);
    }

    /// Notes that a member's operation is over, and lets go of its connection.
    fn finish(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.state = State::Done;
            member.last_job = self.ties.number(id);
            self.deeds.extend(member.held.take().map(Deed::Close));
            self.untie(id);
        }
    }

    /// Fails the job of a member.
    fn fail(&mut self, id: &str, reason: String) {
        self.end(id, reason, false);
    }

    fn end(&mut self, id: &str, reason: String, is_timeout: bool) {
        let job = self.job(id);
        let mut ids = Vec::new();
        for id in job {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.state != State::Active {
                continue;
            }
            member.state = State::Failed(reason.clone());
            if let Some(Waiting { ticket, .. }) = member.waiting.take() {
                let why = reason.clone();
                let answer =
                    if is_timeout { Answer::Timeout(Some(why)) } else { Answer::Failed(why) };
                self.deeds.push(Deed::Answer { ticket, answer, hold: false });
            }
            self.deeds.extend(member.held.take().map(Deed::Close));
            ids.push(id);
        }
        self.untie(id);
        self.deeds.push(Deed::Note(Event::Failed { reason, ids }));
    }

    /// Returns the ids of a member's job. Some may not have registered.
    fn job(&self, id: &str) -> BTreeSet<String> {
        self.ties.job(id).cloned().unwrap_or_else(|| BTreeSet::from([id.to_owned()]))
    }

    /// Unties the job of a member in which no member is active any more.
    fn untie(&mut self, id: &str) {
        let is_active =
            |id: &String| self.members.get(id).is_some_and(|one| one.state == State::Active);
        if self.ties.job(id).is_some_and(|job| !job.iter().any(is_active)) {
            self.ties.untie(id);
        }
    }
}

/// Tells if a member takes part in the same operation as another.
fn is_with(other: &Member, member: &Member) -> bool {
    other.state == State::Active && other.is_dump == member.is_dump
}

/// Names a few ids of many.
fn few(ids: &[&str]) -> String {
    let shown = ids.get(..SHOWN).unwrap_or(ids).join(", ");
    match ids.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn seconds(time: Duration) -> impl fmt::Display {
    format!("{} s", time.as_secs_f32())
}

/// The members that a message names at most.
const SHOWN: usize = 5;

#[cfg(test)]
mod tests;
