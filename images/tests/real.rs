//! Real processes, dumped by real CRIUs, compared with what the kernel says of them.
//!
//! Needs root and the CRIUs that `cargo xtask setup` installs; without them the tests fail.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{PAGE, check_chunks, pagemap};
use criu_images::files::File as Open;
use criu_images::memory::{Memory, PageFlags, PageSource};
use criu_images::proto::PagemapEntry;
use criu_images::{Checkpoint, DumpStats, ErrorKind, ImageSet, NoPage, State, Task, Text};
use criu_lab::place::{self, Short};
use criu_lab::process::apart;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

#[test]
fn criu_4_1() {
    check("trixie");
}

#[test]
fn criu_4_3() {
    check("experimental");
}

/// What the dumped process runs: this test again, in a process of its own.
#[test]
#[allow(clippy::zombie_processes, reason = "who dumps the payload waits for them")]
fn payload() {
    let Some(directory) = std::env::var_os(PAYLOAD) else {
        return;
    };
    let directory = PathBuf::from(directory);

    // Every third page named by its address, the others untouched.
    let mut area = vec![0u8; (AREA_PAGES * PAGE) as usize];
    let start = (area.as_ptr() as u64).next_multiple_of(PAGE);
    let skip = (start - area.as_ptr() as u64) as usize;
    for i in (0..AREA_PAGES - 1).step_by(3) {
        let page = &mut area[skip + (i * PAGE) as usize..][..PAGE as usize];
        page.copy_from_slice(&common::pattern(start + i * PAGE));
    }

    let mut memfd = File::from(memfd_create(c"pool", MFdFlags::MFD_CLOEXEC).unwrap());
    memfd.seek(SeekFrom::Start(2 * PAGE)).unwrap();
    memfd.write_all(&common::pattern(2 * PAGE)).unwrap();

    let mut log = File::create(directory.join("log")).unwrap();
    log.write_all(b"seven\n!").unwrap();
    let gone = File::create(directory.join("gone")).unwrap();
    fs::remove_file(directory.join("gone")).unwrap();
    let pair = UnixStream::pair().unwrap();
    let sockets = PathBuf::from(std::env::var_os(SOCKETS).unwrap());
    let listener = UnixListener::bind(sockets.join("socket")).unwrap();

    for i in 0..2 {
        let worker = thread::Builder::new().name(format!("worker {i}"));
        worker.spawn(wait_for_ever).unwrap();
    }
    let mut sleeper = Command::new("sleep");
    let sleeper = sleeper.arg("1000").stdin(Stdio::piped()).spawn().unwrap();
    let mut stopped = Command::new("sleep");
    let stopped = stopped.arg("1001").stdin(Stdio::null()).spawn().unwrap();
    kill(pid(stopped.id()), Signal::SIGSTOP).unwrap();
    let mut zombie = Command::new("sh");
    let zombie = zombie.args(["-c", "exit 3"]).stdin(Stdio::null()).spawn().unwrap();
    let stat = format!("/proc/{}/stat", zombie.id());
    while !fs::read_to_string(&stat).unwrap().contains(") Z") {
        thread::yield_now();
    }
    println!("{READY} {start} {} {} {}", sleeper.id(), stopped.id(), zombie.id());
    // The listed stay open meanwhile.
    let _open = (memfd, log, gone, pair, listener);
    wait_for_ever();
}

/// Unlike a sleep, this writes no time left to the thread's memory when it is interrupted.
fn wait_for_ever() {
    loop {
        thread::park();
    }
}

/// The tree that has been dumped, stopped as the dump left it. Ends with the value.
struct Dumped {
    child: Child,
    others: [u32; 3],
    area: u64,
    images: PathBuf,
    _sockets: Short,
}

