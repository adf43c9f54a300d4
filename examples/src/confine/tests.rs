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
        let version = landlock::restrict(&[place(&folder, Access::Store)]).unwrap();
        if version >= 4 {
            assert!(refused(TcpStream::connect(address)));
            assert!(refused(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
        }
    });
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    alone(|| {
        prctl::set_no_new_privs().unwrap();
        filter::install().unwrap();
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
