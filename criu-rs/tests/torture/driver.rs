//! The process that drives CRIU, and is tortured as well: it does one operation, and prints its end
//! as one line.

use std::path::Path;
use std::time::Duration;

use criu_images::edit::{Edit, edit_directory};
use criu_lab::raw::interrupt_every;
use criu_rs::pages::{Pool, Server};
use criu_rs::{AfterDump, Cancel, Criu, Dump, Pid, Restore, Tcp};

/// `--drive OPERATION FAULT VALUE CRIU IMAGES ARGUMENT`.
pub fn run(words: &[String]) {
    let value: u64 = words[2].parse().unwrap();
    let criu = Criu::at(&words[3]);
    let (images, argument) = (Path::new(&words[4]), &words[5]);
    let cancel = Cancel::new().unwrap();
    let limit = match words[1].as_str() {
        "cancel" => {
            let cancel = cancel.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(value));
                cancel.cancel();
            });
            Duration::from_secs(20)
        }
        "eintr" => {
            interrupt_every(Duration::from_micros(value));
            Duration::from_secs(20)
        }
        "descriptors" => {
            let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
            nix::sys::resource::setrlimit(limit, value, value).unwrap();
            Duration::from_secs(20)
        }
        "memory" => {
            let limit = nix::sys::resource::Resource::RLIMIT_AS;
            nix::sys::resource::setrlimit(limit, value, value).unwrap();
            Duration::from_secs(20)
        }
        // Somebody stands still.
        "stopped" => Duration::from_millis(400),
        _ => Duration::from_secs(20),
    };
    // Half of the cancelled ones do not wait for an action of CRIU's.
    let grace = Duration::from_millis(200 * (value % 2));
    let limits = Limits { cancel, limit, grace };
    let open = open_descriptors();
    let result = operate(&words[0], &criu, images, argument, &limits);
    let leaked = open_descriptors().saturating_sub(open);
    match result {
        Ok(()) => println!("RESULT done leaked {leaked}"),
        Err(error) => println!("RESULT failed leaked {leaked}: {}", error.replace('\n', " ")),
    }
}

/// When an operation is to end before its time.
struct Limits {
    cancel: Cancel,
    limit: Duration,
    grace: Duration,
}

fn operate(
    operation: &str,
    criu: &Criu,
    images: &Path,
    argument: &str,
    limits: &Limits,
) -> Result<(), String> {
    let Limits { cancel, limit, grace } = limits;
    let dump = |after| {
        let pid: Pid = argument.split(',').next().unwrap().parse().unwrap();
        let dump = Dump::new(pid, images).after_dump(after).cancel(cancel).deadline(*limit);
        dump.grace(*grace).tcp(Tcp::Established)
    };
    let text = |error: criu_rs::Error| error.to_string();
    match operation {
        "dump" => dump(AfterDump::Kill).run(criu).map(drop).map_err(text),
        "dump-on" => dump(AfterDump::LeaveRunning).run(criu).map(drop).map_err(text),
        "pages" => {
            let port: u16 = argument.split(',').nth(1).unwrap().parse().unwrap();
            let dump = dump(AfterDump::LeaveRunning).page_server("127.0.0.1", port);
            dump.run(criu).map(drop).map_err(text)
        }
        "capture" => {
            let pool = Pool::new(32 << 20).map_err(|error| error.to_string())?;
            let captured =
                dump(AfterDump::LeaveRunning).capture(criu, pool, &mut ()).map_err(text)?;
            captured.writing.wait().1.map(drop).map_err(|error| error.to_string())
        }
        "restore" => {
            let restore = Restore::new(images).cancel(cancel).deadline(*limit);
            let restore = restore.grace(*grace).tcp(Tcp::Established);
            restore.run(criu).map(drop).map_err(text)
        }
        "edit" => {
            let (from, to) = argument.split_once(',').unwrap();
            let edits = [Edit::Path { from: from.into(), to: to.into() }];
            edit_directory(images, &edits).map(drop).map_err(|error| error.to_string())
        }
        other => panic!("no operation {other}"),
    }
}

/// `--serve DIRECTORY`: a page server for one session, which says its port.
pub fn serve(words: &[String]) {
    let server = Server::new().directory(&words[0]);
    let listening = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    println!("{}", listening.port());
    let _ = listening.run(Some(1));
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
