//! CRIU's messages as the table of causes has them, and the operations for which they count.

use super::cause::Cause;

/// Messages that tell a cause.
#[derive(Debug)]
pub(super) struct Phrase {
    pub(super) cause: Cause,
    /// The operations for which they count.
    pub(super) on: &'static [On],
    /// The whole messages. `{}` stands for any text, `{name}` for text that names what the cause
    /// is about.
    pub(super) messages: &'static [&'static str],
}

/// An operation, or a group of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Every operation.
    Any,
    /// A dump or a pre-dump.
    Dump,
    Restore,
    /// A check of the kernel, or a question about features.
    Check,
    /// A record or a comparison of CPU features.
    Cpuinfo,
    /// A page server.
    Pages,
}

impl On {
    /// Returns the group of an operation, by the name that a failure gives it.
    pub(super) fn of(operation: &str) -> Self {
        match operation {
            "dump" | "pre-dump" => Self::Dump,
            "restore" => Self::Restore,
            "cpuinfo dump" | "cpuinfo check" => Self::Cpuinfo,
            "page server" | "wait for a page server" => Self::Pages,
            _ => Self::Check,
        }
    }
}

impl Phrase {
    /// Returns true if the messages tell only which error the kernel returned, or how a task ended.
    /// Such a message counts only as the first error: consequences have the same.
    pub(super) fn is_general(&self) -> bool {
        let is_general = |message: &&str| ["{}: ", "{pid} "].iter().any(|g| message.starts_with(g));
        self.messages.iter().any(is_general)
    }

    /// Compares with a message of CRIU in an operation. Returns what the message names: an empty
    /// text if it names nothing.
    pub(super) fn fits(&self, on: On, text: &str) -> Option<String> {
        if !self.on.iter().any(|own| *own == On::Any || *own == on) {
            return None;
        }
        // Output of a program that CRIU calls may follow a message, as if a name held a newline.
        let (first, _) = text.split_once("\\n").unwrap_or((text, ""));
        self.fits_line(text).or_else(|| self.fits_line(first))
    }

    fn fits_line(&self, text: &str) -> Option<String> {
        // A part of CRIU puts its name before its messages: `cg: Can't move ...`.
        let is_part = |part: &str| {
            part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let inner = text.split_once(": ").filter(|(part, _)| is_part(part));
        let inner = inner.map(|(_, inner)| inner.trim_start());
        self.messages.iter().find_map(|message| {
            fit(message, text).or_else(|| inner.and_then(|inner| fit(message, inner)))
        })
    }
}

/// Compares a whole text with a message of the table.
fn fit(message: &str, text: &str) -> Option<String> {
    let (head, mut message) = message.split_once('{').map_or((message, None), |(head, rest)| {
        // The rest begins with the name of the first gap.
        (head, Some(rest))
    });
    let mut text = text.strip_prefix(head)?;
    let mut seen = Vec::new();
    while let Some(rest) = message {
        let (name, rest) = rest.split_once('}')?;
        let (value, after) = match rest.split_once('{') {
            Some((literal, next)) => {
                message = Some(next);
                text.split_once(literal)?
            }
            None => {
                message = None;
                (text.strip_suffix(rest)?, "")
            }
        };
        text = after;
        seen.extend(shown(name, value)?);
    }
    text.is_empty().then(|| seen.join(", "))
}

/// Words what a gap holds. The outer `None` means that the gap cannot hold this text.
fn shown(name: &str, value: &str) -> Option<Option<String>> {
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    Some(match name {
        "" => None,
        // CRIU prints a name that it does not have.
        _ if value == "(null)" || value.is_empty() => None,
        // Text that needs no word before it: a path, the reason of the kernel.
        "name" | "why" => Some(value.to_owned()),
        "pid" if is_number => Some(format!("process {value}")),
        "pid" => return None,
        // CRIU reports children of its own in the same words as programs.
        "program" if is_number => return None,
        // CRIU mounts everything below a temporary directory first.
        "place" => {
            let inner = value.split_once("/mnt-").and_then(|(_, inner)| inner.split_once('/'));
            Some(inner.map_or_else(|| value.to_owned(), |(_, inner)| format!("/{inner}")))
        }
        // CRIU names a controller by its mount point.
        "controller" => value.rsplit('/').next().map(|last| format!("controller {last}")),
        // CRIU 4.1 takes the key for a path, whose first character it drops.
        "external" => Some(format!("file[{value}]")),
        word => Some(format!("{word} {value}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cause::SAID;
    use super::*;

    #[test]
    fn a_message_fits_as_a_whole_and_names_what_it_is_about() {
        let file = "Can't open file {name} on restore: No such file or directory";
        assert_eq!(
            fit(file, "Can't open file a/b on restore: No such file or directory").unwrap(),
            "a/b"
        );
        // A file's name cannot say why it was not opened.
        let forged =
            "Can't open file x on restore: No such file or directory on restore: Not a directory";
        assert_eq!(fit(file, forged), None);
        assert_eq!(fit(file, &format!("a {forged}")), None);
        assert_eq!(fit("Can't fork for {pid}: File exists", "Can't fork for 5: File exists"), {
            Some("process 5".into())
        });
        assert_eq!(fit("Can't fork for {pid}: {}", "Can't fork for me: File exists"), None);
        assert_eq!(fit("a", "a"), Some(String::new()));
        assert_eq!(fit("a", "ab"), None);
        assert_eq!(fit("{}a{}b", "xaybzb"), Some(String::new()));
    }

    #[test]
    fn a_phrase_counts_for_its_operations_only() {
        let phrase =
            Phrase { cause: Cause::NoSpace, on: &[On::Dump], messages: &["Can't {}: No space"] };
        assert_eq!(phrase.fits(On::Dump, "cg: Can't write: No space"), Some(String::new()));
        assert_eq!(phrase.fits(On::Dump, "CG 5: Can't write: No space"), None);
        assert_eq!(phrase.fits(On::Restore, "Can't write: No space"), None);
        assert_eq!(On::of("pre-dump"), On::Dump);
        assert_eq!(On::of("features"), On::Check);
    }

    #[test]
    fn no_phrase_is_hidden_by_an_earlier_one() {
        let ons = [On::Dump, On::Restore, On::Check, On::Cpuinfo, On::Pages];
        for (place, phrase) in SAID.iter().enumerate() {
            for (message, on) in phrase.messages.iter().flat_map(|m| ons.map(|on| (m, on))) {
                let text = message.replace("{pid}", "5").replace(['{', '}'], "");
                let first = SAID.iter().position(|one| one.fits(on, &text).is_some());
                let is_own = phrase.fits(on, &text).is_some();
                assert!(!is_own || first == Some(place), "{message:?} has an earlier row");
            }
        }
    }
}
