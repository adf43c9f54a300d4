//! Receiving pages: our page server beside CRIU's, and beside two minimal loops that only put the
//! pages where they belong.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criu_benches::{Random, Result, crius, prepare};
use criu_rs::Tls;
use criu_rs::pages::{Command as Word, Header, Layout, Pool, Server};
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::resource::{UsageWho, getrusage};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const OURS: &str = "--ours";
const BUFFERED: &str = "--buffered";
const SPLICING: &str = "--splicing";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, directory, port, certificates @ ..] = words.as_slice() {
        let (directory, address) = (Path::new(directory), format!("127.0.0.1:{port}"));
        match word.as_str() {
            OURS => {
                let mut server = Server::new().directory(directory);
                if let [certificates] = certificates {
                    let [ca, certificate, key] = files(Path::new(certificates));
                    let tls = Tls::new().ca(ca).certificate(certificate).key(key);
                    server = server.tls(&tls, HERE)?;
                }
                let server = server.listen(address.parse()?)?;
                let reports = server.run(Some(1))?;
                let all = reports.into_iter().all(|report| report.result.is_ok());
                return if all { Ok(()) } else { Err("it failed".into()) };
            }
            BUFFERED => return buffered(directory, &address),
            SPLICING => return splicing(directory, &address),
            _ => {}
        }
    }
    prepare();
    let number = |name: &str, usual: usize| -> Result<usize> {
        Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
    };
    let (mib, rounds) = (number("MIB", 512)?, number("ROUNDS", 7)?);
    drop(Pool::new(12 << 30)?);
    let criu = crius()?.pop().ok_or("no CRIU")?.1;
    println!(
        "| target | pages | server | GiB/s, median (least..most) | CPU s/GiB | peak MiB | accepts after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let certificates = disk.join("certificates");
    certify(&certificates)?;
    // TLS is as slow wherever the pages go.
    let targets = [
        ("tmpfs", Path::new("/dev/shm"), None, 4),
        ("ext4", disk, None, 4),
        ("tmpfs, TLS", Path::new("/dev/shm"), Some(certificates.as_path()), 2),
    ];
    let only = std::env::var("ONLY").unwrap_or_default();
    for (target, place, tls, servers) in targets {
        if !target.contains(&only) {
            continue;
        }
        let directory = place.join(format!("criu-pages-{}", std::process::id()));
        for (pages, runs) in
            [("single", 1..=1), ("runs of 1 to 64", 1..=64), ("runs of 1,024", 1024..=1024)]
        {
            let stream = stream(mib << 20, runs)?;
            let names = ["CRIU 4.3", "this crate", "minimal, buffered", "minimal, splicing"];
            let mut all: [Vec<Measured>; 4] = Default::default();
            // They take turns, and turns at being first: what one writes the disk may still be busy
            // with.
            for round in 0..rounds {
                for turn in 0..servers {
                    let server = (round + turn) % servers;
                    let one = run(server, &criu, &directory, &stream, mib, tls)?;
                    if let Some(measured) = all.get_mut(server) {
                        measured.push(one);
                    }
                }
            }
            for (name, measured) in names.iter().zip(&mut all).take(servers) {
                let mut by = |key: fn(&Measured) -> f64| {
                    measured.sort_by(|a, b| key(a).total_cmp(&key(b)));
                    let at = |i: usize| measured.get(i).map_or(0.0, key);
                    (at(measured.len() / 2), at(0), at(measured.len() - 1))
                };
                let (rate, least, most) = by(|one| one.rate);
                let (cpu, peak, start) =
                    (by(|one| one.cpu), by(|one| one.peak), by(|one| one.start));
                println!(
                    "| {target} | {pages} | {name} | {rate:.2} ({least:.2}..{most:.2}) | {:.3} | {:.1} | {:.1} ms |",
                    cpu.0, peak.0, start.0
                );
            }
        }
        fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

struct Measured {
    rate: f64,
    cpu: f64,
    peak: f64,
    start: f64,
}

/// Makes the bytes that a dump sends between the first answer and the last word.
fn stream(bytes: usize, runs: std::ops::RangeInclusive<u64>) -> Result<Vec<u8>> {
    let mut random = Random(1);
    let mut stream = Vec::with_capacity(bytes + bytes / 64);
    let (mut address, mut sent) = (0x7f00_0000_0000u64, 0);
    while sent < bytes {
        let spread = runs.end() - runs.start() + 1;
        let pages = runs.start() + random.below(spread);
        let header = Header { command: Word::AddF, flags: 4, pages, address, id: ID };
        stream.extend(header.to_bytes(Layout::Wide).ok_or("too many")?);
        let size = usize::try_from(pages)? * 4096;
        stream.resize(stream.len() + size, 7);
        sent += size;
        // A page is left out behind each.
        address += (pages + 1) * 4096;
    }
    Ok(stream)
}

fn run(
    server: usize,
    criu: &Path,
    directory: &PathBuf,
    stream: &[u8],
    mib: usize,
    tls: Option<&Path>,
) -> Result<Measured> {
    _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut command = match server {
        0 => {
            let mut command = Command::new(criu);
            command.args(["page-server", "--address", "127.0.0.1", "--port", &port, "-D"]);
            command.arg(directory).args(["-o", "log"]);
            if let Some(certificates) = tls {
                let options = ["--tls-cacert", "--tls-cert", "--tls-key"];
                for (option, file) in options.iter().zip(files(certificates)) {
                    command.arg(option).arg(file);
                }
                command.arg("--tls");
            }
            command
        }
        _ => {
            let mut command = Command::new("/proc/self/exe");
            let words = [OURS, BUFFERED, SPLICING];
            command.arg(words.get(server - 1).ok_or("no such server")?);
            command.arg(directory).arg(&port).args(tls);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let cpu = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let before = cpu()?;
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let socket = connect(&port, &mut child)?;
    let start = begun.elapsed().as_secs_f64() * 1e3;
    let mut socket = Peer { socket, tls: tls.map(client).transpose()? };
    let begun = Instant::now();
    let word = |command| Header { command, flags: 0, pages: 0, address: 0, id: ID };
    socket.write_all(&word(Word::Open2).to_bytes(Layout::Wide).ok_or("never")?)?;
    socket.read_exact(&mut [0])?;
    socket.send(stream)?;
    let peak = peak(&child)?;
    socket.write_all(&word(Word::Close).to_bytes(Layout::Wide).ok_or("never")?)?;
    let mut answer = [9; 4];
    socket.read_exact(&mut answer)?;
    let time = begun.elapsed().as_secs_f64();
    socket.part()?;
    if answer != [0; 4] || !child.wait()?.success() {
        return Err(format!("server {server}: {answer:?}").into());
    }
    let gib = mib as f64 / 1024.0;
    Ok(Measured { rate: gib / time, cpu: (cpu()? - before) / gib, peak, start })
}

/// The client.
struct Peer {
    socket: TcpStream,
    tls: Option<ClientConnection>,
}

impl Peer {
    fn send(&mut self, stream: &[u8]) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            for piece in stream.chunks(1 << 20) {
                self.socket.write_all(piece)?;
            }
            return Ok(());
        };
        // A header, and the pages of each run, have records of their own, as CRIU sends them.
        tls.set_buffer_limit(None);
        let (mut rest, mut waiting) = (stream, 0);
        while let Some((head, more)) = rest.split_first_chunk::<32>() {
            let pages = head.get(8..).and_then(|word| word.first_chunk()).ok_or("cut")?;
            let size = usize::try_from(u64::from_le_bytes(*pages))? * 4096;
            let (pages, more) = more.split_at_checked(size).ok_or("cut")?;
            for piece in std::iter::once(head.as_slice()).chain(pages.chunks(256 << 10)) {
                tls.writer().write_all(piece)?;
                waiting += piece.len();
                while waiting > 256 << 10 && tls.wants_write() {
                    tls.write_tls(&mut self.socket)?;
                }
                waiting %= 256 << 10;
            }
            rest = more;
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).write_all(bytes)?,
            None => self.socket.write_all(bytes)?,
        }
        Ok(())
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.socket).read_exact(bytes)?,
            None => self.socket.read_exact(bytes)?,
        }
        Ok(())
    }

    fn part(mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.socket)?;
            _ = rustls::Stream::new(tls, &mut self.socket).read(&mut [0]);
        }
        Ok(())
    }
}

