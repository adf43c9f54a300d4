//! Core files of real dumps, opened by gdb and compared with what the live process says of itself.
//!
//! Needs root, gdb and the CRIUs that `cargo xtask setup --tests` installs, and fails without them.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{ANON, PAGE, Payload, dump, image, one_task, pagemap, pattern, run, vma};
use criu_images::proto::core_entry::March;
use criu_images::proto::{
    CoreEntry, TaskCoreEntry, ThreadCoreEntry, ThreadInfoAarch64, ThreadInfoX86,
    UserAarch64FpsimdContextEntry, UserAarch64RegsEntry, UserX86RegsEntry, UserX86RegsMode,
    VmaEntry,
};
use criu_images::source::InMemory;
use criu_images::{CoreDump, ErrorKind, ImageSet, WriteError, kind};
use criu_lab::process::apart;
use prost::Message;

#[test]
fn gdb_opens_the_core_of_a_dump_by_4_1() {
    check("trixie");
}

#[test]
fn gdb_opens_the_core_of_a_dump_by_4_3() {
    check("experimental");
}

/// The dumped process: this test again, in a process of its own.
#[test]
fn payload() {
    if std::env::var_os(PAYLOAD).is_none() {
        return;
    }
    for name in ["alpha", "beta"] {
        let started = std::thread::Builder::new().name(name.into());
        let waits = if name == "alpha" { waits_in_alpha } else { waits_in_beta };
        started.spawn(move || waits(name)).unwrap();
    }
    waits_in_main("main");
}

#[inline(never)]
fn waits_in_main(name: &str) {
    wait(name, 0x1111_1111_1111_1111);
}

#[inline(never)]
fn waits_in_alpha(name: &str) {
    wait(name, 0x2222_2222_2222_2222);
}

#[inline(never)]
fn waits_in_beta(name: &str) {
    wait(name, 0x3333_3333_3333_3333);
}

/// Puts a mark on the stack, says where, and waits.
#[inline(never)]
fn wait(name: &str, mark: u64) {
    let marks = black_box([mark; 8]);
    println!("{READY} {name} {} {} {mark}", nix::unistd::gettid(), marks.as_ptr().addr());
    loop {
        std::thread::park();
        black_box(&marks);
    }
}

/// Statements of a live thread about itself.
#[derive(Debug)]
struct Said {
    name: String,
    mark_at: u64,
    mark: u64,
    /// Stack pointer and instruction pointer, from the kernel.
    sp: u64,
    ip: u64,
}

fn check(suite: &str) {
    let directory = common::scratch(&format!("core-{suite}"));
    // No file of the test runner may stay open in the payload, except the three standard streams.
    let program = std::env::current_exe().unwrap();
    let child = apart(&program)
        .args(["--exact", "payload", "--nocapture"])
        .env(PAYLOAD, "")
        .stdin(Stdio::null())
        .stdout(File::create(directory.join("said")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let payload = Payload(child);
    let said = listen(&directory.join("said"), payload.0.id());

    let images = directory.join("images");
    fs::create_dir(&images).unwrap();
    dump(suite, payload.0.id(), "--leave-running", &images);

    let set = ImageSet::open(&images).unwrap();
    let task = set.checkpoint().unwrap().root();
    let core = CoreDump::new(&task).unwrap();
    let path = directory.join("core");
    core.write_to(&mut File::create(&path).unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), core.size());
    assert_eq!(core.kept_back(), 0);

    let mut questions = vec!["info threads".to_owned(), "thread apply all backtrace".into()];
    for thread in said.values() {
        questions.push(format!("x/8gx {:#x}", thread.mark_at));
    }
    questions
        .push("thread apply all -q printf \"REGS %d %#lx %#lx\\n\", $_thread, $sp, $pc".into());
    questions.push("info auxv".into());
    questions.push("info proc mappings".into());
    let answer = gdb(Some(&program), &path, &questions);

    for (tid, thread) in &said {
        let Said { name, mark_at, mark, sp, ip } = thread;
        let line = answer.lines().find(|line| line.contains(&format!("LWP {tid})")));
        assert!(line.is_some(), "no thread {tid}:\n{answer}");
        // Its own frames, from the system call up.
        let trace = backtrace(&answer, *tid);
        // Without the debug information of types gdb leaves out the module.
        for function in [&format!("waits_in_{name}"), "wait () at images/tests/coredump.rs"] {
            assert!(trace.contains(function), "{function} of {tid}:\n{trace}\n{answer}");
        }
        // gdb prints two words a line.
        let words = format!("{mark:#018x}\t{mark:#018x}");
        let line = format!("{mark_at:#x}:\t{words}");
        assert!(answer.contains(&line), "{line}\n{answer}");
        // A system call that is to be entered again has its instruction before the pointer.
        let again = format!("{sp:#x} {:#x}", ip - 2);
        let after = format!("{sp:#x} {ip:#x}");
        assert!(answer.contains(&again) || answer.contains(&after), "{after}\n{answer}");
    }
    assert!(answer.contains("AT_PAGESZ"), "{answer}");
    assert!(answer.contains(program.to_str().unwrap()), "{answer}");
}

/// A task of one thread with these registers.
fn task(core: CoreEntry, vmas: Vec<VmaEntry>) -> InMemory {
    let mut files = one_task(vmas);
    let core = CoreEntry {
        tc: Some(TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() }),
        thread_core: Some(ThreadCoreEntry::default()),
        ..core
    };
    files.insert("core-1.img", image(kind::CORE, &[core.encode_to_vec()]));
    files.insert("pagemap-1.img", pagemap(1, &[]));
    files
}

