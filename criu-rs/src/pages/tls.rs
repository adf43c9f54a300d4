//! TLS between a page server and its clients, as CRIU has it: both show a certificate.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem,
};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::error::PagesError;
use super::socket::{Cipher, Plain, Socket};
use super::verifier::{Verifier, names};
use crate::value::Tls;

/// The TLS configuration of a server.
#[derive(Clone, Debug)]
pub(super) struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// A configuration for clients whose certificate is for a name, unless any name is accepted.
    pub(super) fn new(tls: &Tls, name: &str) -> Result<Self, PagesError> {
        Ok(Self(Arc::new(server_config(tls, Some(name))?)))
    }

    /// Agrees with a client on keys, within a limit of time.
    pub(super) fn accept(&self, socket: &mut Socket, limit: Duration) -> Result<(), PagesError> {
        encrypt_within(socket, self.connection()?, limit)
    }

    /// Begins to agree with a client on keys, over a socket that does not wait.
    pub(super) fn begin(&self) -> Result<Box<Handshake>, PagesError> {
        Ok(Box::new(Handshake(Stream::new(self.connection()?, RECEIVED_FIRST))))
    }

    fn connection(&self) -> Result<ServerConnection, PagesError> {
        ServerConnection::new(Arc::clone(&self.0)).map_err(PagesError::tls)
    }
}

/// A server's end that agrees with a client on keys, as bytes come.
#[derive(Debug)]
pub(super) struct Handshake(Stream);

impl Handshake {
    /// Goes on as far as the received bytes allow. Returns the rest of the handshake, or `None`
    /// when both ends agree: the socket is encrypted then.
    ///
    /// # Errors
    /// [`PagesError::Socket`] if the ends do not agree.
    pub(super) fn advance(
        mut self: Box<Self>,
        socket: &mut Socket,
    ) -> Result<Option<Box<Self>>, PagesError> {
        let failed = PagesError::socket("agree on TLS");
        if !self.0.agree_now(socket.plain_mut()).map_err(&failed)? {
            return Ok(Some(self));
        }
        socket.encrypt(|_| Ok(Box::new(self.0.with_room(RECEIVED)))).map_err(failed)?;
        Ok(None)
    }

    /// Returns `true` if bytes wait to be sent.
    pub(super) fn wants_to_send(&self) -> bool {
        self.0.tls.wants_write()
    }
}

impl Tls {
    /// Returns rustls's configuration of a server whose clients show a certificate of the
    /// authority, for protocols other than that of page servers. The names in the certificate are
    /// not looked at: [`names_of`](Self::names_of) returns them.
    ///
    /// # Errors
    /// [`PagesError::Tls`] and [`PagesError::File`] if a file cannot be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PagesError> {
        server_config(self, None).map(Arc::new)
    }

    /// Returns rustls's configuration of a client, for protocols other than that of page servers.
    /// The server shows a certificate of the authority for `name`, unless
    /// [any name](Self::any_name) is accepted.
    ///
    /// # Errors
    /// [`PagesError::Tls`] and [`PagesError::File`] if a file or the name cannot be used.
    pub fn client_config(&self, name: &str) -> Result<Arc<ClientConfig>, PagesError> {
        client_config(self, name).map(Arc::new)
    }

    /// Returns the names in a certificate: its common name, and its alternative names that are
    /// names of hosts.
    ///
    /// # Errors
    /// [`PagesError::Tls`] if the certificate cannot be read.
    pub fn names_of(certificate: &CertificateDer<'_>) -> Result<Vec<String>, PagesError> {
        names(certificate).map_err(PagesError::tls)
    }
}

fn server_config(tls: &Tls, name: Option<&str>) -> Result<ServerConfig, PagesError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, name, &provider)?;
    let (chain, key) = identity(tls)?;
    let builder = ServerConfig::builder_with_provider(provider);
    let config = builder
        .with_safe_default_protocol_versions()
        .map_err(PagesError::tls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key);
    let mut config = config.map_err(PagesError::tls)?;
    // A ticket after the handshake ends CRIU's dump: CRIU mistakes it for an answer.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Returns a client's end of TLS with a server whose certificate is for a name, unless any name is
