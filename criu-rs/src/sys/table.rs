//! Descriptor tables: the descriptors that started programs and threads get.
//!
//! Every program that this crate starts gets the descriptors that are named, and no other. A
//! descriptor of the caller without close-on-exec, or one that another thread opens at the same
//! moment, would otherwise reach criu, and from there the restored tasks.
//!
//! The work is done by a thread that takes a descriptor table of its own and closes everything in
//! it that is not named. The table of the rest of this process is not touched.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Runs `work` in a thread in which only the standard streams and the `kept` descriptors are open.
/// The kept ones are close-on-exec there.
///
/// Descriptors that `work` opens are closed when it returns: it returns none.
///
/// # Errors
/// If there can be no further thread, or none with a descriptor table of its own.
pub(crate) fn alone<T: Send>(
    kept: &[RawFd],
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new().name("start".into());
        let thread = thread.spawn_scoped(scope, || {
            keep_only(kept)?;
            work()
        })?;
        io::Result::Ok(thread.join())
    })?;
    done.unwrap_or_else(|fault| std::panic::resume_unwind(fault))
}

/// Starts a thread in which only the standard streams and `fd` are open, with `fd` as its own.
///
/// # Errors
/// As those of [`alone`].
#[cfg(feature = "libcriu")]
pub(crate) fn spawn_alone(
    name: &str,
    fd: std::os::fd::OwnedFd,
    work: impl FnOnce(std::os::fd::OwnedFd) + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::mpsc;

    let (told, is_alone) = mpsc::channel();
    let number = fd.as_raw_fd();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let kept = keep_only(&[number]);
        let failed = kept.is_err();
        let _ = told.send(kept);
        if !failed {
            // SAFETY: the thread's own table holds this number, and nobody else in the thread owns
            // it: the creator closes the one of the other table.
            work(unsafe { OwnedFd::from_raw_fd(number) });
        }
    })?;
    // The number must stay open until the thread has copied the table.
    let kept = is_alone.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")));
    drop(fd);
    kept.map(|()| thread)
}

/// Gives this thread a descriptor table of its own, in which only the standard streams and the
/// `kept` descriptors are open, close-on-exec. Nothing in this thread may own another descriptor.
pub(crate) fn keep_only(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.retain(|number| *number >= FIRST);
    kept.sort_unstable();
    kept.dedup();
    // Closes nothing: the last number is never open.
    match close_range(u32::MAX, u32::MAX, libc::CLOSE_RANGE_UNSHARE) {
        Ok(()) => {
            let mut from = FIRST;
            for number in &kept {
                if *number > from {
                    close_range(from, number - 1, 0)?;
                }
                from = number + 1;
            }
            close_range(from, u32::MAX, 0)?;
        }
        // A kernel before Linux 5.9, or a filter of system calls that refuses this one: container
        // engines answer calls that they do not know with EPERM.
        Err(_) => close_one_by_one(&kept)?,
    }
    kept.into_iter().try_for_each(|number| set_close_on_exec(number, true))
}

/// Closes what the thread's descriptors in `/proc` show.
fn close_one_by_one(kept: &[u32]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    for number in open_numbers()?.into_iter().filter(|number| !kept.contains(number)) {
        // The descriptor with which the folder was read is closed by now.
        close_range(number, number, 0).or_else(|_| close(number))?;
    }
    Ok(())
}

/// Keeps the descriptors of this process from the programs that it starts and from a program that
/// it becomes. The standard streams stay as they are, and the `named` descriptors are made to
/// reach those programs.
///
/// Call this function while no other thread opens descriptors. Returns the numbers that would have
/// reached the programs before.
///
/// A program that is started by somebody else begins with it: descriptors that its caller has left
/// open by mistake go no further.
///
/// ```
/// let left_open = criu_rs::hold_back_descriptors(&[])?;
/// println!("{} descriptors were inherited", left_open.len());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If `/proc/self/fd` cannot be read, or a `named` descriptor is not open.
pub fn hold_back_descriptors(named: &[RawFd]) -> io::Result<Vec<RawFd>> {
    let named: Vec<u32> = named.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    let mut inherited = Vec::new();
    for number in open_numbers()?.into_iter().filter(|number| !named.contains(number)) {
        // A descriptor that was closed meanwhile reaches nobody.
        if is_close_on_exec(number).is_ok_and(|is| !is) {
            set_close_on_exec(number, true)?;
            inherited.extend(RawFd::try_from(number));
        }
    }
    let others = named.into_iter().filter(|number| *number >= FIRST);
    others.into_iter().try_for_each(|number| set_close_on_exec(number, false))?;
    Ok(inherited)
}

