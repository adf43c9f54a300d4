//! Directories in which somebody else has put something, and the modes of files that are made.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use criu_lab::place::Short;
use criu_lab::{names, soon};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::lab::{Lab, Ran, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_dump_follows_no_planted_link", planted),
    ("a_pre_dump_follows_no_planted_link", planted_pre_dump),
    ("a_trusted_directory_may_belong_to_another_user", trusted),
    ("a_restore_follows_no_planted_link", planted_restore),
    ("a_dump_into_a_directory_of_others_is_moved_into_place", shared),
    ("links_planted_during_a_dump_are_not_followed", raced),
    ("an_increment_in_directories_of_others_comes_back", increments),
    ("a_log_is_not_written_through_a_link", log),
    ("pages_are_freed_in_no_file_behind_a_link", dedup),
    ("a_page_server_s_log_and_pid_file_follow_no_link", page_server),
    ("a_lazy_restore_trusts_no_socket_of_others", lazy),
];

/// The mode of a directory that every user can write, with and without the sticky bit.
const SHARED: [u32; 2] = [0o777, 0o1777];

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A file that only root may change.
fn secret(lab: &Lab) -> String {
    let path = lab.path("secret");
    fs::write(&path, "secret").unwrap();
    set_mode(&path, 0o600);
    path
}

