//! Pages sent on request, straight from images.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};

use criu_images::memory::{Content, PageObject, PageSet, PageSource, StoredPages};

use super::error::PagesError;
use super::page_size::page_size;
use super::proto::{Command, Header, Layout, PRESENT};
use super::socket::Socket;

/// A set whose pages a connection serves.
pub(super) struct Source<'s> {
    set: &'s PageSet,
    /// The tasks that pages have been sent of.
    tasks: HashMap<u32, StoredPages<'s>>,
}

impl<'s> Source<'s> {
    pub(super) fn new(set: &'s PageSet) -> Self {
        Self { set, tasks: HashMap::new() }
    }

    /// Answers a request for at most `pages` pages with those that lie together. Returns their
    /// number.
    pub(super) fn send(
        &mut self,
        socket: &mut Socket,
        layout: Layout,
        pid: u32,
        address: u64,
        pages: u64,
        id: u64,
    ) -> Result<u64, PagesError> {
        let no_page = |why: String| PagesError::NoPage { pid, address, why };
        let task = match self.tasks.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found = self.set.pages(PageObject::Task(pid))?;
                new.insert(found.ok_or_else(|| no_page("there is no such task".to_owned()))?)
            }
        };
        let page = page_size().bytes();
        let chunk = task.chunk(address)?;
        if let Content::Absent(why) = chunk.content {
            return Err(no_page(why.to_string()));
        }
        let together = chunk.end.saturating_sub(address) / page;
        // Pages that no file holds as they are, such as compressed ones, are read into memory
        // first.
        let in_file = task.in_file(address)?;
        let most = if in_file.is_some() { u64::MAX } else { PIECE };
        let count = pages.min(together).min(most).min(u32::MAX.into());
        let header = Header { command: Command::AddF, flags: PRESENT, pages: count, address, id };
        let head = header.to_bytes(layout).unwrap_or_default();
        let sent = PagesError::socket("send pages");
        let head = head.get(..layout.size()).unwrap_or_default();
        let size = count.saturating_mul(page);
        match in_file {
            Some((file, offset, _)) => {
                // The header goes together with the pages.
                socket.write_more(head).map_err(&sent)?;
                socket.send_file(file, offset, size).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => no_page("the pages file ends early".to_owned()),
                    _ => sent(error),
                })?;
            }
            None => {
                let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                task.read_at(address, &mut bytes)?;
                socket.write_all(head).map_err(&sent)?;
                socket.write_all(&bytes).map_err(&sent)?;
            }
        }
        Ok(count)
    }
}

/// The most pages that are read into memory.
const PIECE: u64 = 256;
