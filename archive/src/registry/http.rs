//! Requests to a registry, with bounds on its answers.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use criu_images::Text;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_native_certs;

use super::access::{Access, Found, read};
use super::login;
use super::reference::Reference;
use crate::error::{ErrorKind, Fault};

/// A connection to a registry, for one repository.
pub(super) struct Http {
    client: Client,
    /// `https://host/`.
    origin: Url,
    repository: String,
    found: Found,
    /// Set if plain HTTP is allowed to any host.
    may_be_plain: bool,
    /// Headers that the registry has accepted, or will.
    logins: Mutex<BTreeMap<Action, HeaderValue>>,
    counted: Counted,
}

/// Rights that a request needs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Action {
    Pull,
    Push,
}

/// Requests to a registry, and bytes in their bodies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests sent, those to redirects not counted.
    pub requests: u64,
    /// Bytes received in bodies.
    pub fetched: u64,
    /// Bytes sent in bodies of layers.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    fetched: AtomicU64,
    sent: Arc<AtomicU64>,
}

impl Http {
    /// Finds out how the registry is reached.
    pub(super) fn connect(reference: &Reference, access: &Access) -> Result<Self, Fault> {
        let found = access.find(reference)?;
        let make = |scheme: &str| -> Result<Self, Fault> {
            let url = format!("{scheme}://{}/", reference.host());
            let origin = Url::parse(&url).map_err(|_| ErrorKind::Malformed(NO_HOST))?;
            let client = client(&origin, access)?;
            let repository = reference.repository().to_owned();
            let (found, logins, counted) = (found.clone(), Mutex::default(), Counted::default());
            let may_be_plain = access.plain_http;
            Ok(Self { client, origin, repository, found, may_be_plain, logins, counted })
        };
        if access.plain_http {
            let http = make("http")?;
            return http.greet().map(|()| http).map_err(|failed| failed.fault);
        }
        let https = make("https")?;
        let failed = match https.greet() {
            Ok(()) => return Ok(https),
            Err(failed) => failed,
        };
        // A certificate that is not trusted is no reason to go without.
        if !reference.is_loopback() || access.ca.is_some() || !failed.is_no_tls {
            return Err(failed.fault);
        }
        let http = make("http")?;
        http.greet().map(|()| http).map_err(|failed| failed.fault)
    }

