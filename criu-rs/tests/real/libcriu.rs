//! The tests of this suite over libcriu. With `CRIU_RS_TEST_LIBCRIU=loaded` each test loads it,
//! with `linked` the tests are linked with it.

use std::fs;
use std::path::{Path, PathBuf};

use criu_lab::harness::{self, Failed};
use criu_rs::{Criu, Version};

/// How tests reach criu.
pub fn reach(program: &Path) -> Criu {
    match way().as_deref() {
        #[cfg(feature = "libcriu")]
        Some("loaded") => Criu::load_libcriu("libcriu.so.2", program).unwrap(),
        #[cfg(feature = "libcriu-link")]
        Some("linked") => Criu::libcriu(program),
        Some(other) => panic!("CRIU_RS_TEST_LIBCRIU={other}: not built for this"),
        None => Criu::at(program),
    }
}

fn way() -> Option<String> {
    std::env::var("CRIU_RS_TEST_LIBCRIU").ok()
}

fn is_used() -> bool {
    way().is_some()
}

/// Has the loader find the libcriu that belongs to a criu, and what it needs, and nothing else of
/// another system.
pub fn environment(criu: &Path) -> Option<(&'static str, PathBuf)> {
    let suite = criu.ancestors().nth(3)?;
    is_used().then(|| ("LD_LIBRARY_PATH", suite.join("link")))
}

/// The versions of libcriu for which something is true.
#[derive(PartialEq)]
enum When {
    Always,
    /// Versions before 4.3.
    Old,
    /// Versions before 4.3, and a linked program: only functions of 4.1 are linked.
    New,
    /// Where the program is linked with 4.3.
    Linked,
    /// Versions from 4.3 on.
    Newest,
}

impl When {
    fn is(&self, version: Version) -> bool {
        let (old, linked) = (version < Version::new(4, 3, 0), way().as_deref() == Some("linked"));
        match self {
            Self::Always => true,
            Self::Old => old,
            Self::New => old || linked,
            Self::Linked => !old && linked,
            Self::Newest => !old,
        }
    }
}

