//! The check of a peer's certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::sync::Arc;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

/// A verifier that checks certificates as CRIU does at either end: signed by the authority, not
/// revoked, and for a name.
///
/// A certificate that restricts its use has to allow use by servers or by clients. Either is
/// enough: machines that dump and restore are both, and show one certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    anchors: Vec<TrustAnchor<'static>>,
    revoked: Vec<CertRevocationList<'static>>,
    name: Option<ServerName<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// A verifier for certificates with a name; without one, for any name. An error comes with the
    /// item that cannot be used: an "authority" or an "entry of the revocation lists".
    pub(super) fn new(
        authorities: &[CertificateDer<'static>],
        lists: &[CertificateRevocationListDer<'static>],
        name: Option<ServerName<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, (&'static str, webpki::Error)> {
        let anchors = authorities.iter();
        let anchors = anchors.map(|one| anchor_from_trusted_cert(one).map(|one| one.to_owned()));
        let anchors = anchors.collect::<Result<_, _>>().map_err(|error| ("authority", error))?;
        let revoked = lists.iter();
        let revoked = revoked.map(|one| OwnedCertRevocationList::from_der(one).map(Into::into));
        let revoked: Result<_, _> = revoked.collect();
        let revoked = revoked.map_err(|error| ("entry of the revocation lists", error))?;
        Ok(Self { anchors, revoked, name, algorithms })
    }

    fn verify(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(shown).map_err(refused)?;
        let lists: Vec<_> = self.revoked.iter().collect();
        // An authority without a list revokes nothing.
        let revocation = || {
            let options = RevocationOptionsBuilder::new(&lists).ok()?;
            let options = options.with_status_policy(UnknownStatusPolicy::Allow);
            Some(options.with_expiration_policy(ExpirationPolicy::Enforce).build())
        };
        let verify = |usage| {
            let (algorithms, anchors) = (self.algorithms.all, &self.anchors);
            let path = certificate.verify_for_usage(
                algorithms,
                anchors,
                intermediates,
                now,
                usage,
                revocation(),
                None,
            );
            path.map(|_| ())
        };
        verify(KeyUsage::server_auth())
            .or_else(|error| match error {
                webpki::Error::RequiredEkuNotFoundContext(_) => verify(KeyUsage::client_auth()),
                error => Err(error),
            })
            .map_err(refused)?;
        match &self.name {
            Some(name) => is_for(&certificate, name),
            None => Ok(()),
        }
    }
}

/// Returns the names in a certificate: its common name, and the alternative names of hosts.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let common = common_name(certificate.subject());
    let names = common.into_iter().chain(certificate.valid_dns_names());
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Checks that a certificate is for a name: one of its alternative names, or for a host without
/// any, its common name.
fn is_for(certificate: &EndEntityCert<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let Err(error) = certificate.verify_is_valid_for_subject_name(name) else {
        return Ok(());
    };
    if let ServerName::DnsName(host) = name {
        let common = common_name(certificate.subject());
        let alone = certificate.valid_dns_names().next().is_none();
        if alone && common.is_some_and(|common| common.eq_ignore_ascii_case(host.as_ref())) {
            return Ok(());
        }
    }
    Err(refused(error))
}

/// Returns the common name in the contents of a DER name, or `None` if it does not have exactly
/// one.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while !subject.is_empty() {
        let (0x31, mut set) = element(&mut subject)? else { return None };
        while !set.is_empty() {
            let (0x30, mut pair) = element(&mut set)? else { return None };
            let (0x06, kind) = element(&mut pair)? else { return None };
            let (_, value) = element(&mut pair)?;
            if kind == [0x55, 4, 3] && found.replace(value).is_some() {
                return None;
            }
        }
    }
    std::str::from_utf8(found?).ok()
}

/// Takes the first element of DER. Returns its tag and its contents of at most 64 KiB.
fn element<'d>(bytes: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (size, rest) = match rest {
        [size, rest @ ..] if *size < 0x80 => (usize::from(*size), rest),
        [0x81, size, rest @ ..] => (usize::from(*size), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(size)?;
    *bytes = rest;
    Some((*tag, value))
}

/// Converts an error to one that the peer is told, too.
fn refused(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let why = match error {
        E::CertExpired { .. } => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::CertRevoked => CertificateError::Revoked,
        E::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertNotValidForName(context) => CertificateError::NotValidForNameContext {
            expected: context.expected,
            presented: context.presented,
        },
        E::BadDer | E::BadDerTime => CertificateError::BadEncoding,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(why)
}

/// Defines the methods that the verifiers of both ends share.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, shown, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, shown, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ClientCertVerifier for Verifier {
    /// Returns no names: a client shows the certificate that it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(shown, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(shown, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_name_of_a_subject_is_found_and_nonsense_is_none() {
        let pair = |kind: u8, value: &str| {
            let size = u8::try_from(value.len()).unwrap();
            let mut pair = vec![6, 3, 0x55, 4, kind, 0x0c, size];
            pair.extend(value.as_bytes());
            let size = u8::try_from(pair.len()).unwrap();
            [vec![0x31, size + 2, 0x30, size], pair].concat()
        };
        let one = [pair(10, "we"), pair(3, "node-1")].concat();
        assert_eq!(common_name(&one), Some("node-1"));
        let two = [pair(3, "node-1"), pair(3, "node-2")].concat();
        assert_eq!((common_name(&two), common_name(&pair(10, "we"))), (None, None));
        for end in 0..one.len() {
            let cut = common_name(&one[..end]);
            assert!(cut.is_none(), "{end}: {cut:?}");
        }
        assert_eq!(common_name(&[0x31, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
