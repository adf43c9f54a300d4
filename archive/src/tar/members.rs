//! Members of a tar archive, one after another. Names and records are bounded before they are read.

use std::io;

use super::header::{BLOCK, Header, Sort, continues, text};
use super::records::Records;
use super::stream::Stream;
use crate::bounds;
use crate::error::{ErrorKind, Fault};

/// A reader of the members of an archive, from the first on.
#[derive(Debug)]
pub(crate) struct Members<S> {
    stream: S,
    at: u64,
    /// Bytes of the whole archive; the largest number if nobody knows.
    total: u64,
    headers: u64,
    /// Bytes of names, link targets and records so far.
    text: u64,
}

/// A member of an archive.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) sort: Sort,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified: u64,
    /// Offset of the content in the archive.
    pub(crate) start: u64,
    /// Bytes of the content in the archive.
    pub(crate) size: u64,
}

/// Descriptions that stand before the member that they describe.
#[derive(Debug, Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl<S: Stream> Members<S> {
    pub(crate) fn new(stream: S) -> Self {
        let total = stream.total().unwrap_or(u64::MAX);
        Self { stream, at: 0, total, headers: 0, text: 0 }
    }

    /// Returns the next member; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Fault> {
        let mut before = Before::default();
        loop {
            let place = self.at;
            let fault = |kind: ErrorKind| Fault::from(kind).at(place);
            let Some(header) = self.header()? else {
                let Before { name: None, link: None, records: None } = before else {
                    return Err(fault(ErrorKind::Malformed("describes a member that is missing")));
                };
                return Ok(None);
            };
            let sort = header.sort();
            let size = header.size().map_err(fault)?;
            let is_second = match sort {
                Sort::LongName => before.name.replace(self.name(size)?).is_some(),
                Sort::LongLink => before.link.replace(self.name(size)?).is_some(),
                Sort::Records => before.records.replace(self.records(size)?).is_some(),
                Sort::GlobalRecords => {
                    if self.records(size)?.decide() {
                        let what = "PAX records that rename or resize all members";
                        return Err(fault(ErrorKind::Unsupported(what)));
                    }
                    false
                }
                _ => match self.member(&header, sort, size, std::mem::take(&mut before))? {
                    Some(member) => return Ok(Some(member)),
                    None => false,
                },
            };
            if is_second {
                let what = "describes one member twice";
                return Err(fault(ErrorKind::Malformed(what)));
            }
        }
    }

    /// Passes over a member; `None` for one that no file system can have.
    fn member(
        &mut self,
        header: &Header,
        mut sort: Sort,
        mut size: u64,
        before: Before,
    ) -> Result<Option<Found>, Fault> {
        let records = before.records.unwrap_or_default();
        if sort == Sort::Sparse && header.has_more_map() {
            while continues(&self.block()?.unwrap_or([0; BLOCK])) {}
        }
        if records.is_sparse {
            sort = Sort::Sparse;
        }
        let own = if header.is_bare() { 0 } else { size };
        size = records.size.unwrap_or(own);
        let start = self.at;
        self.skip(size)?;
        let name = records.name.or(before.name).unwrap_or_else(|| header.name());
        let link = records.link.or(before.link).unwrap_or_else(|| header.link());
        self.count(name.len().saturating_add(link.len()))?;
        let is_possible = name.len() <= MAX_NAME && link.len() <= MAX_NAME;
        let (mode, uid, gid, modified) = header.attributes();
        let found = Found { name, link, sort, mode, uid, gid, modified, start, size };
        Ok(is_possible.then_some(found))
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let place = self.at;
        let no_archive = |fault: ErrorKind| match place {
            0 => ErrorKind::NotAnArchive.into(),
            _ => Fault::from(fault).at(place),
        };
        let block = self.block()?;
        let header = block.map(Header::new).transpose().map_err(no_archive)?.flatten();
        if header.is_some() {
            self.headers += 1;
            let limit = bounds::MEMBERS.get();
            if self.headers > limit {
                return Err(ErrorKind::TooMany { what: "members", limit }.into());
            }
        }
        Ok(header)
    }

    /// Reads a block; `None` at the end of the file.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let left = self.total.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK as u64 {
            return Err(match self.at {
                0 => ErrorKind::NotAnArchive.into(),
                _ => ErrorKind::Truncated { need: BLOCK as u64, left }.into(),
            });
        }
        let mut block = [0; BLOCK];
        self.stream.read_exact(&mut block)?;
        self.at += BLOCK as u64;
        Ok(Some(block))
    }

    /// Reads the content of a header that carries a name.
    fn name(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        let content = self.content(size, MAX_RECORDS)?;
        Ok(text(&content).to_vec())
    }

    /// Reads the content of a header that carries PAX records.
    fn records(&mut self, size: u64) -> Result<Records, Fault> {
        let place = self.at;
        let content = self.content(size, MAX_RECORDS)?;
        self.count(content.len())?;
        Records::read(&content).map_err(|kind| Fault::from(kind).at(place))
    }

    fn content(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, Fault> {
        let place = self.at;
        let fault = |kind: ErrorKind| Fault::from(kind).at(place);
        let len = usize::try_from(size).ok().filter(|_| size <= limit);
        let len = len.ok_or_else(|| fault(ErrorKind::TooLarge { size, limit }))?;
        let left = self.total.saturating_sub(self.at);
        if size > left {
            return Err(fault(ErrorKind::Truncated { need: size, left }));
        }
        let mut content = vec![0; len];
        self.stream.read_exact(&mut content)?;
        self.at += size;
        // To the next header.
        self.pass(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(content)
    }

    /// Passes over the content of a member.
    fn skip(&mut self, size: u64) -> Result<(), Fault> {
        let left = self.total.saturating_sub(self.at);
        if size > left {
            return Err(ErrorKind::Truncated { need: size, left }.into());
        }
        Ok(self.pass(size.checked_next_multiple_of(BLOCK as u64).unwrap_or(size))?)
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        // The last block of an archive may be cut.
        let bytes = bytes.min(self.total.saturating_sub(self.at));
        self.at += bytes;
        self.stream.pass(bytes)
    }

    /// Counts bytes of names and records.
    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.text = self.text.saturating_add(bytes as u64);
        let limit = bounds::NAMES.get();
        if self.text > limit {
            let what = "bytes of names and PAX records";
            return Err(ErrorKind::TooMany { what, limit }.into());
        }
        Ok(())
    }
}

/// Longest name of a member, and longest target of a link, that a member is kept with: the kernel's
/// `PATH_MAX`.
const MAX_NAME: usize = 4096;

/// Largest name and largest PAX records of a member that are read, in bytes. The kernel has
/// extended attributes of up to 64 KiB.
const MAX_RECORDS: u64 = 1 << 20;
