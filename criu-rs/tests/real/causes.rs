//! Tests that provoke the known causes.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use caps::{CapSet, Capability};
use criu_lab::{Terminal, names};
use criu_rs::{
    AfterDump, Cause, Compression, Criu, Dump, Error, Pid, PreDump, Restore, Result, Tcp, Version,
};
use nix::mount::{MsFlags, mount, umount};
use prost::Message;

use crate::lab::{Lab, Target, TestFn, other};

pub const TESTS: &[(&str, TestFn)] = &[
    ("cause_connected_tcp", connected_tcp),
    ("cause_network_lock_failed", network_lock_failed),
    ("cause_external_unix_socket", external_unix_socket),
    ("cause_foreign_terminal", foreign_terminal),
    ("cause_foreign_session", foreign_session),
    ("cause_file_locks", file_locks),
    ("cause_ghost_too_large", ghost_too_large),
    ("cause_file_outside_mounts", file_outside_mounts),
    ("cause_no_resource_capability", no_resource_capability),
    ("cause_pid_in_use", pid_in_use),
    ("cause_lsm_mismatch", lsm_mismatch),
    ("cause_missing_capability", missing_capability),
    ("cause_no_soft_dirty", no_soft_dirty),
    ("cause_criu_too_old", criu_too_old),
    ("cause_version_skew", version_skew),
    ("cause_not_a_checkpoint", not_a_checkpoint),
    ("cause_file_changed_or_missing", file_changed_or_missing),
    ("cause_no_compression", no_compression),
    ("cause_no_space_and_nothing_is_left", no_space),
    ("cause_traced", traced),
    ("cause_not_traceable", not_traceable),
    ("cause_unseizable", unseizable),
    ("cause_no_page_server", no_page_server),
    ("cause_no_such_process", no_such_process),
];

#[track_caller]
fn expect<T: std::fmt::Debug>(cause: Cause, result: Result<T>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.cause(), Some(cause), "{error}\n{:#?}", error.failure());
    let text = error.to_string();
    assert!(text.contains(cause.hint()) && !text.contains('\n'), "{text}");
    error
}

/// Asserts that a dump fails with this cause, that the process goes on and only the log is left.
#[track_caller]
fn refused(lab: &Lab, target: &Target, cause: Cause) -> Error {
    let images = lab.dir("refused");
    let error = expect(cause, Dump::new(target.pid, &images).run(&lab.criu));
    target.goes_on();
    assert_eq!(names(&images), ["dump.log"]);
    error
}

/// A script that runs the CRIU under test with fewer rights.
pub fn wrapped(lab: &Lab, command: &str) -> Criu {
    let path = lab.dir.join("criu-with-less");
    let criu = lab.program.display();
    let mut script = fs::File::create(&path).unwrap();
    writeln!(script, "#!/bin/sh\nexec {command} {criu} \"$@\"").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Criu::at(path)
}

/// Returns true if CRIU is older than 4.2. On Linux 6.16 and later it cannot dump inet sockets,
/// which lack an option that it reads.
fn sockets_are_too_new(lab: &Lab) -> bool {
    lab.version < Version::new(4, 2, 0)
}

fn connected_tcp(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    if sockets_are_too_new(lab) {
        refused(lab, &target, Cause::CriuTooOld);
    } else {
        refused(lab, &target, Cause::ConnectedTcp);
    }
}

fn network_lock_failed(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established);
    let cause = if sockets_are_too_new(lab) { Cause::CriuTooOld } else { Cause::NetworkLockFailed };
    // The directory does not exist, so it has no programs.
    expect(cause, dump.run(&lab.criu.clone().env("PATH", "/nonexistent")));
    target.goes_on();
}

fn external_unix_socket(lab: &Lab) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let target = lab.start_with(&["count"], |command| command.stdin(OwnedFd::from(theirs)));
    refused(lab, &target, Cause::ExternalUnixSocket);
    drop(ours);
}

fn foreign_terminal(lab: &Lab) {
    // The terminal belongs to the session of the process that opened it first.
    let Terminal { master: _master, slave, path } = Terminal::open();
    let _leader = lab.start(&["terminal", &path]);
    let target = lab.start_with(&["count"], |command| command.stdin(slave));
    refused(lab, &target, Cause::ForeignTerminal);
}

fn foreign_session(lab: &Lab) {
    let target = lab.start(&["member"]);
    let error = refused(lab, &target, Cause::ForeignSession);
    assert!(error.to_string().contains(".shell_job(true)"));
}

