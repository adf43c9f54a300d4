//! Registers, system calls and ptrace, as tests need them.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::asm;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Makes a system call. Returns its result, or the number of its error below zero.
pub fn call(number: libc::c_long, arguments: [usize; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: callers pass numbers, and addresses of statics that the call may write.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _)
    };
    result
}

/// Maps a page of a file that several processes share.
pub fn shared(file: &File) -> &'static [AtomicU64; 512] {
    let flags = libc::MAP_SHARED;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the place, and nothing else has it.
    let place =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, file.as_raw_fd(), 0) };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: the page stays mapped, and all its words are atomic.
    unsafe { &*place.cast() }
}

/// The page that is mapped at an address whose provenance is exposed.
pub fn page_at(place: usize) -> &'static [AtomicU64; 512] {
    // SAFETY: as for `shared`, which has made the page.
    unsafe { &*std::ptr::with_exposed_provenance::<[AtomicU64; 512]>(place) }
}

/// Lets `/proc` of this process be opened, although it has changed its user.
pub fn dumpable() {
    assert_eq!(call(libc::SYS_prctl, [4, 1, 0, 0, 0, 0]), 0);
}

/// Monotonic time.
pub fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// An epoll without files, and a socket that nothing comes from.
pub struct Quiet {
    pub epoll: usize,
    pub socket: usize,
}

/// Makes descriptors once.
pub fn quiet() -> &'static Quiet {
    static QUIET: std::sync::OnceLock<Quiet> = std::sync::OnceLock::new();
    QUIET.get_or_init(|| {
        let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        std::mem::forget(other);
        let epoll = call(libc::SYS_epoll_create1, [0; 6]);
        let epoll = usize::try_from(epoll).unwrap();
        Quiet { epoll, socket: usize::try_from(one.into_raw_fd()).unwrap() }
    })
}

/// Limits the time of reads from a socket. No time is no limit.
pub fn receive_limit(socket: usize, time: Duration) {
    let value = [time.as_secs(), u64::from(time.subsec_micros())];
    let place = value.as_ptr().expose_provenance();
    let level = usize::try_from(libc::SOL_SOCKET).unwrap();
    let option = usize::try_from(libc::SO_RCVTIMEO).unwrap();
    assert_eq!(call(libc::SYS_setsockopt, [socket, level, option, place, 16, 0]), 0);
}

/// Spends all time in a restartable sequence, which begins again when it is aborted.
pub fn endless_sequence() -> ! {
    unsafe extern "C" {
        /// Distance of the thread's `struct rseq` from its thread pointer.
        static __rseq_offset: isize;
    }
    // SAFETY: glibc has set the word before `main`.
    let offset = unsafe { __rseq_offset };
    // Begin, length, and place of an abort.
    let place = private(4096, 0);
    // SAFETY: the sequence changes no memory but this page and the thread's own structure.
    unsafe {
        asm!(
            "lea rax, [rip + 4f]",
            "mov [rsi + 8], rax",
            "lea rcx, [rip + 5f]",
            "sub rcx, rax",
            "mov [rsi + 16], rcx",
            "lea rax, [rip + 6f]",
            "mov [rsi + 24], rax",
            "3:",
            "mov fs:[rdx + 8], rsi",
            "4:",
            "pause",
            "jmp 4b",
            "5:",
            "ud2",
            // The signature of glibc stands before the place of an abort.
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "6:",
            "jmp 3b",
            in("rdx") offset,
            in("rsi") place,
            options(noreturn)
        )
    }
}

/// Sends a signal.
pub fn signal(pid: i32, signal: libc::c_int) {
    let [pid, signal] = [pid, signal].map(|word| usize::try_from(word).unwrap());
    call(libc::SYS_kill, [pid, signal, 0, 0, 0, 0]);
}

/// Calls a function in a thread that has no variables of its own meanwhile. A use of a variable is
/// a fault.
pub fn without_variables<T>(function: impl FnOnce() -> T) -> T {
    let mut variables = 0_u64;
    let place = (&raw mut variables).expose_provenance();
    assert_eq!(call(libc::SYS_arch_prctl, [ARCH_GET_FS, place, 0, 0, 0, 0]), 0);
    call(libc::SYS_arch_prctl, [ARCH_SET_FS, 4096, 0, 0, 0, 0]);
    let result = function();
    let variables = usize::try_from(std::hint::black_box(variables)).unwrap();
    call(libc::SYS_arch_prctl, [ARCH_SET_FS, variables, 0, 0, 0, 0]);
    result
}

const ARCH_SET_FS: usize = 0x1002;
const ARCH_GET_FS: usize = 0x1003;