impl Dumped {
    fn new(suite: &str) -> Self {
        // What the payload leaves behind comes to us and not to whoever may never wait for it.
        set_child_subreaper(true).unwrap();
        let directory = common::scratch(suite);
        let images = directory.join("images");
        fs::create_dir(&images).unwrap();
        // Nothing of the test runner's may stay open in the payload but the three standard streams.
        let sockets = Short::folder();
        let mut child = apart(std::env::current_exe().unwrap())
            .args(["--exact", "payload", "--nocapture"])
            .env(PAYLOAD, &directory)
            .env(SOCKETS, sockets.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find_map(|line| {
            let at = line.find(READY)? + READY.len();
            let numbers = line[at..].split_whitespace().map(|n| n.parse().unwrap());
            Some(numbers.collect::<Vec<u64>>())
        });
        let ready = ready.expect("the payload is ready");
        let [area, others @ ..]: [u64; 4] = ready.try_into().unwrap();
        let others = others.map(|pid| u32::try_from(pid).unwrap());
        let dumped = Self { child, others, area, images, _sockets: sockets };
        common::dump(suite, dumped.child.id(), "--leave-stopped", &dumped.images);
        dumped
    }
}

impl Drop for Dumped {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        // They are ours now. The zombie refuses the signal, but can be waited for.
        for other in self.others.map(pid) {
            _ = kill(other, Signal::SIGKILL);
            _ = waitpid(other, None);
        }
    }
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn check(suite: &str) {
    let dumped = Dumped::new(suite);
    let set = ImageSet::open(&dumped.images).unwrap();
    common::tour(&set).unwrap();
    assert!(criu_images::check(&set).is_empty(), "{:?}", criu_images::check(&set));
    let checkpoint = set.checkpoint().unwrap();
    check_tree(checkpoint, &dumped);
    check_files(checkpoint, &dumped);
    check_maps(checkpoint.root());
    check_words(checkpoint.root());
    let memory = checkpoint.root().memory().unwrap().unwrap();
    check_memory(checkpoint, &memory, &dumped);
    check_shared(checkpoint, &dumped);
    check_stats(checkpoint, &dumped);
    drop(memory);
    check_chain(suite, checkpoint, &dumped);
}

fn check_tree(checkpoint: Checkpoint<'_>, dumped: &Dumped) {
    let root = checkpoint.root();
    let [sleeper, stopped, zombie] = dumped.others;
    assert_eq!(root.pid(), dumped.child.id());
    assert_eq!((root.ppid(), root.sid(), root.pgid()), (0, root.pid(), root.pid()));
    let children: Vec<_> = root.children().map(|task| (task.pid(), task.state())).collect();
    for child in [(sleeper, State::Alive), (stopped, State::Stopped), (zombie, State::Dead)] {
        assert!(children.contains(&child), "{children:?}");
    }
    assert_eq!(children.len(), 3);
    let task = |pid| checkpoint.task(pid).unwrap();
    assert_eq!(task(sleeper).to_string(), format!("{sleeper} sleep"));
    assert_eq!(task(stopped).to_string(), format!("{stopped} sleep [stopped]"));
    assert_eq!(task(stopped).core().stop_signo, Some(19));
    assert_eq!(task(zombie).to_string(), format!("{zombie} sh [zombie]"));
    assert_eq!(task(zombie).core().exit_code, 3 << 8);
    assert!(task(zombie).memory().unwrap().is_none());
    assert!(task(zombie).files().unwrap().is_empty());
    assert!(task(zombie).threads().unwrap().is_empty());

    for task in checkpoint.tasks().filter(Task::is_alive) {
        let proc = format!("/proc/{}", task.pid());
        let mut want = BTreeMap::new();
        for tid in list(&format!("{proc}/task")) {
            let comm = fs::read(format!("{proc}/task/{tid}/comm")).unwrap();
            want.insert(tid, Text(comm.trim_ascii_end()).to_string());
        }
        let threads = task.threads().unwrap();
        let found = threads.iter().map(|thread| (thread.tid(), thread.name().to_string()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), want);
        assert_eq!(task.creds().unwrap().uid, 0);
        for namespace in task.namespaces().unwrap() {
            assert!(namespace.host, "{namespace}");
        }
        let link = |name| fs::read_link(format!("{proc}/{name}")).unwrap();
        assert_eq!(task.exe().unwrap().unwrap().path(), Some(bytes(&link("exe"))));
        assert_eq!(task.cwd().unwrap().unwrap().path(), Some(bytes(&link("cwd"))));
        assert_eq!(task.root_dir().unwrap().unwrap().path(), Some(&b"/"[..]));
    }
}

fn check_files(checkpoint: Checkpoint<'_>, dumped: &Dumped) {
    let mut kinds = BTreeMap::new();
    for task in checkpoint.tasks().filter(Task::is_alive) {
        let proc = format!("/proc/{}", task.pid());
        let fds = task.files().unwrap();
        let mut numbers: Vec<_> = fds.iter().map(|fd| fd.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, list(&format!("{proc}/fd")));
        for fd in fds {
            let link = fs::read_link(format!("{proc}/fd/{}", fd.number)).unwrap();
            let link = link.to_str().unwrap();
            let info = fs::read_to_string(format!("{proc}/fdinfo/{}", fd.number)).unwrap();
            let info = |key| info.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
            let flags = u32::from_str_radix(info("flags:"), 8).unwrap();
            assert_eq!(fd.cloexec, flags & 0o2000000 != 0, "{fd}");
            let said = fd.file.to_string();
            match fd.file.file() {
                Open::Regular(reg) => {
                    let deleted = if fd.file.is_deleted() { " (deleted)" } else { "" };
                    let path = Text(fd.file.path().unwrap());
                    assert_eq!(format!("{path}{deleted}"), link);
                    assert_eq!(reg.pos.to_string(), info("pos:"));
                }
                Open::Pipe(pipe) => {
                    assert_eq!(format!("pipe:[{}]", pipe.pipe_id), link);
                    let end = if flags & 3 == 1 { "write" } else { "read" };
                    assert_eq!(said, format!("pipe {} ({end} end)", pipe.pipe_id));
                }
                Open::Unix(socket) => {
                    assert_eq!(format!("socket:[{}]", socket.ino), link);
                    if let Some(peer) = fd.file.peer() {
                        let back = peer.peer().unwrap();
                        assert_eq!(back.id(), fd.file.id());
                    }
                }
                Open::Memfd(_) => assert_eq!(link, "/memfd:pool (deleted)"),
                other => panic!("{said} {other:?} {link}"),
            }
            *kinds.entry(said.split([' ', '/']).next().unwrap().to_owned()).or_insert(0) += 1;
            if task.pid() == checkpoint.root().pid() {
                println!("{fd}");
            }
        }
    }
    for kind in ["", "device", "pipe", "unix", "memfd"] {
        assert!(kinds.contains_key(kind), "{kind}: {kinds:?}");
    }
    let directory = dumped.images.parent().unwrap().display();
    let said: Vec<_> =
        checkpoint.root().files().unwrap().iter().map(|fd| fd.file.to_string()).collect();
    for want in [
        format!("{directory}/log at offset 7"),
        format!("{directory}/gone at offset 0 (deleted)"),
        format!("memfd pool at offset {}", 3 * PAGE),
    ] {
        assert!(said.contains(&want), "{want}: {said:#?}");
    }
    let listening =
        |line: &String| line.starts_with("unix stream socket") && line.ends_with("/socket, LISTEN");
    assert!(said.iter().any(listening), "{said:#?}");
}

/// The mappings against the lines of /proc/PID/maps, without device and inode.
fn check_words(task: Task<'_>) {
    let memory = task.memory().unwrap().unwrap();
    for (name, words) in [("cmdline", memory.cmdline()), ("environ", memory.environ())] {
        let live = fs::read(format!("/proc/{}/{name}", task.pid())).unwrap();
        let found: Vec<u8> =
            words.unwrap().into_iter().flat_map(|word| [word, vec![0]].concat()).collect();
        assert_eq!(Text(&found).to_string(), Text(&live).to_string());
    }
}

fn check_maps(task: Task<'_>) {
    let memory = task.memory().unwrap().unwrap();
    let found: Vec<_> = memory.vmas().map(|vma| vma.to_string()).collect();
    let maps = fs::read_to_string(format!("/proc/{}/maps", task.pid())).unwrap();
    let mut want: Vec<String> = Vec::new();
    for line in maps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (range, name) = (words[0], words.get(5));
        // CRIU saves the two parts of vvar as one.
        if let (Some(&"[vvar_vclock]"), Some(vvar)) = (name, want.last_mut()) {
            let (start, _) = vvar.split_once('-').unwrap();
            let (_, end) = range.split_once('-').unwrap();
            *vvar = format!("{start}-{end} r--p 00000000 [vvar]");
            continue;
        }
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        want.push(format!("{range} {} {}{name}", words[1], words[2]));
    }
    assert_eq!(found.join("\n"), want.join("\n"));
}