fn x86(mode: UserX86RegsMode) -> CoreEntry {
    let gpregs = UserX86RegsEntry { mode: Some(mode.into()), ip: BASE, ..Default::default() };
    CoreEntry {
        mtype: March::X8664.into(),
        thread_info: Some(ThreadInfoX86 { gpregs, ..Default::default() }),
        ..Default::default()
    }
}

fn core_of(files: InMemory) -> Result<Vec<u8>, WriteError> {
    let set = ImageSet::new(files)?;
    let task = set.checkpoint()?.root();
    let mut out = Vec::new();
    CoreDump::new(&task)?.write_to(&mut out)?;
    Ok(out)
}

/// Address, bytes in memory, and the bytes in the file of each memory segment.
fn segments(core: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let word = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
    let count = usize::from(u16::from_le_bytes([core[56], core[57]]));
    let headers = (1..count).map(|n| 64 + n * 56);
    let segment = |at| {
        let (offset, stored) = (word(at + 8) as usize, word(at + 32) as usize);
        assert_eq!(offset as u64 % PAGE, 0);
        (word(at + 16), word(at + 40), &core[offset..offset + stored])
    };
    headers.map(segment).collect()
}

#[test]
fn small_gaps_are_zeros_and_large_ones_are_left_out() {
    let mut files = task(x86(UserX86RegsMode::Native), vec![vma(BASE, 100, ANON)]);
    let at = |page: u64| BASE + page * PAGE;
    let runs = [run(at(1), 1, 4), run(at(3), 1, 4), run(at(40), 1, 4), run(at(50), 2, 2)];
    files.insert("pagemap-1.img", pagemap(1, &runs));
    files.insert("pages-1.img", [pattern(at(1)), pattern(at(3)), pattern(at(40))].concat());
    let core = core_of(files).unwrap();
    let joined = [pattern(at(1)), vec![0; PAGE as usize], pattern(at(3))].concat();
    let want = [
        (at(0), PAGE, &[][..]),
        (at(1), 3 * PAGE, &joined),
        (at(4), 36 * PAGE, &[]),
        (at(40), PAGE, &pattern(at(40))),
        (at(41), 9 * PAGE, &[]),
        // Kept back for a lazy restore.
        (at(50), 2 * PAGE, &[]),
        (at(52), 48 * PAGE, &[]),
    ];
    assert_eq!(segments(&core), want);
}

#[test]
fn guard_pages_are_no_zeros() {
    let guard = vma(BASE + PAGE, 1, 1 << 16);
    let vmas = vec![vma(BASE, 3, ANON), guard];
    let mut files = task(x86(UserX86RegsMode::Native), vmas);
    let runs = [run(BASE, 1, 4), run(BASE + 2 * PAGE, 1, 4)];
    files.insert("pagemap-1.img", pagemap(1, &runs));
    files.insert("pages-1.img", [pattern(BASE), pattern(BASE + 2 * PAGE)].concat());
    let core = core_of(files).unwrap();
    let sizes: Vec<_> = segments(&core).iter().map(|(_, _, bytes)| bytes.len()).collect();
    assert_eq!(sizes, [4096, 0, 4096]);
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let kind = |result: Result<Vec<u8>, WriteError>| match result.unwrap_err() {
        WriteError::Image(error) => error,
        other => panic!("{other}"),
    };
    let error = kind(core_of(task(x86(UserX86RegsMode::Compat), vec![])));
    assert_eq!(error.to_string(), "core-1.img: core files of 32-bit tasks are not supported");
    let power = CoreEntry { mtype: March::Ppc64.into(), ..Default::default() };
    assert!(matches!(kind(core_of(task(power, vec![]))).kind(), ErrorKind::Unsupported(_)));
    let none = CoreEntry { mtype: March::Aarch64.into(), ..Default::default() };
    assert!(matches!(kind(core_of(task(none, vec![]))).kind(), ErrorKind::Malformed(_)));
    // The pages file ends early.
    let mut files = task(x86(UserX86RegsMode::Native), vec![vma(BASE, 2, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 2, 4)]));
    files.insert("pages-1.img", pattern(BASE));
    assert_eq!(kind(core_of(files)).image(), "pages-1.img");
}

