//! Advice after a failure, in the options of the word that failed.

mod causes;
mod coordinator;
pub(crate) mod instant;
pub(crate) mod kubelet;

use criu_rs::labels::{LabelError, LabelProblem, SecurityModule};
use criu_rs::{Cause, Error, LockProblem, PlaceProblem};

/// A word of the program that gives advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Dump,
    PreDump,
    Restore,
    Preflight,
    /// `container checkpoint`.
    Checkpoint,
    /// `container restore`.
    ContainerRestore,
    /// A word that has no option for a cause: `check`, `page-server`, `crit`, `inspect`.
    Other,
}

impl Word {
    /// Returns the word of an operation, by the name that a failure gives it.
    fn of(operation: &str) -> Self {
        match operation {
            "dump" => Self::Dump,
            "pre-dump" => Self::PreDump,
            "restore" => Self::Restore,
            _ => Self::Other,
        }
    }

    /// Returns the word of `container` that performs an operation.
    fn of_container(operation: &str) -> Self {
        match Self::of(operation) {
            Self::Restore => Self::ContainerRestore,
            Self::Dump | Self::PreDump => Self::Checkpoint,
            word => word,
        }
    }
}

/// The advice if there is no criu.
pub(crate) const NO_CRIU: &str = "\
install the package criu, or name the program with --criu PATH or the variable CRIU";

/// Returns the advice for an error, if there is any.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Start { .. } => Some(NO_CRIU),
        Error::CheckpointExists { .. } => {
            Some("use another directory, or leave --no-overwrite away")
        }
        Error::TooOld { .. } => {
            Some("leave the option away, or name a newer criu with --criu PATH")
        }
        Error::Label(error) => Some(about_label(error)),
        Error::Lock(error) => Some(about_locks(error.problem)),
        Error::Hook { source, .. } => coordinator::of_hook(&**source),
        Error::Instant(error) => instant::of(&**error),
        Error::Holder(holder) => Some(instant::about_holder(holder.state)),
        Error::Nested(_) => Some(about(Cause::NestedNamespace, Word::Dump)),
        Error::Place(error) => Some(about_place(&error.problem)),
        _ => advice(error, Word::of),
    }
}

/// Returns the advice for an error of `container`, which has fewer options than criu.
///
/// The others reach CRIU in its configuration file: the one that the annotation org.criu.config
/// names, or /etc/criu/runc.conf.
pub(crate) fn of_container(error: &Error) -> Option<&'static str> {
    match error {
        Error::TooOld { .. } => Some("name a newer criu with --criu PATH"),
        Error::Label(_) => Some(
            "name a criu that saves labels with --criu PATH; for AppArmor mount securityfs where \
             criu runs and remove /run/criu.kdat",
        ),
        Error::CheckpointExists { .. } => Some("use another directory, or --overwrite"),
        Error::Start { .. }
        | Error::Holder(_)
        | Error::Instant(_)
        | Error::Lock(_)
        | Error::Nested(_)
        | Error::Place(_) => of(error),
        _ => advice(error, Word::of_container),
    }
}

fn advice(error: &Error, word: fn(&str) -> Word) -> Option<&'static str> {
    let failure = error.failure()?;
    Some(about(failure.cause?, word(failure.operation)))
}

/// Returns the advice for a cause in the options of a word.
pub(crate) fn about(cause: Cause, word: Word) -> &'static str {
    let rows = causes::rows(cause).iter();
    let row = rows.into_iter().find(|(words, _)| words.contains(&word));
    row.map_or(cause.hint(), |(_, advice)| advice)
}

/// Returns the advice for lost file locks. The options are those of `restore` and of `container
/// restore`.
fn about_locks(problem: LockProblem) -> &'static str {
    match problem {
        LockProblem::NotAsked => "add --file-locks, or accept the loss with --accept-lock-loss",
        _ => {
            "CRIU loses a POSIX lock on a file that its process has also mapped (SQLite in WAL mode \
             does so); accept the loss with --accept-lock-loss"
        }
    }
}

/// Returns the advice for a place at which criu must not write.
fn about_place(problem: &PlaceProblem) -> &'static str {
    match problem {
        PlaceProblem::NoOwners { .. } => {
            "use a directory on another file system, or add --trust-directory if nobody else can \
             write there"
        }
        PlaceProblem::Foreign(_) => {
            "remove it, or use another directory, or add --trust-directory on a file system that \
             keeps no owners"
        }
        _ => problem.hint(),
    }
}

