//! Checks of a server's certificate.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::access::Source;
use super::error::ErrorKind;
use super::tls::malformed;
use super::validity;

/// A verifier with a list of certificates. It accepts a certificate that is in the list, or that a
/// certificate in the list has signed. A kubelet's own certificate can be in the list: somebody has
/// copied it from the node.
#[derive(Debug)]
pub(super) struct Listed {
    authorities: Arc<WebPkiServerVerifier>,
    list: Vec<CertificateDer<'static>>,
}

impl Listed {
    pub(super) fn new(
        source: &Source,
        list: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, ErrorKind> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(list.iter().cloned());
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let authorities = built.map_err(|_| {
            malformed(source, "authority", "has no certificate that can be trusted")
        })?;
        Ok(Self { authorities, list })
    }
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.list.iter().any(|listed| listed == own) {
            return self.authorities.verify_server_cert(own, others, name, ocsp, now);
        }
        verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
        let end = validity::end(own).and_then(|end| u64::try_from(end.seconds()).ok());
        let end = end.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(end));
        if now > not_after {
            let expired = CertificateError::ExpiredContext { time: now, not_after };
            return Err(Error::InvalidCertificate(expired));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Accepts any certificate. The server has to have its key all the same.
#[derive(Debug)]
pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