    /// Asks the server if it is a registry.
    fn greet(&self) -> Result<(), Greeting> {
        let what = "ask for the API";
        let url = self.url("").map_err(Greeting::fatal)?;
        let url = url.join("/v2/").map_err(|_| Greeting::fatal(ErrorKind::NotAFile.into()))?;
        self.count();
        let response = self.client.get(url).send().map_err(|error| Greeting {
            is_no_tls: error.is_connect() && !is_certificate(&error),
            fault: unreachable(what, error),
        })?;
        match response.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(()),
            _ => Err(Greeting::fatal(self.refusal(what, response))),
        }
    }

    /// Makes the URL of something in the repository.
    pub(super) fn url(&self, path: &str) -> Result<Url, Fault> {
        let path = format!("/v2/{}/{path}", self.repository);
        self.origin.join(&path).map_err(|_| ErrorKind::Malformed(NO_REPOSITORY).into())
    }

    /// Makes the URL that a header of an answer names.
    pub(super) fn location(&self, response: &Response) -> Result<Url, Fault> {
        let wrong = || Fault::from(ErrorKind::Malformed("the registry names no place to send to"));
        let header = response.headers().get(reqwest::header::LOCATION).ok_or_else(wrong)?;
        let text = header.to_str().map_err(|_| wrong())?;
        let url = response.url().join(text).map_err(|_| wrong())?;
        if !self.is_safe(&url) {
            return Err(ErrorKind::Malformed("the registry leads from TLS to plain HTTP").into());
        }
        Ok(url)
    }

    /// Tells if a place that the registry names may get credentials and data: over TLS, or as the
    /// registry itself is reached.
    fn is_safe(&self, url: &Url) -> bool {
        let is_here = self.may_be_plain || url.host_str() == self.origin.host_str();
        match url.scheme() {
            "https" => true,
            "http" => self.origin.scheme() == "http" && is_here,
            _ => false,
        }
    }

    /// Sends a request, and logs in if the registry wants it. The request is made anew then.
    pub(super) fn send(
        &self,
        what: &'static str,
        action: Action,
        method: &Method,
        url: &Url,
        mut make: impl FnMut(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Fault> {
        let is_own = same_origin(url, &self.origin);
        let mut is_new = false;
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            let login = self.logins().get(&action).cloned();
            // Other hosts get no credentials.
            if let Some(login) = login.filter(|_| is_own) {
                request = request.header(AUTHORIZATION, login);
            }
            self.count();
            let response = make(request).send().map_err(|error| unreachable(what, error))?;
            // The answer to a redirected request tells nothing about the login here.
            let asks = response.status() == StatusCode::UNAUTHORIZED
                && is_own
                && same_origin(response.url(), &self.origin);
            if !asks || is_new {
                return Ok(response);
            }
            let login = self.log_in(action, &response)?;
            self.logins().insert(action, login);
            is_new = true;
        }
    }

    fn log_in(&self, action: Action, response: &Response) -> Result<HeaderValue, Fault> {
        let asked = response.headers().get_all(WWW_AUTHENTICATE);
        let asked: Vec<&str> = asked.iter().filter_map(|value| value.to_str().ok()).collect();
        let rights = match action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        let scope = format!("repository:{}:{rights}", self.repository);
        let ask = |url: Url| {
            let mut request = self.client.get(url);
            if let Some(given) = &self.found.credentials {
                request = request.basic_auth(&given.name, Some(&given.password));
            }
            self.count();
            let what = "log in";
            let response = request.send().map_err(|error| unreachable(what, error))?;
            if response.status() != StatusCode::OK {
                return Err(self.refusal(what, response));
            }
            self.whole(response, login::MOST)
        };
        login::header(&asked, &self.found, |url| self.is_safe(url), &scope, ask)
    }

    /// Fetches a document of at most so many bytes.
    pub(super) fn document(
        &self,
        what: &'static str,
        path: &str,
        accept: &str,
        most: u64,
    ) -> Result<Vec<u8>, Fault> {
        let url = self.url(path)?;
        let make = |request: RequestBuilder| request.header(ACCEPT, accept);
        let response = self.send(what, Action::Pull, &Method::GET, &url, make)?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(what, response));
        }
        self.whole(response, most)
    }

    /// Reads a body of at most so many bytes.
    fn whole(&self, response: Response, most: u64) -> Result<Vec<u8>, Fault> {
        let too_large = |size| Fault::from(ErrorKind::TooLarge { size, limit: most });
        if let Some(size) = response.content_length().filter(|size| *size > most) {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        let read = Body::new(response, most.saturating_add(1)).read_to_end(&mut bytes);
        self.fetched(bytes.len() as u64);
        read.map_err(|error| broken(&error))?;
        if bytes.len() as u64 > most {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Makes the fault of an answer that is no success, with the words of the registry.
    pub(super) fn refusal(&self, what: &'static str, response: Response) -> Fault {
        let status = response.status();
        let mut bytes = Vec::new();
        let _ = Body::new(response, REASON).read_to_end(&mut bytes);
        self.fetched(bytes.len() as u64);
        let reason = reason(&bytes).map_or_else(String::new, |reason| format!(": {reason}"));
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let number = status.as_u16();
            let whose = match (&self.found.credentials, &self.found.unused) {
                (Some(given), _) => format!("to {}", Text(given.name.as_bytes())),
                (None, Some(why)) => format!("without a login: {why}"),
                (None, None) => "without a login".to_owned(),
            };
            let said = format!("{what}: the registry refuses {whose} ({number}){reason}");
            return ErrorKind::Denied(said).into();
        }
        ErrorKind::Answer { what, status: status.as_u16(), reason }.into()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let Counted { requests, fetched, sent } = &self.counted;
        Traffic {
            requests: requests.load(Ordering::Relaxed),
            fetched: fetched.load(Ordering::Relaxed),
            sent: sent.load(Ordering::Relaxed),
        }
    }

    pub(super) fn fetched(&self, bytes: u64) {
        self.counted.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counter of the bytes that are sent.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counted.sent)
    }

    fn count(&self) {
        self.counted.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn logins(&self) -> MutexGuard<'_, BTreeMap<Action, HeaderValue>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer: at most so many bytes, in a time that goes with their number. A server
/// that sends a byte now and then is given up.
pub(super) struct Body<R> {
    from: io::Take<R>,
    until: Option<Instant>,
}

impl<R: Read> Body<R> {
    pub(super) fn new(response: R, most: u64) -> Self {
        let until = Instant::now().checked_add(patience(most));
        Self { from: response.take(most), until }
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, SLOW_ANSWER));
        }
        self.from.read(buf)
    }
}