fn file_locks(lab: &Lab) {
    let target = lab.start(&["lock"]);
    refused(lab, &target, Cause::FileLocks);
    let images = lab.dir("allowed");
    let dump = Dump::new(target.pid, &images).file_locks(true);
    dump.after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
}

fn ghost_too_large(lab: &Lab) {
    let target = lab.start(&["ghost", "2097152"]);
    refused(lab, &target, Cause::GhostTooLarge);
    let images = lab.dir("allowed");
    let dump = Dump::new(target.pid, &images).ghost_limit(4 << 20);
    dump.after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
}

fn file_outside_mounts(lab: &Lab) {
    let target = lab.start(&["outside-file", "/etc/hostname"]);
    refused(lab, &target, Cause::FileOutsideMounts);
}

fn no_resource_capability(lab: &Lab) {
    let target = lab.start(&["user"]);
    let images = lab.dir("images");
    let less = wrapped(lab, "setpriv --bounding-set=-sys_resource");
    expect(Cause::NoResourceCapability, Dump::new(target.pid, &images).run(&less));
    target.goes_on();
}

fn pid_in_use(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.run(&lab.criu).unwrap();
    let error = expect(Cause::PidInUse, Restore::new(&images).run(&lab.criu));
    assert_eq!(error.failure().unwrap().errno, Some(nix::libc::EEXIST));
    target.goes_on();
}

fn lsm_mismatch(lab: &Lab) {
    use criu_images::proto::{CoreEntry, InventoryEntry, Lsmtype};
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    // Makes the images look like those of a host with SELinux.
    edit(&images.join("inventory.img"), 4, |inventory: &mut InventoryEntry| {
        inventory.lsmtype = Some(Lsmtype::Selinux.into());
    });
    edit(&images.join(format!("core-{}.img", target.pid)), 8, |core: &mut CoreEntry| {
        let creds = core.thread_core.as_mut().unwrap().creds.as_mut().unwrap();
        creds.lsm_profile = Some(b"system_u:system_r:container_t:s0".to_vec());
    });
    expect(Cause::LsmMismatch, Restore::new(&images).run(&lab.criu));
    let profile = criu_rs::LsmProfile::selinux("a:b:c").unwrap();
    let restore = Restore::new(&images).lsm_profile(profile);
    expect(Cause::LsmMismatch, restore.run(&lab.criu));
}

/// Changes the only message of an image, which follows the magic and the size.
pub fn edit<M: Message + Default>(image: &Path, magic: usize, change: impl FnOnce(&mut M)) {
    let bytes = fs::read(image).unwrap();
    let mut message = M::decode(&bytes[magic + 4..]).unwrap();
    change(&mut message);
    let message = message.encode_to_vec();
    let size = u32::try_from(message.len()).unwrap().to_le_bytes();
    fs::write(image, [&bytes[..magic], &size, &message].concat()).unwrap();
}

fn missing_capability(lab: &Lab) {
    let target = lab.start(&["count"]);
    let without = [
        "setpriv --bounding-set=-sys_admin,-checkpoint_restore",
        "setpriv --bounding-set=-sys_ptrace",
    ];
    for (n, command) in without.iter().enumerate() {
        let images = lab.dir(&n.to_string());
        let dump = Dump::new(target.pid, &images);
        expect(Cause::MissingCapability, dump.run(&wrapped(lab, command)));
        target.goes_on();
    }
}

fn no_soft_dirty(lab: &Lab) {
    let target = lab.start(&["count"]);
    if lab.criu.features().unwrap().mem_track == Some(true) {
        // The tests in pre_dump.rs cover such a kernel.
        return;
    }
    let images = lab.dir("dump");
    let dump = Dump::new(target.pid, &images).track_mem(true);
    expect(Cause::NoSoftDirty, dump.run(&lab.criu));
    let images = lab.dir("pre-dump");
    expect(Cause::NoSoftDirty, PreDump::new(target.pid, &images).run(&lab.criu));
    target.goes_on();
}

fn criu_too_old(lab: &Lab) {
    let target = lab.start(&["count"]);
    let old = other(lab, "bookworm");
    let images = lab.dir("images");
    expect(Cause::CriuTooOld, Dump::new(target.pid, &images).run(&old));
    expect(Cause::CriuTooOld, old.check());
    target.goes_on();
}

fn version_skew(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let is_newer = lab.version >= Version::new(4, 2, 0);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    if is_newer {
        expect(Cause::VersionSkew, restore.run(&other(lab, "trixie")));
    } else {
        let restored = restore.run(&other(lab, "experimental")).unwrap();
        target.restored_as(restored.pid);
        target.goes_on();
    }
}

