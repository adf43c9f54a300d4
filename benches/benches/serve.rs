//! Serving pages: four clients that read one snapshot at once, beside sendfile of the same bytes to
//! four clients.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use criu_benches::{BASE, Result, summary, task_with_pages};
use criu_rs::pages::{Command, Header, Layout, Provider};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send};

const CLIENTS: usize = 4;
const BYTES: usize = 512 << 20;
/// Bytes of an answer: as much as CRIU wants at once at most.
const PIECE: usize = 4 << 20;
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let directory = Path::new("/dev/shm").join(format!("criu-serve-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    task_with_pages(&directory, &vec![7; BYTES])?;
    let mut times = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for turn in 0..times.len() {
            let way = (round + turn) % times.len();
            let time = match way {
                0 => ours(&directory)?,
                way => plain(&directory, way == 2)?,
            };
            if let Some(times) = times.get_mut(way) {
                times.push(time);
            }
        }
    }
    println!("| {CLIENTS} clients, {} MiB each | ms, median (least..most) | GiB/s |", BYTES >> 20);
    println!("| --- | --- | --- |");
    let mut medians = Vec::new();
    for (name, times) in
        ["this crate", "sendfile", "sendfile, asked for, with headers"].iter().zip(&mut times)
    {
        let text = summary(times);
        let median = times.get(ROUNDS / 2).copied().unwrap_or_default().as_secs_f64();
        let rate = (BYTES * CLIENTS) as f64 / f64::from(1 << 30) / median;
        println!("| {name} | {text} | {rate:.2} |");
        medians.push(median);
    }
    if let [ours, plain, headed] = medians.as_slice() {
        let (all, fair) = (plain / ours, headed / ours);
        println!(
            "\nthis crate makes {all:.2} of sendfile's rate, {fair:.2} of one that is asked for"
        );
    }
    Ok(fs::remove_dir_all(&directory)?)
}

/// Wants all pages, and then reads them.
fn ours(directory: &Path) -> Result<Duration> {
    let server = Provider::new(directory).listen("127.0.0.1:0".parse()?)?;
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(CLIENTS as u64)));
    let time = clients(port, |socket| {
        let ask = |socket: &mut TcpStream, at: usize| -> Result<()> {
            let (pages, address) = (PIECE as u64 / 4096, BASE + at as u64);
            let header = Header { command: Command::Get, flags: 0, pages, address, id: 1 };
            Ok(socket.write_all(&header.to_bytes(Layout::Wide).ok_or("never")?)?)
        };
        let mut buffer = vec![0; PIECE];
        for at in (0..BYTES).step_by(PIECE) {
            ask(socket, at)?;
        }
        for _ in (0..BYTES).step_by(PIECE) {
            socket.read_exact(&mut [0; 32])?;
            socket.read_exact(&mut buffer)?;
        }
        let close = Header { command: Command::Close, flags: 0, pages: 0, address: 0, id: 0 };
        socket.write_all(&close.to_bytes(Layout::Wide).ok_or("never")?)?;
        Ok(socket.read_exact(&mut [0; 4])?)
    })?;
    let reports = running.join().map_err(|_| "the server died")??;
    let all = reports.iter().all(|report| report.result.is_ok());
    if all { Ok(time) } else { Err(format!("{reports:?}").into()) }
}

/// Sends the same bytes without the protocol. With `asked`, a request and a header go with each
/// piece.
fn plain(directory: &Path, asked: bool) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let path = directory.join("pages-1.img");
    let running = thread::spawn(move || -> std::io::Result<()> {
        let mut sending = Vec::new();
        for _ in 0..CLIENTS {
            let (socket, _) = listener.accept()?;
            let file = File::open(&path)?;
            socket.set_nodelay(asked)?;
            sending.push(thread::spawn(move || -> std::io::Result<()> {
                let mut at = 0;
                while usize::try_from(at).is_ok_and(|at| at < BYTES) {
                    if asked {
                        (&socket).read_exact(&mut [0; 32])?;
                        let more = MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
                        send(socket.as_raw_fd(), &[0; 32], more)?;
                    }
                    sendfile(&socket, &file, Some(&mut at), PIECE)?;
                }
                Ok(())
            }));
        }
        sending.into_iter().try_for_each(|one| one.join().unwrap_or(Ok(())))
    });
    let time = clients(port, |socket| {
        let mut buffer = vec![0; PIECE];
        for _ in (0..BYTES).step_by(PIECE).filter(|_| asked) {
            socket.write_all(&[0; 32])?;
        }
        for _ in (0..BYTES).step_by(PIECE) {
            if asked {
                socket.read_exact(&mut [0; 32])?;
            }
            socket.read_exact(&mut buffer)?;
        }
        Ok(())
    })?;
    running.join().map_err(|_| "the sender died")??;
    Ok(time)
}

/// Measures the time that all clients take at once.
fn clients(port: u16, run: impl Fn(&mut TcpStream) -> Result<()> + Sync) -> Result<Duration> {
    let begun = Instant::now();
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> std::result::Result<(), String> {
                    let socket = TcpStream::connect(("127.0.0.1", port));
                    let mut socket = socket.map_err(|error| error.to_string())?;
                    run(&mut socket).map_err(|error| error.to_string())
                })
            })
            .collect();
        clients.into_iter().all(|client| matches!(client.join(), Ok(Ok(()))))
    });
    if all { Ok(begun.elapsed()) } else { Err("a client failed".into()) }
}