/// Makes a file in memory.
pub fn memory_file() -> OwnedFd {
    let name = c"shared".as_ptr().expose_provenance();
    let fd = i32::try_from(call(libc::SYS_memfd_create, [name, 1, 0, 0, 0, 0])).unwrap();
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Maps private memory at an address of the kernel's choice, with flags.
pub fn private(bytes: usize, flags: libc::c_int) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the place, and nothing else has it.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    assert_ne!(place, libc::MAP_FAILED);
    place.addr()
}

/// Maps a stack, also with a page below it that nobody may touch. Returns its end.
pub fn stack(bytes: usize, has_guard: bool) -> usize {
    let place = private(bytes + 8192, 0);
    // The page above has other rights, so that no mapping joins this one.
    assert_eq!(call(libc::SYS_mprotect, [place + 4096 + bytes, 4096, 1, 0, 0, 0]), 0);
    let rights = if has_guard { 0 } else { 1 };
    assert_eq!(call(libc::SYS_mprotect, [place, 4096, rights, 0, 0, 0]), 0);
    place + 4096 + bytes
}

/// The alternate signal stack of a test, of which there is one.
static ALTERNATE: AtomicU64 = AtomicU64::new(0);

/// Sets an alternate signal stack for the calling thread.
pub fn set_alternate_stack() {
    let place = private(65_536, 0);
    ALTERNATE.store(place as u64, Ordering::SeqCst);
    let stack = [place as u64, 0, 65_536];
    let stack = stack.as_ptr().expose_provenance();
    assert_eq!(call(libc::SYS_sigaltstack, [stack, 0, 0, 0, 0, 0]), 0);
}

/// Tells that the process's first thread has the alternate signal stack that was set.
pub fn has_alternate_stack() -> bool {
    if call(libc::SYS_gettid, [0; 6]) != call(libc::SYS_getpid, [0; 6]) {
        return true;
    }
    let mut stack = [0_u64; 3];
    let place = stack.as_mut_ptr().expose_provenance();
    assert_eq!(call(libc::SYS_sigaltstack, [0, place, 0, 0, 0, 0]), 0);
    std::hint::black_box(stack) == [ALTERNATE.load(Ordering::SeqCst), 0, 65_536]
}

/// Calls a function on a stack that ends at an address.
pub fn on_stack(top: usize, function: extern "C" fn()) {
    // SAFETY: the caller has mapped the stack, and the function returns.
    unsafe {
        asm!("mov r12, rsp", "mov rsp, rdi", "call rsi", "mov rsp, r12",
            in("rdi") top & !15, in("rsi") function, out("r12") _, clobber_abi("C"))
    };
}

