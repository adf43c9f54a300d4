//! The same tests over libcriu: with `CRIU_RS_TEST_LIBCRIU=loaded` it is loaded by each test, with `linked` the tests are
//! linked with it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use criu_rs::{Criu, Version};
use libtest_mimic::Failed;

/// How tests reach criu.
pub fn reach(program: &Path) -> Criu {
    match std::env::var("CRIU_RS_TEST_LIBCRIU").as_deref() {
        #[cfg(feature = "libcriu")]
        Ok("loaded") => Criu::load_libcriu("libcriu.so.2", program).unwrap(),
        #[cfg(feature = "libcriu-link")]
        Ok("linked") => Criu::libcriu(program),
        Ok(other) => panic!("CRIU_RS_TEST_LIBCRIU={other}: not built for this"),
        Err(_) => Criu::at(program),
    }
}

fn is_used() -> bool {
    std::env::var_os("CRIU_RS_TEST_LIBCRIU").is_some()
}

/// Has the loader find the libcriu that belongs to a criu, and what it needs, and nothing else of another system.
pub fn environment(criu: &Path) -> Option<(&'static str, PathBuf)> {
    let libraries = criu.ancestors().nth(2)?.join("lib/x86_64-linux-gnu");
    let place = criu.ancestors().nth(3)?.join("libcriu");
    fs::create_dir_all(&place).ok()?;
    for name in ["libcriu.so.2", "libprotobuf-c.so.1"] {
        // Other tests do the same at the same time.
        let _ = symlink(libraries.join(name), place.join(name));
    }
    is_used().then_some(("LD_LIBRARY_PATH", place))
}

/// What libcriu cannot do: the test that shows it, and what it fails with, one of several where they are separated
/// by a bar.
const CANNOT: &[(&str, &str)] = &[
    // Descriptors that have to be put into criu.
    ("inherit_fd_swaps_a_pipe", "inherit_fd needs|NotOverSocket"),
    ("an_external_net_namespace_is_replaced_by_a_descriptor", "inherit_fd"),
    ("an_external_file_is_replaced_by_a_descriptor", "inherit_fd"),
    ("our_page_server_takes_a_socket", "page_server_socket"),
    ("a_page_server_over_a_socket_of_ours", "page_server_socket"),
    ("a_capture_is_what_a_dump_would_be", "page_server_socket|leave_stopped"),
    ("a_capture_larger_than_its_pool_spills", "page_server_socket|leave_stopped"),
    ("a_capture_of_a_busy_process_is_of_one_moment", "page_server_socket"),
    ("a_capture_that_cannot_be_written_kills_nobody", "page_server_socket"),
    ("a_capture_is_handed_on_to_a_page_server", "page_server_socket|leave_stopped"),
    ("a_capture_that_is_handed_on_in_vain_kills_nobody", "page_server_socket"),
    // Requests for which it has no function, or one that tells criu nothing.
    ("a_page_server_as_a_child", "PAGE_SERVER_CHLD|page_server_address_port"),
    ("a_page_server_in_the_background", "PAGE_SERVER|page_server_address_port"),
    ("a_relay_carries_a_dump_to_a_page_server", "PAGE_SERVER_CHLD|page_server_address_port"),
    ("a_relay_speaks_tls_with_criu_s_page_server", "PAGE_SERVER_CHLD|page_server_address_port"),
    ("criu_s_page_server_takes_what_our_client_sends", "PAGE_SERVER_CHLD|page_server_address_port"),
    ("our_client_speaks_tls_with_criu_s_page_server", "PAGE_SERVER_CHLD|page_server_address_port"),
    ("tls_refuses_the_same_certificates_as_criu", "PAGE_SERVER_CHLD|into ours"),
    ("cpuinfo_is_recorded_and_compared", "CPUINFO_DUMP"),
    ("check", "criu_local_check sends no options"),
    // Options and answers that it cannot pass on.
    ("a_directory_that_criu_opens", "images_dir"),
    ("cause_network_lock_failed", "env needs"),
    ("externals_are_named_at_query_ext_files", "query-ext-files hook names"),
    // Its criu is its own: no process id, no standard error, nothing to end early.
    ("criu_is_known_before_it_is_asked", "`None` value"),
    ("criu_becomes_the_parent_of_what_it_restores", "`None` value"),
    ("one_criu_takes_several_questions", "pid.is_some()"),
    ("a_deadline_before_the_request", "pid().is_some()"),
    ("a_log_on_standard_error_is_kept", "basics.rs"),
    ("a_dropped_dump_leaves_the_process_running", "left behind"),
    ("a_dump_stuck_in_its_page_server_is_ended", "Disconnected|page_server_address_port"),
    ("a_freezer_is_thawed_after_a_dump_is_ended", "Disconnected|page_server_address_port"),
    ("a_restore_ended_without_an_action_leaves_nothing", "stopping.rs"),
];

/// The same for libcriu before 4.3.
const CANNOT_BEFORE_4_3: &[(&str, &str)] = &[
    ("leave_stopped", "no criu_local_set_leave_stopped"),
    ("restored_stopped", "no criu_local_set_leave_stopped"),
    ("our_page_server_takes_what_a_dump_writes", "no criu_local_set_leave_stopped"),
    ("a_configuration_file_wins", "no criu_local_set_config_file"),
    ("a_restore_fetches_memory_on_demand", "no criu_local_set_lazy_pages"),
    ("a_dump_serves_memory_on_demand", "page_server_address_port fails"),
    ("a_refused_lazy_dump_leaves_the_process_running", "page_server_address_port fails"),
    ("our_page_server_takes_16_dumps_at_once", "page_server_address_port fails"),
    ("a_page_server_with_a_pool_answers_from_memory", "page_server_address_port fails"),
    ("a_dump_into_a_page_server_that_dies_fails", "pages.rs"),
    ("criu_fetches_memory_from_our_page_server", "page_server_address_port fails"),
    ("four_restores_of_one_snapshot_fetch_at_once", "page_server_address_port fails"),
    ("criu_speaks_tls_with_our_page_server", "page_server_address_port fails"),
    ("criu_fetches_memory_over_tls", "page_server_address_port fails"),
];

/// Tests that would wait for a dump that libcriu before 4.3 does not make: others show that it does not.
const WAIT_IN_VAIN: &[&str] = &["a_dump_into_a_full_disk_fails"];

/// Whether a test is of use.
pub fn shows_something(name: &str, version: Version) -> bool {
    !(is_used() && version < Version::new(4, 3, 0) && WAIT_IN_VAIN.contains(&name))
}

/// Turns the outcome of what libcriu cannot do round.
pub fn expect(name: &str, version: Version, outcome: Result<(), Failed>) -> Result<(), Failed> {
    if !is_used() {
        return outcome;
    }
    let old = if version < Version::new(4, 3, 0) { CANNOT_BEFORE_4_3 } else { &[] };
    let cannot = CANNOT.iter().chain(old).find(|(test, _)| *test == name);
    match (cannot, outcome) {
        (None, outcome) => outcome,
        (Some((_, words)), Err(failed)) => {
            let said = failed.message().unwrap_or_default();
            if words.split('|').any(|word| said.contains(word)) { Ok(()) } else { Err(failed) }
        }
        (Some((_, words)), Ok(())) => Err(format!("libcriu can do this; wanted {words:?}").into()),
    }
}
