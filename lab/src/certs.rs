//! An authority, and certificates that it has signed, as files: both we and CRIU read them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority with its files in a directory of its own.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// The properties of a certificate.
#[derive(Debug, Default)]
pub struct Wanted<'w> {
    /// The alternative names: hosts and addresses.
    pub names: &'w [&'w str],
    /// The common name.
    pub common: &'w str,
    /// The only purpose that it is for: clients, or servers.
    pub only: Option<ExtendedKeyUsagePurpose>,
    /// True if it is not valid any more.
    pub expired: bool,
}

/// The files of one end: its certificate, and the authority that it trusts.
#[derive(Debug)]
pub struct Signed {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The end's own certificate.
    pub certificate: PathBuf,
    /// The key of this certificate.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority, in a directory that is made.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, dir.display().to_string());
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.into() }
    }

    /// The authority's own certificate, for whoever trusts it.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Signs a certificate with this serial number.
    pub fn sign(&self, number: u64, wanted: &Wanted<'_>) -> Signed {
        let names: Vec<String> = wanted.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(number));
        params.distinguished_name.push(DnType::CommonName, wanted.common);
        params.extended_key_usages.extend(wanted.only.clone());
        if wanted.expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let [cert, secret] = ["cert", "key"].map(|kind| self.dir.join(format!("{number}.{kind}")));
        fs::write(&cert, certificate.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        Signed { ca: self.file(), certificate: cert, key: secret }
    }

    /// Signs a certificate for this machine, by the names that CRIU has for it.
    pub fn sign_for_loopback(&self, number: u64) -> Signed {
        let names = &["127.0.0.1", "localhost"];
        self.sign(number, &Wanted { names, ..Wanted::default() })
    }

    /// Writes a list with one revoked certificate.
    pub fn revoke(&self, number: u64) -> PathBuf {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(number),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir.join("revoked.pem");
        fs::write(&path, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}
