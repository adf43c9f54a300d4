//! Digests of members.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{slice, thread};

use criu_images::source::Blob;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::archive::Archive;
use crate::error::{ErrorKind, Result};
use crate::member::{Member, MemberKind};
use crate::watch::Watch;

/// SHA-256 of bytes. Displays as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// Digests of the content of members, by path. Hard links have the digest of their target;
/// directories, symbolic links and members that are not read have no digest.
///
/// ```no_run
/// use criu_archive::{Archive, Digests, UNWATCHED};
///
/// let archive = Archive::open("/tmp/container.tar.zst")?;
/// let digests = Digests::compute(&archive, UNWATCHED)?;
/// for (path, sha256) in digests.iter() {
///     println!("{sha256}  {path}");
/// }
/// # Ok::<(), criu_archive::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<String, Sha256>);

impl Digests {
    /// Reads all members, in several threads, and computes their digests.
    ///
    /// # Errors
    /// The errors of [`Archive::bytes`], except for members that are not read at all;
    /// [`ErrorKind::Io`]; [`ErrorKind::Stopped`].
    pub fn compute(archive: &Archive, watch: Watch<'_>) -> Result<Self> {
        Ok(sums(archive, Beside::Nothing, watch)?.0)
    }

    /// Returns the digests that stand in the table of contents, without a look at the members.
    /// `None` if the archive has none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a table that is damaged or cannot be read.
    pub fn recorded(archive: &Archive) -> Result<Option<Self>> {
        let Some(rows) = archive.recorded() else { return Ok(None) };
        let mut digests = BTreeMap::new();
        for member in archive.members() {
            let target = archive.index().with_content(member);
            let target = target.filter(|target| target.kind == MemberKind::File);
            let Some(target) = target else { continue };
            let found = rows(target).map_err(|error| archive.fail(member.path(), error.into()))?;
            // An empty member has no digest in the table.
            let found = found.unwrap_or_else(|| sha2::Sha256::digest([]).into());
            digests.insert(member.path().to_owned(), Sha256(found));
        }
        Ok(Some(Self(digests)))
    }

    /// Returns the digest of a member.
    pub fn get(&self, path: &str) -> Option<Sha256> {
        self.0.get(path).copied()
    }

    /// All digests, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.0.iter().map(|(path, digest)| (&**path, *digest))
    }
}

/// Computes the digests of members and, if asked for, that of the whole stream.
pub(crate) fn sums(
    archive: &Archive,
    beside: Beside,
    watch: Watch<'_>,
) -> Result<(Digests, Option<Sha256>)> {
    let members = archive.index().in_order();
    let is_file = |member: &&&Member| member.kind == MemberKind::File;
    let first = match beside {
        Beside::Nothing => None,
        Beside::Rest => Some(Job::Rest(rest(archive, &members))),
        Beside::Stream => Some(Job::Stream),
    };
    let jobs: Vec<Job<'_>> = first
        .into_iter()
        .chain(members.iter().filter(is_file).map(|member| Job::Member(member)))
        .collect();
    let (next, bytes, ends) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((number, job)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(number).map(|job| (number, job)).filter(|_| !ends.load(Ordering::Relaxed))
        } {
            let sum = job.sum(archive, &bytes, watch);
            ends.fetch_or(sum.is_err(), Ordering::Relaxed);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, sum));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| (0..threads.min(jobs.len())).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The first error is that of the first member, whatever thread was faster.
    done.sort_unstable_by_key(|(number, _)| *number);
    let (mut digests, mut stream) = (BTreeMap::new(), None);
    for (number, sum) in done {
        let sum = sum?;
        match jobs.get(number) {
            Some(Job::Member(member)) => drop(digests.insert(member.path().to_owned(), sum)),
            Some(Job::Stream) => stream = Some(sum),
            Some(Job::Rest(_)) | None => {}
        }
    }
    archive.unchanged()?;
    for member in &members {
        let target = archive.index().target(member);
        let sum = target.and_then(|target| digests.get(target.path()).copied());
        digests.extend(sum.map(|sum| (member.path().to_owned(), sum)));
    }
    Ok((Digests(digests), stream))
}