fn not_a_checkpoint(lab: &Lab) {
    expect(Cause::NotCheckpoint, Restore::new(lab.dir("empty")).run(&lab.criu));
}

fn file_changed_or_missing(lab: &Lab) {
    let file = lab.dir.join("data");
    fs::write(&file, "hello").unwrap();
    let images = lab.dir("images");
    let mut target = lab.start(&["open", file.to_str().unwrap()]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    fs::write(&file, "hello!").unwrap();
    expect(Cause::FileChanged, restore.run(&lab.criu));
    fs::remove_file(&file).unwrap();
    expect(Cause::FileMissing, restore.run(&lab.criu));
    fs::write(&file, "hello").unwrap();
    let restored = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

fn no_compression(lab: &Lab) {
    let target = lab.start(&["count"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).compress(Compression::new());
    if lab.version < Version::new(4, 3, 0) {
        let error = dump.run(&lab.criu).unwrap_err();
        assert!(matches!(error, Error::TooOld { .. }), "{error}");
        assert!(names(&images).is_empty(), "CRIU was asked");
    } else {
        assert_eq!(lab.criu.features().unwrap().mem_compression, Some(false));
        expect(Cause::NoCompression, dump.run(&lab.criu));
    }
    target.goes_on();
}

fn no_space(lab: &Lab) {
    let target = lab.start(&["memory", "16"]);
    let images = lab.dir("full");
    let size = Some("size=256k");
    mount(Some("tmpfs"), &images, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    let error = expect(Cause::NoSpace, Dump::new(target.pid, &images).run(&lab.criu));
    target.goes_on();
    let left = names(&images);
    umount(&images).unwrap();
    assert_eq!(left, ["dump.log"], "{error}");
}

fn traced(lab: &Lab) {
    let target = lab.start(&["count"]);
    let pid = nix::unistd::Pid::from_raw(target.pid.as_raw());
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    refused(lab, &target, Cause::Traced);
}

fn not_traceable(lab: &Lab) {
    let target = lab.start(&["count"]);
    // From now on it holds one capability more than this process and its criu.
    for set in [CapSet::Bounding, CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, Capability::CAP_SYS_PTRACE).unwrap();
    }
    refused(lab, &target, Cause::NotTraceable);
}

fn unseizable(lab: &Lab) {
    // A thread inside vfork sleeps until its child executes a program, and the child waits for
    // somebody who writes into a FIFO.
    let fifo = lab.dir.join("fifo");
    let code = VFORK.replace("FIFO", fifo.to_str().unwrap());
    let target = lab.python(&code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).timeout(Duration::from_secs(1));
    let error = expect(Cause::Unseizable, dump.run(&lab.criu));
    let seen = error.failure().unwrap().seen.clone().unwrap_or_default();
    assert!(seen.ends_with("state D"), "{seen}");
    target.goes_on();
}

// A call through ctypes does not hold Python's lock, so the first thread goes on.
const VFORK: &str = "\
os.mkfifo('FIFO')
actions = ctypes.create_string_buffer(256)
libc.posix_spawn_file_actions_init(actions)
libc.posix_spawn_file_actions_addopen(actions, 0, b'FIFO', os.O_RDONLY, 0)
words = (ctypes.c_char_p * 3)(b'sleep', b'1000', None)
pid = ctypes.c_int()
spawn = lambda: libc.posix_spawn(ctypes.byref(pid), b'/bin/sleep', actions, None, words, None)
thread = threading.Thread(target=spawn, daemon=True)
thread.start()
while ' D ' not in open(f'/proc/self/task/{thread.native_id}/stat').read(): time.sleep(0.01)";

fn no_page_server(lab: &Lab) {
    let target = lab.start(&["count"]);
    let images = lab.dir("images");
    let to = |host: &str| Dump::new(target.pid, &images).page_server(host, 9).run(&lab.criu);
    expect(Cause::NoPageServer, to("127.0.0.1"));
    expect(Cause::NoPageServer, to("no.such.host.invalid"));
    target.goes_on();
    assert_eq!(names(&images), ["dump.log"]);
}

fn no_such_process(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let pid: Pid = target.pid;
    target.end();
    let error = expect(Cause::NoSuchProcess, Dump::new(pid, &images).run(&lab.criu));
    assert_eq!(error.failure().unwrap().errno, Some(nix::libc::ESRCH));
    // Without the warning in the log, the errno and /proc tell the cause.
    let quiet = Dump::new(pid, &images).log_level(criu_rs::LogLevel::Errors);
    expect(Cause::NoSuchProcess, quiet.run(&lab.criu));
}
