//! An authority, and certificates that it has signed: as files, where both we and CRIU find them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use criu_rs::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority with its files in a directory of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// What a certificate is like.
#[derive(Default)]
pub struct Wanted<'w> {
    /// Its alternative names: hosts and addresses.
    pub names: &'w [&'w str],
    /// Its common name.
    pub common: &'w str,
    /// It is for clients, or for servers, alone.
    pub only: Option<ExtendedKeyUsagePurpose>,
    /// It is not valid any more.
    pub expired: bool,
}

impl Authority {
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

    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate, and this authority as the one to trust.
    pub fn sign(&self, number: u64, wanted: &Wanted<'_>) -> Tls {
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
        Tls::new().ca(self.file()).certificate(cert).key(secret)
    }

    /// For this machine, as CRIU sees it.
    pub fn sign_for_loopback(&self, number: u64) -> Tls {
        let names = &["127.0.0.1", "localhost"];
        self.sign(number, &Wanted { names, ..Wanted::default() })
    }

    /// A list with one revoked certificate on it.
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
