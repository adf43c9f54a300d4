//! The handler of missing pages and processes that use their memory in every way, without CRIU.
//!
//! Each test starts this program again as a task: a process with a userfaultfd of its own, as
//! `criu restore` leaves it. The content of a page tells its address at the start, so a page that
//! is wrong is seen. The tests need root, or `vm.unprivileged_userfaultfd`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod areas;
mod ends;
mod forks;
mod losses;
mod stage;
mod storms;
mod task;
mod touches;
mod working_set;

use std::process::ExitCode;

use criu_lab::harness::{self, Trial};

use areas::{areas, areas_then_all, areas_then_lost, poisoned_areas};
use ends::{ends, exec};
use forks::{forking, forks};
use losses::{after, doomed, dropped, dropped_amid, lost, poisoned, restless};
use storms::{storm, storms};
use task::Task;
use touches::{many, neighbours, nothing, row, some, touch, touches};
use working_set::{prefetched, recorded};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).map(String::as_str) == Some("--task") {
        let (_, task) = TASKS.iter().find(|(name, _)| *name == words[2]).unwrap();
        task(&Task::begin(&words[2], words[3].parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, || {
            test();
            Ok(())
        })
    });
    harness::run(trials.collect())
}

const TESTS: &[(&str, fn())] = &[
    ("every_page_is_right_while_threads_touch_and_the_fill_runs", touches),
    ("without_a_fill_only_what_is_touched_comes", nothing),
    ("neighbours_come_with_a_page_that_is_next_to_another", neighbours),
    ("memory_that_is_moved_discarded_and_unmapped_meanwhile_is_right", storms),
    ("memory_that_is_cut_into_areas_meanwhile_is_right", areas),
    ("children_have_the_memory_of_the_fork", forks),
    ("tasks_that_end_or_run_another_program_end_the_restore", ends),
    ("a_lost_source_kills_the_tasks_and_their_children", lost),
    ("a_lost_source_is_a_signal_where_a_page_is_missing", poisoned),
    ("a_lost_source_is_a_signal_in_each_of_many_areas", poisoned_areas),
    ("a_handler_that_is_dropped_leaves_no_task_without_its_memory", dropped),
    ("a_handler_that_is_dropped_amid_messages_leaves_no_zeros", dropped_amid),
    ("a_task_that_comes_after_the_handler_is_not_without_its_memory", after),
    ("pages_of_a_working_set_come_before_the_tasks_run", prefetched),
    ("touches_are_recorded_in_their_order_and_nothing_else_comes", recorded),
    ("one_handler_serves_many_restores", many),
];

/// The name of a task, and its work.
type Role = (&'static str, fn(&Task));

const TASKS: &[Role] = &[
    ("touch", touch),
    ("some", some),
    ("row", row),
    ("storm", storm),
    ("areas", areas_then_all),
    ("areas-lost", areas_then_lost),
    ("fork", forking),
    ("exec", exec),
    ("doomed", doomed),
    ("restless", restless),
    ("early", some),
    ("late", some),
];

/// The number of pages of most tests: 64 MiB.
const PAGES: usize = 16384;
