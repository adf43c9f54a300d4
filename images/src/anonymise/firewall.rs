//! Rules of firewalls: texts of `iptables-save` and of `nft list ruleset`.

use std::net::IpAddr;

use super::names::{device, word};
use super::{Secret, known};

/// Replaces addresses, devices, paths and names in the rules of a firewall. Comments, and other
/// texts in quotes, are replaced as a whole.
pub(super) fn text(text: &[u8], secret: &Secret) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut is_free = false;
    for (place, part) in text.split(|byte| *byte == b'"').enumerate() {
        if place > 0 {
            replaced.push(b'"');
        }
        if place % 2 == 1 {
            replaced.extend(device(part, secret));
            is_free = false;
            continue;
        }
        let ends = |byte: u8| byte.is_ascii_whitespace() || b"{},;()[]!*".contains(&byte);
        for run in part.chunk_by(|a, b| !ends(*a) && !ends(*b)) {
            match run {
                [byte] if ends(*byte) => replaced.push(*byte),
                // A text of the user's own may look like an option.
                run if is_free => {
                    replaced.extend(secret.names.word(run));
                    is_free = false;
                }
                run => {
                    replaced.extend(self::term(run, secret));
                    is_free = TEXTS.contains(&run);
                }
            }
        }
    }
    replaced
}

/// Replaces a word of a rule, unless it is a number or a word of the language of rules.
fn term(term: &[u8], secret: &Secret) -> Vec<u8> {
    let text = String::from_utf8_lossy(term);
    let mapped = word(term, secret);
    if mapped != term || text.parse::<IpAddr>().is_ok() || text.starts_with('/') {
        return mapped;
    }
    if let Some((option, value)) = text.split_once('=').filter(|_| text.starts_with("--")) {
        let is_free = TEXTS.contains(&option.as_bytes());
        let value = value.as_bytes();
        let value = if is_free { secret.names.word(value) } else { self::term(value, secret) };
        return [option.as_bytes(), b"=", &value].concat();
    }
    if text.starts_with("--") || text.len() == 2 && text.starts_with('-') {
        return term.to_vec();
    }
    if let Some((address, port)) = text.rsplit_once(':').filter(|(address, _)| is_ip(address)) {
        let address = word(address.as_bytes(), secret);
        return [&*address, b":", &self::term(port.as_bytes(), secret)].concat();
    }
    if let Some((first, last)) = text.split_once('-').filter(|(first, _)| is_ip(first)) {
        let first = word(first.as_bytes(), secret);
        return [&*first, b"-", &self::term(last.as_bytes(), secret)].concat();
    }
    if known::is_device(term) {
        return term.to_vec();
    }
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let runs = term.chunk_by(|a, b| letters(a) == letters(b));
    let runs = runs.map(|run| {
        let is_number = match run {
            [b'0', b'x', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        if is_number || known::is_of_firewall(run) { run.to_vec() } else { secret.names.word(run) }
    });
    runs.collect::<Vec<_>>().concat()
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Options of rules that a text of the user's own follows.
const TEXTS: &[&[u8]] = &[
    b"--comment",
    b"--hashlimit-name",
    b"--hex-string",
    b"--label",
    b"--log-prefix",
    b"--name",
    b"--nflog-prefix",
    b"--string",
    b"--ulog-prefix",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(rules: &str) -> String {
        String::from_utf8(text(rules.as_bytes(), &Secret::default())).unwrap()
    }

    #[test]
    fn rules_of_firewalls_keep_their_language() {
        let iptables = "*nat\n:PREROUTING ACCEPT [7:420]\n:ACMECORP-CHAIN - [0:0]\n\
            -A PREROUTING -s 10.1.2.0/24 -i acmecorp0 -p tcp -m tcp --dport 80 -m comment \
            --comment acmecorp -j DNAT --to-destination 10.1.2.3:8080\n\
            -A INPUT -m iprange --src-range 10.1.2.4-10.1.2.9 -m set --match-set acmecorp src \
            -m comment --comment \"for acmecorp\" -j ACMECORP-CHAIN\nCOMMIT\n";
        let new = replaced(iptables);
        for secret in ["acmecorp", "ACMECORP", "10.1.2"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        let kept = [
            ":PREROUTING ACCEPT [7:420]",
            "-p tcp -m tcp --dport 80",
            "-j DNAT",
            ":8080",
            "COMMIT",
        ];
        for kept in kept {
            assert!(new.contains(kept), "{kept}: {new}");
        }
        assert_eq!(new.lines().count(), iptables.lines().count());
        let long = "-A INPUT --comment=acmecorp --string=acmecorp --to-destination=10.1.2.3:80 \
            --log-prefix=acmecorp -m comment --comment --acmecorp --log-prefix input --dport 80";
        let new = replaced(long);
        for secret in ["acmecorp", "10.1.2"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        for kept in [
            "--comment=",
            "--to-destination=10.",
            ":80",
            "--log-prefix=",
            " --comment --",
            "--dport 80",
        ] {
            assert!(new.contains(kept), "{kept}: {new}");
        }
        let nft = "table inet acmecorp {\n\tset acmecorpset {\n\t\ttype ipv4_addr\n\t\t\
            elements = { 10.1.2.3, 10.1.2.4 }\n\t}\n\tchain input {\n\t\ttype filter hook input priority 0; \
            policy accept;\n\t\tiifname \"acmecorp0\" ip saddr @acmecorpset ether saddr \
            02:11:22:33:44:55 counter packets 3 bytes 99 drop comment \"acmecorp\"\n\t}\n}\n";
        let new = replaced(nft);
        for secret in ["acmecorp", "10.1.2", "02:11:22:33:44:55"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        for kept in ["table inet ", "type filter hook input priority 0; policy accept;", "drop"] {
            assert!(new.contains(kept), "{kept}: {new}");
        }
    }
}