/// The time in which so many bytes have to come or go.
pub(super) fn patience(bytes: u64) -> Duration {
    SLOWEST.saturating_add(Duration::from_secs(bytes / SLOW))
}

/// The reason why a server is not taken for a registry.
struct Greeting {
    fault: Fault,
    /// True if the server does not speak TLS, or none listens.
    is_no_tls: bool,
}

impl Greeting {
    fn fatal(fault: Fault) -> Self {
        Self { fault, is_no_tls: false }
    }
}

/// Makes the client. TLS is that of ring, whatever the process uses elsewhere.
fn client(origin: &Url, access: &Access) -> Result<Client, Fault> {
    let is_plain = origin.scheme() == "http";
    let roots = if is_plain { RootCertStore::empty() } else { roots(access)? };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ErrorKind::Unreachable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let may_be_plain = access.plain_http;
    let origin = origin.clone();
    let policy = redirect::Policy::custom(move |attempt| {
        let refused = refused(attempt.url(), attempt.previous().len(), &origin, may_be_plain);
        match refused {
            Some(why) => attempt.error(why),
            None => attempt.follow(),
        }
    });
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(policy)
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .user_agent(concat!("criu-archive/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| unreachable("start a client", error))
}

/// Returns the reason why a redirect is not followed. The client takes the credentials away where
/// host or port change.
fn refused(next: &Url, before: usize, origin: &Url, may_be_plain: bool) -> Option<&'static str> {
    let is_local = origin.scheme() == "http" && next.host_str() == origin.host_str();
    if before > REDIRECTS {
        Some("the registry redirects too often")
    } else if next.scheme() != "https" && !may_be_plain && !is_local {
        Some("the registry redirects to plain HTTP")
    } else {
        None
    }
}

/// Loads the certificates to trust: the system's, and those of the given file.
fn roots(access: &Access) -> Result<RootCertStore, Fault> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_native_certs().certs);
    if let Some(path) = &access.ca {
        let named = |fault: Fault| fault.of(path.to_string_lossy());
        let bytes = read(path).map_err(|error| named(error.into()))?;
        let mut added = 0;
        for found in CertificateDer::pem_slice_iter(&bytes) {
            let is_added = found.ok().is_some_and(|found| roots.add(found).is_ok());
            added += usize::from(is_added);
        }
        if added == 0 {
            return Err(named(ErrorKind::Malformed("has no certificate in PEM form").into()));
        }
    }
    Ok(roots)
}

/// Tells if two URLs lead to the same server by the same protocol.
fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Makes the fault of a request without an answer.
pub(super) fn unreachable(what: &'static str, error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // The innermost reason is what a person needs.
        said = error.to_string();
        source = error.source();
    }
    ErrorKind::Unreachable(format!("{what}: {}", Text(said.as_bytes()))).into()
}

/// Refuses an answer with another range than the wanted one, or of a blob of another size.
pub(super) fn check_range(response: &Response, want: Range<u64>, size: u64) -> Result<(), Fault> {
    let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let (start, last) = (want.start, want.end.saturating_sub(1));
    let wanted = [format!("bytes {start}-{last}/{size}"), format!("bytes {start}-{last}/*")];
    if header.is_some_and(|header| wanted.iter().any(|wanted| wanted == header)) {
        return Ok(());
    }
    Err(ErrorKind::Malformed("the registry sends another range than the one asked for").into())
}

/// Returns true if a registry has answered that it cannot answer now.
pub(super) fn is_busy(fault: &Fault) -> bool {
    matches!(fault.kind(), ErrorKind::Answer { status: 429 | 500..=599, .. })
}

/// Makes the fault of a body that does not come.
pub(super) fn broken(error: &io::Error) -> Fault {
    let mut said = error.to_string();
    let mut source = error.get_ref().and_then(|inner| inner.source());
    while let Some(error) = source {
        said = error.to_string();
        source = error.source();
    }
    ErrorKind::Unreachable(format!("the answer ends early: {}", Text(said.as_bytes()))).into()
}

