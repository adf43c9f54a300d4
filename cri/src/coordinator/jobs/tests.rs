use super::*;

/// The jobs, and a clock that a test sets.
struct Table {
    jobs: Jobs,
    now: Instant,
    tickets: Ticket,
}

impl Table {
    fn new() -> Self {
        Self { jobs: Jobs::new(Limits::default(), Graph::new()), now: Instant::now(), tickets: 0 }
    }

    /// Sends a request. Returns its ticket, and the answers that it leads to.
    fn ask(&mut self, id: &str, step: Step, needs: &str) -> (Ticket, Vec<(Ticket, String)>) {
        self.ask_holding(id, step, needs, false)
    }

    fn ask_holding(
        &mut self,
        id: &str,
        step: Step,
        needs: &str,
        hold: bool,
    ) -> (Ticket, Vec<(Ticket, String)>) {
        self.tickets += 1;
        let needs = super::super::message::split(needs).unwrap();
        let request = Request { id: id.into(), what: What::Step { step, needs, hold } };
        let deeds = self.jobs.request(self.tickets, request, self.now);
        (self.tickets, answers(deeds))
    }

    /// Two members that have come to a step.
    fn pair_at(step: Step) -> Self {
        let mut table = Self::new();
        for step in [Step::PreDump, Step::NetworkLock, step] {
            table.ask("A", step, "B");
            table.ask("B", step, "A");
        }
        table
    }
}

fn answers(deeds: Vec<Deed>) -> Vec<(Ticket, String)> {
    let answer = |deed| match deed {
        Deed::Answer { ticket, answer, .. } => Some((ticket, answer.to_string())),
        _ => None,
    };
    deeds.into_iter().filter_map(answer).collect()
}

fn ack(ticket: Ticket) -> (Ticket, String) {
    (ticket, "ACK".into())
}

#[test]
fn members_wait_for_each_other_at_each_step() {
    let mut table = Table::new();
    for step in [Step::PreDump, Step::NetworkLock, Step::PostDump] {
        let (first, none) = table.ask("A", step, "B");
        assert_eq!(none, []);
        let (second, both) = table.ask("B", step, "A");
        assert_eq!(both, [ack(first), ack(second)], "{step}");
    }
    let (ticket, answer) = table.ask("A", Step::PostDump, "B");
    assert_eq!(answer, [(ticket, "checkpoint is already created".into())]);
    let (ticket, answer) = table.ask("A", Step::NetworkUnlock, "B");
    assert_eq!(answer, [ack(ticket)]);
}

#[test]
fn who_is_depended_on_waits_too() {
    let mut table = Table::new();
    let (a, _) = table.ask("A", Step::PreDump, "B");
    let (b, both) = table.ask("B", Step::PreDump, "");
    assert_eq!(both, [ack(a), ack(b)]);
    assert_eq!(table.ask("B", Step::PostDump, "").1, []);
}

#[test]
fn a_step_that_a_member_does_not_have_is_left_out() {
    let mut table = Table::new();
    table.ask("A", Step::PreDump, "B");
    table.ask("B", Step::PreDump, "A");
    let (lock, _) = table.ask("A", Step::NetworkLock, "B");
    let (_, answer) = table.ask("B", Step::PostDump, "A");
    assert_eq!(answer, [ack(lock)]);
}

#[test]
fn a_member_that_dies_fails_the_others_with_its_name() {
    let mut table = Table::new();
    table.ask("A", Step::PreDump, "B:C");
    table.ask("B", Step::PreDump, "");
    table.ask("C", Step::PreDump, "");
    let (a, _) = table.ask("A", Step::NetworkLock, "");
    let (b, _) = table.ask("B", Step::NetworkLock, "");
    let why = "failed: B: its connection has ended while it waited at network-lock";
    assert_eq!(answers(table.jobs.gone(b)), [(a, why.to_owned())]);
    let (c, answer) = table.ask("C", Step::NetworkLock, "");
    assert_eq!(answer, [(c, why.to_owned())]);
}

