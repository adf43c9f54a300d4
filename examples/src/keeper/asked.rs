//! The question to a keeper, its answer, and who may ask.
//!
//! A keeper says what it has to everybody of its own user who connects. It hears one byte: the next
//! round is complete. Then it ends its forks, says so by one byte, and ends.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_rs::Error;
use criu_rs::instant::{InstantSeries, SeriesBase};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use procfs::process::Process;

use super::file::{Entry, NAME};
use crate::fault::Fault;

/// The byte that tells that the next round is complete, and the answer.
pub(super) const COMPLETE: u8 = b'c';

/// The answer to somebody who comes while another one is connected.
pub(super) const BUSY: &str = "busy\n.\n";

/// The time for an answer, and the most that a keeper waits for somebody to take it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The time in which a keeper says why it ends, in milliseconds.
const ENDING: u16 = 5000;

/// The time in which a keeper ends its forks.
const TEARDOWN: Duration = Duration::from_secs(60);

/// The most bytes of an answer: 65536 forks take 4 MiB.
const LONGEST: usize = 16 << 20;

/// The address of a socket with this name.
pub(super) fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name.as_bytes())
}

/// Makes the socket of a keeper.
pub(super) fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&address(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Returns who is at the other end of a connection, if that is the user of this process.
pub(super) fn peer(connection: &UnixStream) -> Option<UnixCredentials> {
    let peer = getsockopt(connection, PeerCredentials).ok()?;
    (peer.uid() == geteuid().as_raw()).then_some(peer)
}

/// Returns the time at which a process that has not ended began.
pub(super) fn started_at(pid: i32) -> Option<u64> {
    let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
    (!['Z', 'X'].contains(&stat.state)).then_some(stat.starttime)
}

/// The round before, in whose keeper the base is.
#[derive(Debug)]
pub(crate) struct Earlier {
    directory: PathBuf,
    keeper: UnixStream,
    base: SeriesBase,
}

impl Earlier {
    /// Asks the keeper of a round.
    ///
    /// # Errors
    /// There is no keeper, or it has ended: the fault says why.
    pub(crate) fn find(directory: PathBuf) -> Result<Self, Fault> {
        let show = directory.display();
        let of_file = |source| Fault::system(format!("read {show}/{NAME}"), source);
        let Some(entry) = Entry::read(&directory).map_err(of_file)? else {
            let what = "is no round of `pre-dump --instant`, or it has no keeper";
            return Err(Fault::usage(format!("--prev-images-dir: {show} {what}: {ANEW}")));
        };
        if let Some(why) = &entry.ended {
            return Err(lost(&directory, why));
        }
        if started_at(entry.pid) != Some(entry.start) {
            let why = format!("their keeper, process {}, was killed", entry.pid);
            return Err(lost(&directory, &why));
        }
        let asked = ask(&entry).map_err(|source| {
            Fault::system(format!("ask the keeper of {show}, process {}", entry.pid), source)
        })?;
        match asked {
            Some((keeper, base)) => Ok(Self { directory, keeper, base }),
            None => Err(lost(&directory, &reason(&directory))),
        }
    }

    /// Makes the round the base of a series.
    pub(crate) fn adopt(&self, series: &mut InstantSeries<'_>) -> Result<(), Fault> {
        let adopted = series.adopt(self.directory.clone(), &self.base);
        adopted.map_err(|error| match self.end() {
            Some(why) if matches!(error, Error::Instant(_)) => lost(&self.directory, &why),
            _ => error.into(),
        })
    }

    /// Returns the reason why the keeper has ended, if it has, or is just ending its forks.
    fn end(&self) -> Option<String> {
        let mut fds = [PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN)];
        // A keeper that ends says so in the file, and closes the connection then.
        let is_closed = poll(&mut fds, PollTimeout::from(ENDING)) == Ok(1);
        is_closed.then(|| reason(&self.directory))
    }

    /// Returns the images directory of the round.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells the keeper that the next round is complete, and waits until its forks have ended.
    /// Returns words for a person if something is to be said.
    pub(crate) fn complete(mut self) -> Option<String> {
        let mut answer = [0];
        let told = self.keeper.write_all(&[COMPLETE]);
        let told = told.and_then(|()| self.keeper.set_read_timeout(Some(TEARDOWN)));
        let error = told.and_then(|()| self.keeper.read_exact(&mut answer)).err()?;
        Some(match self.end() {
            Some(why) => format!(
                "; the forks of the round before have ended meanwhile ({why}), and what could not \
                 be compared with them is saved once more"
            ),
            None => format!("; the keeper of the round before may have kept its forks: {error}"),
        })
    }
}