/// Every byte that the set has, against the memory of the stopped process.
fn check_memory(checkpoint: Checkpoint<'_>, memory: &Memory<'_>, dumped: &Dumped) {
    let live = File::open(format!("/proc/{}/mem", dumped.child.id())).unwrap();
    // The kernel goes on writing its number of the processor there.
    let threads = checkpoint.root().threads().unwrap();
    let rseqs = threads.iter().filter_map(|thread| thread.thread_core()?.rseq_entry);
    let rseqs: Vec<_> =
        rseqs.map(|rseq| (rseq.rseq_abi_pointer, u64::from(rseq.rseq_abi_size))).collect();
    assert!(!rseqs.is_empty());
    let mut compared = 0;
    for vma in memory.vmas() {
        for address in (vma.start()..vma.end()).step_by(PAGE as usize) {
            let (mut found, mut want) = ([0; PAGE as usize], [0; PAGE as usize]);
            match memory.read_at(address, &mut found) {
                Ok(()) => {
                    if live.read_exact_at(&mut want, address).is_ok() {
                        for (start, size) in &rseqs {
                            let page = address..address + PAGE;
                            for at in (*start..start + size).filter(|at| page.contains(at)) {
                                want[(at - address) as usize] = found[(at - address) as usize];
                            }
                        }
                        assert!(found == want, "{address:#x} in {vma}");
                        compared += 1;
                    }
                }
                Err(error) => {
                    let ErrorKind::NoPage { why, .. } = error.kind() else {
                        panic!("{error}");
                    };
                    assert!(matches!(why, NoPage::File | NoPage::Kernel), "{error}");
                }
            }
        }
    }
    let totals = memory.totals();
    assert!(compared >= totals.present + AREA_PAGES, "{compared} {totals:?}");
    assert_eq!(totals.present, memory.runs().map(|run| run.pages).sum::<u64>());
    let parts = [totals.present, totals.parent, totals.lazy, totals.zero];
    let others = [totals.file, totals.shared, totals.kernel];
    assert_eq!(totals.mapped, parts.iter().chain(&others).sum::<u64>());

    for i in 0..AREA_PAGES - 1 {
        let address = dumped.area + i * PAGE;
        let mut found = [0xee; PAGE as usize];
        memory.read_at(address, &mut found).unwrap();
        match i % 3 {
            0 => assert!(found[..] == common::pattern(address)),
            _ => assert_eq!(found, [0; PAGE as usize]),
        }
    }
}

