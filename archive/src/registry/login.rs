//! Logins: the headers by which a registry knows who asks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::access::Found;
use crate::error::{ErrorKind, Fault};
use crate::oci::json;

/// Makes the header of a login. `asked` is what the registry asks for, `is_safe` tells if a token
/// server may get the credentials, `ask` fetches a token.
pub(super) fn header(
    asked: &[&str],
    found: &Found,
    is_safe: impl FnOnce(&Url) -> bool,
    scope: &str,
    ask: impl FnOnce(Url) -> Result<Vec<u8>, Fault>,
) -> Result<HeaderValue, Fault> {
    let find = |scheme: &str| {
        asked.iter().find_map(|asked| {
            let (found, rest) = asked.trim().split_once(' ').unwrap_or((asked.trim(), ""));
            found.eq_ignore_ascii_case(scheme).then_some(rest)
        })
    };
    if let Some(rest) = find("Bearer") {
        return bearer(rest, is_safe, scope, ask);
    }
    if find("Basic").is_none() {
        let why = "the registry wants a login of an unknown kind";
        return Err(ErrorKind::Denied(why.to_owned()).into());
    }
    let Some(given) = &found.credentials else {
        let why = match &found.unused {
            Some(why) => format!("the registry wants a login, and {why}"),
            None => "the registry wants a login, and no file has credentials for it".to_owned(),
        };
        return Err(ErrorKind::Denied(why).into());
    };
    let text = STANDARD.encode(format!("{}:{}", given.name, given.password));
    secret(&format!("Basic {text}"))
}

/// Gets a token from the server that the registry names.
fn bearer(
    rest: &str,
    is_safe: impl FnOnce(&Url) -> bool,
    scope: &str,
    ask: impl FnOnce(Url) -> Result<Vec<u8>, Fault>,
) -> Result<HeaderValue, Fault> {
    let no_server = || Fault::from(ErrorKind::Malformed("the registry names no token server"));
    let realm = parameter(rest, "realm").ok_or_else(no_server)?;
    let mut url = Url::parse(&realm).map_err(|_| no_server())?;
    // The credentials go there.
    if !is_safe(&url) {
        let why = "the registry's token server has no TLS";
        return Err(ErrorKind::Malformed(why).into());
    }
    if let Some(service) = parameter(rest, "service") {
        url.query_pairs_mut().append_pair("service", &service);
    }
    url.query_pairs_mut().append_pair("scope", scope);
    let answer: Token = json(&ask(url)?).map_err(|fault| fault.of("token"))?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let token = token.ok_or(ErrorKind::Malformed("the token server gives no token"))?;
    secret(&format!("Bearer {token}"))
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn secret(text: &str) -> Result<HeaderValue, Fault> {
    let wrong = |_| ErrorKind::Malformed("the login cannot stand in a header");
    let mut value = HeaderValue::from_str(text).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns a parameter of `WWW-Authenticate`: `name="value"` or `name=value`, in any order.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next.trim_start_matches([' ', ',']);
    }
    None
}

/// The largest answer of a token server.
pub(super) const MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::access::Credentials;
    use super::*;

    fn log_in(asked: &str, origin: &str, answer: &str) -> Result<(String, Option<String>), String> {
        let found = Found { credentials: Some(Credentials::new("me", "word")), unused: None };
        let mut at = None;
        let ask = |url: Url| {
            at = Some(url.to_string());
            Ok(answer.as_bytes().to_vec())
        };
        let is_safe = |url: &Url| url.scheme() == "https" || url.as_str().starts_with(origin);
        let header = header(&[asked], &found, is_safe, "scope:x", ask);
        let header = header.map_err(|fault| crate::error::Error::new("x", fault).to_string())?;
        Ok((header.to_str().unwrap().to_owned(), at))
    }

    #[test]
    fn tokens_are_fetched_where_the_registry_says() {
        let asked = r#"Bearer service="a, b", realm="https://auth.org/token",scope="other""#;
        let (header, at) = log_in(asked, "https://r.org/", r#"{"token":"abc"}"#).unwrap();
        assert_eq!(header, "Bearer abc");
        assert_eq!(at.unwrap(), "https://auth.org/token?service=a%2C+b&scope=scope%3Ax");
        let (header, at) = log_in("basic realm=x", "https://r.org/", "").unwrap();
        assert_eq!((header.as_str(), at), ("Basic bWU6d29yZA==", None));
    }

    #[test]
    fn credentials_go_to_no_server_without_tls_and_faulty_tokens_are_refused() {
        let plain = r#"Bearer realm="http://auth.org/token""#;
        let refused = log_in(plain, "https://r.org/", r#"{"token":"abc"}"#).unwrap_err();
        assert_eq!(refused, "x: the registry's token server has no TLS");
        let file = log_in(r#"Bearer realm="file:///etc/passwd""#, "http://r.org/", "");
        assert!(file.is_err());
        let good = r#"Bearer realm="https://auth.org/token""#;
        for answer in [r#"{"token":"a\nb"}"#, r#"{"token":""}"#, "{}", "", "[]"] {
            assert!(log_in(good, "https://r.org/", answer).is_err(), "{answer}");
        }
        // Whatever is cut or changed, the answer is a token or an error.
        let whole = r#"Bearer realm="https://auth.org/token",service="a=b, c",scope=x"#;
        for at in 0..whole.len() {
            _ = log_in(&whole[..at], "https://r.org/", r#"{"token":"abc"}"#);
            for byte in [b'"', b'=', b',', b' ', b'\\'] {
                let mut changed = whole.as_bytes().to_vec();
                changed[at] = byte;
                let changed = String::from_utf8(changed).unwrap();
                if let Ok((_, Some(at))) = log_in(&changed, "https://r.org/", r#"{"token":"x"}"#) {
                    assert!(at.starts_with("https://"), "{at}");
                }
            }
        }
        for asked in ["", "Bearer", "Negotiate", r#"Bearer realm="#, r#"Bearer realm="x"#] {
            assert!(log_in(asked, "https://r.org/", r#"{"token":"abc"}"#).is_err(), "{asked}");
        }
    }
}
