//! Confined threads that try the forbidden. A confinement holds for a thread, so that each test
//! confines one of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};

use super::raw::Argument::{Bytes, Number};
use super::*;

/// A folder of a test's own, with files inside and outside of the confinement.
fn folder(name: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("criu-rs-confine-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    for place in ["in", "parent", "out"] {
        fs::create_dir_all(folder.join(place)).unwrap();
        fs::write(folder.join(place).join("pages-1.img"), "bytes").unwrap();
    }
    folder
}

fn place(path: &Path, access: Access) -> Place {
    Place { path: path.to_owned(), access }
}

/// Runs a function in a thread that may be confined.
fn alone<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn a_confined_thread_reads_and_writes_its_directories_and_no_others() {
    let folder = folder("files");
    let [inside, parent, outside] = ["in", "parent", "out"].map(|name| folder.join(name));
    let places = [place(&inside, Access::Store), place(&parent, Access::Change)];
    symlink(&outside, inside.join("link")).unwrap();
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        landlock::restrict(&places).unwrap();
        let (own, changed) = (inside.join("pages-2.img"), parent.join("pages-1.img"));
        fs::write(&own, "new").unwrap();
        fs::rename(&own, inside.join("renamed")).unwrap();
        fs::create_dir(inside.join("0")).unwrap();
        fs::rename(inside.join("renamed"), inside.join("0/moved")).unwrap();
        fs::remove_file(inside.join("0/moved")).unwrap();
        OpenOptions::new().write(true).open(&changed).unwrap();
        assert_eq!(fs::read_to_string(&changed).unwrap(), "bytes");
        assert!(refused(File::create(parent.join("pages-2.img"))));
        assert!(refused(fs::remove_file(&changed)));
        let far = outside.join("pages-1.img");
        for path in [far.clone(), inside.join("link/pages-1.img"), "/etc/passwd".into()] {
            assert!(refused(File::open(&path)), "{path:?}");
            assert!(refused(OpenOptions::new().append(true).open(&path)), "{path:?}");
        }
        assert!(refused(fs::read_dir(&outside)) && refused(fs::read_dir("/")));
        assert!(refused(File::create(outside.join("new"))));
        assert!(refused(fs::create_dir(outside.join("new"))));
        assert!(refused(symlink("/", inside.join("planted"))));
        assert!(refused(fs::remove_file(&far)));
        let both = (inside.join("pages-1.img"), outside.join("pages-1.img"));
        let moved = fs::rename(&both.0, &both.1).unwrap_err().raw_os_error();
        assert!(matches!(moved, Some(libc::EACCES | libc::EXDEV)), "{moved:?}");
    });
    assert_eq!(fs::read_to_string(outside.join("pages-1.img")).unwrap(), "bytes");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_confined_reader_writes_no_file() {
    let folder = folder("reader");
    let inside = folder.join("in");
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        landlock::restrict(&[place(&inside, Access::Read)]).unwrap();
        let file = inside.join("pages-1.img");
        assert_eq!(fs::read_to_string(&file).unwrap(), "bytes");
        assert!(refused(OpenOptions::new().write(true).open(&file)));
        assert!(refused(File::create(inside.join("new"))));
        assert!(refused(fs::remove_file(&file)) && refused(fs::rename(&file, inside.join("b"))));
    });
    fs::remove_dir_all(folder).unwrap();
}