fn check_shared(checkpoint: Checkpoint<'_>, dumped: &Dumped) {
    let shared = checkpoint.shared_memory().unwrap();
    let pool = shared.iter().find(|shared| shared.name() == Some(b"pool")).unwrap();
    let mut live = Vec::new();
    let fds = checkpoint.root().files().unwrap();
    let fd = fds.iter().find(|fd| matches!(fd.file.file(), Open::Memfd(_))).unwrap();
    let proc = format!("/proc/{}/fd/{}", dumped.child.id(), fd.number);
    File::open(proc).unwrap().read_to_end(&mut live).unwrap();
    assert_eq!(live.len() as u64, 3 * PAGE);
    let mut found = vec![0xee; live.len()];
    pool.read_at(0, &mut found).unwrap();
    assert!(found == live);
}

fn check_stats(checkpoint: Checkpoint<'_>, dumped: &Dumped) {
    let stats = DumpStats::parse(&fs::read(dumped.images.join("stats-dump")).unwrap()).unwrap();
    let memories = checkpoint.tasks().filter_map(|task| task.memory().unwrap());
    let present: u64 = memories.map(|memory| memory.totals().present).sum();
    assert_eq!(stats.pages_written, present);
    let shared = checkpoint.shared_memory().unwrap();
    let shared = shared.iter().flat_map(|shared| shared.runs()).map(|run| run.pages);
    assert_eq!(stats.shpages_written, Some(shared.sum()));
    assert!(stats.frozen > Duration::ZERO && stats.frozen < Duration::from_secs(60));
}

