//! Files of text that are bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::CoordinatorError;
use super::message::Graph;

/// Reads the dependencies of several members from a file of at most 16 MiB: a JSON object with a
/// list of ids for each id. [`Server::graph`](super::Server::graph) checks the ids.
///
/// # Errors
/// [`CoordinatorError::File`].
pub fn graph_in(path: &Path) -> Result<Graph, CoordinatorError> {
    let failed = |why: String| CoordinatorError::File { path: path.to_owned(), why };
    let text = File::open(path).and_then(|file| limited(file, MAX_GRAPH));
    let text = text.map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// Reads a file of less than `limit` bytes.
pub(super) fn limited(file: File, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let size = file.take(limit).read_to_string(&mut text)?;
    if size as u64 == limit {
        return Err(io::Error::other(format!("the file has {limit} bytes or more")));
    }
    Ok(text)
}

/// Bytes of a file with dependencies from which on it is refused.
const MAX_GRAPH: u64 = 16 << 20;
