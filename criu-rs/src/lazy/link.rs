//! A connection to a page server that several threads may use.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::supply::Wanted;
use crate::pages::proto::PRESENT;
use crate::pages::{Command, Header, Layout, PageProtocolError, PagesError, Socket, page_size};

/// A connection to a page server. A server answers requests in their order.
///
/// A thread that waits for its answer receives the answers before it as well, into the buffers of
/// those who have asked. So no thread waits for another one that is busy elsewhere, and no byte is
/// moved again.
#[derive(Debug)]
pub(super) struct Link {
    layout: Layout,
    /// The longest time for an answer.
    timeout: Duration,
    /// Tells that some more pages take hardly longer than one: the server is on this machine.
    is_near: bool,
    reading: Mutex<Socket>,
    /// The socket for requests. With TLS, requests wait until nobody receives.
    writing: Option<Mutex<Socket>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The requests without an answer, in the order in which they were sent.
    asked: VecDeque<Answer>,
    /// The answers that nobody has taken yet.
    came: Vec<Answer>,
    /// The number of the last request.
    last: u64,
    /// Tells that a thread receives.
    receives: bool,
    /// The threads that wait for another one to receive.
    waiting: usize,
    /// The error that ended the connection.
    failed: Option<String>,
    /// The time of the last request for which a thread of a task waits.
    urgent: Option<Instant>,
}

/// A request, and its answer when that has come.
#[derive(Debug, Default)]
pub(super) struct Answer {
    number: u64,
    wanted: Option<Wanted>,
    buffer: Buffer,
    bytes: u64,
}

impl Answer {
    /// Returns the pages that have come.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.bytes(self.bytes)
    }

    /// Takes the buffer, to use it again.
    pub(super) fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

