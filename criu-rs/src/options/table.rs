//! The setters of all options, and their table.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

#[cfg(test)]
use prost::Message;

#[cfg(test)]
use super::fields::field_numbers;
use super::info::OptionInfo;
use super::opts::Opts;
use super::rows::option_rows;
use crate::rpc::{
    CgroupRoot, CriuCgMode, CriuImageIoMode, CriuNetworkLockMethod, CriuPreDumpMode, JoinNamespace,
};
#[cfg(test)]
use crate::transport::Handed;
use crate::value::{
    AfterDump, CgroupMode, Compression, CpuCap, Dir, External, ImageIo, InheritFd, InvalidValue,
    JoinNs, LogLevel, LsmProfile, MountContext, NetworkLock, PreDumpMode, Tcp, Tls, Version,
};

/// Names of operations.
macro_rules! names {
    ([$($operation:ident)*]) => { &[$(stringify!($operation)),*] };
}

macro_rules! table {
    (
        options {
            $(
                $(#[$doc:meta])*
                on $operations:tt
                fn $method:ident($opts:ident $(, $argument:ident: $type:ty)*) $body:block
                sets $(
                    $number:literal $name:literal $cli:literal ($major:literal, $minor:literal)
                ),+;
                such as $(($($sample:expr),*)),+;
            )*
        }
        elsewhere {
            $(
                on $operations2:tt
                $number2:literal $name2:literal $cli2:literal ($major2:literal, $minor2:literal)
                by $method2:literal, $superseded:literal;
            )*
        }
    ) => {
        $(
            impl<'a> Opts<'a> {
                pub(crate) fn $method($opts: &mut Self $(, $argument: $type)*) $body
            }
        )*

        /// Every option of CRIU's RPC, in no particular order.
        pub const OPTIONS: &[OptionInfo] = &[
            $($(OptionInfo {
                number: $number,
                name: $name,
                cli: $cli,
                since: Version::new($major, $minor, 0),
                method: stringify!($method),
                operations: names!($operations),
                superseded: false,
            },)+)*
            $(OptionInfo {
                number: $number2,
                name: $name2,
                cli: $cli2,
                since: Version::new($major2, $minor2, 0),
                method: $method2,
                operations: names!($operations2),
                superseded: $superseded,
            },)*
        ];

        /// Lists the methods: the name, the field numbers in the row, and the numbers of the fields
        /// that the samples set.
        #[cfg(test)]
        fn samples() -> Vec<(&'static str, Vec<u32>, Vec<u32>)> {
            let mut all = Vec::new();
            $({
                let mut set = Vec::new();
                $({
                    let mut opts = Opts::new("/".into(), "x.log");
                    Opts::$method(&mut opts $(, $sample)*);
                    assert_eq!(opts.fault, None, "{}", stringify!($method));
                    let filled = opts.fill(&mut Handed::default()).unwrap();
                    set.extend(field_numbers(&filled.message.encode_to_vec()));
                })+
                all.push((stringify!($method), vec![$($number),+], set));
            })*
            all
        }
    };
}

option_rows!(table);

/// The only namespace kind that `empty_ns` takes.
pub(super) const CLONE_NEWNET: u32 = 0x4000_0000;

#[cfg(test)]
fn sample_fd() -> &'static std::fs::File {
    static FILE: std::sync::LazyLock<std::fs::File> =
        std::sync::LazyLock::new(|| std::fs::File::open("/dev/null").unwrap());
    &FILE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number and name of each `criu_opts` field in the schema.
    fn schema() -> Vec<(u32, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
        let files = protox::compile(["rpc.proto"], [folder]).unwrap();
        let file = &files.file[0];
        let opts = file.message_type.iter().find(|m| m.name() == "criu_opts").unwrap();
        let field = |f: &prost_types::FieldDescriptorProto| {
            (u32::try_from(f.number()).unwrap(), f.name().to_owned())
        };
        opts.field.iter().map(field).collect()
    }

    #[test]
    fn every_option_of_the_schema_is_reached_or_has_a_successor() {
        let schema = schema();
        assert_eq!(schema.len(), 77);
        for (number, name) in schema {
            let rows: Vec<_> = OPTIONS.iter().filter(|row| row.number == number).collect();
            assert!(!rows.is_empty(), "criu_opts.{name} = {number} is not in the table");
            for row in rows {
                assert_eq!(row.name, name, "number {number}");
                assert!(!row.operations.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn every_method_sets_what_its_row_says_and_no_more() {
        let base = Opts::new("/".into(), "x").fill(&mut Handed::default()).unwrap();
        let base = field_numbers(&base.message.encode_to_vec());
        for (method, claims, mut set) in samples() {
            set.retain(|number| !base.contains(number) || claims.contains(number));
            set.sort_unstable();
            set.dedup();
            let mut claims = claims;
            claims.sort_unstable();
            assert_eq!(set, claims, "{method}");
        }
    }

    #[test]
    fn advice_about_a_cause_names_methods_of_the_operation_that_failed() {
        use crate::diagnosis::{Cause, operations};

        // Methods that set no option of CRIU.
        const MORE: &[(&str, &[&str])] = &[
            ("accept_label_loss", &["Dump", "Restore"]),
            ("accept_lock_loss", &["Restore"]),
            ("overwrite", &["Dump", "PreDump"]),
        ];
        let of_options = OPTIONS.iter().map(|option| (option.method, option.operations));
        let methods: Vec<_> = of_options.chain(MORE.iter().copied()).collect();
        let has = |builder: &str, method: &str| {
            methods.iter().any(|(name, builders)| *name == method && builders.contains(&builder))
        };
        let mut named = 0;
        for &cause in Cause::ALL {
            let fails = operations(cause);
            let hint = cause.hint();
            for word in hint.split_whitespace().filter(|word| *word != "..") {
                let Some(word) = word.trim_start_matches('(').strip_prefix('.') else { continue };
                let end = |c: char| !c.is_ascii_lowercase() && c != '_';
                let method = word.split(end).next().unwrap();
                // Advice may name the counterpart, and says so.
                let dumps = fails.contains(&"dump") || hint.contains("dump");
                let restores = fails.contains(&"restore") || hint.contains("restore");
                let there = (dumps && has("Dump", method)) || (restores && has("Restore", method));
                assert!(there, "{cause:?} {fails:?}: no .{method}: {hint}");
                named += 1;
            }
        }
        assert!(named > 30, "{named}");
    }

    /// Returns the first columns of an option's row in docs/coverage.md.
    fn row(number: u32) -> String {
        let ways: Vec<&OptionInfo> = OPTIONS.iter().filter(|row| row.number == number).collect();
        let first = ways[0];
        let set: Vec<String> = ways
            .iter()
            .map(|way| {
                let star = if way.superseded { "superseded by " } else { "" };
                format!("{star}`{}` on {}", way.method, way.operations.join(", "))
            })
            .collect();
        let (name, cli, since) = (first.name, first.cli, first.since);
        format!("| {number} | `{name}` | `{cli}` | {since} | {} |", set.join("; "))
    }

    #[test]
    fn the_coverage_table_is_in_step() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md");
        let text = std::fs::read_to_string(file).unwrap();
        let missing: Vec<String> = schema()
            .into_iter()
            .map(|(number, _)| row(number))
            .filter(|row| !text.lines().any(|line| line.starts_with(row.as_str())))
            .collect();
        assert!(missing.is_empty(), "docs/coverage.md lacks\n{}", missing.join("\n"));
    }

    #[test]
    fn text_that_would_be_cut_is_refused() {
        let fault = |opts: Opts<'_>| opts.fill(&mut Handed::default()).unwrap_err().to_string();
        let mut opts = Opts::new("/".into(), "x.log");
        Opts::root(&mut opts, "/a\0b");
        assert!(fault(opts).contains("NUL"));
        let mut opts = Opts::new("/".into(), "x.log");
        Opts::log_file(&mut opts, "logs/x.log");
        assert!(fault(opts).contains("without slash"));
    }
}