/// Puts one thing after the other at a name. Each is refused at once, and is still there.
fn refused(lab: &Lab, at: &str, ask: &dyn Fn() -> Ran) {
    let secret = secret(lab);
    let makes: [(&str, &dyn Fn()); 5] = [
        ("is a symbolic link to ", &|| symlink(&secret, at).unwrap()),
        ("is a FIFO", &|| mkfifo(at, Mode::S_IRWXU).unwrap()),
        ("has 2 hard links", &|| fs::hard_link(&secret, at).unwrap()),
        ("is a directory", &|| fs::create_dir(at).unwrap()),
        ("belongs to user 65534", &|| {
            fs::write(at, "theirs").unwrap();
            chown(at, Some(NOBODY), Some(NOBODY)).unwrap();
        }),
    ];
    for (what, make) in makes {
        make();
        let before = fs::symlink_metadata(at).unwrap();
        let begun = Instant::now();
        ask().fails(1, &[at, what, "do: remove it, or use another directory"]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{at}: {what}");
        let after = fs::symlink_metadata(at).unwrap();
        assert_eq!((before.ino(), before.len()), (after.ino(), after.len()), "{at}: {what}");
        assert_eq!(fs::read(&secret).unwrap(), b"secret", "{at}: {what}");
        let _ = fs::remove_file(at);
        let _ = fs::remove_dir(at);
    }
}

fn planted(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R"];
    for name in ["dump.log", "files.img", "stats-dump"] {
        refused(lab, &format!("{images}/{name}"), &|| lab.run(&dump));
    }
    let secret = secret(lab);
    for name in ["inventory.img", "pages-1.img", "irmap-cache", "dump.log.17"] {
        let at = format!("{images}/{name}");
        symlink(&secret, &at).unwrap();
        lab.run(&dump).fails(1, &[&at, "is a symbolic link to "]);
        fs::remove_file(&at).unwrap();
    }
    // A link to the parent images is a link, and may be root's alone.
    let parent = format!("{images}/parent");
    symlink("../0", &parent).unwrap();
    nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        parent.as_str(),
        Some(NOBODY.into()),
        None,
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .unwrap();
    lab.run(&dump).fails(1, &[&parent, "belongs to user 65534"]);
    fs::remove_file(&parent).unwrap();
    assert_eq!(names(&images), ["dump.log"], "the reason of the refusals");
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    // In a work directory, too, and under another name.
    let work = lab.dir("work");
    let at = format!("{work}/my.log");
    symlink(&secret, &at).unwrap();
    let in_work = [&dump[..], &["-W", &work, "-o", "my.log"]].concat();
    lab.run(&in_work).fails(1, &[&at, "is a symbolic link to "]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    fs::remove_file(&at).unwrap();
    lab.done(&in_work);
    target.goes_on();
}

/// Files as a file system shows them that keeps no owners.
fn trusted(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    let pid = target.pid();
    let dump = ["dump", "-t", &pid, "-D", &images];
    let restore = ["restore", "-D", &images, "-d"];
    let log = |name: &str| {
        let at = format!("{images}/{name}");
        fs::write(&at, "").unwrap();
        chown(at, Some(NOBODY), Some(NOBODY)).unwrap();
    };
    for (words, name) in [(&dump[..], "dump.log"), (&restore[..], "restore.log")] {
        log(name);
        lab.run(words).fails(1, &[name, "belongs to user 65534", "add --trust-directory"]);
        lab.done(&[words, &["--trust-directory"]].concat());
        let meta = fs::metadata(format!("{images}/{name}")).unwrap();
        assert_eq!(meta.uid(), NOBODY, "{name} is written where it is");
        if name == "dump.log" {
            target.is_gone();
        }
    }
    target.restored_as(target.pid);
    target.goes_on();
}

fn planted_pre_dump(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let dump = ["pre-dump", "-t", &target.pid(), "-D", &images];
    for name in ["pre-dump.log", "pages-1.img"] {
        refused(lab, &format!("{images}/{name}"), &|| lab.run(&dump));
    }
    target.goes_on();
}

fn planted_restore(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let restore = ["restore", "-D", &images, "-d"];
    for name in ["restore.log", "stats-restore"] {
        refused(lab, &format!("{images}/{name}"), &|| lab.run(&restore));
    }
    let _ = fs::remove_file(format!("{images}/restore.log"));
    // The same in a directory that others can write: the log is moved into place.
    for mode in SHARED {
        set_mode(&images, mode);
        let before = names(&images);
        let ran = lab.done(&restore);
        assert!(ran.err.contains("every user can write"), "{ran:?}");
        target.restored_as(target.pid);
        target.goes_on();
        target.end();
        let made: Vec<_> = names(&images).into_iter().filter(|n| !before.contains(n)).collect();
        assert_eq!(made, ["restore.log", "stats-restore"]);
        fs::remove_file(format!("{images}/restore.log")).unwrap();
        fs::remove_file(format!("{images}/stats-restore")).unwrap();
    }
    // A failure leaves its log, and the private directory is gone.
    fs::remove_file(format!("{images}/core-{}.img", target.pid)).unwrap();
    lab.run(&restore).fails(1, &["restore.log"]);
    let left = names(&images);
    assert!(left.contains(&"restore.log".into()), "{left:?}");
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
}

fn shared(lab: &Lab) {
    let mut target = lab.start(&["memory", "2"]);
    for mode in SHARED {
        let (images, work) = (lab.dir(&format!("{mode:o}")), lab.dir(&format!("{mode:o}-work")));
        set_mode(&images, mode);
        set_mode(&work, mode);
        let dump = ["dump", "-t", &target.pid(), "-D", &images];
        let ran = lab.done(&[&dump[..], &["-W", &work, "-R"]].concat());
        assert!(ran.err.contains("--images-dir: every user can write"), "{ran:?}");
        assert!(ran.err.contains("--work-dir: every user can write"), "{ran:?}");
        assert!(ran.err.contains("of memory, frozen for"), "the statistics are read: {ran:?}");
        assert_eq!(names(&work), ["dump.log", "stats-dump"]);
        for entry in fs::read_dir(&images).unwrap().chain(fs::read_dir(&work).unwrap()) {
            let entry = entry.unwrap();
            let (meta, name) = (entry.metadata().unwrap(), entry.file_name());
            assert_eq!(meta.mode() & 0o7777, 0o600, "{name:?}");
        }
        // A dump replaces a checkpoint of its own there, and a failure puts it back.
        let ino = |name: &str| fs::metadata(format!("{images}/{name}")).unwrap().ino();
        let before = ino("inventory.img");
        let failed = lab.run(&[&dump[..], &["-R", "--action-script", "/bin/false"]].concat());
        failed.fails(1, &[]);
        assert_eq!(ino("inventory.img"), before);
        assert!(names(&images).iter().all(|name| !name.starts_with('.')));
        target.goes_on();
        lab.done(&dump);
        assert_ne!(ino("inventory.img"), before);
        target.is_gone();
        lab.done(&["restore", "-D", &images, "-d"]);
        target.restored_as(target.pid);
        target.goes_on();
    }
}

/// Somebody plants links for as long as the dump runs.
fn raced(lab: &Lab) {
    let images = lab.dir("img");
    set_mode(&images, 0o777);
    let secret = secret(lab);
    let target = lab.start(&["memory", "2"]);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::sync::atomic::Ordering::Relaxed;
            let files = ["files.img", "stats-dump", "dump.log", "pages-1.img", "core-9.img"];
            while !over.load(Relaxed) {
                // Every name is free when the dump looks: its first file is made later.
                let has_begun = !names(&images).is_empty();
                for name in files.iter().filter(|_| has_begun) {
                    let at = format!("{images}/{name}");
                    let _ = fs::remove_file(&at);
                    let _ = symlink(&secret, &at);
                }
            }
        });
        let ran = lab.run(&["dump", "-t", &target.pid(), "-D", &images, "-R"]);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    });
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(names(&images).iter().all(|name| !name.starts_with('.')), "{:?}", names(&images));
    target.goes_on();
}