impl Link {
    /// Takes a connection. An answer may take `timeout`.
    ///
    /// # Errors
    /// If the socket cannot be set up.
    pub(super) fn new(
        mut socket: Socket,
        layout: Layout,
        timeout: Duration,
    ) -> Result<Self, PagesError> {
        let failed = PagesError::socket("set up the connection");
        socket.set_timeout(Some(timeout.max(Duration::from_millis(1)))).map_err(&failed)?;
        let writing = socket.writer().map_err(&failed)?.map(Mutex::new);
        let (is_near, reading) = (socket.is_unix(), Mutex::new(socket));
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { layout, timeout, is_near, reading, writing, state, changed })
    }

    /// Sends a request, and returns its number.
    ///
    /// # Errors
    /// If the connection has failed, or fails now.
    pub(super) fn ask(&self, wanted: Wanted, buffer: Buffer) -> Result<u64, PagesError> {
        let Wanted { pid, address, pages } = wanted;
        let header = Header { command: Command::Get, flags: 0, pages, address, id: pid.into() };
        // Requests are sent in the order of their numbers.
        let mut socket = lock(self.writing.as_ref().unwrap_or(&self.reading));
        let number = {
            let mut state = self.state();
            state.check()?;
            state.last += 1;
            let number = state.last;
            state.asked.push_back(Answer { number, wanted: Some(wanted), buffer, bytes: 0 });
            number
        };
        self.put(&mut socket, header).map_err(|error| self.fail(error))?;
        Ok(number)
    }

    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// If the connection has failed, or fails now.
    pub(super) fn answer(&self, number: u64) -> Result<Answer, PagesError> {
        let mut state = self.state();
        loop {
            if let Some(at) = state.came.iter().position(|answer| answer.number == number) {
                return Ok(state.came.swap_remove(at));
            }
            state.check()?;
            if state.receives {
                state.waiting += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                continue;
            }
            let Some(mut answer) = state.asked.pop_front() else {
                return Err(self.wrong("an answer is awaited twice".to_owned()));
            };
            state.receives = true;
            drop(state);
            let received = self.receive(&mut answer);
            state = self.state();
            state.receives = false;
            if let Err(error) = received {
                drop(state);
                return Err(self.fail(error));
            }
            if answer.number == number {
                if state.waiting > 0 {
                    self.changed.notify_all();
                }
                return Ok(answer);
            }
            state.came.push(answer);
            if state.waiting > 0 {
                self.changed.notify_all();
            }
        }
    }

    /// Makes calls whose answers may take another time.
    ///
    /// # Errors
    /// Those of the calls, and those of setting up the socket.
    pub(super) fn within<T>(
        &self,
        time: Duration,
        calls: impl FnOnce() -> Result<T, PagesError>,
    ) -> Result<T, PagesError> {
        let set = |time: Duration| {
            let set = lock(&self.reading).set_timeout(Some(time.max(Duration::from_millis(1))));
            set.map_err(PagesError::socket("set up the connection"))
        };
        set(time)?;
        let result = calls();
        set(self.timeout)?;
        result
    }

    /// Tells that some more pages take hardly longer than one.
    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Notes that a thread of a task waits for pages.
    pub(super) fn hurry(&self) {
        self.state().urgent = Some(Instant::now());
    }

    /// Tells that a thread of a task has waited for pages in the last `time`.
    pub(super) fn is_busy(&self, time: Duration) -> bool {
        self.state().urgent.is_some_and(|last| last.elapsed() < time)
    }

    /// Ends the session: everything has come. Waits for the server's answer.
    ///
    /// # Errors
    /// If the connection fails, or the server answers with an error.
    pub(super) fn close(&self) -> Result<(), PagesError> {
        // Answers that nobody waits for any more come first.
        let last = self.state().asked.back().map(|answer| answer.number);
        if let Some(last) = last {
            self.answer(last)?;
        }
        let close = Header { command: Command::Close, flags: 0, pages: 0, address: 0, id: 0 };
        let mut socket = lock(&self.reading);
        self.state().check()?;
        self.put(&mut socket, close)?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).map_err(|error| failed(error, "wait for an answer"))?;
        socket.part();
        // CRIU's server waits for the end, and readers may hold the link longer.
        socket.shutdown();
        match i32::from_ne_bytes(answer) {
            0 => Ok(()),
            status => Err(PagesError::Refused(status)),
        }
    }

    /// Breaks the session off, so that the server sees a fault. A plain end looks like success to
    /// CRIU.
    pub(super) fn break_off(&self) {
        let mut socket = lock(self.writing.as_ref().unwrap_or(&self.reading));
        let _ = socket.write_all(&[0xff; 32]);
        socket.shutdown();
    }

    /// Receives the next answer, which is for this request.
    fn receive(&self, answer: &mut Answer) -> Result<(), PagesError> {
        let Some(wanted) = answer.wanted else {
            return Err(self.wrong("nobody has asked for pages".to_owned()));
        };
        let (head, page) = (self.layout.size(), page_size().bytes());
        let bytes = |pages: u64| usize::try_from(pages.saturating_mul(page)).unwrap_or(usize::MAX);
        let room = answer.buffer.after(head, bytes(wanted.pages));
        let (mut have, mut need, mut is_known) = (0, head, false);
        let begun = Instant::now();
        let mut socket = lock(&self.reading);
        while have < need {
            let rest = room.get_mut(have..).unwrap_or_default();
            match socket.read(rest) {
                Ok(0) => return Err(PagesError::NoAnswer),
                Ok(size) => have += size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, "receive pages")),
            }
            if !is_known && have >= head {
                let pages = self.check(room.get(..head).unwrap_or_default(), wanted)?;
                answer.bytes = pages.saturating_mul(page);
                (need, is_known) = (head.saturating_add(bytes(pages)), true);
            }
            // A peer that sends a byte now and then is as slow as its answer.
            if have < need && begun.elapsed() > self.timeout {
                return Err(LATE);
            }
        }
        // The server had fewer pages in a row, and the next answer was here already.
        if have > need {
            socket.put_back(room.get(need..have).unwrap_or_default().to_vec());
        }
        Ok(())
    }

    /// Checks the header of an answer, and returns the number of pages that follow.
    fn check(&self, head: &[u8], wanted: Wanted) -> Result<u64, PagesError> {
        let mut whole = [0; 32];
        for (to, from) in whole.iter_mut().zip(head) {
            *to = *from;
        }
        let header = Header::parse(self.layout, &whole);
        let header = header.map_err(|word| self.wrong(format!("unknown command {word:#x}")))?;
        let Wanted { pid, address, pages } = wanted;
        let fits = header.command == Command::AddF
            && header.flags & PRESENT != 0
            && header.address == address
            && header.id == u64::from(pid);
        if !fits || !(1..=pages).contains(&header.pages) {
            return Err(self.wrong(format!(
                "the answer has {} pages of {} at {:#x}, wanted {pages} or fewer of {pid} at \
                 {address:#x}",
                header.pages, header.id, header.address
            )));
        }
        Ok(header.pages)
    }

    fn put(&self, socket: &mut Socket, header: Header) -> Result<(), PagesError> {
        let bytes = header.to_bytes(self.layout).unwrap_or_default();
        let bytes = bytes.get(..self.layout.size()).unwrap_or_default();
        socket.write_all(bytes).map_err(|error| failed(error, "ask for pages"))
    }

    /// Notes that the connection has failed, and wakes all who wait.
    fn fail(&self, error: PagesError) -> PagesError {
        let mut state = self.state();
        state.failed.get_or_insert_with(|| error.to_string());
        self.changed.notify_all();
        error
    }

    fn wrong(&self, what: String) -> PagesError {
        PagesError::Protocol(PageProtocolError { at: 0, what })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Returns the error of a connection that has failed.
    fn check(&self) -> Result<(), PagesError> {
        match &self.failed {
            Some(why) => Err(PagesError::socket("the connection has failed")(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                why.clone(),
            ))),
            None => Ok(()),
        }
    }
}

/// Returns the error of a call on the socket.
fn failed(error: io::Error, what: &'static str) -> PagesError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LATE,
        io::ErrorKind::UnexpectedEof => PagesError::NoAnswer,
        _ => PagesError::Socket { what, source: error },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LATE: PagesError = PagesError::TimedOut("the answer of the page server");