/// Bytes that are read beside the contents of files.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    Nothing,
    /// Bytes outside of files. A frame without a file can be damaged, or longer than a table says.
    Rest,
    /// The whole stream, for its digest.
    Stream,
}

/// Returns the places that are no content of a file.
fn rest(archive: &Archive, members: &[&Member]) -> Vec<Range<u64>> {
    let (mut places, mut at) = (Vec::new(), 0);
    for member in members.iter().filter(|member| member.kind == MemberKind::File) {
        places.push(at..member.start.max(at));
        at = member.start.saturating_add(member.size()).max(at);
    }
    places.push(at..archive.unpacked().len().max(at));
    places
}

/// Bytes to read.
enum Job<'m> {
    Stream,
    Rest(Vec<Range<u64>>),
    Member(&'m Member),
}

impl Job<'_> {
    fn sum(&self, archive: &Archive, done: &AtomicU64, watch: Watch<'_>) -> Result<Sha256> {
        let failed = |kind: ErrorKind| match self {
            Self::Stream | Self::Rest(_) => archive.fault(kind),
            Self::Member(member) => archive.fail(member.path(), kind),
        };
        let bytes = match self {
            Self::Stream | Self::Rest(_) => archive.unpacked().clone(),
            Self::Member(member) => archive.bytes(member.path())?,
        };
        let whole = 0..bytes.len();
        let places = if let Self::Rest(places) = self { places } else { slice::from_ref(&whole) };
        let most = places.iter().map(|place| place.end - place.start).max().unwrap_or(0);
        let mut hasher = sha2::Sha256::new();
        let mut piece = vec![0; PIECE.min(usize::try_from(most).unwrap_or(PIECE))];
        for place in places {
            let mut at = place.start;
            while at < place.end {
                let len = next(&bytes, at..place.end, &mut piece);
                let len = len.map_err(|error| failed(error.into()))?;
                hasher.update(piece.get(..len).unwrap_or_default());
                at += len as u64;
                // Members are counted, and bytes beside them are not.
                let counts = if matches!(self, Self::Member(_)) { len as u64 } else { 0 };
                if watch(done.fetch_add(counts, Ordering::Relaxed) + counts).is_break() {
                    return Err(archive.fault(ErrorKind::Stopped));
                }
            }
        }
        Ok(Sha256(hasher.finalize().into()))
    }
}

impl Sha256 {
    /// Computes the digest of bytes by reading all of them, a piece at a time. `watch` is called
    /// with the bytes that have been read, and can stop the work.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::Stopped`].
    pub(crate) fn of(bytes: &Blob, watch: Watch<'_>) -> Result<Self, ErrorKind> {
        let mut hasher = sha2::Sha256::new();
        let mut piece = vec![0; PIECE.min(usize::try_from(bytes.len()).unwrap_or(PIECE))];
        let mut at = 0;
        while at < bytes.len() {
            let len = next(bytes, at..bytes.len(), &mut piece)?;
            hasher.update(piece.get(..len).unwrap_or_default());
            at += len as u64;
            if watch(at).is_break() {
                return Err(ErrorKind::Stopped);
            }
        }
        Ok(Self(hasher.finalize().into()))
    }
}

/// Reads the next piece, and returns its length.
fn next(bytes: &Blob, place: Range<u64>, piece: &mut [u8]) -> std::io::Result<usize> {
    let left = usize::try_from(place.end.saturating_sub(place.start)).unwrap_or(usize::MAX);
    let (piece, _) = piece.split_at_mut(left.min(piece.len()));
    bytes.read_at(place.start, piece)?;
    Ok(piece.len())
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// The error for a text that is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no SHA-256, which has 64 hexadecimal digits")]
pub struct NoSha256;

impl FromStr for Sha256 {
    type Err = NoSha256;

    /// Reads 64 digits, letters in lower case.
    fn from_str(text: &str) -> Result<Self, NoSha256> {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let mut sum = [0; 32];
        if text.len() != 2 * sum.len() || !text.as_bytes().iter().all(is_digit) {
            return Err(NoSha256);
        }
        for (byte, pair) in sum.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NoSha256)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoSha256)?;
        }
        Ok(Self(sum))
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Bytes that a thread reads at once.
const PIECE: usize = 1 << 20;

const MOST_THREADS: usize = 8;