#[test]
fn a_member_that_dies_between_two_steps_is_noticed_by_its_held_connection() {
    let mut table = Table::new();
    let (held, _) = table.ask_holding("A", Step::PreDump, "B", true);
    table.ask("B", Step::PreDump, "A");
    let (b, _) = table.ask("B", Step::PostDump, "A");
    let why = "failed: A: its connection has ended after pre-dump".to_owned();
    assert_eq!(answers(table.jobs.gone(held)), [(b, why)]);
}

#[test]
fn criu_that_unlocks_before_it_has_saved_has_failed() {
    let mut table = Table::pair_at(Step::NetworkLock);
    let (b, _) = table.ask("B", Step::PostDump, "A");
    let (a, answer) = table.ask("A", Step::NetworkUnlock, "B");
    let why = "failed: A: its dump has ended after network-lock".to_owned();
    assert_eq!(answer, [(b, why), ack(a)]);
}

#[test]
fn a_member_that_does_not_come_is_named_when_the_time_is_over() {
    let mut table = Table::pair_at(Step::NetworkLock);
    let (a, _) = table.ask("A", Step::PostDump, "B");
    assert_eq!(answers(table.jobs.expire(table.now + Duration::from_secs(29))), []);
    let why = "timeout: B has not come to post-dump within 30 s".to_owned();
    assert_eq!(answers(table.jobs.expire(table.now + Duration::from_secs(30))), [(a, why)]);
    let (b, answer) = table.ask("B", Step::PostDump, "A");
    let why = "failed: B has not come to post-dump within 30 s".to_owned();
    assert_eq!(answer, [(b, why)]);
}

#[test]
fn a_job_has_a_limit_in_total() {
    let mut table = Table::pair_at(Step::NetworkLock);
    let end = table.jobs.next_end().unwrap();
    assert_eq!(end, table.now + Duration::from_secs(600));
    assert_eq!(answers(table.jobs.expire(end)), []);
    let (_, answer) = table.ask("B", Step::PostDump, "A");
    assert!(answer[0].1.contains("takes longer than 600 s"), "{answer:?}");
}

#[test]
fn steps_out_of_turn_are_answered_in_the_words_of_criu_coordinator() {
    let mut table = Table::new();
    assert_eq!(table.ask("A", Step::PostDump, "").1[0].1, "not connected");
    table.ask("A", Step::PreDump, "B");
    assert_eq!(table.ask("A", Step::PreDump, "B").1[0].1, "client already connected");
    assert_eq!(table.ask("A", Step::NetworkLock, "B").1[0].1, "client already connected");
    let mut table = Table::pair_at(Step::NetworkLock);
    assert_eq!(table.ask("A", Step::NetworkLock, "B").1[0].1, "client already connected");
    let refused = &table.ask("A", Step::PostRestore, "B").1[0].1;
    assert!(refused.starts_with("refused: A has begun a dump"), "{refused}");
}

#[test]
fn a_member_that_begins_anew_fails_the_old_job() {
    let mut table = Table::pair_at(Step::NetworkLock);
    let (b, _) = table.ask("B", Step::PostDump, "A");
    let (_, answer) = table.ask("A", Step::PreDump, "B");
    let why = "failed: A: it has begun anew after network-lock".to_owned();
    assert_eq!(answer, [(b, why)]);
    assert_eq!(table.ask("B", Step::PreDump, "A").1.len(), 2);
}

#[test]
fn a_restore_waits_until_all_are_made_and_all_are_about_to_unlock() {
    let mut table = Table::new();
    for step in [Step::PreRestore, Step::PostRestore, Step::NetworkUnlock] {
        assert_eq!(table.ask("A", step, "B").1, [], "{step}");
        assert_eq!(table.ask("B", step, "A").1.len(), 2, "{step}");
    }
    let (a, answer) = table.ask("A", Step::PostResume, "B");
    assert_eq!(answer, [ack(a)]);
}

