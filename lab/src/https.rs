//! A server of HTTPS that answers as a test says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};

use crate::certs::{Authority, Signed, Wanted};
use crate::place::target_dir;

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The first line, with its end.
    pub line: String,
    /// The headers, without ends of lines.
    pub headers: Vec<String>,
    /// The client's certificate.
    pub certificate: Option<Vec<u8>>,
}

impl Asked {
    /// The bearer token.
    pub fn token(&self) -> Option<&str> {
        let of = |line: &'_ String| line.to_lowercase().starts_with("authorization: bearer ");
        let line = self.headers.iter().find(|line| of(line))?;
        line.get("authorization: bearer ".len()..)
    }

    /// Path and query of the request.
    pub fn path(&self) -> (&str, Option<&str>) {
        let path = self.line.split(' ').nth(1).unwrap();
        match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        }
    }
}

/// Client certificates that a server wants.
#[derive(Clone, Copy, Debug)]
pub enum Clients {
    /// Any or none, as a kubelet does, which looks at the certificate later.
    Any,
    /// A certificate that the authority has signed. Without one the handshake fails.
    Signed,
}

/// A directory with an authority, and a server that has a certificate of it.
#[derive(Debug)]
pub struct Server {
    /// The directory with the files of the authority. The server's certificate has number 1.
    pub dir: PathBuf,
    /// The authority.
    pub authority: Authority,
    /// The port on the loopback.
    pub port: u16,
    /// The requests until now.
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

type Answer = dyn Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

impl Server {
    /// Starts a server for the loopback's names.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::raw(Clients::Any, &["127.0.0.1", "localhost"], move |asked, to| {
            let (status, body) = answer(asked);
            write!(to, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        })
    }

    /// Starts a server whose certificate is for these names, and that writes its answers itself.
    pub fn raw(
        clients: Clients,
        names: &[&str],
        answer: impl Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (dir, authority) = place();
        let signed = authority.sign(1, &Wanted { names, ..Wanted::default() });
        let config = config(&authority, &signed, clients);
        Self::serve(dir, authority, config, Arc::new(answer))
    }

    fn serve(
        dir: PathBuf,
        authority: Authority,
        config: ServerConfig,
        answer: Arc<Answer>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (all, config) = (Arc::clone(&asked), Arc::new(config));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    // A client that goes away is what some tests want.
                    let _ = one(stream, config, &all, &*answer);
                });
            }
        });
        Self { dir, authority, port, asked }
    }

    /// Starts a server with an expired certificate.
    pub fn expired() -> Self {
        let (dir, authority) = place();
        let wanted = Wanted { names: &["127.0.0.1"], expired: true, ..Wanted::default() };
        let signed = authority.sign(1, &wanted);
        let config = config(&authority, &signed, Clients::Any);
        Self::serve(dir, authority, config, Arc::new(|_, _| Ok(())))
    }

    /// The last request.
    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A new directory with an authority.
pub fn place() -> (PathBuf, Authority) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("https-{}-{number}", std::process::id());
    let dir = target_dir().join("tmp").join(name);
    let authority = Authority::new(&dir);
    (dir, authority)
}

fn config(authority: &Authority, signed: &Signed, clients: Clients) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Clients::Any => Arc::new(Anybody(Arc::clone(&provider))),
        Clients::Signed => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
            let roots = Arc::new(roots);
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .unwrap()
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&signed.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap()
}

fn one(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    all: &Mutex<Vec<Asked>>,
    answer: &Answer,
) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    let mut asked = Asked::default();
    stream.read_line(&mut asked.line)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => asked.headers.push(line.to_owned()),
        }
    }
    let certificates = stream.get_ref().conn.peer_certificates();
    asked.certificate = certificates.and_then(|all| all.first()).map(|found| found.to_vec());
    all.lock().unwrap().push(asked.clone());
    let mut stream = stream.into_inner();
    answer(&asked, &mut stream)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Wants a client certificate, and accepts any.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
