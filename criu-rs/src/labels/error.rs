//! A label that is lost, or would be.

use std::fmt;

use super::carried::Attribute;
use super::label::Label;
use super::module::SecurityModule;

/// A label that an operation loses, or would lose. It was refused: nothing has changed for the tasks of a dump, and
/// nothing is left of those of a restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LabelError {
    /// What was asked for: "dump" or "restore".
    pub operation: &'static str,
    /// The thread, by its id here or, where it is not restored yet, in the images. `None` for a label that the
    /// caller asked for.
    pub thread: Option<u32>,
    /// What the label is for.
    pub attribute: Attribute,
    /// The label.
    pub label: Label,
    /// How many more labels of the tree are in the same case.
    pub more: usize,
    /// What is wrong.
    pub problem: LabelProblem,
}

/// What is wrong with a label.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LabelProblem {
    /// CRIU, asked before the operation, cannot save or set it.
    NoSupport {
        /// The label that the tasks would have after a restore, which is criu's own, where that is known.
        instead: Option<Label>,
    },
    /// CRIU's images have no place for a label of this kind.
    NoPlace,
    /// The images that CRIU has written do not have it, but this one or none.
    NotInImages(Option<Label>),
    /// The machine does not know the label: there is no such profile, or the policy has no such context.
    Unknown(Label),
    /// The restored thread has another label, or none.
    NotRestored(Option<Label>),
}

impl std::error::Error for LabelError {}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {}, or accept the loss with .accept_label_loss(true)",
            self.what(),
            self.hint()
        )
    }
}

impl LabelError {
    /// What is wrong, without what to do about it.
    pub fn what(&self) -> impl fmt::Display {
        What(self)
    }

    /// What to do about it, other than to accept the loss.
    pub fn hint(&self) -> &'static str {
        let module = self.label.module();
        match (&self.problem, module) {
            (LabelProblem::NoPlace, _) => "wait until it has none",
            (LabelProblem::Unknown(_), SecurityModule::Apparmor) => {
                "load it with apparmor_parser, or restore with another profile"
            }
            (LabelProblem::Unknown(_), _) => {
                "load the policy module that has it, or restore with another label"
            }
            (LabelProblem::NotRestored(_), _) if self.thread.is_none() => {
                "restore without asking for one, since CRIU gives a label only to tasks that were saved with one"
            }
            (LabelProblem::NotInImages(Some(_)), SecurityModule::Apparmor) => {
                "give the profile a name without blanks, at which CRIU cuts it"
            }
            (_, SecurityModule::Selinux) => "use a CRIU built with libselinux",
            (_, SecurityModule::Apparmor) => {
                "mount securityfs where criu runs, remove /run/criu.kdat and try again"
            }
            (_, SecurityModule::Other) => "run the tasks without that label",
        }
    }
}

struct What<'a>(&'a LabelError);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LabelError { operation, thread, attribute, label, more, problem } = self.0;
        let module = label.module();
        write!(f, "{operation} refused: ")?;
        match (thread, operation) {
            (Some(id), &"dump") => write!(f, "thread {id} carries ")?,
            (Some(id), _) => write!(f, "thread {id} was saved with ")?,
            (None, _) => f.write_str("the restored tasks were to get ")?,
        }
        write!(f, "the {module} label {label}")?;
        f.write_str(match attribute {
            Attribute::Current => "",
            Attribute::Sockcreate => " for its sockets",
            Attribute::Exec => " for the next program it executes",
            Attribute::Fscreate => " for the files it makes",
            Attribute::Keycreate => " for the keys it makes",
        })?;
        if *more > 0 {
            write!(f, " (and {more} more in the tree)")?;
        }
        match problem {
            LabelProblem::NoSupport { instead } => {
                let verb = if *operation == "dump" { "save" } else { "set" };
                write!(f, ", which this CRIU cannot {verb}: {}", reason(module))?;
                match instead {
                    Some(instead) => {
                        write!(f, "; restored, it would have criu's own label {instead}")
                    }
                    None => Ok(()),
                }
            }
            LabelProblem::NoPlace => f.write_str(", which no CRIU saves"),
            LabelProblem::NotInImages(found) => {
                write!(f, ", and CRIU has written {} into the images", Found(found))
            }
            LabelProblem::Unknown(part) => match module {
                SecurityModule::Apparmor => {
                    write!(f, ", but no AppArmor profile {part} is loaded here")
                }
                _ => write!(f, ", but the policy of this machine has no context {part}"),
            },
            LabelProblem::NotRestored(found) => {
                write!(
                    f,
                    ", and one has {} after the restore; nothing was left running",
                    Found(found)
                )
            }
        }
    }
}

struct Found<'a>(&'a Option<Label>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(label) => write!(f, "{label}"),
            None => f.write_str("none"),
        }
    }
}

/// Why a CRIU cannot.
fn reason(module: SecurityModule) -> &'static str {
    match module {
        SecurityModule::Selinux => "it was built without SELinux, as Debian's is",
        SecurityModule::Apparmor => "it does not see /sys/kernel/security/apparmor",
        SecurityModule::Other => "CRIU knows SELinux and AppArmor alone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: &'static str, thread: Option<u32>, problem: LabelProblem) -> LabelError {
        let label = Label::new(SecurityModule::Selinux, "u:r:confined_t:s0");
        LabelError { operation, thread, attribute: Attribute::Current, label, more: 2, problem }
    }

    #[test]
    fn an_error_says_whose_label_is_lost_and_why_and_what_to_do() {
        let own = Label::new(SecurityModule::Selinux, "u:r:free_t:s0");
        let lost = error("dump", Some(812), LabelProblem::NoSupport { instead: Some(own) });
        assert_eq!(
            lost.to_string(),
            "dump refused: thread 812 carries the SELinux label u:r:confined_t:s0 (and 2 more in the \
             tree), which this CRIU cannot save: it was built without SELinux, as Debian's is; \
             restored, it would have criu's own label u:r:free_t:s0; use a CRIU built with \
             libselinux, or accept the loss with .accept_label_loss(true)"
        );
        let asked = error("restore", None, LabelProblem::NotRestored(None));
        assert_eq!(
            asked.what().to_string(),
            "restore refused: the restored tasks were to get the SELinux label u:r:confined_t:s0 \
             (and 2 more in the tree), and one has none after the restore; nothing was left running"
        );
    }
}
