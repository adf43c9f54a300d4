//! The guard of holders.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use criu_plugin::journal::{Journal, State};

use super::news::receive;
use super::process::{Ears, Process, Start};
use crate::sys::holders::{Held, Kept, Owner, each_left, reap};
use crate::sys::list::List;
use crate::sys::raw::{self, poll_for};

/// A process that ends the holders of a capture if this process is killed. Dropped, it ends without
/// touching them.
#[derive(Debug)]
pub(crate) struct HolderGuard(Process);

impl HolderGuard {
    /// Starts a guard. `journal` is the file that criu's plugin and this process share.
    ///
    /// # Errors
    /// The errors of fstat(2) and clone3(2), or of clone(2) where there is no clone3.
    pub(crate) fn start(journal: BorrowedFd<'_>) -> io::Result<Self> {
        let owner = Owner::this().ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
        let size = nix::sys::stat::fstat(journal)?.st_size;
        let bytes = usize::try_from(size).map_err(io::Error::other)?;
        let start = Start { name: c"criu-rs holders", stack: STACK, kept: &[journal] };
        let file = journal.as_raw_fd();
        Process::start(&start, move |ears| run(ears, owner, file, bytes)).map(Self)
    }

    /// Names the criu that makes the holders. The guard waits for its end before it acts: until
    /// then, the tasks stand still and more holders may come.
    ///
    /// # Errors
    /// `EPIPE` if the guard is gone.
    pub(crate) fn wait_for(&self, criu: BorrowedFd<'_>) -> io::Result<()> {
        self.0.tell(&[CRIU], &[criu], PATIENCE)
    }
}

impl AsFd for HolderGuard {
    /// A descriptor that is readable when the guard has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for HolderGuard {
    fn drop(&mut self) {
        if self.0.tell(&[DONE], &[], PATIENCE).is_err() {
            self.0.kill();
        }
        self.0.reap(PATIENCE);
    }
}

/// The life of a guard after its fork.
fn run(ears: Ears, owner: Owner, file: i32, bytes: usize) {
    let Some(words) = raw::map_words(file, bytes) else { return };
    let mut criu = -1;
    loop {
        let mut fds = [poll_for(ears.socket), poll_for(ears.parent)];
        raw::wait(&mut fds, None);
        let is_lost = fds.get(1).is_some_and(|fd| fd.revents != 0);
        match listen(ears.socket, &mut criu) {
            Heard::Done => return,
            Heard::Nothing if !is_lost => {}
            _ => break,
        }
    }
    if criu >= 0 {
        raw::wait_for(criu);
    }
    act(words, owner);
}

/// The news that a guard has heard.
enum Heard {
    Nothing,
    Done,
    /// The process is gone.
    End,
}

/// Takes the messages that wait.
fn listen(socket: i32, criu: &mut i32) -> Heard {
    loop {
        let (mut words, mut fds) = ([0; 1], [-1; 2]);
        match receive(socket, &mut words, &mut fds) {
            0 => return Heard::End,
            1.. if words == [DONE] => return Heard::Done,
            1.. => {
                raw::close(*criu);
                *criu = fds[0];
                raw::close(fds[1]);
            }
            error if error == -i64::from(libc::EAGAIN) => return Heard::Nothing,
            error if error == -i64::from(libc::EINTR) => {}
            _ => return Heard::End,
        }
    }
}

/// Ends all holders, and has their tasks reap them.
fn act(words: &[AtomicU64], owner: Owner) {
    let Some(journal) = Journal::new(words) else { return };
    let begun = Instant::now();
    let mut all = List::new();
    loop {
        each_left(&journal, owner, |held| take(&mut all, held));
        // All are killed by now, and give their memory back at one time.
        let (mut at, mut is_stuck) = (0, false);
        while let Some(held) = all.get(at) {
            match reap(&held, Instant::now() + TURN) {
                Ok(_) => {
                    raw::close(held.pidfd);
                    all.remove(at);
                }
                Err(kept) => {
                    is_stuck |= matches!(kept, Kept::Stuck(_));
                    at += 1;
                }
            }
        }
        let is_forking = journal.records().any(|record| record.state() == Some(State::Forking));
        let is_quiet = !is_forking || begun.elapsed() > FORK;
        // A thread that does not stop runs on when this process ends.
        if all.items().is_empty() && is_quiet || is_stuck || begun.elapsed() > LONGEST {
            return;
        }
        raw::wait(&mut [], Some(PAUSE));
    }
}

/// Kills a holder that is not known yet.
fn take(all: &mut List<Held>, held: Held) {
    let is_known = all.items().iter().any(|known| known.holder == held.holder);
    raw::signal(held.pidfd, libc::SIGKILL);
    if is_known || !all.push(held) {
        raw::close(held.pidfd);
    }
}

// The kinds of messages.
const CRIU: u64 = 1;
const DONE: u64 = 2;

/// The time in which a guard takes what it is told, and ends when it is told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time for one holder before the next has its turn.
const TURN: Duration = Duration::from_millis(300);

/// The pause between two turns, in milliseconds.
const PAUSE: i64 = 20;

/// The time in which a fork that a killed criu has begun shows.
const FORK: Duration = Duration::from_millis(500);

/// The time after which a guard gives up: what is left is cleared up by the next run.
const LONGEST: Duration = Duration::from_secs(600);

