//! Files, directories and sockets that are not as they were.

use std::fs;
use std::os::unix::net::UnixListener;

use criu_lab::place::Short;
use criu_rs::{Cause, Restore};
use nix::mount::{MsFlags, mount, umount};

use super::{cause, fails, from_root, only, python, quoted, saved};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("restore_names_what_is_missing", missing),
    ("restore_says_that_a_file_of_proc_cannot_be_put_back", proc_file),
    ("restore_says_why_a_file_cannot_be_opened", refused),
    ("restore_says_what_is_in_the_way_of_an_unlinked_file", ghosts),
    ("restore_says_that_the_file_system_of_a_file_is_full", full),
    ("restore_says_that_the_program_is_open_for_writing", program_busy),
    ("restore_says_that_the_name_of_a_unix_socket_is_taken", unix_name),
];

fn missing(lab: &Lab) {
    let folder = lab.dir("folder");
    let short = Short::folder();
    let path = |name: &str| if name == "sockets" { short.join(name) } else { folder.join(name) };
    let name = |name: &str| quoted(&path(name));
    let code = [
        format!("os.mkfifo({0})\nf = os.open({0}, os.O_RDWR)", name("fifo")),
        format!("os.mkdir({0})\nf = os.open({0}, 0)", name("directory")),
        format!("os.mkdir({0})\nos.chdir({0})", name("cwd")),
        format!("os.mkdir({0})\ni = call(253)\ncall(254, i, {0}.encode(), 2)", name("watched")),
        format!("os.mkdir({0})\ns = socket.socket(1)\ns.bind({0} + '/s')", name("sockets")),
    ];
    for (code, name) in code.iter().zip(["fifo", "directory", "cwd", "watched", "sockets"]) {
        let saved = python(lab, code);
        let path = path(name);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        let seen = from_root(&path);
        fails(
            &lab.criu,
            &Restore::new(&saved.images),
            &cause(Cause::FileMissing, seen, "put it back"),
        );
    }
    // The link that stands for a file with another name.
    let code =
        format!("f = open({0}, 'w')\nos.link({0}, {1})\nos.unlink({0})", name("one"), name("two"));
    let saved = saved(lab, lab.python(&code), |dump| dump.link_remap(true));
    let link = only(&folder, "link_remap.");
    fs::remove_file(&link).unwrap();
    let expected = cause(Cause::LinkRemapMissing, from_root(&link), "put link_remap.N back");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
}

fn proc_file(lab: &Lab) {
    let mut outside = lab.start(&["count"]);
    let saved = python(lab, &format!("f = open('/proc/{}/status')", outside.pid));
    outside.end();
    let expected = cause(Cause::ProcFileMissing, "proc/", "have the program close it");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
}

fn refused(lab: &Lab) {
    let folder = lab.dir("refused");
    let none = None::<&str>;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let done = std::panic::catch_unwind(|| {
        let name = |name: &str| quoted(&folder.join(name));
        let open = python(lab, &format!("f = open({}, 'w')", name("open")));
        let code =
            format!("f = open({0}, 'w')\nf.write('x')\nf.flush()\nos.unlink({0})", name("g"));
        let ghost = python(lab, &code);
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &folder, none, read_only, none).unwrap();
        let expected =
            cause(Cause::FileRefused, "Read-only file system", "a mount that is read-only");
        fails(&lab.criu, &Restore::new(&open.images), &expected);
        let expected = cause(Cause::ReadOnly, "", "mount it writable");
        fails(&lab.criu, &Restore::new(&ghost.images), &expected);
    });
    umount(&folder).unwrap();
    done.unwrap();
    // Another kind of file has the name.
    let path = lab.dir.join("file");
    let saved = python(lab, &format!("f = open({}, 'w')", quoted(&path)));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let expected = cause(Cause::FileRefused, "Is a directory", "another kind of file in its place");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
}

fn ghosts(lab: &Lab) {
    let path = lab.dir.join("unlinked");
    let code = "f = open(P, 'w')\nf.write('x' * 9000)\nf.flush()\nos.unlink(P)";
    let saved = python(lab, &code.replace('P', &quoted(&path)));
    let left = lab.dir.join("unlinked.cr.1.ghost");
    fs::write(&left, "").unwrap();
    let expected = cause(Cause::GhostExists, "", "try again");
    let restore = Restore::new(&saved.images);
    fails(&lab.criu, &restore, &expected);
    assert!(!left.exists(), "CRIU removes it");
    let restored = restore.run(&lab.criu).unwrap();
    criu_lab::process::kill_tree(restored.pid);
}

fn full(lab: &Lab) {
    let folder = lab.dir("full");
    let size = Some("size=2m");
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    let done = std::panic::catch_unwind(|| {
        let code = "f = open(P, 'wb')\nf.write(b'g' * 900000)\nf.flush()\nos.unlink(P)";
        let saved = python(lab, &code.replace('P', &quoted(&folder.join("g"))));
        fs::write(folder.join("other"), vec![0; 1_900_000]).unwrap();
        let expected = cause(Cause::FileSystemFull, "", "make room where the processes' unlinked");
        fails(&lab.criu, &Restore::new(&saved.images), &expected);
    });
    umount(&folder).unwrap();
    done.unwrap();
}

fn program_busy(lab: &Lab) {
    let copy = lab.dir.join("sleeper");
    fs::copy("/bin/sleep", &copy).unwrap();
    let code = format!("child = subprocess.Popen([{}, '1000'])", quoted(&copy));
    let saved = python(lab, &code);
    let open = fs::OpenOptions::new().write(true).open(&copy).unwrap();
    let expected = cause(Cause::ProgramBusy, "", "close it where it is open");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
    drop(open);
    let restored = Restore::new(&saved.images).run(&lab.criu).unwrap();
    criu_lab::process::kill_tree(restored.pid);
}

fn unix_name(lab: &Lab) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("criu-rs-{}", std::process::id());
    let code = format!("s = socket.socket(1)\ns.bind('\\0{name}')\ns.listen()");
    let saved = python(lab, &code);
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let taken = UnixListener::bind_addr(&address).unwrap();
    let error = Restore::new(&saved.images).run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::AddressInUse), "{error}");
    drop(taken);
}