/// A parent set that is gone does not open all other places.
#[test]
fn a_place_that_cannot_be_opened_is_named_and_the_others_are_confined() {
    let folder = folder("gone");
    let [inside, outside, gone] = ["in", "out", "gone"].map(|name| folder.join(name));
    let confined = alone(|| {
        let places = [place(&inside, Access::Store), place(&gone, Access::Read)];
        let confined = confine(&places, Connects::Never);
        assert!(refused(File::open(outside.join("pages-1.img"))));
        fs::write(inside.join("pages-2.img"), "new").unwrap();
        confined
    });
    assert!(confined.landlock.is_some() && confined.filtered.is_some(), "{confined:?}");
    assert_eq!(confined.kept.as_deref(), Some(&[][..]));
    let missing = confined.missing().unwrap();
    // The harness has threads of its own, to which nothing of this applies.
    let said = "not fully confined: other threads: they began before; ";
    assert!(missing.starts_with(said), "{missing}");
    assert!(missing.ends_with("/gone is out of reach: ENOENT: No such file or directory"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_confined_thread_reaches_no_other_process_and_no_socket() {
    let folder = folder("sockets");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let path = folder.join("in/socket");
    let _unix = UnixListener::bind(&path).unwrap();
    // Landlock alone refuses TCP from its fourth version on.
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        let (version, _) = landlock::restrict(&[place(&folder, Access::Store)]).unwrap();
        if version >= 4 {
            assert!(refused(TcpStream::connect(address)));
            assert!(refused(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
        }
    });
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        filter::install(Connects::Never).unwrap();
        assert!(refused(TcpStream::connect(address)) && refused(UnixStream::connect(&path)));
        assert!(refused(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
        assert!(refused(Command::new("/bin/true").status()));
        assert_eq!(kill(pid, Signal::SIGKILL), Err(Errno::EPERM));
        let mode = fs::Permissions::from_mode(0o777);
        assert!(refused(fs::set_permissions(&folder, mode)));
        // A thread starts, and a file is made.
        assert_eq!(alone(|| 7), 7);
        fs::write(folder.join("in/file"), "").unwrap();
    });
    assert_eq!(child.try_wait().unwrap(), None, "the child was ended");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_confined_proxy_connects_to_unix_sockets_alone() {
    let folder = folder("proxy");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let path = folder.join("in/socket");
    let _unix = UnixListener::bind(&path).unwrap();
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        filter::install(Connects::ToUnix).unwrap();
        assert!(refused(TcpStream::connect(tcp.local_addr().unwrap())));
        UnixStream::connect(&path).unwrap();
        assert!(refused(UnixListener::bind(folder.join("in/other"))));
    });
    fs::remove_dir_all(folder).unwrap();
}

/// All refused calls, with arguments that no call accepts.
#[test]
fn each_refused_system_call_fails_at_the_filter() {
    let wrong = [Number(-1); 6];
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        filter::install(Connects::Never).unwrap();
        for &call in [filter::REFUSED, filter::CONNECTING].concat().iter() {
            assert_eq!(raw::call(call, wrong), Err(Errno::EPERM), "call {call}");
        }
        let second = |value: u32| [-1, i32::try_from(value).unwrap(), 0, 0, 0, 0].map(Number);
        for &request in filter::REFUSED_IOCTLS {
            let answer = raw::call(libc::SYS_ioctl, second(request));
            assert_eq!(answer, Err(Errno::EPERM), "ioctl {request:#x}");
        }
        for &command in filter::REFUSED_FCNTLS {
            let answer = raw::call(libc::SYS_fcntl, second(command));
            assert_eq!(answer, Err(Errno::EPERM), "fcntl {command}");
        }
        // FIONREAD and F_GETFL get to their descriptor, which is none.
        assert_eq!(raw::call(libc::SYS_ioctl, second(0x541b)), Err(Errno::EBADF));
        assert_eq!(raw::call(libc::SYS_fcntl, second(3)), Err(Errno::EBADF));
    });
}