/// Spreads the set over three, each page in one of them and stale in those below, and reads it
/// through the chain: before and after CRIU frees the space of what is stale.
fn check_chain(suite: &str, checkpoint: Checkpoint<'_>, dumped: &Dumped) {
    let pid = checkpoint.root().pid();
    let whole = checkpoint.root().memory().unwrap().unwrap();
    let levels = ["images", "parent1", "parent2"].map(|name| dumped.images.with_file_name(name));
    let mut entries: [Vec<PagemapEntry>; 3] = Default::default();
    let mut pages: [Vec<u8>; 3] = Default::default();
    let mut want = BTreeMap::new();
    for run in whole.runs() {
        assert!(run.flags.contains(PageFlags::PRESENT));
        for i in 0..run.pages {
            let address = run.start + i * PAGE;
            let home = want.len() % 3;
            let mut page = [0; PAGE as usize];
            whole.read_at(address, &mut page).unwrap();
            for level in 0..levels.len() {
                let flags = if level >= home { 4 } else { 1 };
                let mut run = common::run(address, 1, flags);
                if suite == "trixie" {
                    (run.compat_nr_pages, run.nr_pages) = (1, None);
                }
                entries[level].push(run);
                match level.cmp(&home) {
                    Ordering::Less => {}
                    Ordering::Equal => pages[level].extend(page),
                    Ordering::Greater => pages[level].extend(page.map(|byte| !byte)),
                }
            }
            want.insert(address, page);
        }
    }
    assert!(want.len() > 30);
    drop(whole);
    for (level, directory) in levels.iter().enumerate() {
        fs::create_dir_all(directory).unwrap();
        let image = pagemap(1000, &entries[level]);
        fs::write(directory.join(format!("pagemap-{pid}.img")), image).unwrap();
        fs::write(directory.join("pages-1000.img"), &pages[level]).unwrap();
        if let Some(parent) = levels.get(level + 1) {
            let name = Path::new("..").join(parent.file_name().unwrap());
            symlink(name, directory.join("parent")).unwrap();
        }
    }
    let set = ImageSet::open(&dumped.images).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let as_wanted = |memory: &Memory<'_>| {
        for (&address, page) in &want {
            let mut found = [0; PAGE as usize];
            memory.read_at(address, &mut found).unwrap();
            assert!(found == *page, "{address:#x}");
        }
    };
    as_wanted(&memory);
    let kib = |level: &PathBuf| fs::metadata(level.join("pages-1000.img")).unwrap().blocks() / 2;
    let before = levels.each_ref().map(kib);
    let criu = place::criu(suite);
    let mut dedup = Command::new(criu);
    dedup.args(["dedup", "-v4", "-o", "dedup.log", "-D"]).arg(&dumped.images);
    let output = dedup.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let after = levels.each_ref().map(kib);
    assert!(after[0] == before[0] && after[1] < before[1] && after[2] < before[2], "{after:?}");
    as_wanted(&memory);
    let again = ImageSet::open(&dumped.images).unwrap();
    as_wanted(&again.checkpoint().unwrap().root().memory().unwrap().unwrap());

    let totals = memory.totals();
    assert_eq!(totals.present + totals.parent, want.len() as u64);

    assert_eq!(check_chunks(&memory), 0);
    let set = common::mapped::open(&dumped.images);
    let checkpoint = set.checkpoint().unwrap();
    let mapped = checkpoint.root().memory().unwrap().unwrap();
    let shared: u64 = checkpoint.shared_memory().unwrap().iter().map(check_chunks).sum();
    // Shared memory that is mapped is had through its mappings, too.
    let borrowed = check_chunks(&mapped);
    let own = want.len() as u64 * PAGE;
    assert!((own..=own + shared).contains(&borrowed), "{own} {shared} {borrowed}");
}

/// The numbers that name a directory's entries, ascending.
fn list(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut numbers: Vec<u32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

const PAYLOAD: &str = "CRIU_IMAGES_PAYLOAD";
const SOCKETS: &str = "CRIU_IMAGES_SOCKETS";
const READY: &str = "payload-ready";
const AREA_PAGES: u64 = 64;
