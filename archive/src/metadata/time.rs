//! Times as Go writes them into JSON.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time of RFC 3339, as Go writes it: `2024-05-01T12:30:00.123456789+02:00`. Displays with the
/// same offset from UTC and the same digits.
///
/// ```
/// use criu_archive::metadata::Time;
///
/// let time: Time = "1970-01-01T01:00:01.5+01:00".parse()?;
/// assert_eq!((time.seconds(), time.nanos()), (1, 500_000_000));
/// assert_eq!(time.to_string(), "1970-01-01T01:00:01.5+01:00");
/// # Ok::<(), criu_archive::metadata::NoTime>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Seconds since 1970 in UTC.
    seconds: i64,
    nanos: u32,
    /// Minutes that the writer's clock was ahead of UTC.
    offset: i16,
}

/// The error for a text that is no time of RFC 3339 between the years 0 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no time of RFC 3339, such as 2024-05-01T12:30:00Z")]
pub struct NoTime;

impl Time {
    /// The time that Go writes where none is set: the first second of the year 1.
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0, offset: 0 };

    /// Makes a time of seconds and nanoseconds since 1970. Returns `None` outside of the years 0 to
    /// 9999, and for a second of nanoseconds or more.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        let is_possible = (FIRST..=LAST).contains(&seconds) && nanos < SECOND;
        is_possible.then_some(Self { seconds, nanos, offset: 0 })
    }

    /// Makes a time of nanoseconds since 1970, as the CRI counts them.
    pub fn of_nanos(nanos: i64) -> Self {
        let part = u32::try_from(nanos.rem_euclid(i64::from(SECOND))).unwrap_or(0);
        Self { seconds: nanos.div_euclid(i64::from(SECOND)), nanos: part, offset: 0 }
    }

    /// Seconds since 1970, below 0 for earlier times.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since the last full second.
    pub fn nanos(&self) -> u32 {
        self.nanos
    }

    /// Nanoseconds since 1970, as the CRI counts them; 0 for a time that 64 bits do not hold, as
    /// the one that stands for no time.
    pub fn as_nanos(&self) -> i64 {
        let whole = self.seconds.checked_mul(i64::from(SECOND));
        whole.and_then(|whole| whole.checked_add(i64::from(self.nanos))).unwrap_or(0)
    }

    /// Returns true for the time that Go writes where none is set.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// Two times are equal if they are the same moment.