/// The stack of the guard, which is all its memory.
const STACK: usize = 256 << 10;

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use criu_plugin::journal::{Field, Head};

    use super::*;
    use crate::sys::fd;
    use crate::sys::holders::Look;
    use crate::sys::holders::lab::{Task, children, hold};
    use crate::sys::proc::Stat;
    use crate::sys::shared::SharedWords;

    const OF: &str = "CRIU_RS_TEST_HOLD";

    /// The news that a guard has before its process is killed.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Known {
        All,
        /// The plugin had no time to tell of the holders.
        Tasks,
        /// A criu is at work, by its number.
        Criu(i32),
    }

    /// Is, in the process that is killed, the life of that process.
    #[test]
    fn a_process_with_holders() {
        let Ok(words) = std::env::var(OF) else { return };
        let words: Vec<i32> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let [known, criu, ref tasks @ ..] = words[..] else { panic!("{words:?}") };
        let shared = SharedWords::new(Journal::bytes(8)).unwrap();
        let journal = Journal::make(shared.words());
        let guard = HolderGuard::start(shared.as_fd()).unwrap();
        if criu != 0 {
            let criu = fd::open(nix::unistd::Pid::from_raw(criu)).unwrap();
            guard.wait_for(criu.as_fd()).unwrap();
        }
        for task in tasks {
            let record = journal.add(u64::try_from(*task).unwrap()).unwrap();
            record.set(Field::TaskStart, Stat::of(*task).unwrap().start);
            record.pass(State::Forking);
            let holder = hold(*task, Owner::this().unwrap());
            if known != 0 {
                record.set(Field::Holder, u64::try_from(holder).unwrap());
                record.set(Field::HolderStart, Stat::of(holder).unwrap().start);
                record.pass(State::Held);
            }
        }
        assert_eq!(journal.head(Head::Count), tasks.len() as u64);
        println!("\nguard {}", fd::number_of(&guard).unwrap());
        loop {
            std::thread::park();
        }
    }

    struct Victim(Child, i32);

    impl Victim {
        fn start(tasks: &[Task], known: Known) -> Self {
            let first = match known {
                Known::All => "1 0".to_owned(),
                Known::Tasks => "0 0".to_owned(),
                Known::Criu(criu) => format!("1 {criu}"),
            };
            let pids = tasks.iter().map(|task| task.pid().to_string());
            let words: Vec<String> = std::iter::once(first).chain(pids).collect();
            let test = "sys::guard::holders::tests::a_process_with_holders";
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env(OF, words.join(" "))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut lines = lines.map(|line| line.unwrap());
            let guard = lines.find_map(|line| line.strip_prefix("guard ").map(str::to_owned));
            Self(child, guard.unwrap().parse().unwrap())
        }

        fn kill(mut self) -> i32 {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
            self.1
        }
    }

    fn all(tasks: &[Task]) -> Vec<i32> {
        tasks.iter().flat_map(|task| children(task.pid())).collect()
    }

    #[test]
    fn holders_of_a_killed_process_are_gone_within_a_second() {
        for known in [Known::All, Known::Tasks] {
            let tasks: Vec<Task> = (0..5).map(|_| Task::sleeping()).collect();
            let victim = Victim::start(&tasks, known);
            let holders = all(&tasks);
            assert_eq!(holders.len(), 5);
            assert!(
                holders.iter().all(|holder| matches!(Look::at(*holder), Some(Look::Parked(_))))
            );
            let guard = victim.kill();
            let killed = Instant::now();
            assert!(criu_lab::soon(|| all(&tasks).is_empty()));
            assert!(killed.elapsed() < Duration::from_secs(1), "{known:?} {:?}", killed.elapsed());
            tasks.iter().for_each(Task::is_unharmed);
            assert!(criu_lab::soon(|| criu_lab::process::has_ended(guard)));
        }
    }

    #[test]
    fn a_guard_waits_for_the_end_of_criu() {
        let (mut criu, tasks) = (Task::sleeping(), [Task::sleeping()]);
        let guard = Victim::start(&tasks, Known::Criu(criu.pid())).kill();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(all(&tasks).len(), 1);
        criu.0.kill().unwrap();
        criu.0.wait().unwrap();
        assert!(criu_lab::soon(|| all(&tasks).is_empty()));
        tasks.iter().for_each(Task::is_unharmed);
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(guard)));
    }

    #[test]
    fn a_guard_that_is_told_leaves_holders_alone() {
        let task = Task::sleeping();
        let shared = SharedWords::new(Journal::bytes(8)).unwrap();
        let journal = Journal::make(shared.words());
        let guard = HolderGuard::start(shared.as_fd()).unwrap();
        let pid = fd::number_of(&guard).unwrap();
        assert!(criu_lab::soon(|| criu_lab::process::name(pid) == "criu-rs holders"));
        journal.add(u64::try_from(task.pid()).unwrap()).unwrap().pass(State::Forking);
        let own = Owner::this().unwrap();
        let holder = hold(task.pid(), own);
        drop(guard);
        assert!(!criu_lab::process::exists(pid), "the guard is not reaped");
        assert_eq!(Look::at(holder), Some(Look::Parked(own)));
        let left = crate::sys::holders::left(&journal, own);
        assert_eq!(left.iter().map(|bond| bond.holder()).collect::<Vec<_>>(), [holder]);
        assert!(crate::sys::holders::left(&journal, Owner { start: 1, ..own }).is_empty());
        left[0].kill();
        left[0].reap(Instant::now() + Duration::from_secs(20)).unwrap();
        task.is_unharmed();
    }
}