/// Returns the numbers of this thread's descriptors beside the standard streams. One of them is
/// closed by now, with which the folder was read.
fn open_numbers() -> io::Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc/thread-self/fd")?;
    let numbers = names.map(|name| Ok(name?.file_name().to_str().and_then(|it| it.parse().ok())));
    let numbers = numbers.collect::<io::Result<Vec<Option<u32>>>>()?;
    Ok(numbers.into_iter().flatten().filter(|number| *number >= FIRST).collect())
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: close_range takes three integers. Callers are threads with a table of their own that
    // own no descriptor in the range.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

fn close(number: u32) -> io::Result<()> {
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: as for close_range.
    match Errno::result(unsafe { libc::close(number) }) {
        Ok(_) | Err(Errno::EBADF) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_close_on_exec(number: u32) -> io::Result<bool> {
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: F_GETFD takes an integer; a number that is not open yields EBADF.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    Ok(flags & libc::FD_CLOEXEC != 0)
}

fn set_close_on_exec(number: u32, on: bool) -> io::Result<()> {
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes two integers; a number that is not open yields EBADF. The flag decides
    // only about programs that are executed.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, flags) })?;
    Ok(())
}

/// The first number after the standard streams.
const FIRST: u32 = 3;

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};

    use nix::unistd::dup;

    use super::*;

    /// The pipe's reading end, without close-on-exec.
    fn leak() -> OwnedFd {
        dup(nix::unistd::pipe().unwrap().0).unwrap()
    }

    #[test]
    fn a_thread_keeps_what_is_named_and_the_process_keeps_everything() {
        let [first, named, last] = std::array::from_fn(|_| leak());
        let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).unwrap();
        let (inside, is_closed_on_exec) = alone(&[named.as_raw_fd()], || {
            Ok((open_numbers()?, is_close_on_exec(number(&named))?))
        })
        .unwrap();
        assert!(inside.contains(&number(&named)) && is_closed_on_exec);
        // The other number is the one with which the folder is read.
        assert!(inside.len() <= 2 && !inside.contains(&number(&last)), "{inside:?}");
        for fd in [&first, &named, &last] {
            assert!(!is_close_on_exec(number(fd)).unwrap());
            assert!(fd.as_fd().try_clone_to_owned().is_ok());
        }
    }

    #[test]
    fn a_kernel_without_close_range_closes_as_much() {
        let [named, other] = std::array::from_fn(|_| leak());
        let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).unwrap();
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                close_one_by_one(&[number(&named)]).unwrap();
                open_numbers().unwrap()
            });
            thread.join().unwrap()
        });
        assert!(inside.contains(&number(&named)), "{inside:?}");
        assert!(inside.len() <= 2, "{inside:?}");
        assert!(!is_close_on_exec(number(&other)).unwrap());
    }

    #[test]
    fn a_filter_that_refuses_close_range_keeps_as_little_open() {
        use criu_lab::filter::{forbidding, install};

        criu_lab::needs_root();
        let [named, other] = std::array::from_fn(|_| leak());
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let call = u32::try_from(libc::SYS_close_range).unwrap();
                install(&forbidding(call, Errno::EPERM as u32), 0).unwrap();
                keep_only(&[named.as_raw_fd()]).unwrap();
                open_numbers().unwrap()
            });
            thread.join().unwrap()
        });
        let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).unwrap();
        assert!(inside.contains(&number(&named)), "{inside:?}");
        assert!(inside.len() <= 2, "{inside:?}");
        assert!(!is_close_on_exec(number(&other)).unwrap());
    }

    #[cfg(feature = "libcriu")]
    #[test]
    fn a_thread_of_its_own_gets_one_descriptor_and_closes_it_alone() {
        use std::io::{Read, Write};

        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let other = leak();
        let thread = spawn_alone("it", theirs.into(), move |fd| {
            let seen = open_numbers().unwrap().len();
            let mut socket = std::os::unix::net::UnixStream::from(fd);
            write!(socket, "{}", seen.min(3)).unwrap();
        })
        .unwrap();
        // The end comes: nobody keeps another copy of the descriptor.
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        thread.join().unwrap();
        assert_eq!(said, "2");
        drop(other);
    }
}