/// Connects to a keeper, and reads what it has. `None` if it is just ending.
fn ask(entry: &Entry) -> io::Result<Option<(UnixStream, SeriesBase)>> {
    let keeper = match UnixStream::connect_addr(&address(&entry.socket)?) {
        Ok(keeper) => keeper,
        Err(_) if started_at(entry.pid) != Some(entry.start) => return Ok(None),
        Err(error) => return Err(error),
    };
    if peer(&keeper).map(|peer| peer.pid()) != Some(entry.pid) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another process answers"));
    }
    keeper.set_read_timeout(Some(PATIENCE))?;
    let Some(text) = read(&keeper)? else { return Ok(None) };
    if text == BUSY {
        let why = "another program makes the next round";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    }
    let base = text.trim_end().parse().map_err(io::Error::other)?;
    Ok(Some((keeper, base)))
}

/// Reads an answer to its last line. `None` if the keeper says nothing.
fn read(mut from: &UnixStream) -> io::Result<Option<String>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !text.ends_with(b"\n.\n") {
        if text.len() > LONGEST {
            return Err(io::Error::other("the answer does not end"));
        }
        match from.read(&mut buffer) {
            Ok(0) if text.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => text.extend(buffer.iter().take(bytes)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(text).map(Some).map_err(io::Error::other)
}

/// Returns the reason why a keeper has ended.
fn reason(directory: &Path) -> String {
    let ended = Entry::read(directory).ok().flatten().and_then(|entry| entry.ended);
    ended.unwrap_or_else(|| "their keeper was killed".to_owned())
}

fn lost(directory: &Path, why: &str) -> Fault {
    let directory = directory.display();
    Fault::Failed(format!("the forks of the round in {directory} are gone: {why}: {ANEW}"))
}

/// The way out for somebody whose base is gone.
const ANEW: &str = "begin anew, without --prev-images-dir";

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Lets a keeper say something, and returns what is understood.
    fn said(bytes: &'static [u8]) -> io::Result<Option<String>> {
        let name = format!("criu-rs-test-{}-{:?}", std::process::id(), thread::current().id());
        let listener = listen(&name).unwrap();
        listener.set_nonblocking(false).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = started_at(pid).unwrap();
        let entry = Entry { pid, start, socket: name, ended: None };
        thread::scope(|scope| {
            let speaker = scope.spawn(|| {
                let (mut to, _) = listener.accept().unwrap();
                let _ = to.write_all(bytes);
            });
            let asked = ask(&entry);
            speaker.join().unwrap();
            asked.map(|asked| asked.map(|(_, base)| base.to_string()))
        })
    }

    #[test]
    fn an_answer_is_a_base_and_nothing_else() {
        const BASE: &str = "criu-rs series 1 7 5 9\nimages 1 2\ninventory 3 4 5 6\nchain 1 2\n.";
        let text = said(b"criu-rs series 1 7 5 9\nimages 1 2\ninventory 3 4 5 6\nchain 1 2\n.\n");
        assert_eq!(text.unwrap().as_deref(), Some(BASE));
        assert_eq!(said(b"").unwrap(), None);
        assert_eq!(said(BUSY.as_bytes()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        for wrong in [&b"\n.\n"[..], b"criu-rs series 1", b"\xff\n.\n", b"criu-rs series 1 0\n.\n"]
        {
            said(wrong).unwrap_err();
        }
        const ENDLESS: &[u8] = &[b'.'; LONGEST + 8192];
        assert!(said(ENDLESS).unwrap_err().to_string().contains("does not end"));
    }

    #[test]
    fn a_keeper_is_the_process_that_the_file_names() {
        let name = format!("criu-rs-test-other-{}", std::process::id());
        let _listener = listen(&name).unwrap();
        // The first process of the machine has another number.
        let start = started_at(1).unwrap();
        let entry = Entry { pid: 1, start, socket: name, ended: None };
        assert_eq!(ask(&entry).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let gone = Entry { pid: 1, start: start + 1, socket: "criu-rs-none".into(), ended: None };
        assert!(ask(&gone).unwrap().is_none());
    }
}
