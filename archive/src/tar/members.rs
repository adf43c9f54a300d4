//! Members of a tar archive, one after another. Names and records are bounded before they are read.

use std::io::{self, Read};

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
    /// Offset of the first header of the last member.
    began: u64,
    /// Most bytes that the archive may have.
    most: u64,
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

/// A member, and its content if somebody wants to keep that.
type WithContent = (Found, Option<Vec<u8>>);

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
        Self { stream, at: 0, began: 0, most: u64::MAX, total, headers: 0, text: 0 }
    }

    /// Refuses members that end behind so many bytes.
    pub(crate) fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// Offset of the first header of the member that was returned last.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// Bytes of the archive so far.
    pub(crate) fn len(&self) -> u64 {
        self.at
    }

    /// Returns the next member; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Fault> {
        Ok(self.next_kept(|_| false)?.map(|(found, _)| found))
    }

    /// Returns the next member, with its content if `keep` says so.
    pub(crate) fn next_kept(
        &mut self,
        mut keep: impl FnMut(&Found) -> bool,
    ) -> Result<Option<WithContent>, Fault> {
        let mut before = Before::default();
        self.began = self.at;
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
                Sort::Unclear => {
                    let name = header.name();
                    let fault = fault(ErrorKind::Refused(UNCLEAR));
                    return Err(fault.of(String::from_utf8_lossy(&name)));
                }
                Sort::GlobalRecords => {
                    // Go forgets the description of a member here.
                    let Before { name: None, link: None, records: None } = before else {
                        return Err(fault(ErrorKind::Malformed(PARTED)));
                    };
                    if self.records(size)?.decide() {
                        let what = "PAX records that rename or resize all members";
                        return Err(fault(ErrorKind::Unsupported(what)));
                    }
                    false
                }
                _ => return self.member(&header, sort, size, before, &mut keep).map(Some),
            };
            if is_second {
                let what = "describes one member twice";
                return Err(fault(ErrorKind::Malformed(what)));
            }
        }
    }

    /// Passes over a member, or reads it.
    fn member(
        &mut self,
        header: &Header,
        mut sort: Sort,
        size: u64,
        before: Before,
        keep: &mut dyn FnMut(&Found) -> bool,
    ) -> Result<WithContent, Fault> {
        let place = self.at.saturating_sub(BLOCK as u64);
        let has_records = before.records.is_some();
        let records = before.records.unwrap_or_default();
        let fault = |kind: ErrorKind| Fault::from(kind).at(place);
        let name = one(records.name, before.name).map_err(fault)?;
        let name = name.unwrap_or_else(|| header.name());
        let named = |kind: ErrorKind| fault(kind).of(String::from_utf8_lossy(&name));
        header.check_name().map_err(named)?;
        let link = one(records.link, before.link).map_err(named)?;
        let link = link.unwrap_or_else(|| header.link());
        self.count(name.len().saturating_add(link.len()))?;
        if sort == Sort::Sparse && header.has_more_map() {
            self.sparse_map(named)?;
        }
        if records.is_sparse {
            sort = Sort::Sparse;
        }
        let size = content_size(header, size, has_records, records.size).map_err(named)?;
        let start = self.at;
        let end = start.saturating_add(size);
        if end > self.most {
            return Err(named(ErrorKind::TooLarge { size: end, limit: self.most }));
        }
        let (mode, uid, gid, modified) = header.attributes();
        let uid = records.uid.unwrap_or(uid);
        let gid = records.gid.unwrap_or(gid);
        let modified = records.modified.unwrap_or(modified);
        let found = Found { name, link, sort, mode, uid, gid, modified, start, size };
        let named = |kind: ErrorKind| fault(kind).of(String::from_utf8_lossy(&found.name));
        let content = if keep(&found) {
            Some(self.kept(size).map_err(named)?)
        } else {
            self.skip(size).map_err(named)?;
            None
        };
        Ok((found, content))
    }

    /// Passes over the blocks in which the map of a sparse file goes on.
    fn sparse_map(&mut self, named: impl Fn(ErrorKind) -> Fault) -> Result<(), Fault> {
        let (first, limit) = (self.at, MAX_RECORDS);
        while continues(&self.block()?.unwrap_or([0; BLOCK])) {
            let size = self.at - first;
            if size >= limit {
                return Err(named(ErrorKind::TooLarge { size: size + BLOCK as u64, limit }));
            }
        }
        Ok(())
    }

    /// Reads the content of a member. Memory grows with what is there, and not with the claim.
    fn kept(&mut self, size: u64) -> Result<Vec<u8>, ErrorKind> {
        let mut content = Vec::new();
        let left = self.stream.by_ref().take(size).read_to_end(&mut content)? as u64;
        self.at = self.at.saturating_add(left);
        if left < size {
            return Err(ErrorKind::Truncated { need: size, left });
        }
        let filled = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(size);
        self.pass(filled - size)?;
        Ok(content)
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let place = self.at;
        let no_archive = |fault: ErrorKind| match place {
            0 => ErrorKind::NotAnArchive.into(),
            _ => Fault::from(fault).at(place),
        };
        let Some(block) = self.block()? else { return Ok(None) };
        let Some(header) = Header::new(block).map_err(no_archive)? else {
            self.end()?;
            return Ok(None);
        };
        self.headers += 1;
        let limit = bounds::MEMBERS.get();
        if self.headers > limit {
            return Err(ErrorKind::TooMany { what: "members", limit }.into());
        }
        Ok(Some(header))
    }

    /// Reads the zeros that fill up the last record of an archive. Readers that go on where others
    /// stop would see other members.
    fn end(&mut self) -> Result<(), Fault> {
        let fault = |kind: ErrorKind, at: u64| Fault::from(kind).at(at);
        let place = self.at;
        let mut block = [0; BLOCK];
        loop {
            let len = self.fill(&mut block)?;
            let filled = block.get(..len).unwrap_or_default();
            if filled.iter().any(|byte| *byte != 0) {
                return Err(fault(ErrorKind::Refused("there are bytes behind its end"), self.at));
            }
            self.at += len as u64;
            if len < BLOCK {
                return Ok(());
            }
            let size = self.at - place;
            if size > MAX_END {
                return Err(fault(ErrorKind::TooLarge { size, limit: MAX_END }, place));
            }
        }
    }

    /// Reads a block; `None` at the end of the file.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        let (need, left) = (BLOCK as u64, self.fill(&mut block)? as u64);
        if left == need {
            self.at += need;
            return Ok(Some(block));
        }
        match (left, self.at) {
            (_, 0) => Err(ErrorKind::NotAnArchive.into()),
            (0, _) => Ok(None),
            (_, at) => Err(Fault::from(ErrorKind::Truncated { need, left }).at(at)),
        }
    }

    /// Fills a buffer, and returns how much is filled: less at the end of the file.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
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
        let mut content = vec![0; len];
        let left = self.fill(&mut content)? as u64;
        if left < size {
            return Err(fault(ErrorKind::Truncated { need: size, left }));
        }
        self.at += size;
        // To the next header.
        self.pass(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(content)
    }

    /// Passes over the content of a member.
    fn skip(&mut self, size: u64) -> Result<(), ErrorKind> {
        let filled = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(size);
        let left = self.total.saturating_sub(self.at);
        // Nothing is read of a member that is known to be cut.
        let passed = if size > left { left } else { self.pass(filled)? };
        // The last block of an archive may be cut.
        if passed < size {
            return Err(ErrorKind::Truncated { need: size, left: passed });
        }
        Ok(())
    }

    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        let passed = self.stream.pass(bytes)?;
        self.at = self.at.saturating_add(passed);
        Ok(passed)
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