/// The limits of libcriu: the test that shows the limit, the words of its failure (a bar separates
/// alternatives), and the libcriu that has the limit.
const CANNOT: &[(&str, &str, When)] = &[
    // Descriptors that have to be put into criu.
    ("inherit_fd_swaps_a_pipe", "inherit_fd needs|NotOverSocket", When::Always),
    ("an_external_net_namespace_is_replaced_by_a_descriptor", "inherit_fd", When::Always),
    ("an_external_file_is_replaced_by_a_descriptor", "inherit_fd", When::Always),
    ("a_pod_is_restored_into_another_sandbox", "inherit_fd", When::Always),
    ("containers_of_a_shared_pid_namespace_enter_another", "inherit_fd", When::Always),
    ("containers_restored_as_a_pod_stay_connected", "inherit_fd", When::Newest),
    ("containers_restored_one_by_one_lose_their_connection", "inherit_fd", When::Newest),
    // A plugin that criu is told of when it starts.
    (SHOWN_BY, "NotOverSocket", When::Always),
    ("a_tree_whose_holder_is_read_is_dumped_by_nobody", "page_server_socket needs", When::Always),
    ("our_page_server_takes_a_socket", "page_server_socket", When::Always),
    ("a_page_server_over_a_socket_of_ours", "page_server_socket", When::Always),
    ("a_capture_is_what_a_dump_would_be", "page_server_socket|leave_stopped", When::Always),
    ("a_capture_s_pages_go_into_the_directory_of_its_images", "page_server_socket", When::Always),
    ("a_capture_larger_than_its_pool_spills", "page_server_socket|leave_stopped", When::Always),
    ("a_capture_of_a_busy_process_is_of_one_moment", "page_server_socket", When::Always),
    ("a_capture_s_pages_go_into_the_directory_of_its_images", "page_server_socket", When::Always),
    ("a_capture_that_cannot_be_written_kills_nobody", "page_server_socket", When::Always),
    ("a_capture_is_handed_on_to_a_page_server", "page_server_socket|leave_stopped", When::Always),
    ("a_capture_that_is_handed_on_in_vain_kills_nobody", "page_server_socket", When::Always),
    ("pages_for_a_user_namespace_are_readable_when_asked_for", "page_server_socket", When::Always),
    // Requests for which it has no function, or one that tells criu nothing.
    ("a_page_server_as_a_child", "PAGE_SERVER_CHLD|page_server_address_port", When::Always),
    ("a_page_server_in_the_background", "PAGE_SERVER|page_server_address_port", When::Always),
    (
        "a_trusted_directory_may_belong_to_another_user",
        "PAGE_SERVER_CHLD|page_server_address_port",
        When::Always,
    ),
    (
        "pages_that_a_user_namespace_may_not_read_are_named",
        "page_server_address_port fails",
        When::Old,
    ),
    (
        "a_relay_carries_a_dump_to_a_page_server",
        "PAGE_SERVER_CHLD|page_server_address_port",
        When::Always,
    ),
    (
        "a_relay_speaks_tls_with_criu_s_page_server",
        "PAGE_SERVER_CHLD|page_server_address_port|no criu_local_set_tls",
        When::Always,
    ),
    (
        "criu_s_page_server_takes_what_our_client_sends",
        "PAGE_SERVER_CHLD|page_server_address_port",
        When::Always,
    ),
    (
        "our_client_speaks_tls_with_criu_s_page_server",
        "PAGE_SERVER_CHLD|page_server_address_port|no criu_local_set_tls",
        When::Always,
    ),
    (
        "tls_refuses_the_same_certificates_as_criu",
        "PAGE_SERVER_CHLD|into ours|no criu_local_set_tls",
        When::Always,
    ),
    ("cpuinfo_is_recorded_and_compared", "CPUINFO_DUMP", When::Always),
    ("other_requests_are_safe_where_others_write", "CPUINFO_DUMP", When::Always),
    ("a_series_of_pre_dumps_ended_by_a_dump", "PRE_DUMP", When::Always),
    ("cause_no_page_server", "page_server_address_port", When::Old),
    ("check", "criu_local_check sends no options", When::Always),
    // Options and answers that it cannot pass on.
    ("a_directory_that_criu_opens", "images_dir", When::Always),
    ("cause_network_lock_failed", "env needs", When::Always),
    ("externals_are_named_at_query_ext_files", "query-ext-files hook names", When::Always),
    ("cause_unseizable", "cannot carry timeout", When::Always),
    ("settings_send_logs_elsewhere_and_decide_on_the_tasks", "NotOverSocket", When::Always),
    ("settings_are_not_asked_for_as_options", "NotOverSocket", When::Always),
    (
        "directories_of_configuration_files_are_not_moved",
        "no criu_local_set_config_file",
        When::New,
    ),
    (
        "settings_of_a_request_with_a_network_lock",
        "NotOverSocket|no criu_local_set_config_file",
        When::Always,
    ),
    // Its criu is its own: no process id, no standard error, nothing to end early.
    ("criu_is_known_before_it_is_asked", "`None` value", When::Always),
    ("criu_becomes_the_parent_of_what_it_restores", "`None` value", When::Always),
    ("one_criu_takes_several_questions", "pid.is_some()", When::Always),
    ("a_deadline_before_the_request", "pid().is_some()", When::Always),
    ("a_log_on_standard_error_is_kept", "basics.rs", When::Always),
    (
        "a_dump_stuck_in_its_page_server_is_ended",
        "Disconnected|page_server_address_port",
        When::Always,
    ),
    (
        "a_freezer_is_thawed_after_a_dump_is_ended",
        "Disconnected|page_server_address_port",
        When::Always,
    ),
    ("a_restore_ended_without_an_action_leaves_nothing", "stopping.rs", When::Always),
    // What its later versions can.
    ("leave_stopped", "no criu_local_set_leave_stopped", When::New),
    ("restored_stopped", "no criu_local_set_leave_stopped", When::New),
    ("our_page_server_takes_what_a_dump_writes", "no criu_local_set_leave_stopped", When::New),
    ("a_configuration_file_wins", "no criu_local_set_config_file", When::New),
    (
        "settings_that_cannot_be_true_are_refused_before_anything_is_frozen",
        "no criu_local_set_config_file",
        When::New,
    ),
    ("a_restore_fetches_memory_on_demand", "no criu_local_set_lazy_pages", When::New),
    ("memory_comes_from_this_process_after_the_restore", "no criu_local_set_lazy_pages", When::New),
    (
        "an_archive_is_restored_whole_and_with_pages_that_come_later",
        "no criu_local_set_lazy_pages",
        When::New,
    ),
    ("a_lazy_restore_that_fails_leaves_nothing", "no criu_local_set_lazy_pages", When::New),
    ("a_daemon_serves_one_restore_after_another", "no criu_local_set_lazy_pages", When::New),
    ("recorded_pages_are_there_before_they_are_touched", "no criu_local_set_lazy_pages", When::New),
    (
        "pages_that_the_images_do_not_have_are_passed_over",
        "no criu_local_set_lazy_pages",
        When::New,
    ),
    (
        "each_task_of_a_tree_has_its_part_of_a_working_set",
        "no criu_local_set_lazy_pages",
        When::New,
    ),
    ("a_recording_is_of_the_next_restore_that_succeeds", "no criu_local_set_lazy_pages", When::New),
    (
        "a_dump_serves_memory_on_demand",
        "page_server_address_port fails|no criu_local_set_lazy_pages",
        When::New,
    ),
    (
        "a_refused_lazy_dump_leaves_the_process_running",
        "page_server_address_port fails|no criu_local_set_lazy_pages",
        When::New,
    ),
    ("our_page_server_takes_16_dumps_at_once", "page_server_address_port fails", When::Old),
    ("a_page_server_with_a_pool_answers_from_memory", "page_server_address_port fails", When::Old),
    ("a_dump_into_a_page_server_that_dies_fails", "pages.rs", When::Old),
    (
        "criu_fetches_memory_from_our_page_server",
        "page_server_address_port fails|no criu_local_set_lazy_pages",
        When::New,
    ),
    ("four_restores_of_one_snapshot_fetch_at_once", "page_server_address_port fails", When::Old),
    (
        "criu_speaks_tls_with_our_page_server",
        "page_server_address_port fails|no criu_local_set_tls",
        When::New,
    ),
    (
        "criu_fetches_memory_over_tls",
        "page_server_address_port fails|no criu_local_set_tls",
        When::New,
    ),
    ("cause_no_compression", "no criu_local_set_compress", When::Linked),
    ("an_option_of_a_newer_criu_is_refused", "no criu_local_set_image_io_mode", When::Linked),
    ("a_refused_stream_leaves_the_process_running", "no criu_local_set_stream", When::Linked),
];