/// Makes an authority, and a certificate for this machine.
fn certify(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (key, own) = (KeyPair::generate()?, KeyPair::generate()?);
    let [ca, certificate, secret] = files(directory);
    fs::write(ca, authority.self_signed(&key)?.pem())?;
    let params = CertificateParams::new([HERE.to_owned()])?;
    let signed = params.signed_by(&own, &Issuer::new(authority, key))?;
    fs::write(certificate, signed.pem())?;
    Ok(fs::write(secret, own.serialize_pem())?)
}

fn files(directory: &Path) -> [PathBuf; 3] {
    ["ca.pem", "cert.pem", "key.pem"].map(|name| directory.join(name))
}

fn client(certificates: &Path) -> Result<ClientConnection> {
    let [ca, certificate, key] = files(certificates);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ));
    let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let config = config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(ClientConnection::new(Arc::new(config), HERE.try_into()?)?)
}

fn connect(port: &str, child: &mut Child) -> Result<TcpStream> {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpStream::connect(format!("127.0.0.1:{port}")) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) if Instant::now() > limit => {
                _ = child.kill();
                return Err(error.into());
            }
            Err(_) => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// Most memory that a process has had, in MiB.
fn peak(child: &Child) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).ok_or("no peak")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Accepts a client as a minimal server does, without taking pages.
fn accept(address: &str) -> Result<TcpStream> {
    let (socket, _) = TcpListener::bind(address)?.accept()?;
    Ok(socket)
}

