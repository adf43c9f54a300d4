//! TLS with a kubelet, by ring alone.

use std::io;
use std::sync::Arc;

use criu_archive::metadata::Time;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use rustls_native_certs::load_native_certs;

use super::access::{Access, Source, Trust};
use super::endpoint::Endpoint;
use super::error::ErrorKind;
use super::text::short;
use super::validity;
use super::verifier::{Anybody, Listed};

/// Makes the configuration of a connection.
pub(super) fn config(access: &Access) -> Result<ClientConfig, ErrorKind> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |error: Error| ErrorKind::Certificate(error.to_string());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let config = match &access.trust {
        Trust::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(load_native_certs().certs);
            config.with_root_certificates(roots)
        }
        Trust::Authorities(source) => {
            let listed = Listed::new(source, certificates(source)?, provider)?;
            config.dangerous().with_custom_certificate_verifier(Arc::new(listed))
        }
        Trust::Anybody => {
            config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        }
    };
    let mut config = match &access.certificate {
        None => config.with_no_client_auth(),
        Some((source, key)) => {
            let chain = certificates(source)?;
            let secret = key.read()?;
            let secret = PrivateKeyDer::from_pem_slice(&secret)
                .map_err(|_| malformed(key, "key", "has no private key in PEM form"))?;
            config.with_client_auth_cert(chain, secret).map_err(|error| match error {
                Error::InconsistentKeys(_) => {
                    malformed(key, "key", "has the key of another certificate")
                }
                _ => malformed(key, "key", "has a key of an unknown kind"),
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the end of the client certificate, if there is one.
pub(super) fn end_of_client(access: &Access) -> Result<Option<Time>, ErrorKind> {
    let Some((source, _)) = &access.certificate else { return Ok(None) };
    Ok(certificates(source)?.first().and_then(|own| validity::end(own)))
}

/// Returns the name that the server's certificate has to be for.
pub(super) fn server_name(
    access: &Access,
    endpoint: &Endpoint,
) -> Result<ServerName<'static>, ErrorKind> {
    let name = access.server_name.as_deref().unwrap_or(endpoint.host());
    ServerName::try_from(name.to_owned()).map_err(|_| ErrorKind::Malformed {
        what: short(name),
        why: "is no name that a certificate can be for".to_owned(),
    })
}

/// Returns the error of TLS in an error of input or output.
pub(super) fn inner(error: &io::Error) -> Option<&Error> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|held| held as _);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // What an `io::Error` holds is not its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// Makes the kind of an error of TLS.
pub(super) fn kind(error: &Error, wanted: &ServerName<'_>, client: Option<Time>) -> ErrorKind {
    match error {
        Error::InvalidCertificate(error) => certificate(error, wanted),
        Error::AlertReceived(alert) if is_of_certificate(*alert) => {
            let now = Time::from(std::time::SystemTime::now());
            let expired = client.filter(|end| *end < now);
            ErrorKind::ClientCertificate { said: format!("{alert:?}"), expired }
        }
        Error::AlertReceived(alert) => ErrorKind::TlsEnded(format!("{alert:?}")),
        Error::InvalidMessage(_) => ErrorKind::NotTls(error.to_string()),
        _ => ErrorKind::Certificate(error.to_string()),
    }
}

/// Tells if a server ends TLS because of the client's certificate, or for want of one.
fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

fn certificate(error: &CertificateError, wanted: &ServerName<'_>) -> ErrorKind {
    let wrong_name = |presented: &[String]| {
        // webpki shows a kind with each name: `DnsName("node-1")`, `IpAddress(10.0.0.7)`.
        let bare = |name: &String| {
            let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            inner.unwrap_or(name).trim_matches('"').to_owned()
        };
        let presented: Vec<String> = presented.iter().map(bare).collect();
        let wanted = wanted.to_str().into_owned();
        ErrorKind::WrongName { wanted, presented: short(&presented.join(", ")) }
    };
    let time = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).ok();
        let time = seconds.and_then(|seconds| Time::new(seconds, 0)).unwrap_or(Time::ZERO);
        time.to_string()
    };
    match error {
        CertificateError::UnknownIssuer => ErrorKind::Untrusted,
        CertificateError::NotValidForName => wrong_name(&[]),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(presented),
        CertificateError::Expired => ErrorKind::NotInTime("has expired".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => {
            ErrorKind::NotInTime(format!("has expired at {}", time(not_after)))
        }
        CertificateError::NotValidYet => ErrorKind::NotInTime("is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            ErrorKind::NotInTime(format!("is not valid before {}", time(not_before)))
        }
        // An authority that shows its own certificate.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            ErrorKind::Untrusted
        }
        other => ErrorKind::Certificate(short(&other.to_string())),
    }
}

fn certificates(source: &Source) -> Result<Vec<CertificateDer<'static>>, ErrorKind> {
    let bytes = source.read()?;
    let found: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    if found.is_empty() {
        return Err(malformed(source, "certificate", "has no certificate in PEM form"));
    }
    Ok(found)
}

pub(super) fn malformed(source: &Source, what: &str, why: &str) -> ErrorKind {
    ErrorKind::Malformed { what: source.name(what), why: why.to_owned() }
}
