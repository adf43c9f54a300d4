//! The latency that clients of a Redis see while it is saved.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use criu_benches::{Random, Result, crius};
use criu_rs::instant::{InstantOptions, Way};
use criu_rs::pages::Pool;
use criu_rs::{AfterDump, Criu, Dump, NetworkLock, Pid, Tcp};

/// Measures a Redis of so many MiB.
pub(crate) fn measure(directory: &Path, mib: usize, rounds: usize) -> Result<()> {
    println!("| Redis, {mib} MiB | requests/s | p50, ms | p99 | p99.9 | most | frozen, ms |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    // CRIU 4.1.1 does not save sockets of the internet on kernels since 6.16.
    let (_, program) = crius()?.pop().ok_or("no CRIU")?;
    let criu = Criu::at(&program);
    let server = Server::start(directory, mib)?;
    let bytes = (mib + mib / 4) << 20;
    let mut pool = Some(Pool::new(bytes)?);
    let mut all: Vec<(&str, Vec<Seen>)> = KINDS.iter().map(|kind| (*kind, Vec::new())).collect();
    for round in 0..=rounds {
        for (kind, seen) in &mut all {
            let one = server.once(kind, &criu, directory, &mut pool)?;
            if round > 0 {
                seen.push(one);
            }
        }
    }
    for (kind, seen) in &all {
        println!("| {kind} | {} |", Seen::line(seen));
    }
    Ok(())
}

const KINDS: [&str; 5] = ["nothing", "BGSAVE", "plain dump", "capture", "instant"];

/// The latencies that clients have seen in one round.
#[derive(Debug, Default)]
struct Seen {
    /// Of all clients, ascending.
    latencies: Vec<Duration>,
    time: Duration,
    frozen: Duration,
}

impl Seen {
    /// The medians of rounds.
    fn line(all: &[Self]) -> String {
        let median = |of: &dyn Fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let at = |seen: &Self, part: usize| {
            let place = seen.latencies.len().saturating_sub(1) * part / 100_000;
            seen.latencies.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        #[allow(clippy::cast_precision_loss)]
        let rate = |seen: &Self| seen.latencies.len() as f64 / seen.time.as_secs_f64();
        format!(
            "{:.0} | {:.3} | {:.3} | {:.2} | {:.1} | {:.1}",
            median(&rate),
            median(&|seen| at(seen, 50_000)),
            median(&|seen| at(seen, 99_000)),
            median(&|seen| at(seen, 99_900)),
            median(&|seen| at(seen, 100_000)),
            median(&|seen| seen.frozen.as_secs_f64() * 1e3),
        )
    }
}

/// A Redis with memory.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path, mib: usize) -> Result<Self> {
        let port = 20_000 + u16::try_from(std::process::id() % 10_000)?;
        let mut command = Command::new("setsid");
        command.args(["redis-server", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "no", "--enable-debug-command", "yes"]);
        command.arg("--dir").arg(directory).arg("--logfile").arg(directory.join("redis.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn()?, port };
        let limit = Instant::now() + Duration::from_secs(20);
        let mut client = loop {
            match Client::connect(port) {
                Ok(client) => break client,
                Err(error) if Instant::now() > limit => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        // A key and a value of 1000 bytes take some 1,130 bytes.
        let keys = (mib << 20) / 1130;
        let answer = client.ask(&["DEBUG", "POPULATE", &keys.to_string(), "key", "1000"])?;
        eprintln!("{keys} keys: {answer}, {}", client.ask(&["INFO", "memory"])?.len());
        Ok(server)
    }

    fn pid(&self) -> Pid {
        Pid::from(&self.child)
    }

    /// Saves it in one way while clients ask it.
    fn once(
        &self,
        kind: &str,
        criu: &Criu,
        directory: &Path,
        pool: &mut Option<Pool>,
    ) -> Result<Seen> {
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| load(self.port, n, Arc::clone(&over))).collect::<Result<_>>()?;
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let frozen = self.save(kind, criu, directory, pool)?;
        let ended = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for client in clients {
            let seen = client.join().map_err(|_| "a client died")??;
            // The requests that were on their way at some time of the saving.
            latencies.extend(seen.into_iter().filter_map(|(start, took)| {
                (start < ended && start + took > begun).then_some(took)
            }));
        }
        latencies.sort_unstable();
        Ok(Seen { latencies, time: ended - begun, frozen })
    }

    fn save(
        &self,
        kind: &str,
        criu: &Criu,
        directory: &Path,
        pool: &mut Option<Pool>,
    ) -> Result<Duration> {
        let images = directory.join("images");
        _ = std::fs::remove_dir_all(&images);
        std::fs::create_dir(&images)?;
        let dump = Dump::new(self.pid(), &images).after_dump(AfterDump::LeaveRunning);
        // The packets that a lock drops would come again 200 ms later.
        let dump = dump.tcp(Tcp::Established).network_lock(NetworkLock::Skip);
        Ok(match kind {
            "BGSAVE" => {
                let mut client = Client::connect(self.port)?;
                client.ask(&["BGSAVE"])?;
                while client.ask(&["INFO", "persistence"])?.contains("rdb_bgsave_in_progress:1") {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let info = client.ask(&["INFO", "stats"])?;
                let fork = info.lines().find_map(|line| line.strip_prefix("latest_fork_usec:"));
                Duration::from_micros(fork.unwrap_or("0").trim().parse()?)
            }
            "plain dump" => dump.run(criu)?.stats?.frozen,
            "capture" => {
                let captured = dump.capture(criu, pool.take().ok_or("no pool")?, &mut ())?;
                let (back, result) = captured.writing.wait();
                result?;
                *pool = back;
                captured.dumped.stats?.frozen
            }
            "instant" => {
                let capture = dump.instant(criu, &InstantOptions::new(), &mut ())?;
                if !capture.tasks.iter().any(|task| matches!(task.way, Way::Held { .. })) {
                    return Err(format!("no holder: {:?}", capture.tasks).into());
                }
                capture.reading.wait()?;
                capture.dumped.stats?.frozen
            }
            _ => {
                std::thread::sleep(Duration::from_secs(2));
                Duration::ZERO
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Starts of requests, and the time that each took.
type Requests = Vec<(Instant, Duration)>;

/// A client that asks without a pause: the start of each request, and the time that it took.
fn load(
    port: u16,
    seed: u64,
    over: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Requests, String>>> {
    let mut client = Client::connect(port)?;
    let mut random = Random(seed);
    let value = "x".repeat(1000);
    Ok(std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let key = format!("key:{}", random.below(1_000_000));
            let start = Instant::now();
            // One in five writes.
            let answer = if random.below(5) == 0 {
                client.ask(&["SET", &key, &value])
            } else {
                client.ask(&["GET", &key])
            };
            answer.map_err(|error| error.to_string())?;
            seen.push((start, start.elapsed()));
        }
        Ok(seen)
    }))
}

/// A connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        Ok(Self(BufReader::new(socket)))
    }

    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(text.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim();
        match line.strip_prefix('$') {
            Some("-1") => Ok(String::new()),
            Some(size) => {
                let mut bytes = vec![0; size.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            None if line.starts_with('-') || line.is_empty() => Err(line.to_owned().into()),
            None => Ok(line.to_owned()),
        }
    }
}

/// Clients at once.
const CLIENTS: u64 = 4;
