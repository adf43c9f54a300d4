//! `grpc-timeout`: the time that a client gives a call.

use std::time::Duration;

use http::HeaderMap;

/// Reads the time of a request's headers: up to eight digits and a unit. `None` if there is none,
/// or none that makes sense.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 8;
    let number: u64 = are_digits.then(|| digits.parse().ok()).flatten()?;
    Some(match unit {
        'H' => Duration::from_secs(number.checked_mul(3600)?),
        'M' => Duration::from_secs(number.checked_mul(60)?),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit() {
        let read = |text: &str| {
            let headers = [(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())];
            read(&headers.into_iter().collect())
        };
        for (text, milliseconds) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("40m", 40), ("5000u", 5)]
        {
            assert_eq!(read(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "1", "-1S", "+1S", "123456789S", "1s", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