impl PartialEq for Time {
    fn eq(&self, other: &Self) -> bool {
        (self.seconds, self.nanos) == (other.seconds, other.nanos)
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

impl From<SystemTime> for Time {
    /// Converts a time of the system. A time after the year 9999 becomes [`ZERO`](Self::ZERO).
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self::new(seconds, since.subsec_nanos()).unwrap_or(Self::ZERO)
    }
}

impl FromStr for Time {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        parse(text.as_bytes()).ok_or(NoTime)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = self.seconds + i64::from(self.offset) * 60;
        let (day, second) = (here.div_euclid(DAY), here.rem_euclid(DAY));
        let (year, month, day) = date(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        match self.offset {
            0 => f.write_str("Z"),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                let offset = offset.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", offset / 60, offset % 60)
            }
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Parses `YYYY-MM-DDTHH:MM:SS[.FRACTION](Z|+HH:MM|-HH:MM)`.
fn parse(text: &[u8]) -> Option<Time> {
    let (day, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.split_at_checked(9)?;
    let [year, month, day] = fields(day, b'-', [4, 2, 2])?;
    let clock = clock.strip_prefix(b"T").or_else(|| clock.strip_prefix(b"t"))?;
    let [hour, minute, second] = fields(clock, b':', [2, 2, 2])?;
    let is_possible = (1..=12).contains(&month)
        && (1..=days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_possible {
        return None;
    }
    let (nanos, zone) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, zone) = rest.split_at_checked(len)?;
            if digits.is_empty() {
                return None;
            }
            // Digits below a nanosecond count nothing.
            let mut nine = [b'0'; 9];
            nine.iter_mut().zip(digits).for_each(|(to, from)| *to = *from);
            (number(&nine)?, zone)
        }
        None => (0, rest),
    };
    let offset = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let [hours, minutes] = fields(rest, b':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let here = day_number(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let offset16 = i16::try_from(offset).ok()?;
    let nanos = u32::try_from(nanos).ok()?;
    Some(Time { seconds: here - offset * 60, nanos, offset: offset16 })
}

/// Splits numbers of so many digits.
fn fields<const N: usize>(mut text: &[u8], between: u8, digits: [usize; N]) -> Option<[i64; N]> {
    let mut found = [0; N];
    for (at, (to, digits)) in found.iter_mut().zip(digits).enumerate() {
        if at > 0 {
            text = text.strip_prefix(&[between])?;
        }
        let (field, rest) = text.split_at_checked(digits)?;
        (*to, text) = (number(field)?, rest);
    }
    text.is_empty().then_some(found)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'9' => Some(value * 10 + i64::from(digit - b'0')),
        _ => None,
    })
}

fn days(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years begin in March, so that the day of a leap year is the last.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - MARCH_0_TO_1970
}

/// Year, month and day of a number of days since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + MARCH_0_TO_1970;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + i64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

/// Days from the first of March of the year 0 to 1970-01-01.
const MARCH_0_TO_1970: i64 = 719_468;
const DAY: i64 = 86_400;
const SECOND: u32 = 1_000_000_000;
/// First and last second of the years 0 to 9999.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_go_are_read_and_written_with_the_same_letters() {
        let pairs = [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
            ("2000-02-29T23:59:59Z", 951_868_799, 0),
            ("2024-05-01T12:30:00.123456789+02:00", 1_714_559_400, 123_456_789),
            ("2024-12-31T18:30:00.5-05:30", 1_735_689_600, 500_000_000),
            ("9999-12-31T23:59:59.999999999Z", LAST, 999_999_999),
            ("0000-01-01T00:00:00Z", FIRST, 0),
        ];
        for (text, seconds, nanos) in pairs {
            let time: Time = text.parse().unwrap();
            assert_eq!((time.seconds(), time.nanos()), (seconds, nanos), "{text}");
            assert_eq!(time.to_string(), text);
        }
        assert!("0001-01-01T00:00:00Z".parse::<Time>().unwrap().is_zero());
        let time = Time::of_nanos(1_714_559_400_123_456_789);
        assert_eq!(time.to_string(), "2024-05-01T10:30:00.123456789Z");
        assert_eq!(time.as_nanos(), 1_714_559_400_123_456_789);
        assert_eq!(Time::of_nanos(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!((Time::of_nanos(-1).as_nanos(), Time::ZERO.as_nanos()), (-1, 0));
    }

    #[test]
    fn each_day_of_a_thousand_years_comes_back() {
        for day in (-200_000..200_000).step_by(37) {
            let (year, month, date) = date(day);
            assert_eq!(day_number(year, month, date), day);
            assert!((1..=days(year, month)).contains(&date), "{year}-{month}-{date}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        let texts = [
            "",
            "2024-05-01",
            "2024-05-01 12:30:00Z",
            "2024-05-01T12:30:00",
            "2024-05-01T12:30:00.Z",
            "2024-02-30T12:30:00Z",
            "2023-02-29T12:30:00Z",
            "2024-13-01T12:30:00Z",
            "2024-00-01T12:30:00Z",
            "2024-05-00T12:30:00Z",
            "2024-05-01T24:30:00Z",
            "2024-05-01T12:30:60Z",
            "2024-05-01T12:30:00+24:00",
            "2024-05-01T12:30:00+02",
            "2024-05-01T12:30:00Zulu",
            "2024-05-01T12:30:00\u{e9}",
            "+024-05-01T12:30:00Z",
        ];
        for text in texts {
            assert_eq!(text.parse::<Time>(), Err(NoTime), "{text}");
        }
    }
}
