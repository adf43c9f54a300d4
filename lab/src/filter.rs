//! Seccomp filters for payloads to install.

#![allow(unsafe_code)]

/// Installs a filter for the calling thread, or for all threads with
/// [`SECCOMP_FILTER_FLAG_TSYNC`](nix::libc::SECCOMP_FILTER_FLAG_TSYNC). Each instruction is its
/// `code`, `jt`, `jf` and `k`.
///
/// # Errors
/// The errors of `seccomp(2)`.
pub fn install(code: &[(u16, u8, u8, u32)], flags: nix::libc::c_ulong) -> std::io::Result<()> {
    let mut code: Vec<nix::libc::sock_filter> =
        code.iter().map(|&(code, jt, jf, k)| nix::libc::sock_filter { code, jt, jf, k }).collect();
    let program = nix::libc::sock_fprog {
        len: u16::try_from(code.len()).unwrap(),
        filter: code.as_mut_ptr(),
    };
    // SAFETY: `program` points to as many instructions as it says, which live until the call
    // returns.
    let answer = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_seccomp,
            nix::libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The instructions of a filter with which a system call that nobody uses fails with `errno`.
pub fn forbidding(number: u32, errno: u32) -> [(u16, u8, u8, u32); 4] {
    let load_number = (0x20, 0, 0, 0);
    let is_it = (0x15, 0, 1, number);
    [load_number, is_it, (0x06, 0, 0, 0x0005_0000 | errno), (0x06, 0, 0, 0x7fff_0000)]
}

/// The instructions of a filter that kills the process at each of these system calls.
pub fn killing(numbers: &[u32]) -> Vec<(u16, u8, u8, u32)> {
    let mut code = vec![(0x20, 0, 0, 0)];
    for (n, number) in numbers.iter().enumerate() {
        // To the last instruction.
        let away = u8::try_from(numbers.len() - n).unwrap();
        code.push((0x15, away, 0, *number));
    }
    code.extend([(0x06, 0, 0, 0x7fff_0000), (0x06, 0, 0, 0x8000_0000)]);
    code
}
