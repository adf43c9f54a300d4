//! Memory of a virtual machine, handed over as Firecracker does it.

use std::fs::{self, File};
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use criu_lab::lazy::{Region, userfaultfd};
use criu_lab::place::Short;
use criu_lab::scratch;
use criu_rs::lazy::{FirecrackerGuest, LazyError, LazyOptions};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::set::{PAGE, addresses, page};

/// The pages of each of two regions.
const PAGES: usize = 2048;
/// The page of the file at which the second region begins.
const SECOND: usize = 3000;
/// The variable that makes this program a virtual machine.
const SOCKET: &str = "CRIU_RS_TEST_FIRECRACKER";
const IN_TIME: Duration = Duration::from_secs(20);

#[test]
fn a_virtual_machine_of_firecracker_gets_its_memory() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        return guest(Path::new(&socket));
    }
    let dir = scratch("lazy-firecracker");
    let folder = Short::folder();
    let (socket, memory) = (folder.join("socket"), dir.join("memory"));
    let pages = SECOND + PAGES;
    let bytes: Vec<u8> = addresses(0, pages as u64).flat_map(page).collect();
    fs::write(&memory, bytes).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "firecracker::a_virtual_machine_of_firecracker_gets_its_memory"]);
        let guest = command.env(SOCKET, &socket).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        (guest, FirecrackerGuest::receive(&stream, IN_TIME).unwrap())
    };
    let ends_well = |mut guest: Child| assert!(guest.wait().unwrap().success());
    // Two machines of one snapshot.
    let (first, second) = (start(), start());
    let serve = |guest: FirecrackerGuest| {
        guest.serve(File::open(&memory).unwrap(), LazyOptions::default()).unwrap()
    };
    let (one, other) = (serve(first.1), serve(second.1));
    ends_well(first.0);
    ends_well(second.0);
    for memory in [&one, &other] {
        assert!(memory.restoration().wait(Some(IN_TIME)).unwrap());
        let statistics = memory.restoration().statistics();
        assert!(statistics.faults > 0 && statistics.bytes > 0, "{statistics:?}");
    }
    // A machine whose handler ends is ended, and does not hang.
    let (mut third, guest) = start();
    drop(guest.serve(File::open(&memory).unwrap(), LazyOptions::default()).unwrap());
    assert!(!third.wait().unwrap().success());
    // A file that is too short is seen before a page comes.
    File::options().write(true).open(&memory).unwrap().set_len(100 * PAGE).unwrap();
    let (mut fourth, guest) = start();
    let error = guest.serve(File::open(&memory).unwrap(), LazyOptions::default()).unwrap_err();
    assert!(matches!(error, LazyError::NoPage { .. }), "{error}");
    fourth.kill().unwrap();
    fourth.wait().unwrap();
}

/// The part of Firecracker: hands two regions over, and uses them.
fn guest(socket: &Path) {
    let uffd = userfaultfd();
    let regions = [0, SECOND].map(|first| (Region::new(PAGES), first));
    let described = regions.map(|(region, first)| {
        region.register(&uffd);
        let (start, size, offset) = (region.start, PAGES as u64 * PAGE, first as u64 * PAGE);
        format!(
            "{{\"base_host_virt_addr\":{start},\"size\":{size},\"offset\":{offset},\
             \"page_size\":4096,\"page_size_kib\":4096}}"
        )
    });
    let stream = UnixStream::connect(socket).unwrap();
    send(&stream, &format!("[{}]", described.join(",")), &[&uffd]);
    drop((stream, uffd));
    let check = |region: Region, first: usize, page: usize| {
        let want = (first + page) as u64 * PAGE;
        assert_eq!((region.word(page, 0), region.word(page, 511)), (want, want));
    };
    thread::scope(|scope| {
        for (region, first) in regions {
            scope
                .spawn(move || (0..PAGES / 2).for_each(|n| check(region, first, n * 1031 % PAGES)));
        }
    });
    for (region, first) in regions {
        // The balloon takes memory, which is zeros when it comes back.
        region.part(100, 50).discard();
        for page in 0..PAGES {
            match page {
                100..150 => assert_eq!(region.word(page, 0), 0),
                _ => check(region, first, page),
            }
        }
    }
}

fn send(stream: &UnixStream, text: &str, fds: &[&OwnedFd]) {
    let numbers: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg::<()>(stream.as_raw_fd(), &parts, rights, MsgFlags::empty(), None).unwrap();
}

#[test]
fn other_messages_than_firecracker_s_are_refused() {
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    let region = "{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0,\"page_size\":4096}";
    let cases = [
        ("{}".to_owned(), 1, "it is no array of regions"),
        ("[]".to_owned(), 1, "it is no array of regions"),
        (format!("[{region}]"), 0, "it has no descriptor"),
        (format!("[{region}]"), 2, "or has several descriptors"),
        (format!("[{region}"), 1, "it ends early"),
        (format!("[{region}]x"), 1, "trailing characters"),
        (" ".repeat(70_000), 1, "it is longer than 64 KiB"),
        ("[".repeat(60_000), 1, "recursion limit"),
        (region.replace("offset", "other"), 1, "it is no array of regions"),
        (format!("[{}]", region.replace("offset", "other")), 1, "a region has no number `offset`"),
        (format!("[{}]", region.replace(":0", ":-1")), 1, "a region has no number `offset`"),
        (format!("[{}]", region.replace("4096}", "2097152}")), 1, "pages of 2097152 bytes"),
        (
            format!("[{}]", region.replace("addr\":4096", "addr\":18446744073709551615")),
            1,
            "a region is too large",
        ),
    ];
    for (text, fds, said) in cases {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let all = vec![&null; fds];
        let (first, rest) = text.split_at(1);
        send(&theirs, first, &all);
        let receiving = thread::spawn(move || FirecrackerGuest::receive(&ours, IN_TIME));
        // The reader may have gone before the end.
        let _ = theirs.write_all(rest.as_bytes());
        drop(theirs);
        let error = receiving.join().unwrap().unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    // A part costs a look at all before.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let receiving = thread::spawn(move || FirecrackerGuest::receive(&ours, IN_TIME));
    theirs.write_all(b"[").unwrap();
    while theirs.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    let error = receiving.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("it comes in more than 100 parts"), "{error}");
    // Silence, and a descriptor that is no userfaultfd.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let error = FirecrackerGuest::receive(&ours, Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().ends_with("it does not come in time"), "{error}");
    send(&theirs, &format!("[{region}]"), &[&null]);
    let guest = FirecrackerGuest::receive(&ours, IN_TIME).unwrap();
    let file = scratch("lazy-firecracker-other").join("memory");
    fs::write(&file, page(0)).unwrap();
    let error = guest.serve(File::open(&file).unwrap(), LazyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the descriptor is no userfaultfd"), "{error}");
}