/// accepted. It is made before connecting: CRIU's server accepts only one connection.
pub(super) fn client(tls: &Tls, name: &str) -> Result<ClientConnection, PagesError> {
    let config = client_config(tls, name)?;
    ClientConnection::new(Arc::new(config), parse_name(name)?).map_err(PagesError::tls)
}

fn client_config(tls: &Tls, name: &str) -> Result<ClientConfig, PagesError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, Some(name), &provider)?;
    let (chain, key) = identity(tls)?;
    let builder = ClientConfig::builder_with_provider(provider);
    let config = builder
        .with_safe_default_protocol_versions()
        .map_err(PagesError::tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(PagesError::tls)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Agrees with a server on keys, within [`HANDSHAKE`].
pub(super) fn encrypt(socket: &mut Socket, tls: ClientConnection) -> Result<(), PagesError> {
    encrypt_within(socket, tls, HANDSHAKE)
}

fn encrypt_within(
    socket: &mut Socket,
    tls: impl Into<Connection>,
    limit: Duration,
) -> Result<(), PagesError> {
    socket.set_timeout(Some(limit)).map_err(PagesError::socket("set up the connection"))?;
    let mut stream = Stream::new(tls, RECEIVED);
    let agreed = socket.encrypt(|plain| {
        stream.agree(plain, limit)?;
        Ok(Box::new(stream))
    });
    agreed.map_err(PagesError::socket("agree on TLS"))?;
    socket.set_timeout(None).map_err(PagesError::socket("set up the connection"))
}

/// Returns the verifier for the peer's certificates: for a name, unless there is none or any name
/// is accepted.
fn verifier(
    tls: &Tls,
    name: Option<&str>,
    provider: &CryptoProvider,
) -> Result<Verifier, PagesError> {
    let path = tls.ca.as_deref().unwrap_or(Path::new("/etc/pki/CA/cacert.pem"));
    let authorities = pem_items::<CertificateDer<'static>>(path)?;
    let revoked = match &tls.revoked {
        Some(path) => Some(path.as_path()),
        None => Some(Path::new("/etc/pki/CA/cacrl.pem")).filter(|path| path.exists()),
    };
    let lists = match revoked {
        Some(path) => pem_items::<CertificateRevocationListDer<'static>>(path)?,
        None => Vec::new(),
    };
    let name = name.filter(|_| !tls.any_name).map(parse_name).transpose()?;
    let algorithms = provider.signature_verification_algorithms;
    Verifier::new(&authorities, &lists, name, algorithms).map_err(|(what, error)| {
        let place = if what == "authority" { Some(path) } else { revoked };
        PagesError::Tls(format!(
            "{}: cannot use an {what}: {error}",
            place.unwrap_or(path).display()
        ))
    })
}

fn parse_name(name: &str) -> Result<ServerName<'static>, PagesError> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|_| PagesError::Tls(format!("{name:?} is neither a host name nor an address")))
}

/// Returns the certificate of this end, with those that lead to its authority, and its key.
fn identity(
    tls: &Tls,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PagesError> {
    let path = tls.certificate.as_deref().unwrap_or(Path::new("/etc/pki/criu/cert.pem"));
    let chain = pem_items(path)?;
    let path = tls.key.as_deref().unwrap_or(Path::new("/etc/pki/criu/private/key.pem"));
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, error))?;
    Ok((chain, key))
}

/// Returns all items of a kind in a PEM file: at least one.
fn pem_items<T: PemObject>(path: &Path) -> Result<Vec<T>, PagesError> {
    let items = T::pem_file_iter(path).and_then(Iterator::collect);
    let items: Vec<T> = items.map_err(|error| unreadable(path, error))?;
    if items.is_empty() {
        return Err(unreadable(path, pem::Error::NoItemsFound));
    }
    Ok(items)
}

fn unreadable(path: &Path, error: pem::Error) -> PagesError {
    match error {
        pem::Error::Io(source) => PagesError::file(path)(source),
        pem::Error::NoItemsFound => PagesError::Tls(format!(
            "{}: the file has no item of the wanted kind in PEM",
            path.display()
        )),
        error => PagesError::Tls(format!("{}: {error}", path.display())),
    }
}