fn increments(lab: &Lab) {
    let (first, second) = (lab.dir("0"), lab.dir("1"));
    set_mode(&first, 0o777);
    set_mode(&second, 0o777);
    let mut target = lab.start(&["memory", "2"]);
    let pid = target.pid();
    // The parent images have no memory of the target: not every kernel tracks what has changed.
    let other = lab.start_with(&["count"], |command| command.arg("other"));
    lab.done(&["dump", "-t", &other.pid(), "-D", &first, "-R"]);
    lab.done(&["dump", "-t", &pid, "-D", &second, "--prev-images-dir", "../0"]);
    target.is_gone();
    assert_eq!(fs::read_link(format!("{second}/parent")).unwrap(), Path::new("../0"));
    lab.done(&["restore", "-D", &second, "-d"]);
    target.restored_as(target.pid);
    target.goes_on();
    // A parent that is not there is refused as ever.
    let third = lab.dir("2");
    set_mode(&third, 0o777);
    let ran = lab.run(&["dump", "-t", &pid, "-D", &third, "--prev-images-dir", "../9", "-R"]);
    ran.fails(1, &["Invalid parent image directory"]);
    assert!(names(&third).is_empty(), "{:?}", names(&third));
    target.goes_on();
}

/// A log that is named by its path.
fn log(lab: &Lab) {
    let (images, logs) = (lab.dir("img"), lab.dir("logs"));
    let secret = secret(lab);
    let target = lab.start(&["count"]);
    let at = format!("{logs}/dump.log");
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R", "-o", &at];
    set_mode(&logs, 0o777);
    lab.run(&dump).fails(1, &[&logs, "can be written by every user", "chmod go-w"]);
    set_mode(&logs, 0o1777);
    fs::remove_file(&at).unwrap();
    symlink(&secret, &at).unwrap();
    lab.run(&dump).fails(1, &[&at, "is a symbolic link to "]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    fs::remove_file(&at).unwrap();
    lab.done(&dump);
    assert!(fs::metadata(&at).unwrap().len() > 0);
    target.goes_on();
}

fn dedup(lab: &Lab) {
    let (images, elsewhere) = (lab.dir("0"), lab.dir("elsewhere"));
    let mut target = lab.start(&["memory", "8"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let pages = format!("{images}/pages-1.img");
    let outside = format!("{elsewhere}/pages");
    fs::copy(&pages, &outside).unwrap();
    let blocks = |path: &str| fs::metadata(path).unwrap().blocks();
    let before = blocks(&outside);
    let restore = ["restore", "-D", &images, "-d", "--auto-dedup"];
    let kept = format!("{elsewhere}/kept");
    fs::rename(&pages, &kept).unwrap();
    symlink(&outside, &pages).unwrap();
    lab.run(&restore).fails(1, &[&pages, "is a symbolic link to "]);
    // In the parent images of a dump, too.
    let (next, other) = (lab.dir("1"), lab.start_with(&["count"], |command| command.arg("other")));
    let dump = ["dump", "-t", &other.pid(), "-D", &next, "-R", "--prev-images-dir", "../0"];
    lab.run(&[&dump[..], &["--auto-dedup"]].concat()).fails(1, &["pages-1.img is a symbolic link"]);
    assert_eq!(blocks(&outside), before);
    // A file of root's is freed, also where others can write.
    fs::remove_file(&pages).unwrap();
    fs::rename(&kept, &pages).unwrap();
    set_mode(&images, 0o777);
    // Behind no link to parent images that somebody else has made there.
    let parent = format!("{images}/parent");
    symlink(&elsewhere, &parent).unwrap();
    lchown(&parent, Some(NOBODY), Some(NOBODY)).unwrap();
    lab.run(&restore).fails(1, &[&parent, "belongs to user 65534"]);
    lab.run(&[&dump[..], &["--auto-dedup"]].concat()).fails(1, &["belongs to user 65534"]);
    fs::remove_file(&parent).unwrap();
    lab.done(&[&dump[..], &["--auto-dedup"]].concat());
    assert_eq!(fs::read_link(format!("{next}/parent")).unwrap(), Path::new("../0"));
    lab.done(&restore);
    target.restored_as(target.pid);
    target.goes_on();
    assert!(blocks(&pages) < before / 2, "{} of {before}", blocks(&pages));
    assert!(names(&images).iter().all(|name| !name.starts_with('.')), "{:?}", names(&images));
}

fn page_server(lab: &Lab) {
    let images = lab.dir("img");
    let secret = secret(lab);
    let (log, pid) = (format!("{images}/ps.log"), format!("{images}/ps.pid"));
    let server = ["page-server", "-D", &images, "--address", "127.0.0.1", "--port", "9"];
    let logs = [&server[..], &["-o", "ps.log"]].concat();
    let makes: [(&str, &dyn Fn()); 3] = [
        ("a symbolic link is not written through", &|| symlink(&secret, &log).unwrap()),
        ("not a regular file", &|| mkfifo(log.as_str(), Mode::S_IRWXU).unwrap()),
        ("has 2 hard links", &|| fs::hard_link(&secret, &log).unwrap()),
    ];
    for (what, make) in makes {
        make();
        lab.run(&logs).fails(1, &[&log, what]);
        fs::remove_file(&log).unwrap();
    }
    symlink(&secret, &pid).unwrap();
    let daemon = [&server[..], &["--daemon", "--pidfile", "ps.pid"]].concat();
    lab.run(&daemon).fails(1, &[&pid, "File exists"]);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
}

/// The daemon's socket in a directory that others can write.
fn lazy(lab: &Lab) {
    let short = Short::folder();
    let images = short.path().to_str().unwrap().to_owned();
    let mut target = lab.start(&["memory", "4"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    set_mode(&images, 0o777);
    let socket = format!("{images}/lazy-pages.socket");
    let restore = ["restore", "-d", "-D", &images, "--lazy-pages"];
    // Whoever answers there chooses the memory of the tasks.
    let theirs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    chown(&socket, Some(NOBODY), Some(NOBODY)).unwrap();
    lab.run(&restore).fails(1, &[&socket, "belongs to user 65534"]);
    drop(theirs);
    fs::remove_file(&socket).unwrap();
    let mut daemon = lab.command(&["lazy-pages", "-D", &images, "-o", "lazy.log"]).spawn().unwrap();
    assert!(soon(|| fs::exists(&socket).unwrap()));
    assert_eq!(run(lab.command(&restore)).code, Some(0));
    target.restored_as(target.pid);
    target.goes_on();
    assert!(daemon.wait().unwrap().success());
}

const NOBODY: u32 = 65534;
