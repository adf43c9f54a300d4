//! The report of a page server's session.

use std::fmt;
use std::path::PathBuf;

use super::error::PagesError;
use super::receive::Received;

/// The report of a session that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionReport {
    /// The number of the session, counted from 0.
    pub number: u64,
    /// The client: its address, for TCP.
    pub peer: String,
    /// The directory in which the pages of the session were stored.
    pub directory: Option<PathBuf>,
    /// The numbers of what was received, or the error that ended the session.
    pub result: Result<Received, PagesError>,
    /// The numbers of what was received, also until an error.
    pub received: Received,
}

impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(received) => write!(f, "{}: {received}", self.peer),
            Err(error) => write!(f, "{}: {error}", self.peer),
        }
    }
}