/// The test of instant captures that shows what libcriu answers.
const SHOWN_BY: &str = "an_instant_capture_of_a_busy_process_is_of_one_moment";

/// Tests that would wait for a dump that libcriu before 4.3 does not make: others show that it does
/// not.
const WAIT_IN_VAIN: &[&str] = &["a_dump_into_a_full_disk_fails"];

/// A dump that nobody waits for any more goes on alone: whether it is still there when the test
/// looks is chance.
const CHANCE: &[&str] = &["a_dropped_dump_leaves_the_process_running"];

/// Tests that also make a series of pre-dumps if the kernel does not track memory. One test shows
/// that libcriu cannot make a series.
const ALIKE: &[&str] = &[
    "pre_dump_then_dump",
    "pre_dump_by_reading",
    "pre_dump_and_dump_into_our_page_server",
    "pre_dumps_and_dump_are_three_levels_that_are_read_as_one",
];

/// Tests that start criu themselves.
const OWN_CRIU: &[&str] = &[
    "a_snapshot_lists_what_criu_leaves_out",
    "criu_s_page_server_is_a_source",
    "criu_s_dump_is_a_source",
];

/// Whether a test is of use.
pub fn shows_something(name: &str, version: Version) -> bool {
    // A look goes through /proc and the images, and a cause is found in criu's log: the way to criu
    // makes no difference to them.
    if is_used() && ["preflight_", "restore_"].iter().any(|start| name.starts_with(start)) {
        return false;
    }
    // One test shows that libcriu cannot make an instant capture.
    if is_used() && name.contains("instant") && name != SHOWN_BY {
        return false;
    }
    let in_vain = When::Old.is(version) && WAIT_IN_VAIN.contains(&name);
    let never = [CHANCE, ALIKE, OWN_CRIU].concat();
    !(is_used() && (in_vain || never.contains(&name)))
}

/// The table for people names tests that are in this one.
pub fn table() -> Result<(), Failed> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/libcriu.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.rsplit_once(" | "));
    let named = rows.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let known = |name: &str| CANNOT.iter().any(|(test, ..)| *test == name);
    let mut count = 0;
    for name in named {
        count += 1;
        if !known(name) && name != "each_option_is_carried_or_refused" {
            return Err(format!("docs/libcriu.md names {name}").into());
        }
    }
    if count > 15 { Ok(()) } else { Err(format!("docs/libcriu.md names {count} tests").into()) }
}

/// Turns the outcome of what libcriu cannot do round.
pub fn expect(name: &str, version: Version, outcome: Result<(), Failed>) -> Result<(), Failed> {
    if !is_used() {
        return outcome;
    }
    let cannot = CANNOT.iter().find(|(test, _, when)| *test == name && when.is(version));
    match (cannot, outcome) {
        (None, outcome) => outcome,
        (Some((_, words, _)), Err(failed)) => {
            let said = failed.message().unwrap_or_default();
            if !words.split('|').any(|word| said.contains(word)) {
                return Err(failed);
            }
            harness::forget(said);
            Ok(())
        }
        (Some((_, words, _)), Ok(())) => {
            Err(format!("libcriu can do this; wanted {words:?}").into())
        }
    }
}
