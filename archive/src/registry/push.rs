//! Images sent to a registry.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use criu_images::source::Blob;
use reqwest::blocking::{Body, RequestBuilder};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode};

use super::Registry;
use super::http::{Action, patience};
use crate::error::{ErrorKind, Fault, Result};
use crate::oci::{Digest, Hasher, INDEX, Image, Reading, check, reading};

/// An image that a registry has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Pushed {
    /// Digest of the index that the tag names. `registry/name@DIGEST` is this image for ever.
    pub digest: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Bytes of the layer that were sent: 0 if the registry had the layer.
    pub sent: u64,
}

impl Registry {
    /// Sends an image: the layer and the config, unless the registry has them, then the manifest,
    /// and last the index, which gets the tag. A push that fails leaves the tag as it was. The
    /// digest of the layer is computed while it is sent, and a layer that has changed is refused.
    /// `progress` hears how many bytes were sent.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the reference has a digest, or no tag; [`ErrorKind::Digest`] if
    /// the layer has changed; [`ErrorKind::Io`] if it cannot be read; [`ErrorKind::Answer`],
    /// [`ErrorKind::Denied`] and [`ErrorKind::Unreachable`].
    pub fn push(
        &self,
        image: &Image,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Pushed> {
        self.try_push(image, Arc::new(progress)).map_err(|fault| self.fail(fault))
    }

    fn try_push(&self, image: &Image, progress: Progress) -> Result<Pushed, Fault> {
        let tag = self.reference.tag().filter(|_| self.reference.digest().is_none());
        let tag = tag.ok_or(ErrorKind::Malformed("has a digest: a push needs a tag alone"))?;
        let layer = image.layer();
        let mut sent = 0;
        if !self.has(layer.digest)? {
            self.send_blob(image.bytes(), layer.digest, progress)?;
            sent = layer.size;
        }
        let (config, bytes) = image.config();
        if !self.has(config.digest)? {
            self.send_blob(&Blob::from(bytes.to_vec()), config.digest, Arc::new(|_| {}))?;
        }
        let manifest = image.digest();
        self.send_document(&manifest.to_string(), image.media_type(), image.manifest())?;
        let index = image.index(None);
        self.send_document(tag, INDEX, &index)?;
        Ok(Pushed { digest: Digest::of(&index), manifest, sent })
    }

    /// Tells if the registry has a blob.
    fn has(&self, blob: Digest) -> Result<bool, Fault> {
        let what = "look for a blob";
        let url = self.http.url(&format!("blobs/{blob}"))?;
        let response = self.http.send(what, Action::Push, &Method::HEAD, &url, |it| it)?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.http.refusal(what, response)),
        }
    }

    /// Sends a blob as one stream.
    fn send_blob(&self, blob: &Blob, digest: Digest, progress: Progress) -> Result<(), Fault> {
        let what = "begin to send a blob";
        let url = self.http.url("blobs/uploads/")?;
        let empty = |request: RequestBuilder| request.header(CONTENT_LENGTH, 0);
        let response = self.http.send(what, Action::Push, &Method::POST, &url, empty)?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.http.refusal(what, response));
        }
        let mut url = self.http.location(&response)?;

        let what = "send a blob";
        let hasher = Arc::new(Mutex::new(Hasher::default()));
        let fault = Arc::new(Mutex::new(None));
        let body = || Sending {
            from: reading(blob),
            hasher: Arc::clone(&hasher),
            fault: Arc::clone(&fault),
            progress: Arc::clone(&progress),
            sent: self.http.sent(),
        };
        let time = patience(blob.len());
        let make = |request: RequestBuilder| {
            // A body is made anew for each attempt.
            if let Ok(mut hasher) = hasher.lock() {
                *hasher = Hasher::default();
            }
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            request.timeout(time).body(Body::sized(body(), blob.len()))
        };
        let answer = self.http.send(what, Action::Push, &Method::PATCH, &url, make);
        let failed = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = failed {
            return Err(Fault::from(ErrorKind::Io(error)).of("layer"));
        }
        let response = answer?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.http.refusal(what, response));
        }
        url = self.http.location(&response)?;
        let found = hasher.lock().unwrap_or_else(PoisonError::into_inner).clone().digest();
        check(found, digest).map_err(|fault| fault.of("layer"))?;

        let what = "end a blob";
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let make = |request: RequestBuilder| empty(request).timeout(time);
        let response = self.http.send(what, Action::Push, &Method::PUT, &url, make)?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.http.refusal(what, response)),
        }
    }

    /// Sends a manifest or an index.
    fn send_document(&self, version: &str, kind: &str, bytes: &[u8]) -> Result<(), Fault> {
        let what = "send the manifest";
        let url = self.http.url(&format!("manifests/{version}"))?;
        let make =
            |request: RequestBuilder| request.header(CONTENT_TYPE, kind).body(bytes.to_vec());
        let response = self.http.send(what, Action::Push, &Method::PUT, &url, make)?;
        if !matches!(response.status(), StatusCode::CREATED | StatusCode::OK) {
            return Err(self.http.refusal(what, response));
        }
        Ok(())
    }
}

/// A listener to the number of bytes sent.
type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// A blob on its way.
struct Sending {
    from: Reading,
    hasher: Arc<Mutex<Hasher>>,
    /// The reason why the blob could not be read: the client tells only that sending ended.
    fault: Arc<Mutex<Option<io::Error>>>,
    progress: Progress,
    sent: Arc<AtomicU64>,
}

impl Read for Sending {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.from.read(buf) {
            Ok(len) => {
                let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
                hasher.update(buf.get(..len).unwrap_or_default());
                self.sent.fetch_add(len as u64, Ordering::Relaxed);
                (self.progress)(hasher.written());
                Ok(len)
            }
            Err(error) => {
                let told = io::Error::from(error.kind());
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(told)
            }
        }
    }
}
