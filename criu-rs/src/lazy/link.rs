//! A connection to a page server that several threads may use.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::awake::Awake;
use super::buffer::Buffer;
use super::lent::Lent;
use super::supply::Wanted;
use crate::pages::proto::PRESENT;
use crate::pages::{Command, Header, Layout, PageProtocolError, PagesError, Socket, page_size};

/// A connection to a page server. A server answers requests in their order.
///
/// A thread that waits for its answer receives the answers before it as well, into the buffers of
/// those who have asked. So no thread waits for another one that is busy elsewhere, and no byte is
/// moved again. A thread that receives lends its place to nobody, and has the priority of those who
/// wait behind it.
#[derive(Debug)]
pub(super) struct Link {
    layout: Layout,
    /// The longest time for an answer.
    timeout: Duration,
    /// Tells that some more pages take hardly longer than one: the server is on this machine.
    is_near: bool,
    /// The socket for answers. Who has it receives the next one.
    reading: Lent<Socket>,
    /// The socket for requests. With TLS, requests wait until nobody receives.
    writing: Option<Lent<Socket>>,
    state: Lent<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The requests without an answer, in the order in which they were sent.
    asked: VecDeque<Answer>,
    /// The answers that nobody has taken yet.
    came: Vec<Answer>,
    /// The requests whose answers nobody wants any more.
    unwanted: Vec<u64>,
    /// The number of the last request.
    last: u64,
    /// The error that ended the connection.
    failed: Option<String>,
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
        let writing = socket.writer().map_err(&failed)?.map(Lent::new);
        let (is_near, reading) = (socket.is_unix(), Lent::new(socket));
        Ok(Self { layout, timeout, is_near, reading, writing, state: Lent::default() })
    }

    /// Sends a request, and returns its number.
    ///
    /// # Errors
    /// If the connection has failed, or fails now.
    pub(super) fn ask(&self, wanted: Wanted, buffer: Buffer) -> Result<u64, PagesError> {
        let Wanted { pid, address, pages } = wanted;
        let header = Header { command: Command::Get, flags: 0, pages, address, id: pid.into() };
        // Requests are sent in the order of their numbers.
        let mut socket = self.writing.as_ref().unwrap_or(&self.reading).take();
        let number = {
            let mut state = self.state.take();
            state.check()?;
            state.last += 1;
            let number = state.last;
            state.asked.push_back(Answer { number, wanted: Some(wanted), buffer, bytes: 0 });
            number
        };
        self.put(&mut socket, header).map_err(|error| self.fail(error))?;
        Ok(number)
    }

    /// Waits for the answer to a request, `awake` if that is given.
    ///
    /// # Errors
    /// If the connection has failed, or fails now.
    pub(super) fn answer(
        &self,
        number: u64,
        mut awake: Option<&mut Awake>,
    ) -> Result<Answer, PagesError> {
        let mut socket = self.reading.take();
        loop {
            let mut answer = {
                let mut state = self.state.take();
                if let Some(at) = state.came.iter().position(|answer| answer.number == number) {
                    return Ok(state.came.swap_remove(at));
                }
                state.check()?;
                let next = state.asked.pop_front();
                next.ok_or_else(|| wrong("an answer is awaited twice".to_owned()))?
            };
            // With TLS bytes may have come that the socket does not show.
            if let (Some(awake), Some(_)) = (awake.as_deref_mut(), &self.writing) {
                awake.wait(socket.as_fd());
            }
            self.receive(&mut socket, &mut answer).map_err(|error| self.fail(error))?;
            if answer.number == number {
                return Ok(answer);
            }
            self.state.take().keep(answer);
        }
    }

    /// Lets the answer to a request go when it comes.
    pub(super) fn forget(&self, number: u64) {
        let mut state = self.state.take();
        state.came.retain(|answer| answer.number != number);
        if state.asked.iter().any(|answer| answer.number == number) {
            state.unwanted.push(number);
        }
    }

    /// Returns true unless the connection has failed.
    pub(super) fn works(&self) -> bool {
        self.state.take().failed.is_none()
    }

    /// Makes calls whose answers may take another time.
    ///
    /// # Errors
    /// The errors of the calls, and of setting up the socket.
    pub(super) fn within<T>(
        &self,
        time: Duration,
        calls: impl FnOnce() -> Result<T, PagesError>,
    ) -> Result<T, PagesError> {
        let set = |time: Duration| {
            let set = self.reading.take().set_timeout(Some(time.max(Duration::from_millis(1))));
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

    /// Ends the session: everything has come. Waits for the server's answer. Nothing can be asked
    /// afterwards.
    ///
    /// # Errors
    /// If the connection fails, or the server answers with an error.
    pub(super) fn close(&self) -> Result<(), PagesError> {
        let mut socket = self.reading.take();
        let mut writer = self.writing.as_ref().map(Lent::take);
        // Answers that are on their way come first. Whoever has asked for them may wait here, too.
        loop {
            let next = {
                let mut state = self.state.take();
                state.check()?;
                state.asked.pop_front()
            };
            let Some(mut answer) = next else { break };
            self.receive(&mut socket, &mut answer).map_err(|error| self.fail(error))?;
            self.state.take().keep(answer);
        }
        self.state.take().failed = Some("the session is closed".to_owned());
        let close = Header { command: Command::Close, flags: 0, pages: 0, address: 0, id: 0 };
        self.put(writer.as_deref_mut().unwrap_or(&mut socket), close)?;
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
        let mut socket = self.writing.as_ref().unwrap_or(&self.reading).take();
        let _ = socket.write_all(&[0xff; 32]);
        socket.shutdown();
    }

    /// Receives the next answer, which is for this request.
    fn receive(&self, socket: &mut Socket, answer: &mut Answer) -> Result<(), PagesError> {
        let Some(wanted) = answer.wanted else {
            return Err(wrong("nobody has asked for pages".to_owned()));
        };
        let (head, page) = (self.layout.size(), page_size().bytes());
        let bytes = |pages: u64| usize::try_from(pages.saturating_mul(page)).unwrap_or(usize::MAX);
        let room = answer.buffer.after(head, bytes(wanted.pages));
        let (mut have, mut need, mut is_known) = (0, head, false);
        let begun = Instant::now();
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
        let header = header.map_err(|word| wrong(format!("unknown command {word:#x}")))?;
        let Wanted { pid, address, pages } = wanted;
        let fits = header.command == Command::AddF
            && header.flags & PRESENT != 0
            && header.address == address
            && header.id == u64::from(pid);
        if !fits || !(1..=pages).contains(&header.pages) {
            return Err(wrong(format!(
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

    /// Notes that the connection has failed, for all who wait.
    fn fail(&self, error: PagesError) -> PagesError {
        self.state.take().failed.get_or_insert_with(|| error.to_string());
        error
    }
}

impl State {
    /// Keeps an answer for whoever has asked for it.
    fn keep(&mut self, answer: Answer) {
        match self.unwanted.iter().position(|number| *number == answer.number) {
            Some(at) => drop(self.unwanted.swap_remove(at)),
            None => self.came.push(answer),
        }
    }

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

fn wrong(what: String) -> PagesError {
    PagesError::Protocol(PageProtocolError { at: 0, what })
}

const LATE: PagesError = PagesError::TimedOut("the answer of the page server");
