//! Short attacks: nothing is read, written, ended or starved.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use criu_images::memory::PageObject;
use criu_lab::{harness, raw, soon};
use criu_rs::pages::proto::{Header, object_id};
use criu_rs::pages::{Command, Layout};

use crate::attack::{ALL as KINDS, Attack, STRANGERS};
use crate::scene::{Scene, Server};

/// All trials.
pub const ALL: &[harness::Test<Scene>] = &[
    ("another_user_takes_and_gives_no_byte_and_dumps_go_on", stranger),
    ("a_server_for_other_users_survives_them", other_users),
    ("a_bare_connect_is_no_session", bare_connects),
    ("another_user_reads_no_page_of_a_checkpoint", reader),
];

const NOBODY: u32 = 65534;

/// Runs a function as nobody.
fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            raw::thread_becomes(NOBODY).unwrap();
            run()
        });
        nobody.join().unwrap()
    })
}

/// Dumps into a server, which must succeed.
#[track_caller]
fn dumps(scene: &Scene, number: usize, server: &Server) {
    let targets = scene.targets(number, 8);
    for outcome in scene.dump("dump", &targets, server) {
        outcome.unwrap();
    }
}

fn stranger(scene: &Scene) {
    let words = ["--sessions", "unlimited", "--each"];
    let server = scene.serve("pages", &words, 256);
    let attack = Attack::begin(server.address, &STRANGERS, 400, &KINDS);
    thread::sleep(Duration::from_secs(2));
    dumps(scene, 4, &server);
    let spent = server.spent();
    let seen = attack.end();
    assert!(server.goes_on(), "{seen:?}");
    assert!(seen.connected >= 400, "{seen:?}");
    assert_eq!(seen.read, 0, "the server answered: {seen:?}");
    assert!(spent.memory < 256 << 20, "{spent:?}");
    // The sessions are those of the dumps: strangers have no numbers.
    let files = server.files();
    let session = |n: usize| {
        let folder = server.images.join(n.to_string());
        files.iter().filter(move |path| path.parent() == Some(&folder))
    };
    assert!((0..4).all(|n| session(n).count() == 2) && files.len() == 8, "{files:?}");
}

fn other_users(scene: &Scene) {
    let words = ["--sessions", "unlimited", "--each", "--other-users"];
    let server = scene.serve("pages", &words, 1024);
    let attack = Attack::begin(server.address, &STRANGERS, 400, &KINDS);
    thread::sleep(Duration::from_secs(2));
    dumps(scene, 4, &server);
    let spent = server.spent();
    let seen = attack.end();
    assert!(server.goes_on(), "{seen:?}");
    assert!(
        spent.memory < 512 << 20 && spent.descriptors < 1000 && spent.threads < 80,
        "{spent:?}"
    );
    // What the attackers have begun is gone with them: the pages of four dumps stay.
    let whole = || server.files().iter().filter(|path| path.ends_with("pages-65537.img")).count();
    assert!(soon(|| whole() == 4 && server.files().len() == 8), "{:?}", server.files());
}

fn bare_connects(scene: &Scene) {
    let server = scene.serve("pages", &[], 256);
    for _ in 0..10 {
        as_nobody(|| drop(server.connect()));
        drop(server.connect());
        let garbage = server.connect();
        (&garbage).write_all(&[7; 10]).unwrap();
        garbage.shutdown(Shutdown::Both).unwrap();
    }
    assert!(server.goes_on());
    dumps(scene, 1, &server);
    // It was the one session.
    assert!(soon(|| !server.goes_on()));
    assert_eq!(server.files().len(), 2, "{:?}", server.files());
}

fn reader(scene: &Scene) {
    let targets = scene.targets(1, 8);
    let images = scene.dir.join("pages");
    std::fs::create_dir(&images).unwrap();
    let (pid, place) = (targets[0].pid(), images.to_string_lossy().into_owned());
    let ran = scene.command(&["dump", "-R", "-t", &pid, "-D", &place]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let server = scene.serve("pages", &["--lazy-pages", "--sessions", "unlimited"], 256);
    let before = server.files();
    let number: u32 = pid.parse().unwrap();
    let set = criu_images::memory::PageSet::open(&images, criu_rs::pages::page_size()).unwrap();
    let pages = set.pages(PageObject::Task(number)).unwrap().unwrap();
    let address = pages.runs().next().unwrap().start;
    let ask = |command, id| {
        let header = Header { command, flags: 0, pages: 1, address, id };
        let mut socket = server.connect();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A server that refuses may have ended the connection already.
        let _ = socket.write_all(&header.to_bytes(Layout::Wide).unwrap());
        socket.read(&mut [0; 8192]).unwrap_or(0)
    };
    let get = || ask(Command::Get, number.into());
    let store = || ask(Command::Open2, object_id(PageObject::Task(number)));
    assert_eq!(as_nobody(|| (get(), store())), (0, 0));
    // Root reads pages, and writes none either.
    assert!(get() >= 32);
    assert_eq!(store(), 0);
    assert_eq!(server.files(), before);
}