/// Returns the advice for a lost label.
fn about_label(error: &LabelError) -> &'static str {
    match &error.problem {
        LabelProblem::NoPlace
        | LabelProblem::Unknown(_)
        | LabelProblem::Forbidden(_)
        | LabelProblem::NotInImages(Some(_)) => error.hint(),
        LabelProblem::Sockets { .. } => {
            "change the label in the images, with `crit edit DIR label:OLD=NEW`, which also changes \
             the labels of sockets"
        }
        LabelProblem::NotRestored(_) if error.thread.is_none() => {
            "leave --lsm-profile away: CRIU gives a label only to tasks that were saved with one"
        }
        _ if error.label.module() == SecurityModule::Selinux => {
            "name a criu built with libselinux with --criu PATH, or accept the loss with \
             --accept-label-loss"
        }
        _ => {
            "mount securityfs where criu runs and remove /run/criu.kdat, or accept the loss with \
             --accept-label-loss"
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use criu_rs::LockProblem;

    use super::*;
    use crate::words::TABLE;

    const WORDS: &[Word] = &[
        Word::Dump,
        Word::PreDump,
        Word::Restore,
        Word::Preflight,
        Word::Checkpoint,
        Word::ContainerRestore,
        Word::Other,
    ];

    /// The command lines of which each has the options that a word may name.
    fn lines(word: Word) -> Vec<Command> {
        let line = |name: &str| (TABLE.find(name).unwrap().shown)();
        let of_container = |name: &str| line("container").find_subcommand(name).unwrap().to_owned();
        match word {
            Word::Dump => vec![line("dump")],
            Word::PreDump => vec![line("pre-dump")],
            Word::Restore => vec![line("restore")],
            Word::Preflight => vec![line("preflight")],
            Word::Checkpoint => vec![of_container("checkpoint")],
            Word::ContainerRestore => vec![of_container("restore")],
            Word::Other => ["check", "page-server", "inspect", "crit"].map(line).into(),
        }
    }

    fn has(line: &Command, option: &str) -> bool {
        line.get_arguments().any(|arg| arg.get_long() == Some(option))
    }

    /// Returns the long options in a text, without dashes, each with the word before it. Options of
    /// `(unshare ...)` are not this program's.
    fn options(text: &str) -> Vec<(&str, &str)> {
        let mut is_foreign = false;
        let mut before = "";
        let mut found = Vec::new();
        for word in text.split_whitespace() {
            is_foreign |= word.starts_with("(unshare");
            let name = word.trim_start_matches(['(', '`']).strip_prefix("--");
            if let (Some(name), false) = (name, is_foreign) {
                let end = |c: char| !c.is_ascii_lowercase() && c != '-';
                found.push((before, name.split(end).next().unwrap_or(name)));
            }
            is_foreign &= !word.trim_end_matches(',').ends_with(')');
            before = word;
        }
        found
    }

    /// Asserts that a word has the options of its advice. An option that follows the name of
    /// another word is of that word: `restore --inherit-fd`.
    fn can_be_followed(word: Word, advice: &str) -> usize {
        let lines = lines(word);
        let options = options(advice);
        for (before, option) in &options {
            let there = match TABLE.find(before) {
                Some(other) => has(&(other.shown)(), option),
                None => lines.iter().all(|line| has(line, option)),
            };
            assert!(there, "{word:?} has no --{option}: {advice}");
        }
        options.len()
    }

    #[test]
    fn advice_can_be_followed_in_the_word_that_gives_it() {
        let mut named = 0;
        for &cause in Cause::ALL {
            named +=
                WORDS.iter().map(|&word| can_be_followed(word, about(cause, word))).sum::<usize>();
        }
        assert!(named > 60, "{named}");
        let exists = Error::CheckpointExists { directory: "x".into() };
        for word in [Word::Dump, Word::PreDump] {
            assert_eq!(can_be_followed(word, of(&exists).unwrap()), 1);
        }
        assert_eq!(can_be_followed(Word::Checkpoint, of_container(&exists).unwrap()), 1);
        for word in [Word::Dump, Word::Restore, Word::Checkpoint, Word::ContainerRestore] {
            can_be_followed(word, NO_CRIU);
        }
        for word in [Word::Dump, Word::PreDump, Word::Checkpoint] {
            assert_eq!(
                can_be_followed(word, instant::about_holder(criu_rs::OwnerState::Unseen)),
                1
            );
        }
        for error in instant::samples() {
            can_be_followed(Word::Dump, instant::of(&error).unwrap());
            can_be_followed(Word::Checkpoint, instant::of(&error).unwrap());
        }
        for problem in [LockProblem::NotAsked, LockProblem::NotRestored] {
            can_be_followed(Word::Restore, about_locks(problem));
            can_be_followed(Word::ContainerRestore, about_locks(problem));
        }
        for problem in [PlaceProblem::Foreign(1), PlaceProblem::NoOwners { uid: 1, mode: 0o755 }] {
            for word in
                [Word::Dump, Word::PreDump, Word::Restore, Word::Checkpoint, Word::ContainerRestore]
            {
                assert_eq!(can_be_followed(word, about_place(&problem)), 1);
            }
        }
    }

    #[test]
    fn options_are_found_in_advice() {
        let text = "add --a-b=c (unshare --user --mount), or (--d) with restore --e fd[N]";
        assert_eq!(options(text), [("add", "a-b"), ("or", "d"), ("restore", "e")]);
    }

    /// Returns the words of a text that name something of the library: a method or a path.
    fn rust(text: &str) -> Vec<&str> {
        let is_method = |word: &str| {
            let name = word.trim_start_matches(['(', '`', '\'', '"']).strip_prefix('.');
            name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        };
        let names_rust =
            |word: &&str| is_method(word) || word.contains("::") || word.contains("()");
        text.split_whitespace().filter(names_rust).collect()
    }

    #[test]
    fn advice_names_no_method_of_the_library() {
        assert_eq!(
            rust("set .tcp(Tcp::Close) or leave `.skip_mnt` out"),
            [".tcp(Tcp::Close)", "`.skip_mnt`"]
        );
        for &cause in Cause::ALL {
            for &word in WORDS {
                let advice = about(cause, word);
                assert_eq!(rust(advice), [""; 0], "{cause:?}: {word:?}: {advice}");
            }
        }
    }
}