/// A TLS connection over a socket that its caller owns.
#[derive(Debug)]
struct Stream {
    tls: Connection,
    /// The received bytes, and the part of them that TLS has not looked at.
    received: Box<[u8]>,
    window: (usize, usize),
    /// The bytes taken and not sent.
    waiting: usize,
}

impl Stream {
    fn new(tls: impl Into<Connection>, room: usize) -> Self {
        let mut tls = tls.into();
        tls.set_buffer_limit(None);
        Self { tls, received: vec![0; room].into(), window: (0, 0), waiting: 0 }
    }

    /// Makes room for so many received bytes.
    fn with_room(self, room: usize) -> Self {
        let mut received = vec![0; room];
        let unread = self.received.get(self.window.0..self.window.1).unwrap_or_default();
        let size = unread.len().min(room);
        for (to, from) in received.iter_mut().zip(unread) {
            *to = *from;
        }
        Self { received: received.into(), window: (0, size), ..self }
    }

    /// Agrees with the peer on keys as far as the socket allows without waiting. Returns `true`
    /// when both agree.
    fn agree_now(&mut self, socket: &mut Plain) -> io::Result<bool> {
        let waits = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        loop {
            match self.send(socket) {
                Err(error) if waits(&error) => return Ok(false),
                sent => sent?,
            }
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.receive(socket) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if waits(&error) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Agrees with the peer on keys, within a limit of time.
    fn agree(&mut self, socket: &mut Plain, limit: Duration) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            self.send(socket)?;
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if !self.receive(socket)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends what TLS has to send.
    fn send(&mut self, socket: &mut Plain) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands some received bytes to TLS, and receives some first if there are none. Returns `false`
    /// at the end.
    fn receive(&mut self, socket: &mut Plain) -> io::Result<bool> {
        let (mut start, mut end) = self.window;
        if start == end {
            (start, end) = (0, socket.read(&mut self.received)?);
        }
        let mut unread = self.received.get(start..end).unwrap_or_default();
        let size = self.tls.read_tls(&mut unread)?;
        self.window = (start.saturating_add(size), end);
        match self.tls.process_new_packets() {
            Ok(_) => self.send(socket)?,
            Err(error) => {
                // Tell the peer, if it listens.
                let _ = self.send(socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, explained(error)));
            }
        }
        Ok(size > 0)
    }
}

/// Says whose certificate a peer's alert is about, which the alert's name does not.
fn explained(error: rustls::Error) -> Box<dyn std::error::Error + Send + Sync> {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate),
        ) => format!("the other end refuses the certificate of this end: {alert:?}").into(),
        other => other.into(),
    }
}

impl Cipher for Stream {
    fn read(&mut self, socket: &mut Plain, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.tls.reader().read(room) {
                Ok(0) => break,
                Ok(size) => filled += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // More may come, but a caller that has bytes does not wait for it.
                    if filled > 0 && self.window.0 == self.window.1 {
                        break;
                    }
                    self.receive(socket)?;
                }
                // An end without notice counts as an end: a session has a last header of its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&mut self, socket: &mut Plain, bytes: &[u8], more: bool) -> io::Result<usize> {
        // Every 16 KiB of what is taken together is a record.
        let bytes = bytes.get(..bytes.len().min(AT_ONCE)).unwrap_or_default();
        let size = self.tls.writer().write(bytes)?;
        self.waiting += size;
        if !more || self.waiting >= AT_ONCE {
            self.send(socket)?;
            self.waiting = 0;
        }
        Ok(size)
    }

    fn finish(&mut self, socket: &mut Plain) -> io::Result<()> {
        self.tls.send_close_notify();
        self.send(socket)
    }
}

/// The time that agreeing on keys may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The bytes that are encrypted before they are sent.
const AT_ONCE: usize = 256 << 10;
/// The bytes that one system call receives.
const RECEIVED: usize = 256 << 10;
/// The bytes that one system call receives from a client that has shown no certificate yet.
const RECEIVED_FIRST: usize = 4 << 10;
