//! Values of options for which the library has no type that reads CRIU's notation.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use criu_rs::{CpuCap, External, LogLevel};

/// The most sessions, restores or rounds; `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtMost(pub(crate) Option<NonZeroU64>);

impl FromStr for AtMost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self(None)),
            number => match number.parse() {
                Ok(number) => Ok(Self(Some(number))),
                Err(_) => Err("expected a number above 0, or unlimited"),
            },
        }
    }
}

/// Parses a resource outside the tree, which need not be UTF-8.
pub(crate) fn external() -> impl TypedValueParser<Value = External> {
    OsStringValueParser::new().try_map(|text| External::from_bytes(text.as_bytes()))
}

/// The request of a `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// A number of further levels: `-v`, `-vv`.
    More(i32),
    /// A level: `-v4`.
    Level(i32),
}

impl Verbosity {
    /// Returns the level that several requests amount to, one after the other.
    pub(crate) fn level(all: &[Self]) -> LogLevel {
        let default = LogLevel::default().number();
        let level = all.iter().fold(default, |level, &verbosity| match verbosity {
            Self::More(levels) => level.saturating_add(levels),
            Self::Level(level) => level,
        });
        // Debugging is the highest level, but scripts write -vvvvvv.
        LogLevel::try_from(level.max(0)).unwrap_or(LogLevel::Debug)
    }
}

impl FromStr for Verbosity {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('v') && !text.is_empty() {
            return Ok(Self::Level(leading_number(text)));
        }
        // The first v is the option's own letter.
        let more = i32::try_from(text.len()).unwrap_or(i32::MAX);
        Ok(Self::More(more.saturating_add(1)))
    }
}

/// Returns the number at the start of a text, as atoi(3) does: 0 if there is none. CRIU's own suite
/// writes `-verbosity=0`, which is `-v` with the value `erbosity=0`.
fn leading_number(text: &str) -> i32 {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let number = digits.fold(0_i32, |number, digit| {
        number.saturating_mul(10).saturating_add(i32::from(digit - b'0'))
    });
    sign * number
}

/// A number of bytes, with or without `K`, `M` or `G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u32);

impl FromStr for Size {
    type Err = String;

    /// Reads a size as CRIU does, for which the first K, M or G of the text counts: `500MB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        let unit = ['K', 'M', 'G'].into_iter().find(|unit| rest.contains(*unit));
        if !rest.is_empty() && unit.is_none() {
            return Err("expected a number, alone or with K, M or G".into());
        }
        let bytes = u32::try_from(memory(&format!("{digits}{}", String::from_iter(unit)))?).ok();
        bytes
            .map(Self)
            .ok_or_else(|| "expected less than 4G, because CRIU counts in 32 bits".into())
    }
}

/// Parses a number of bytes of memory, with or without `K`, `M`, `G` or `T`.
pub(crate) fn memory(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.strip_prefix(digits) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => return Err("expected a number, alone or with K, M, G or T".into()),
    };
    let number: usize = digits.parse().map_err(|_| "expected a number, as in 512K".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "expected a number of bytes that a machine can have".into())
}

/// Parses seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "expected a number of seconds, as in 2.5".into())
}

/// Parses whole seconds.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>();
    seconds
        .map(|seconds| Duration::from_secs(seconds.into()))
        .map_err(|_| "expected a whole number of seconds".into())
}

/// Parses groups of CPU features as CRIU does: names with or without commas between them, and `^`
/// that inverts up to the next comma: `cpu,^fpu`.
pub(crate) fn cpu_cap(text: &str) -> Result<CpuCap, String> {
    let all = CpuCap::FPU | CpuCap::CPU | CpuCap::INS;
    // The groups that CRIU compares by default.
    let mut groups = CpuCap::FPU | CpuCap::INS;
    let (mut rest, mut on) = (text, true);
    while let Some(next) = rest.chars().next() {
        if matches!(next, '^' | ',') {
            on = next == ',' || !on;
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let names = [
            ("none", if on { all } else { CpuCap::empty() }),
            ("all", all),
            ("fpu", CpuCap::FPU),
            ("cpu", CpuCap::CPU),
            ("ins", CpuCap::INS),
        ];
        let named =
            names.iter().find_map(|(name, caps)| Some((name, caps, rest.strip_prefix(name)?)));
        let Some((name, caps, after)) = named else {
            return Err("expected some of cpu, fpu, ins, all, none, separated by commas".into());
        };
        match *name {
            "none" => groups = all.difference(*caps),
            _ => groups.set(*caps, on),
        }
        rest = after;
    }
    Ok(groups)
}

/// Inodes of unix sockets: `12,34`. An empty list names none in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inodes(pub(crate) Vec<u32>);

impl FromStr for Inodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        let inodes: Result<_, _> = parts.map(str::parse).collect();
        inodes.map(Self).map_err(|_| "expected inode numbers separated by commas".into())
    }
}

