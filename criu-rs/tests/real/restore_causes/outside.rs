//! Things outside the tree that a restore needs: descriptors, namespaces, terminals, mounts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use criu_images::proto::PstreeEntry;
use criu_lab::Terminal;
use criu_rs::{Cause, Dump, External, JoinNs, JoinableNs, Restore};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;

use super::{cause, fails, saved};
use crate::causes::edit;
use crate::container::Container;
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("restore_names_the_external_file_that_was_not_given", external_file),
    ("restore_names_the_external_namespace_that_was_not_given", external_namespace),
    ("restore_of_a_job_without_a_terminal_says_so", terminals),
    ("restore_says_that_its_own_session_is_in_the_way", session),
    ("restore_says_that_no_lazy_pages_daemon_answers", lazy_pages),
    ("restore_says_what_a_mount_namespace_needs", mounts),
];

fn external_file(lab: &Lab) {
    let place = lab.dir("place");
    let none = None::<&str>;
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let file = place.join("file");
    fs::write(&file, "x").unwrap();
    let target = lab.start(&["open", file.to_str().unwrap()]);
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
    let fds = format!("/proc/{}/fd", target.pid);
    let fds = fs::read_dir(&fds).unwrap().map(|entry| entry.unwrap().path());
    let is_it =
        |fd: &std::path::PathBuf| fs::read_link(fd).is_ok_and(|path| path.ends_with("file"));
    let fd = fds.into_iter().find(is_it).unwrap();
    let inode = fs::metadata(&fd).unwrap().ino();
    let info = fs::read_to_string(fd.to_str().unwrap().replace("/fd/", "/fdinfo/")).unwrap();
    let mount_id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap();
    let mount_id = mount_id.trim().parse().unwrap();
    let saved = saved(lab, target, |dump| dump.external(External::File { mount: mount_id, inode }));
    let key = format!("file[{mount_id:x}:{inode:x}]");
    let expected = cause(Cause::ExternalNotGiven, &key, "give it back under its key: .inherit_fd");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
}

fn external_namespace(lab: &Lab) {
    let target = lab.python_in(&["unshare", "--net"], "");
    let inode = fs::metadata(format!("/proc/{}/ns/net", target.pid)).unwrap().ino();
    let saved =
        saved(lab, target, |dump| dump.external(format!("net[{inode}]:web").parse().unwrap()));
    let expected = cause(Cause::ExternalNotGiven, "web", ".inherit_fd");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
    let plain = super::saved(lab, lab.start(&["count"]), |dump| dump);
    let restore =
        Restore::new(&plain.images).join_ns(JoinNs::path(JoinableNs::Net, "/no/such/namespace"));
    let error = restore.run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::JoinedNamespace), "{error}");
}

fn terminals(lab: &Lab) {
    let Terminal { master, slave, path } = Terminal::open();
    let target = lab.start(&["terminal", &path]);
    drop(slave);
    let job = saved(lab, target, |dump| dump.shell_job(true));
    drop(master);
    let restore = Restore::new(&job.images);
    let expected = cause(Cause::NoTerminal, "", "start the restore in a terminal");
    fails(&lab.criu, &restore.clone().shell_job(true), &expected);
    let expected = cause(Cause::ForeignTerminal, "", ".shell_job(true)");
    fails(&lab.criu, &restore, &expected);
    // A tree with a terminal of its own, whose number is taken.
    let own = saved(lab, lab.python("import pty\nends = pty.openpty()"), |dump| dump);
    let taken = nix::pty::openpty(None, None).unwrap();
    let expected = cause(Cause::TerminalInUse, "index", "end the program that has the terminal");
    fails(&lab.criu, &Restore::new(&own.images), &expected);
    drop(taken);
}

fn session(lab: &Lab) {
    // A job of a shell joins the session of the restore, whose id must not be one of the images.
    let saved = saved(lab, lab.start(&["member"]), |dump| dump.shell_job(true));
    let own = u32::try_from(nix::unistd::getsid(None).unwrap().as_raw()).unwrap();
    edit(&saved.images.join("pstree.img"), 8, |root: &mut PstreeEntry| {
        (root.sid, root.pgid) = (4_194_000, own);
    });
    let expected = cause(Cause::SessionIdInUse, "session", "start the restore in another session");
    fails(&lab.criu, &Restore::new(&saved.images).shell_job(true), &expected);
}

fn lazy_pages(lab: &Lab) {
    let saved = saved(lab, lab.start(&["memory", "1"]), |dump| dump);
    let expected = cause(Cause::NoLazyPagesDaemon, "lazy-pages.socket", "start lazy-pages");
    fails(&lab.criu, &Restore::new(&saved.images).lazy_pages(true), &expected);
}

fn mounts(lab: &Lab) {
    let outside = lab.dir("outside");
    let mut container =
        Container::start_with(lab, CloneFlags::empty(), &[(Path::new(&outside), "/bound")]);
    let images = lab.dir("images");
    let dump = Dump::new(container.target.pid, &images);
    dump.external(External::mount("/bound", "key")).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images);
    let expected = cause(Cause::RootNeeded, "", ".root(path)");
    fails(&lab.criu, &restore.clone().external(External::mount("key", &outside)), &expected);
    let restore = restore.root(&container.root);
    let expected = cause(Cause::ExternalMount, "", ".external(External::mount(..))");
    fails(&lab.criu, &restore, &expected);
    let nowhere = lab.dir.join("nowhere");
    let gone = restore.clone().external(External::mount("key", &nowhere));
    let expected = cause(Cause::MountSourceMissing, nowhere.to_str().unwrap(), "make it, or name");
    fails(&lab.criu, &gone, &expected);
    fs::remove_dir(container.root.join("bound")).unwrap();
    let restore = restore.external(External::mount("key", &outside));
    let expected = cause(Cause::MountPointMissing, "/bound", "make the directory or file in");
    fails(&lab.criu, &restore, &expected);
}
