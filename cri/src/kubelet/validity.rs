//! Times of validity in a certificate.

use criu_archive::metadata::Time;

/// Returns the end of validity of a certificate in DER form; `None` if it cannot be read.
pub(super) fn end(certificate: &[u8]) -> Option<Time> {
    let (mut certificate, _) = value(certificate, SEQUENCE)?;
    certificate = value(certificate, SEQUENCE)?.0;
    // The version has a tag of its own, and may be missing.
    if let Some((_, rest)) = value(certificate, VERSION) {
        certificate = rest;
    }
    let (_, rest) = value(certificate, INTEGER)?;
    let (_, rest) = value(rest, SEQUENCE)?;
    let (_, rest) = value(rest, SEQUENCE)?;
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, end, _) = element(rest)?;
    let text = std::str::from_utf8(end).ok()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            // RFC 5280: years from 50 on are in the last century.
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix('Z').filter(|digits| digits.is_ascii() && digits.len() == 10)?;
    let part = |at: usize| digits.get(at..at + 2).unwrap_or_default();
    let (month, day, hour, minute, second) = (part(0), part(2), part(4), part(6), part(8));
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

/// Returns the content of the first element, which has a tag, and what follows.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Returns the tag and the content of the first element, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk()?;
    let len = match first {
        0..=127 => usize::from(first),
        0x81..=0x83 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit))
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use criu_lab::certs::{Authority, Wanted};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_and_cut_ones_are_not() {
        let dir = std::env::temp_dir().join(format!("criu-cri-validity-{}", std::process::id()));
        let authority = Authority::new(&dir);
        let signed = authority.sign(1, &Wanted { expired: true, ..Wanted::default() });
        let der = CertificateDer::from_pem_file(&signed.certificate).unwrap();
        let forever = CertificateDer::from_pem_file(authority.file()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(end(&der).unwrap().to_string(), "2002-01-01T00:00:00Z");
        assert!(*end(&forever).unwrap().to_string() > *"2100");
        for at in 0..der.len() {
            assert_eq!(end(&der[..at]), None);
            let mut changed = der.to_vec();
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                changed[at] = byte;
                _ = end(&changed);
            }
        }
    }
}
