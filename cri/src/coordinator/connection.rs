//! A coordinator's end of a connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use criu_rs::Tls;

use super::answer::Answer;
use super::line::Line;
use super::message::{MAX_REQUEST, Request, Scan};

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) line: Line,
    /// The moment at which the connection is closed.
    pub(super) end: Option<Instant>,
    pub(super) unsent: Vec<u8>,
    pub(super) part: Part,
}

#[derive(Debug)]
pub(super) enum Part {
    /// The request is coming.
    Asks { scan: Scan, request: Vec<u8> },
    /// The answer is not known yet, or the connection is held.
    Waits,
    /// The answer goes out. Then nothing follows.
    Ends { is_finished: bool, ignored: usize },
}

/// The end of a connection.
pub(super) struct Gone;

impl Client {
    /// Sends and receives what the socket allows. Returns the request when it is whole.
    pub(super) fn advance(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        self.send()?;
        let mut buffer = [0; 4096];
        loop {
            let size = match self.line.read(&mut buffer) {
                Ok(0) => return Err(Gone),
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Gone),
            };
            let bytes = buffer.get(..size).unwrap_or_default();
            match &mut self.part {
                Part::Asks { scan, request } => match take(scan, request, bytes) {
                    Ok(false) => {}
                    Ok(true) => return Ok(Some(std::mem::take(request))),
                    Err(why) => {
                        self.answer(&Answer::Refused(why));
                        return Ok(None);
                    }
                },
                // Nothing follows a request.
                Part::Waits => return Err(Gone),
                Part::Ends { ignored, .. } => {
                    *ignored = ignored.saturating_add(size);
                    if *ignored > MAX_REQUEST {
                        return Err(Gone);
                    }
                }
            }
        }
    }

    /// Checks that a request's id is one that the client's certificate names.
    pub(super) fn may_be(&self, request: Request) -> Result<Request, String> {
        if matches!(self.line, Line::Plain(_)) {
            return Ok(request);
        }
        let shown = self.line.certificate().ok_or("no certificate has been shown")?;
        let names = Tls::names_of(shown).map_err(|error| error.to_string())?;
        if names.contains(&request.id) {
            return Ok(request);
        }
        let names = if names.is_empty() { "no id".to_owned() } else { names.join(", ") };
        Err(format!("the certificate names {names}, and not {}", request.id))
    }

    /// Sends an answer, after which the connection ends.
    pub(super) fn answer(&mut self, answer: &Answer) {
        self.unsent.extend(answer.to_line().into_bytes());
        self.finish();
    }

    /// Sends an answer, after which the connection stays.
    pub(super) fn tell(&mut self, answer: &Answer) {
        self.unsent.extend(answer.to_line().into_bytes());
        // An error is seen again by the next call.
        let _ = self.send();
    }

    /// Ends the connection when everything is sent.
    pub(super) fn finish(&mut self) {
        self.part = Part::Ends { is_finished: false, ignored: 0 };
        self.end = Instant::now().checked_add(LINGER);
        // An error is seen again by the next call.
        let _ = self.send();
    }

    fn send(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            match self.line.write(&self.unsent) {
                Ok(0) => return Err(Gone),
                Ok(size) => drop(self.unsent.drain(..size)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        match self.line.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            sent => sent.map_err(|_| Gone)?,
        }
        // The client reads the answer to its end, and closes. Closed here first, with bytes
        // unread, the connection would be reset and the answer lost.
        if let Part::Ends { is_finished: is_finished @ false, .. } = &mut self.part {
            *is_finished = true;
            self.line.finish();
        }
        Ok(())
    }
}

/// Takes bytes of a request. Returns `true` if it is whole.
fn take(scan: &mut Scan, request: &mut Vec<u8>, bytes: &[u8]) -> Result<bool, String> {
    for (at, byte) in bytes.iter().enumerate() {
        if request.len() >= MAX_REQUEST {
            return Err(format!("the request has more than {MAX_REQUEST} bytes, the limit"));
        }
        request.push(*byte);
        if scan.take(*byte).map_err(|error| error.to_string())? {
            let rest = bytes.get(at.saturating_add(1)..).unwrap_or_default();
            if !rest.trim_ascii().is_empty() {
                return Err("bytes follow the request".to_owned());
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// Time that a client may take to read its answer.
const LINGER: Duration = Duration::from_secs(5);