/// Reads a MiB at once, writes the pages in it at once.
fn buffered(directory: &Path, address: &str) -> Result<()> {
    let mut socket = accept(address)?;
    let mut file = File::create(directory.join("pages"))?;
    let mut pagemap = std::io::BufWriter::new(File::create(directory.join("pagemap"))?);
    let mut buffer = vec![0; 1 << 20];
    let (mut start, mut end, mut left) = (0, 0, 0usize);
    let mut ranges = Vec::new();
    loop {
        while start < end {
            if left > 0 {
                let now = left.min(end - start);
                ranges.push(start..start + now);
                (start, left) = (start + now, left - now);
                continue;
            }
            let Some(head) = buffer.get(start..end).and_then(|rest| rest.first_chunk::<32>())
            else {
                break;
            };
            start += 32;
            match head[0] {
                4 => socket.write_all(&[0])?,
                6 => {
                    let pages = head.get(8..).and_then(|rest| rest.first_chunk()).ok_or("cut")?;
                    left = usize::try_from(u64::from_le_bytes(*pages))? * 4096;
                    pagemap.write_all(head)?;
                }
                _ => {
                    put(&file, &buffer, &mut ranges)?;
                    pagemap.flush()?;
                    socket.write_all(&[0; 4])?;
                    _ = socket.read(&mut [0]);
                    return Ok(());
                }
            }
        }
        put(&file, &buffer, &mut ranges)?;
        buffer.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        match socket.read(buffer.get_mut(end..).unwrap_or_default())? {
            0 => return Err("gone".into()),
            size => end += size,
        }
        _ = file.flush();
    }
}

fn put(mut file: &File, buffer: &[u8], ranges: &mut Vec<std::ops::Range<usize>>) -> Result<()> {
    for ranges in ranges.chunks(1024) {
        let slices = ranges.iter().filter_map(|range| buffer.get(range.clone()));
        let mut slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            let size = file.write_vectored(slices)?;
            IoSlice::advance_slices(&mut slices, size);
        }
    }
    ranges.clear();
    Ok(())
}

/// Reads a header, moves its pages through a pipe.
fn splicing(directory: &Path, address: &str) -> Result<()> {
    let mut socket = accept(address)?;
    let file = File::create(directory.join("pages"))?;
    let mut pagemap = std::io::BufWriter::new(File::create(directory.join("pagemap"))?);
    let (from, to): (OwnedFd, OwnedFd) = nix::unistd::pipe()?;
    nix::fcntl::fcntl(&to, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20))?;
    loop {
        let mut head = [0; 32];
        socket.read_exact(&mut head)?;
        match head[0] {
            4 => socket.write_all(&[0])?,
            6 => {
                pagemap.write_all(&head)?;
                let pages = head.get(8..).and_then(|rest| rest.first_chunk()).ok_or("cut")?;
                let mut left = usize::try_from(u64::from_le_bytes(*pages))? * 4096;
                while left > 0 {
                    let flags = SpliceFFlags::SPLICE_F_MOVE;
                    let mut moved = splice(socket.as_fd(), None, &to, None, left, flags)?;
                    if moved == 0 {
                        return Err("gone".into());
                    }
                    left -= moved;
                    while moved > 0 {
                        moved -= splice(&from, None, file.as_fd(), None, moved, flags)?;
                    }
                }
            }
            _ => {
                pagemap.flush()?;
                socket.write_all(&[0; 4])?;
                _ = socket.read(&mut [0]);
                return Ok(());
            }
        }
    }
}

const HERE: &str = "127.0.0.1";

/// Task 7.
const ID: u64 = 7 << 8 | 1;