#[test]
fn gdb_opens_the_core_of_an_aarch64_task() {
    let gpregs = UserAarch64RegsEntry {
        regs: (0..31).map(|n| 0xa000 + n).collect(),
        sp: BASE + PAGE,
        pc: BASE,
        pstate: 0x6000_0000,
    };
    let fpsimd = UserAarch64FpsimdContextEntry {
        vregs: (0..64).map(|n| 0xbeef_0000 + n).collect(),
        fpsr: 0,
        fpcr: 0,
    };
    let info = ThreadInfoAarch64 { gpregs, fpsimd, tls: 0x7777_0000, ..Default::default() };
    let core =
        CoreEntry { mtype: March::Aarch64.into(), ti_aarch64: Some(info), ..Default::default() };
    let mut files = task(core, vec![vma(BASE, 2, ANON)]);
    // nop; b to itself
    let mut code = [0xd503_201f_u32, 0x1400_0000].map(u32::to_le_bytes).concat();
    code.resize(PAGE as usize, 0);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 2, 4)]));
    files.insert("pages-1.img", [code, pattern(BASE + PAGE)].concat());
    let path = common::scratch("core-aarch64").join("core");
    fs::write(&path, core_of(files).unwrap()).unwrap();
    let questions = [
        "info registers x0 x30 sp pc cpsr",
        "p/x $v31.d.u",
        "x/2i $pc",
        "x/2gx $sp",
        "info threads",
        "p/x $tpidr",
    ];
    let answer = gdb(None, &path, &questions.map(String::from));
    let mark = |at: u64| format!("{:#018x}", at ^ 0x5a5a_0000);
    let stack = format!("{:#x}:\t{}\t{}", BASE + PAGE, mark(BASE + PAGE), mark(BASE + PAGE + 8));
    for part in [
        "0xa000 ",
        "0xa01e ",
        "{0xbeef003e, 0xbeef003f}",
        "nop",
        "\tb\t",
        &stack,
        "LWP 1",
        "0x77770000",
    ] {
        assert!(answer.contains(part), "{part}\n{answer}");
    }
}

/// Reads what the three threads have printed, and what the kernel says about each.
fn listen(file: &Path, pid: u32) -> BTreeMap<u32, Said> {
    loop {
        let lines = BufReader::new(File::open(file).unwrap()).lines().map(Result::unwrap);
        let ready = lines.filter_map(|line| Some(line.split_once(READY)?.1.to_owned()));
        let threads: Vec<String> = ready.collect();
        if threads.len() < 3 {
            std::thread::yield_now();
            continue;
        }
        let parse = |line: &String| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, tid, mark_at, mark] = words.try_into().ok()?;
            let tid: u32 = tid.parse().ok()?;
            // Number, arguments, stack pointer, instruction pointer; or that it runs.
            let path = format!("/proc/{pid}/task/{tid}/syscall");
            let call = fs::read_to_string(path).unwrap();
            let [.., sp, ip] = call.split_whitespace().collect::<Vec<_>>()[..] else {
                return None;
            };
            let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
            let (sp, ip) = (hex(sp)?, hex(ip)?);
            let (mark_at, mark) = (mark_at.parse().ok()?, mark.parse().ok()?);
            Some((tid, Said { name: name.into(), mark_at, mark, sp, ip }))
        };
        // Until all of them wait.
        if let Some(said) = threads.iter().map(parse).collect() {
            return said;
        }
    }
}

fn backtrace(answer: &str, tid: u32) -> &str {
    let start = answer.find(&format!("LWP {tid})):\n")).unwrap();
    let trace = &answer[start..];
    &trace[..trace.find("\n\n").unwrap_or(trace.len())]
}

fn gdb(program: Option<&Path>, core: &Path, questions: &[String]) -> String {
    let program = program.into_iter();
    let mut gdb = Command::new("gdb-multiarch");
    gdb.args(["-nx", "-batch", "-ex", "set pagination off", "-ex", "set width 0"]);
    for question in questions {
        gdb.args(["-ex", question]);
    }
    let output = gdb.args(program).arg("--core").arg(core).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

const BASE: u64 = 0x40_0000;
const PAYLOAD: &str = "CORE_PAYLOAD";
const READY: &str = "ready:";