/// A new root for cgroups: `[CONTROLLER:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupRoot {
    pub(crate) controller: Option<String>,
    pub(crate) path: PathBuf,
}

impl FromStr for CgroupRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (controller, path) = match text.split_once(':') {
            Some((controller, path)) => (Some(controller.to_owned()), path),
            None => (None, text),
        };
        if path.is_empty() {
            return Err("expected a path, as in memory:/new".into());
        }
        Ok(Self { controller, path: path.into() })
    }
}

/// Splits two names with something between: `inner=outer`.
fn two(text: &OsString, between: u8) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|&byte| byte == between)?;
    let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((part(bytes.get(..at)?), part(bytes.get(at + 1..)?)))
}

/// Parses a pair of virtual Ethernet devices in the notation that is older than `--external`.
pub(crate) fn veth_pair() -> impl TypedValueParser<Value = External> {
    OsStringValueParser::new().try_map(|text| match two(&text, b'=') {
        Some((inner, outer)) => Ok(External::Veth { inner, outer, bridge: None }),
        None => Err("expected INNER=OUTER".to_owned()),
    })
}

/// Parses a mount from outside in the notation that is older than `--external`.
pub(crate) fn mount_map() -> impl TypedValueParser<Value = External> {
    OsStringValueParser::new().try_map(|text| match two(&text, b':') {
        _ if text == "auto" => Ok(External::FoundMounts(None)),
        Some((id, value)) => Ok(External::mount(id, value)),
        None => Err("expected KEY:VALUE or auto".to_owned()),
    })
}

/// The only namespace that CRIU makes empty, that of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetOnly;

impl FromStr for NetOnly {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "net" => Ok(Self),
            _ => Err("only net can be made empty".into()),
        }
    }
}

/// Checks a way to compare files, because CRIU would refuse it without a message to us.
pub(crate) fn file_validation(text: &str) -> Result<OsString, String> {
    match text {
        "filesize" | "buildid" => Ok(text.into()),
        _ => Err("expected filesize or buildid".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_v_has_its_level() {
        for (given, level) in [
            (&[][..], LogLevel::Warnings),
            (&[""], LogLevel::Information),
            (&["v"], LogLevel::Debug),
            (&["vvvvv"], LogLevel::Debug),
            (&["4"], LogLevel::Debug),
            (&["0"], LogLevel::Messages),
            (&["1", ""], LogLevel::Warnings),
            (&["9"], LogLevel::Debug),
            (&["erbosity=0"], LogLevel::Messages),
            (&["4 "], LogLevel::Debug),
            (&["vx"], LogLevel::Debug),
            (&["x"], LogLevel::Messages),
            (&["-1"], LogLevel::Messages),
        ] {
            let all: Vec<Verbosity> = given.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(Verbosity::level(&all), level, "{given:?}");
        }
    }

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("1K", 1024), ("3M", 3 << 20)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for (text, bytes) in
            [(" 1 M ", 1 << 20), ("2MB", 2 << 20), ("3KiB", 3 << 10), ("1KK", 1024)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for bad in ["", "K", "1k", "-1", "4G", "99999999999999999999"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cpu_features_start_from_what_criu_does_alone() {
        let (fpu, cpu, ins) = (CpuCap::FPU, CpuCap::CPU, CpuCap::INS);
        for (text, groups) in [
            ("", fpu | ins),
            ("all", fpu | cpu | ins),
            ("cpu,", fpu | cpu | ins),
            ("^fpuins,,cpu", cpu),
            ("cpu", fpu | cpu | ins),
            ("^fpu", ins),
            ("none,cpu", cpu),
            ("^none,^ins", fpu | cpu),
            ("none", CpuCap::empty()),
        ] {
            assert_eq!(cpu_cap(text), Ok(groups), "{text:?}");
        }
        assert!(cpu_cap("sse").is_err());
    }

    #[test]
    fn what_was_written_before_external_is_read() {
        let root: CgroupRoot = "memory:/new".parse().unwrap();
        assert_eq!((root.controller.as_deref(), root.path), (Some("memory"), "/new".into()));
        assert_eq!("12,34".parse(), Ok(Inodes(vec![12, 34])));
        assert!("12;34".parse::<Inodes>().is_err());
        let both = two(&"eth0=veth1".into(), b'=');
        assert_eq!(both, Some(("eth0".into(), "veth1".into())));
    }
}
