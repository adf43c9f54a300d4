//! The time that a process of 2 GiB stands still: dumped to tmpfs, captured, and dumped to a
//! receiver that throws everything away, which is the time that CRIU itself takes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Result, crius, discarded, prepare, summary};
use criu_rs::pages::{Pool, Relay, Server};
use criu_rs::{AfterDump, Criu, Dump, PageServer, Pid};

/// The argument that makes this program hold so many MiB.
const HOLD: &str = "--hold";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, mib, ready] = words.as_slice() {
        if word == HOLD {
            return hold(mib.parse()?, Path::new(ready));
        }
    }
    prepare();
    let number = |name: &str, usual: usize| -> Result<usize> {
        Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
    };
    let (mib, rounds) = (number("MIB", 2048)?, number("ROUNDS", 7)?);
    // On a tmpfs, which costs neither a disk nor its wear.
    let directory = std::env::var("DIR").unwrap_or_else(|_| "/dev/shm".to_owned());
    let directory = Path::new(&directory).join(format!("criu-freeze-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    // Memory that no one has ever touched is slower than any that has been: the host has to find
    // it.
    touch(12 << 30)?;
    println!("| CRIU | process | dump | frozen, ms, median (least..most) | of the first |");
    println!("| --- | --- | --- | --- | --- |");
    for (version, program) in crius()? {
        let held = Held::start(mib, &directory)?;
        let criu = Criu::at(&program);
        let mut lab = Lab { criu, pid: held.pid(), directory: directory.clone(), pool: None };
        lab.pool = Some(Pool::new((mib + 64) << 20)?);
        let mut times: [Vec<Duration>; 4] = Default::default();
        // In a row, the first of which warms what is new.
        for (how, times) in times.iter_mut().enumerate().take(3) {
            for round in 0..=rounds {
                let time = lab.run(how)?;
                times.extend((round > 0).then_some(time));
            }
        }
        // A capture after each plain dump, whose freed pages are what it gets.
        for _ in 0..rounds {
            lab.run(0)?;
            times[3].push(lab.run(1)?);
        }
        let names = [
            "plain dump to tmpfs",
            "captures in a row",
            "thrown away: CRIU's own part",
            "a capture after each plain dump",
        ];
        let plain = median(&times[0]);
        for (name, times) in names.iter().zip(&mut times) {
            let ratio = median(times) / plain;
            println!("| {version} | {mib} MiB | {name} | {} | {ratio:.2} |", summary(times));
        }
        drop(held);
        drop(lab.pool.take());
        let held = Held::start(256, &directory)?;
        lab.pid = held.pid();
        lab.tell_over_tcp(&version.to_string(), rounds)?;
    }
    Ok(fs::remove_dir_all(&directory)?)
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64()
}

struct Lab {
    criu: Criu,
    pid: Pid,
    directory: std::path::PathBuf,
    pool: Option<Pool>,
}

impl Lab {
    /// Measures dumps of 256 MiB to page servers.
    fn tell_over_tcp(&self, version: &str, rounds: usize) -> Result<()> {
        let pooled = Server::new().pool(Pool::new(320 << 20)?);
        let mut all: [Vec<Duration>; 6] = Default::default();
        for round in 0..=rounds {
            for (way, times) in all.iter_mut().enumerate() {
                let time = self.over_tcp(way, &pooled)?;
                times.extend((round > 0).then_some(time));
            }
        }
        let names = [
            "TCP, CRIU's page server",
            "TCP, our page server",
            "TCP, our page server with a pool",
            "our relay, CRIU's page server",
            "our relay, our page server",
            "our relay, our page server with a pool",
        ];
        let theirs = median(&all[0]);
        for (name, times) in names.iter().zip(&mut all) {
            let ratio = median(times) / theirs;
            println!("| {version} | 256 MiB | {name} | {} | {ratio:.2} |", summary(times));
        }
        Ok(())
    }

    fn over_tcp(&self, how: usize, pooled: &Server) -> Result<Duration> {
        let images = self.directory.join("images");
        _ = fs::remove_dir_all(&images);
        fs::create_dir(&images)?;
        let anywhere = "127.0.0.1:0".parse()?;
        let (theirs, ours, port);
        if how % 3 == 0 {
            let server = PageServer::new(&images, anywhere).spawn(&self.criu)?;
            port = server.port();
            (theirs, ours) = (Some(server), None);
        } else {
            let server = if how % 3 == 1 { Server::new() } else { pooled.clone() };
            let server = server.directory(&images).listen(anywhere)?;
            port = server.port();
            (theirs, ours) = (None, Some(std::thread::spawn(move || server.run(Some(1)))));
        }
        let dump = Dump::new(self.pid, &images).after_dump(AfterDump::LeaveRunning);
        let dumped = if how < 3 {
            dump.page_server("127.0.0.1", port).run(&self.criu)?
        } else {
            let relay = Relay::connect(("127.0.0.1", port))?;
            let dumped = dump.page_server_socket(&relay).run(&self.criu)?;
            relay.finish()?;
            dumped
        };
        if let Some(server) = theirs {
            server.wait()?;
        }
        if let Some(server) = ours {
            let reports = server.join().map_err(|_| "the server died")??;
            if reports.iter().any(|report| report.result.is_err()) {
                return Err(format!("{reports:?}").into());
            }
        }
        Ok(dumped.stats?.frozen)
    }

    fn run(&mut self, how: usize) -> Result<Duration> {
        let images = self.directory.join("images");
        _ = fs::remove_dir_all(&images);
        fs::create_dir(&images)?;
        let dump = Dump::new(self.pid, &images).after_dump(AfterDump::LeaveRunning);
        let dumped = match how {
            0 => dump.run(&self.criu)?,
            1 => {
                let pool = self.pool.take().ok_or("no pool")?;
                let captured = dump.capture(&self.criu, pool, &mut ())?;
                let (pool, result) = captured.writing.wait();
                result?;
                self.pool = pool;
                captured.dumped
            }
            _ => discarded(dump, &self.criu)?,
        };
        Ok(dumped.stats?.frozen)
    }
}

/// The process that is dumped.
struct Held(Child);

impl Held {
    fn start(mib: usize, directory: &Path) -> Result<Self> {
        let ready = directory.join("ready");
        _ = fs::remove_file(&ready);
        let child = Command::new("/proc/self/exe")
            .args([HOLD, &mib.to_string()])
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let held = Self(child);
        let limit = Instant::now() + Duration::from_secs(60);
        while !ready.exists() {
            if Instant::now() > limit {
                return Err("the process does not start".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(held)
    }

    fn pid(&self) -> Pid {
        Pid::from(&self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn hold(mib: usize, ready: &Path) -> Result<()> {
    _ = nix::unistd::setsid();
    let mut memory = vec![0u8; mib << 20];
    for (n, page) in memory.chunks_mut(4096).enumerate() {
        page.fill(1);
        if let Some(head) = page.get_mut(..8) {
            head.copy_from_slice(&n.to_le_bytes());
        }
    }
    fs::write(ready, "")?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        std::hint::black_box(&mut memory);
    }
}

fn touch(bytes: usize) -> Result<()> {
    drop(Pool::new(bytes)?);
    Ok(())
}