/// Returns the text that two descriptions give. Some readers follow one of them, others the other.
fn one(records: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, ErrorKind> {
    match (records, gnu) {
        (Some(a), Some(b)) if a != b => Err(ErrorKind::Refused("it has two names or targets")),
        (a, b) => Ok(a.or(b)),
    }
}

/// Returns how many bytes of content a member has. A size in the PAX records counts more than the
/// header's. Readers that follow the other number would see other members, so both have to agree:
/// writers give another number only if the header has no room for the right one.
///
/// Members without content have no size, either: GNU tar passes over content of symbolic links and
/// devices, and Go does not. The size of a directory or of a hard link counts for neither, but
/// bsdtar follows that of a hard link with PAX records.
fn content_size(
    header: &Header,
    size: u64,
    has_records: bool,
    records: Option<u64>,
) -> Result<u64, ErrorKind> {
    let counts_nothing = match header.sort() {
        Sort::Directory => true,
        Sort::HardLink => !has_records,
        _ => false,
    };
    match (header.is_bare(), records) {
        (true, _) if size > 0 && !counts_nothing => Err(ErrorKind::Refused(NO_CONTENT)),
        (false, None) => Ok(size),
        (false, Some(records)) if records == size || records >= HEADER_FULL => Ok(records),
        (false, Some(_)) => {
            Err(ErrorKind::Refused("its header and its PAX records differ in size"))
        }
        (true, None | Some(0)) => Ok(0),
        (true, Some(_)) => Err(ErrorKind::Refused(NO_CONTENT)),
    }
}

const NO_CONTENT: &str = "it has content, which its kind has not";
const UNCLEAR: &str = "it describes the next member in a form that programs read differently";
const PARTED: &str = "has PAX records of all members between a member and its description";

/// First size that has no room in a header, of 11 octal digits.
const HEADER_FULL: u64 = 1 << 33;

/// Most bytes behind the end of an archive. Tapes are written in records of up to some MiB, the
/// last of which is filled up.
const MAX_END: u64 = 16 << 20;

/// Largest name, largest PAX records and largest map of a sparse file of a member that are read, in
/// bytes. The kernel has extended attributes of up to 64 KiB. A map of this size has 43,000 runs.
const MAX_RECORDS: u64 = 1 << 20;