/// Calls that do their work without the filter, or get to the place where it is done.
#[test]
fn a_confined_thread_changes_nothing_of_other_files_and_processes() {
    let folder = folder("calls");
    let path = format!("{}/out/pages-1.img\0", folder.display());
    let (path, name) = (Bytes(path.as_bytes()), Bytes(b"user.name\0"));
    let here = Number(libc::AT_FDCWD);
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Number(i32::try_from(child.id()).unwrap());
    let [zero, one] = [0, 1].map(Number);
    let value = [address_of(b"v"), 1u64.to_ne_bytes()].concat();
    let attributes = [0; 24];
    let limit = [64u64.to_ne_bytes(), 64u64.to_ne_bytes()].concat();
    let (attributes, value, limit) = (Bytes(&attributes), Bytes(&value), Bytes(&limit));
    let nofile = Number(7);
    let calls = [
        ("fchmodat2", 452, [here, path, Number(0o4755), zero, zero, zero]),
        ("setxattrat", 463, [here, path, zero, name, value, Number(16)]),
        ("removexattrat", 466, [here, path, zero, name, zero, zero]),
        ("file_setattr", 469, [here, path, attributes, Number(24), zero, zero]),
        ("truncate", libc::SYS_truncate, [path, zero, zero, zero, zero, zero]),
        ("utimensat", libc::SYS_utimensat, [here, path, zero, zero, zero, zero]),
        ("prlimit64", libc::SYS_prlimit64, [pid, nofile, limit, zero, zero, zero]),
        ("setpriority", libc::SYS_setpriority, [zero, pid, Number(5), zero, zero, zero]),
        ("ioprio_set", libc::SYS_ioprio_set, [one, pid, Number(3 << 13), zero, zero, zero]),
        ("shmget", libc::SYS_shmget, [Number(0x7e57_0002), Number(4096), zero, zero, zero, zero]),
        ("mq_open", libc::SYS_mq_open, [Bytes(b"none-such\0"), zero, zero, zero, zero, zero]),
        (
            "socketpair",
            libc::SYS_socketpair,
            [one, Number(libc::SOCK_DGRAM), zero, zero, zero, zero],
        ),
    ];
    for (name, call, arguments) in calls {
        // A kernel or a file system that lacks a call says so, and not that it is refused.
        assert_ne!(alone(|| raw::call(call, arguments)), Err(Errno::EPERM), "{name}");
    }
    let made = [0o4755, 0o2755, 0o755].map(|mode| {
        let path = format!("{}/out/{mode:o}\0", folder.display());
        let create = Number(libc::O_CREAT | libc::O_WRONLY);
        (mode, path, create)
    });
    let file = folder.join("out/pages-1.img");
    fs::write(&file, "bytes").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        filter::install(Connects::Never).unwrap();
        for (name, call, arguments) in calls {
            assert_eq!(raw::call(call, arguments), Err(Errno::EPERM), "{name}");
        }
        // No file that makes others its owner, not even in a directory of its own.
        for (mode, path, create) in &made {
            let arguments = [here, Bytes(path.as_bytes()), *create, Number(*mode), zero, zero];
            let answer = raw::call(libc::SYS_openat, arguments);
            assert_eq!(answer.is_ok(), *mode == 0o755, "{mode:o}: {answer:?}");
        }
        let arguments = [here, Bytes(made[0].1.as_bytes()), value, Number(24), zero, zero];
        assert_eq!(raw::call(libc::SYS_openat2, arguments), Err(Errno::ENOSYS));
        // The limits of the own process are no secret.
        assert_eq!(raw::call(libc::SYS_prlimit64, [zero, nofile, zero, zero, zero, zero]), Ok(0));
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "bytes");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(folder).unwrap();
}

/// Returns the address of memory, as a `struct xattr_args` has it.
fn address_of(bytes: &'static [u8]) -> [u8; 8] {
    (bytes.as_ptr() as u64).to_ne_bytes()
}

#[test]
fn root_keeps_no_capability_for_directories_of_its_own() {
    let folder = folder("own");
    let (inside, parent) = (folder.join("in"), folder.join("parent"));
    let places = [place(&inside, Access::Store), place(&parent, Access::Change)];
    alone(|| {
        assert!(capabilities::drop_all_but_needed(&places).unwrap().is_empty());
        for set in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding, CapSet::Inheritable] {
            assert!(caps::read(None, set).unwrap().is_empty(), "{set:?}");
        }
        fs::write(inside.join("pages-2.img"), "").unwrap();
    });
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn for_directories_of_others_one_capability_stays() {
    let folder = folder("others");
    let (inside, nobody) = (folder.join("in"), Uid::from_raw(65534));
    let group = Some(Gid::from_raw(65534));
    for (path, mode) in [(inside.join("pages-1.img"), 0o600), (inside.clone(), 0o700)] {
        chown(&path, Some(nobody), group).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (access, capability) in [
        (Access::Read, Capability::CAP_DAC_READ_SEARCH),
        (Access::Change, Capability::CAP_DAC_OVERRIDE),
        (Access::Store, Capability::CAP_DAC_OVERRIDE),
    ] {
        alone(|| {
            let kept = capabilities::drop_all_but_needed(&[place(&inside, access)]).unwrap();
            assert_eq!(kept, [capability.to_string()], "{access:?}");
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
                let left: Vec<_> = caps::read(None, set).unwrap().into_iter().collect();
                assert_eq!(left, [capability], "{access:?} {set:?}");
            }
            fs::read(inside.join("pages-1.img")).unwrap();
        });
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn parent_sets_are_found_along_the_links() {
    let folder = folder("chain");
    let [first, second, third] = ["in", "parent", "out"].map(|name| folder.join(name));
    symlink("../parent", first.join("parent")).unwrap();
    symlink(&third, second.join("parent")).unwrap();
    // A circle ends.
    symlink("../in", third.join("parent")).unwrap();
    let found = parents(&first);
    assert_eq!(found[..2], [&second, &third].map(|path| fs::canonicalize(path).unwrap()));
    assert_eq!(found.len(), 3);
    fs::remove_dir_all(folder).unwrap();
}