/// Tells if a server has a certificate that is not trusted.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut error = error.source();
    while let Some(found) = error {
        if let Some(rustls::Error::InvalidCertificate(_)) = found.downcast_ref() {
            return true;
        }
        // What an `io::Error` holds is not its source.
        let held = found.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error = match held {
            Some(held) => Some(held),
            None => found.source(),
        };
    }
    false
}

/// Returns the words of a registry's error.
fn reason(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors: Errors = serde_json::from_slice(bytes).ok()?;
    let first = errors.errors.into_iter().next()?;
    let said = if first.message.is_empty() { first.code } else { first.message };
    let short: String = said.chars().take(LONGEST).collect();
    (!short.is_empty()).then(|| Text(short.as_bytes()).to_string())
}

const NO_HOST: &str = "the name of the registry is no host of a URL";
const NO_REPOSITORY: &str = "the name of the repository is no path of a URL";
/// The bytes of an error that are read.
const REASON: u64 = 64 << 10;
/// The longest words of a registry that are shown, in characters.
const LONGEST: usize = 200;
const SLOW_ANSWER: &str = "less than 32 KiB come in a second";
/// The redirects that are followed for one request.
const REDIRECTS: usize = 5;
/// The time in which a connection is made.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest time without a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// The time that a body takes at most: this, and a second for so many bytes.
const SLOWEST: Duration = Duration::from_secs(60);
const SLOW: u64 = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_from_tls_to_plain_http() {
        let url = |text: &str| Url::parse(text).unwrap();
        let goes = |next: &str, origin: &str, may_be_plain| {
            refused(&url(next), 1, &url(origin), may_be_plain).is_none()
        };
        for (next, origin, wanted) in [
            ("https://other.org/x", "https://r.org/", true),
            ("https://other.org/x", "http://r.org/", true),
            // The port of the registry without TLS would get the credentials.
            ("http://r.org:443/x", "https://r.org/", false),
            ("http://r.org/x", "https://r.org/", false),
            ("http://localhost/x", "https://r.org/", false),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:5000/", true),
            ("http://other.org/x", "http://127.0.0.1:5000/", false),
            ("ftp://r.org/x", "https://r.org/", false),
        ] {
            assert_eq!(goes(next, origin, false), wanted, "{next} from {origin}");
        }
        assert!(goes("http://other.org/x", "http://r.org/", true));
        let again = url("https://r.org/x");
        assert!(refused(&again, REDIRECTS, &url("https://r.org/"), false).is_none());
        assert!(refused(&again, REDIRECTS + 1, &url("https://r.org/"), false).is_some());
    }

    #[test]
    fn the_words_of_a_registry_are_short_and_do_not_speak_to_the_terminal() {
        let said = |text: &str| reason(text.as_bytes());
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(10_000));
        assert_eq!(said(&long).map(|said| said.len()), Some(LONGEST));
        let escape = said(r#"{"errors":[{"code":"A","message":"\u001b[2J\u202e"}]}"#).unwrap();
        assert!(!escape.contains(Text::hides), "{escape:?}");
        let whole = r#"{"errors":[{"code":"DENIED","message":""}]}"#;
        assert_eq!(said(whole).as_deref(), Some("DENIED"));
        assert!((0..whole.len()).all(|len| said(&whole[..len]).is_none()));
        assert_eq!(said(&format!(r#"{{"errors":{}1"#, "[".repeat(1 << 16))), None);
    }

    #[test]
    fn a_body_that_trickles_is_given_up() {
        let mut body = Body::new(io::repeat(b'x'), 10);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [b'x'; 10]);
        let late = Instant::now().checked_sub(Duration::from_millis(1));
        let mut body = Body { until: late, ..Body::new(io::repeat(b'x'), 10) };
        let said = body.read(&mut [0; 5]).unwrap_err();
        assert_eq!(
            (said.kind(), said.to_string().as_str()),
            (io::ErrorKind::TimedOut, SLOW_ANSWER)
        );
        assert_eq!(patience(1 << 20), Duration::from_secs(92));
        // A manifest can claim any size.
        assert!(patience(u64::MAX) > Duration::from_secs(1 << 40));
    }
}