#[test]
fn only_kubescr_sets_the_graph_which_holds_for_members_without_dependencies() {
    let mut table = Table::new();
    let graph = Graph::from([("A".to_owned(), vec!["A".to_owned(), "B".to_owned()])]);
    let what = What::AddDependencies(graph);
    let request = |id: &str| Request { id: id.into(), what: what.clone() };
    let refused = answers(table.jobs.request(100, request("A"), table.now));
    assert!(refused[0].1.starts_with("refused: only kubescr"), "{refused:?}");
    assert_eq!(answers(table.jobs.request(101, request("kubescr"), table.now)), [ack(101)]);
    assert_eq!(table.ask("A", Step::PreDump, "").1, []);
    assert_eq!(table.ask("B", Step::PreDump, "").1.len(), 2);
}

#[test]
fn members_are_bounded_and_those_that_are_over_give_way() {
    let mut table = Table::new();
    table.jobs.limits.members = 2;
    table.ask("A", Step::PreDump, "");
    table.ask("B", Step::PreDump, "");
    let (_, answer) = table.ask("C", Step::PreDump, "");
    assert!(answer[0].1.starts_with("refused: 2 members"), "{answer:?}");
    table.ask("A", Step::PostDump, "");
    let (c, answer) = table.ask("C", Step::PreDump, "");
    assert_eq!(answer, [ack(c)]);
    assert_eq!(table.jobs.members.len(), 2);
    let (_, answer) = table.ask("D", Step::PreDump, "E:F:G");
    assert!(answer[0].1.starts_with("refused: 2 members"), "{answer:?}");
}

#[test]
fn a_member_that_has_been_saved_without_another_is_not_waited_for() {
    let mut table = Table::new();
    for step in [Step::PreDump, Step::PostDump] {
        let (b, answer) = table.ask("B", step, "");
        assert_eq!(answer, [ack(b)]);
    }
    // A names B, comes later, and must not be saved at another moment.
    let (a, answer) = table.ask("A", Step::PreDump, "B");
    let why = "refused: B has been saved without A, which it does not name".to_owned();
    assert_eq!(answer, [(a, why)]);
    // A restore is another operation.
    assert_eq!(table.ask("A", Step::PreRestore, "B").1, []);
    // What was long ago is no part of this job.
    let mut table = Table::new();
    table.ask("B", Step::PreDump, "");
    table.ask("B", Step::PostDump, "");
    table.now += table.jobs.limits.barrier;
    assert_eq!(table.ask("A", Step::PreDump, "B").1, []);
    assert_eq!(table.ask("B", Step::PreDump, "").1.len(), 2);
}

#[test]
fn a_job_that_was_saved_together_is_saved_again_at_once() {
    let mut table = Table::pair_at(Step::PostDump);
    let (a, none) = table.ask("A", Step::PreDump, "B");
    assert_eq!(none, []);
    // A new attempt of A still knows the job.
    table.jobs.gone(a);
    assert_eq!(table.ask("A", Step::PreDump, "B").1, []);
    assert_eq!(table.ask("B", Step::PreDump, "A").1.len(), 2);
    // C was no part of it.
    let mut table = Table::pair_at(Step::PostDump);
    let (c, answer) = table.ask("C", Step::PreDump, "A");
    let why = "refused: A has been saved without C, which it does not name".to_owned();
    assert_eq!(answer, [(c, why)]);
}

#[test]
fn a_member_that_others_are_to_wait_for_waits_if_the_coordinator_has_the_dependencies() {
    let mut table = Table::new();
    table.jobs.dependencies.extend(Graph::from([("A".to_owned(), vec!["B".to_owned()])]));
    let (b, none) = table.ask("B", Step::PreDump, "");
    assert_eq!(none, []);
    let (a, both) = table.ask("A", Step::PreDump, "");
    assert_eq!(both, [ack(a), ack(b)]);
}

#[test]
fn a_member_that_waits_for_nobody_is_told() {
    let mut table = Table::new();
    let mut notes = |id: &str, needs: &[&str]| {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        let what = What::Step { step: Step::PreDump, needs, hold: false };
        let deeds = table.jobs.request(1, Request { id: id.into(), what }, table.now);
        deeds.iter().any(|deed| matches!(deed, Deed::Note(Event::Alone { .. })))
    };
    assert!(notes("A", &[]) && !notes("B", &["C"]) && !notes("C", &[]));
}