/// Ignores SIGCHLD no longer, but counts signals in a word.
pub fn count_signals(signal: libc::c_int, count: &'static AtomicU64) {
    COUNTS[usize::try_from(signal).unwrap()]
        .store(std::ptr::from_ref(count).expose_provenance() as u64, Ordering::SeqCst);
    let handler = on_signal as extern "C" fn(libc::c_int);
    // SAFETY: all zeroes are an action with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler writes atomic words alone.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

extern "C" fn on_signal(signal: libc::c_int) {
    let place = COUNTS[usize::try_from(signal).unwrap()].load(Ordering::SeqCst);
    let place: *const AtomicU64 =
        std::ptr::with_exposed_provenance(usize::try_from(place).unwrap());
    // SAFETY: the word is a static's.
    unsafe { &*place }.fetch_add(1, Ordering::SeqCst);
}

static COUNTS: [AtomicU64; 65] = [const { AtomicU64::new(0) }; 65];

/// Blocks signals of the calling thread.
pub fn block(mask: u64) {
    let place = (&raw const mask).expose_provenance();
    assert_eq!(call(libc::SYS_rt_sigprocmask, [2, place, 0, 8, 0, 0]), 0);
}

/// Limits a resource of this process.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads one limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Memory that the registers are loaded from, and that they are saved to.
#[repr(C, align(64))]
struct Bank {
    vectors: [[u64; 8]; 32],
    saved_vectors: [[u64; 8]; 32],
    masks: [u64; 8],
    saved_masks: [u64; 8],
    general: [u64; 16],
    below: [u64; 16],
    flags: u64,
    rounds: u64,
    /// Control words of x87 and SSE: the caller's, those of the test, and those that are found.
    old: [u32; 2],
    control: [u32; 2],
    saved_control: [u32; 2],
}

/// Fills all registers and the red zone with values, stays in user mode for so many rounds, and
/// compares.
pub fn registers_hold(rounds: u64) -> Result<(), String> {
    // SAFETY: all zeroes are a bank.
    let mut bank: Box<Bank> = unsafe { Box::new(std::mem::zeroed()) };
    for (index, vector) in bank.vectors.iter_mut().enumerate() {
        for (place, word) in vector.iter_mut().enumerate() {
            *word = 0x1111_0000_0000_0000 + (index as u64) * 0x100 + place as u64;
        }
    }
    for (index, mask) in bank.masks.iter_mut().enumerate() {
        *mask = 0x3333 + index as u64;
    }
    // x87 with 53 bits of precision, and MXCSR that rounds towards zero.
    bank.control = [0x027f, 0x7f80];
    bank.rounds = rounds;
    let is_wide = is_x86_feature_detected!("avx512f");
    if is_wide {
        hold_512(&mut bank);
    } else {
        assert!(is_x86_feature_detected!("avx"), "a processor without AVX");
        hold_256(&mut bank);
    }
    let width = if is_wide { 8 } else { 4 };
    for (index, (given, found)) in bank.vectors.iter().zip(&bank.saved_vectors).enumerate() {
        if (is_wide || index < 16) && given[..width] != found[..width] {
            return Err(format!("vector {index}: {given:x?} became {found:x?}"));
        }
    }
    if is_wide && bank.masks[1..] != bank.saved_masks[1..] {
        return Err(format!("masks: {:x?} became {:x?}", bank.masks, bank.saved_masks));
    }
    for (index, word) in bank.general.iter().enumerate() {
        let value = 0x5500_0000 + index as u64;
        // The stack pointer, the bank, and what the compiler has.
        if *word != value && ![4, 7, 15].contains(&index) {
            return Err(format!("register {index}: {value:#x} became {word:#x}"));
        }
    }
    for (index, word) in bank.below.iter().enumerate() {
        let value = 0x6600_0000 + index as u64;
        if *word != value {
            return Err(format!("red zone {index}: {value:#x} became {word:#x}"));
        }
    }
    if bank.flags & 0x400 == 0 {
        return Err(format!("flags: {:#x}", bank.flags));
    }
    if bank.control != bank.saved_control {
        return Err(format!("control words: {:x?}", bank.saved_control));
    }
    Ok(())
}

/// The code of [`registers_hold`] with vectors of one width.
macro_rules! hold {
    ($name:ident, $load:literal, $save:literal) => {
        #[inline(never)]
        fn $name(bank: &mut Bank) {
            // SAFETY: the code writes the bank alone, and restores what it does not declare. There
            // are vectors of this width.
            unsafe {
                asm!(
                    "push rbx",
                    "push rbp",
                    $load,
                    "mov dword ptr [rdi + {old}], 0",
                    "fnstcw [rdi + {old}]",
                    "stmxcsr [rdi + {old} + 4]",
                    "fldcw [rdi + {control}]",
                    "ldmxcsr [rdi + {control} + 4]",
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                    "mov qword ptr [rsp - 8 - 8 * \\i], 0x66000000 + \\i",
                    ".endr",
                    "mov eax, 0x55000000",
                    "mov ecx, 0x55000001",
                    "mov edx, 0x55000002",
                    "mov ebx, 0x55000003",
                    "mov ebp, 0x55000005",
                    "mov esi, 0x55000006",
                    ".irp i, 8, 9, 10, 11, 12, 13, 14, 15",
                    "mov r\\i, 0x55000000 + \\i",
                    ".endr",
                    "std",
                    "2:",
                    "dec qword ptr [rdi + {rounds}]",
                    "jnz 2b",
                    "mov [rdi + {general}], rax",
                    "mov [rdi + {general} + 8], rcx",
                    "mov [rdi + {general} + 16], rdx",
                    "mov [rdi + {general} + 24], rbx",
                    "mov [rdi + {general} + 40], rbp",
                    "mov [rdi + {general} + 48], rsi",
                    ".irp i, 8, 9, 10, 11, 12, 13, 14, 15",
                    "mov [rdi + {general} + 8 * \\i], r\\i",
                    ".endr",
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                    "mov rax, [rsp - 8 - 8 * \\i]",
                    "mov [rdi + {below} + 8 * \\i], rax",
                    ".endr",
                    "pushfq",
                    "pop qword ptr [rdi + {flags}]",
                    "cld",
                    "fnstcw [rdi + {saved_control}]",
                    "stmxcsr [rdi + {saved_control} + 4]",
                    "fldcw [rdi + {old}]",
                    "ldmxcsr [rdi + {old} + 4]",
                    $save,
                    "pop rbp",
                    "pop rbx",
                    masks = const std::mem::offset_of!(Bank, masks),
                    general = const std::mem::offset_of!(Bank, general),
                    below = const std::mem::offset_of!(Bank, below),
                    flags = const std::mem::offset_of!(Bank, flags),
                    rounds = const std::mem::offset_of!(Bank, rounds),
                    old = const std::mem::offset_of!(Bank, old),
                    control = const std::mem::offset_of!(Bank, control),
                    saved_control = const std::mem::offset_of!(Bank, saved_control),
                    saved_vectors = const std::mem::offset_of!(Bank, saved_vectors),
                    saved_masks = const std::mem::offset_of!(Bank, saved_masks),
                    inout("rdi") std::ptr::from_mut(bank) => _,
                    out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                    clobber_abi("sysv64"),
                );
            }
        }
    };
}

hold!(
    hold_256,
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
     vmovdqu ymm\\i, [rdi + 64 * \\i]
     .endr
     # {masks}",
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
     vmovdqu [rdi + {saved_vectors} + 64 * \\i], ymm\\i
     .endr
     vzeroupper
     # {saved_masks}"
);

hold!(
    hold_512,
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22
     vmovdqu64 zmm\\i, [rdi + 64 * \\i]
     .endr
     .irp i, 23, 24, 25, 26, 27, 28, 29, 30, 31
     vmovdqu64 zmm\\i, [rdi + 64 * \\i]
     .endr
     .irp i, 1, 2, 3, 4, 5, 6, 7
     kmovw k\\i, word ptr [rdi + {masks} + 8 * \\i]
     .endr",
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22
     vmovdqu64 [rdi + {saved_vectors} + 64 * \\i], zmm\\i
     .endr
     .irp i, 23, 24, 25, 26, 27, 28, 29, 30, 31
     vmovdqu64 [rdi + {saved_vectors} + 64 * \\i], zmm\\i
     .endr
     .irp i, 1, 2, 3, 4, 5, 6, 7
     kmovw word ptr [rdi + {saved_masks} + 8 * \\i], k\\i
     .endr
     vzeroupper"
);

/// Requests of ptrace, as numbers.
pub mod ptrace {
    pub const SEIZE: libc::c_long = 0x4206;
    pub const INTERRUPT: libc::c_long = 0x4207;
    pub const CONT: libc::c_long = 7;
    pub const SYSCALL: libc::c_long = 24;
    pub const DETACH: libc::c_long = 17;
    pub const GETREGS: libc::c_long = 12;
    pub const GETSIGMASK: libc::c_long = 0x420a;
    pub const GETREGSET: libc::c_long = 0x4204;

    /// Makes a request.
    pub fn request(
        request: libc::c_long,
        tid: i32,
        address: usize,
        data: usize,
    ) -> std::io::Result<()> {
        let tid = usize::try_from(tid).unwrap();
        let request = usize::try_from(request).unwrap();
        match super::call(libc::SYS_ptrace, [request, tid, address, data, 0, 0]) {
            ..0 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Waits for a stop of a traced thread, or its end.
    pub fn wait(tid: i32) -> libc::c_int {
        let mut status: libc::c_int = 0;
        // SAFETY: the kernel writes one status.
        let found = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        assert_eq!(found, tid, "{}", std::io::Error::last_os_error());
        status
    }

    /// Number of the system call at whose entry or exit a thread is.
    pub fn number(tid: i32) -> libc::c_long {
        let mut state = [0_i64; 27];
        request(GETREGS, tid, 0, state.as_mut_ptr().expose_provenance()).unwrap();
        std::hint::black_box(state)[15]
    }

    /// Reads words about a stopped thread: registers, mask, or vectors.
    pub fn state(tid: i32) -> Vec<u64> {
        let mut state = vec![0_u64; 27 + 1 + 2048];
        let place = state.as_mut_ptr().expose_provenance();
        request(GETREGS, tid, 0, place).unwrap();
        request(GETSIGMASK, tid, 8, place + 27 * 8).unwrap();
        let vector = [place + 28 * 8, 2048 * 8];
        request(GETREGSET, tid, 0x202, vector.as_ptr().expose_provenance()).unwrap();
        std::hint::black_box(state)
    }
}

/// An allocator that ends the process where nobody may allocate.
struct Strict;

/// Says that nobody may allocate.
pub static STRICT: AtomicBool = AtomicBool::new(false);

// SAFETY: the system's allocator does it.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if STRICT.load(Ordering::SeqCst) {
            std::process::abort();
        }
        // SAFETY: the caller keeps the rules of the function, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of the function, which are the same.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Strict = Strict;
