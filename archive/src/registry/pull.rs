//! Images from a registry as files.

use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::RequestBuilder;
use reqwest::header::RANGE;
use reqwest::{Method, StatusCode};

use super::Registry;
use super::http::{Action, Body, broken, check_range, is_busy, patience};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::oci::{Descriptor, Hasher, Image, check, new_file};

impl Registry {
    /// Fetches the layer of an image into a file: the archive as it was pushed. The digest is
    /// checked on the way. The file is written beside and renamed, with mode 0600. A connection
    /// that ends is resumed where it ended; a registry that is busy (429, 5xx) is asked again.
    /// `progress` hears how many bytes have come.
    ///
    /// # Errors
    /// [`ErrorKind::Digest`], [`ErrorKind::Truncated`] and [`ErrorKind::TooLarge`] if the registry
    /// sends other bytes than those that the manifest names; [`ErrorKind::Unreachable`] and
    /// [`ErrorKind::Answer`]; [`ErrorKind::Write`].
    pub fn pull(&self, image: &Image, path: &Path, mut progress: impl FnMut(u64)) -> Result<()> {
        let layer = image.layer();
        let written = new_file(path, |to| self.fetch(layer, to, &mut progress));
        written.map_err(|fault| {
            let place = format!("{} to {}", self.reference, path.display());
            Error::new(place, fault)
        })
    }

    /// Fetches the layer of an image as [`pull`](Self::pull) does, and writes it anywhere. The
    /// digest is known to be right when all has been written.
    ///
    /// # Errors
    /// The errors of [`pull`](Self::pull).
    pub fn fetch_layer(
        &self,
        image: &Image,
        to: &mut impl Write,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        let fetched = self.fetch(image.layer(), to, &mut progress);
        fetched.map_err(|fault| Error::new(self.reference.to_string(), fault))
    }

    /// Fetches a blob from its first byte to its last, and checks its digest.
    fn fetch(
        &self,
        blob: &Descriptor,
        to: &mut impl Write,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Fault> {
        let mut hasher = Hasher::default();
        let mut failures = 0;
        // Connections that bring a byte each do not last for ever.
        let until = Instant::now().checked_add(patience(blob.size));
        while hasher.written() < blob.size {
            let before = hasher.written();
            match self.fetch_on(blob, &mut hasher, to, progress) {
                Ok(()) => {}
                Err(fault) => {
                    let is_broken = matches!(fault.kind(), ErrorKind::Unreachable(_));
                    let is_busy = is_busy(&fault);
                    // A connection that brought something is no failure of the registry.
                    failures = if hasher.written() > before { 1 } else { failures + 1 };
                    let is_late = until.is_some_and(|until| Instant::now() > until);
                    if !(is_broken || is_busy) || failures >= ATTEMPTS || is_late {
                        return Err(fault);
                    }
                    if is_busy {
                        thread::sleep(PAUSE * failures);
                    }
                }
            }
        }
        check(hasher.digest(), blob.digest).map_err(|fault| fault.of("layer"))
    }

    /// Fetches bytes of a blob from where the last connection ended.
    fn fetch_on(
        &self,
        blob: &Descriptor,
        hasher: &mut Hasher,
        to: &mut impl Write,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Fault> {
        let url = self.http.url(&format!("blobs/{}", blob.digest))?;
        let start = hasher.written();
        let make = |request: RequestBuilder| {
            if start == 0 { request } else { request.header(RANGE, format!("bytes={start}-")) }
        };
        let response = self.http.send(WHAT, Action::Pull, &Method::GET, &url, make)?;
        // Bytes that have come already, from a registry that does not answer ranges.
        let mut skip = match response.status() {
            StatusCode::OK => start,
            StatusCode::PARTIAL_CONTENT if start > 0 => {
                check_range(&response, start..blob.size, blob.size)?;
                0
            }
            _ => return Err(self.http.refusal(WHAT, response)),
        };
        let left = blob.size - start + skip;
        let mut body = Body::new(response, left.saturating_add(1));
        let mut piece = vec![0; PIECE];
        loop {
            let read = body.read(&mut piece).map_err(|error| broken(&error))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            self.http.fetched(bytes.len() as u64);
            let known = skip.min(bytes.len() as u64);
            skip -= known;
            let new = bytes.get(usize::try_from(known).unwrap_or(0)..).unwrap_or_default();
            if hasher.written().saturating_add(new.len() as u64) > blob.size {
                let (size, limit) = (hasher.written() + new.len() as u64, blob.size);
                return Err(ErrorKind::TooLarge { size, limit }.into());
            }
            hasher.update(new);
            to.write_all(new).map_err(ErrorKind::Write)?;
            progress(hasher.written());
        }
        if hasher.written() < blob.size {
            let why = format!("the answer ends after {} of {} bytes", hasher.written(), blob.size);
            return Err(ErrorKind::Unreachable(why).into());
        }
        Ok(())
    }
}

const WHAT: &str = "fetch the layer";
const PIECE: usize = 256 << 10;
/// Requests in a row that may end without a byte.
const ATTEMPTS: u32 = 4;
/// Pause after the first answer of a busy registry. It grows with each further one.
const PAUSE: Duration = Duration::from_millis(100);
