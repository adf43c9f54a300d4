//! Lines that real CRIUs logged, and the causes that they tell.

use super::cause::Cause;
use super::failure::Failure;
use super::find::Asked;
use super::log::excerpt;

/// Diagnoses an operation that ended with this log.
fn diagnosed(operation: &'static str, log: &str) -> Failure {
    Failure::logged(operation, excerpt("x.log", log.as_bytes(), None), &Asked::default())
}

#[track_caller]
fn tells(operation: &'static str, log: &str, cause: Option<Cause>, seen: Option<&str>) {
    let failure = diagnosed(operation, log);
    assert_eq!((failure.cause, failure.seen.as_deref()), (cause, seen), "{log}");
}

#[test]
fn a_restore_without_space_is_not_about_the_images() {
    let full = "    7: Error (criu/files-reg.c:329): Can't send data: No space left on device";
    tells("restore", full, Some(Cause::FileSystemFull), None);
    tells("dump", full, Some(Cause::NoSpace), None);
    let empty = "    49: Error (criu/cgroup.c:1308): cg: Can't move 49 into \
                 cpuset//job/cgroup.procs (-1/13): No space left on device";
    let seen = "process 49, cgroup cpuset//job/cgroup.procs";
    tells("restore", empty, Some(Cause::EmptyCpuset), Some(seen));
    let watches = "2532: Error (criu/fsnotify.c:800): fsnotify: Can't add inotify watch for fd 3 \
                   wd 0x1 (dev 0xfe00000 ino 0x13 mask 0x2): No space left on device";
    tells("restore", watches, Some(Cause::InotifyLimit), None);
    let unknown = "7: Error (criu/new.c:1): Can't do it: No space left on device";
    tells("restore", unknown, None, None);
}

#[test]
fn a_key_that_was_not_given_back_is_not_a_missing_file() {
    let newer = "\
91: Warn  (criu/files-reg.c:2219): External file file[5b:2] has no --inherit-fd mapping on restore
91: Error (criu/files-reg.c:2354): Can't open file ile[5b:2] on restore: No such file or directory";
    tells("restore", newer, Some(Cause::ExternalNotGiven), Some("key file[5b:2]"));
    let older = newer.lines().last().unwrap();
    tells("restore", older, Some(Cause::ExternalNotGiven), Some("file[5b:2]"));
}

#[test]
fn limits_of_the_machine_are_told() {
    for (line, cause, seen) in [
        (
            "Error (criu/kerndat.c:874): Can't create inotify: Too many open files",
            Cause::InotifyLimit,
            None,
        ),
        (
            "Error (criu/cr-restore.c:1277): 1444 killed by signal 9: Killed",
            Cause::KilledInRestore,
            Some("process 1444"),
        ),
        (
            "1070: Error (criu/sockets.c:474): sockets: Can't set 1:25 (len 2): No such device",
            Cause::InterfaceMissing,
            None,
        ),
        (
            "1113: Error (criu/sk-packet.c:497): packet: Can't bind packet socket: No such device",
            Cause::InterfaceMissing,
            None,
        ),
        (
            "Error (criu/cgroup.c:2059): cg: Abort restore of existing cgroups",
            Cause::CgroupRefused,
            None,
        ),
        (
            "3628: Error (criu/cr-restore.c:1245): Can't fork for 3632: Resource temporarily \
             unavailable",
            Cause::TooManyProcesses,
            Some("process 3632"),
        ),
    ] {
        tells("restore", line, Some(cause), seen);
    }
}

#[test]
fn a_task_that_does_not_stop_in_a_frozen_cgroup_is_told() {
    let line = "Error (compel/src/lib/infect.c:261): Unseizable non-zombie 4711 found, state D, \
                err -1/10";
    tells("dump", line, Some(Cause::Unseizable), Some("process 4711, state D"));
}

#[test]
fn the_first_error_decides() {
    let own = "\
    7: Error (criu/new.c:1): Nobody knows this
    7: Error (criu/files-reg.c:862): Couldn't unlink remap /a: Read-only file system
    8: Error (criu/sk-inet.c:1077): inet: Can't bind inet socket (id 4): Address already in use
Error (criu/cr-restore.c:1277): 7 killed by signal 9: Killed
Error (criu/cr-restore.c:2424): Restoring FAILED.";
    tells("restore", own, None, None);
    // A consequence in the same task may be telling.
    let known = own.replace("    8:", "    7:");
    tells("restore", &known, Some(Cause::AddressInUse), Some("socket 4"));
    let harmless = "\
Error (criu/util.c:1532): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
    7: Error (criu/new.c:1): Nobody knows this";
    tells("restore", harmless, None, None);
}

#[test]
fn a_name_tells_no_cause() {
    let name = "Error (criu/sk-inet.c:1077): inet: Can't bind inet socket: Address already in use";
    let line = format!("7: Error (criu/new.c:1): Can't open {name}");
    tells("restore", &line, None, None);
    let below = format!("7: Error (criu/new.c:1): Can't open /a\n{name} and so on\n");
    let failure = diagnosed("restore", &below);
    assert_eq!(failure.excerpt().unwrap().line, 1);
    let stamped = format!("(00.1) 7: Error (criu/new.c:1): Can't open /a\n{name}\n");
    tells("restore", &stamped, None, None);
}

#[test]
fn a_message_with_a_newline_in_a_name_is_told() {
    let log = "(00.1) Error (criu/files-reg.c:1031): Can't dump ghost file /a\n\u{1b}b of 9 size, \
               increase limit";
    tells("dump", log, Some(Cause::GhostTooLarge), Some("/a\\n\\u{1b}b"));
}
