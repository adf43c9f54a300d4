//! The error for a security label that is or would be lost.

use std::fmt;

use super::carried::Attribute;
use super::label::Label;
use super::module::SecurityModule;

/// A refused operation, because it loses or would lose a security label. The tasks of a dump are
/// unchanged, and nothing is left of the tasks of a restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LabelError {
    /// The name of the operation: "dump" or "restore".
    pub operation: &'static str,
    /// The id of the thread, which for a thread that is not yet restored is its id in the images.
    /// `None` for a label that the caller asked for.
    pub thread: Option<u32>,
    /// The purpose of the label.
    pub attribute: Attribute,
    /// The label.
    pub label: Label,
    /// The number of other labels in the tree with the same problem.
    pub more: usize,
    /// The problem.
    pub problem: LabelProblem,
}

/// The problem with a label.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LabelProblem {
    /// CRIU said before the operation that it cannot save or set the label.
    NoSupport {
        /// The label that the tasks would have after a restore, if it is known. It is criu's own.
        instead: Option<Label>,
    },
    /// CRIU's images have no place for a label of this kind.
    NoPlace,
    /// The images that CRIU has written have this other label, or no label.
    NotInImages(Option<Label>),
    /// This machine does not know the label: no such profile is loaded, or the policy has no such
    /// context.
    Unknown(Label),
    /// The policy of this machine does not let a task with this label, which is criu's own, change
    /// to the label.
    Forbidden(Label),
    /// CRIU gives sockets the label that they were saved with. The policy of this machine does not
    /// let tasks with the label asked for use them.
    Sockets {
        /// The saved label of the sockets.
        saved: Label,
        /// The number of these sockets. A socket that several tasks have open counts once a task.
        count: usize,
    },
    /// The restored thread has this other label, or no label.
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
    /// Describes the problem without advice.
    pub fn what(&self) -> impl fmt::Display {
        Description(self)
    }

    /// Advises what to do, other than to accept the loss.
    pub fn hint(&self) -> &'static str {
        let module = self.label.module();
        match (&self.problem, module) {
            (LabelProblem::NoPlace, _) => "wait until the thread has no such label",
            (LabelProblem::Unknown(_), SecurityModule::Apparmor) => {
                "load it with apparmor_parser, or restore with another profile"
            }
            (LabelProblem::Unknown(_), _) => {
                "load the policy module that has it, or restore with another label"
            }
            (LabelProblem::Forbidden(_), _) => {
                "allow it in the policy (class process, permission dyntransition), or restore with \
                 another label"
            }
            (LabelProblem::Sockets { .. }, _) => {
                "change the saved label to the new one in the images, with edit::Edit::Label of \
                 criu-images"
            }
            (LabelProblem::NotRestored(_), _) if self.thread.is_none() => {
                "restore without asking for a label: CRIU sets it only for tasks saved with one"
            }
            (LabelProblem::NotInImages(Some(_)), SecurityModule::Apparmor) => {
                "give the profile a name without blanks: CRIU cuts the name at the first blank"
            }
            (_, SecurityModule::Selinux) => "use a CRIU built with libselinux",
            (_, SecurityModule::Apparmor) => {
                "mount securityfs where criu runs, remove /run/criu.kdat and try again"
            }
            (_, SecurityModule::Other) => "run the tasks without that label",
        }
    }
}

/// The problem in words, without advice.
struct Description<'a>(&'a LabelError);

impl fmt::Display for Description<'_> {
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
            Attribute::Fscreate => " for the files it creates",
            Attribute::Keycreate => " for the keys it creates",
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
                write!(f, ", and CRIU has written {} into the images", FoundLabel(found))
            }
            LabelProblem::Unknown(part) => match module {
                SecurityModule::Apparmor => {
                    write!(f, ", but no AppArmor profile {part} is loaded here")
                }
                _ => write!(f, ", but the policy of this machine has no context {part}"),
            },
            LabelProblem::Forbidden(own) => {
                write!(
                    f,
                    ", but the policy of this machine does not let criu's label {own} change"
                )?;
                f.write_str(" into it")
            }
            LabelProblem::Sockets { saved, count } => {
                write!(
                    f,
                    ", but CRIU gives sockets ({count}) the label {saved} that they were saved"
                )?;
                f.write_str(
                    " with, and the policy of this machine lets no task with the new label",
                )?;
                f.write_str(" use them")
            }
            LabelProblem::NotRestored(found) => {
                write!(f, ", and one has {} after the restore", FoundLabel(found))?;
                f.write_str("; nothing was left running")
            }
        }
    }
}

/// A label, or `none`.
struct FoundLabel<'a>(&'a Option<Label>);

impl fmt::Display for FoundLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(label) => write!(f, "{label}"),
            None => f.write_str("none"),
        }
    }
}

/// The reason why a CRIU cannot save or set labels of a module.
fn reason(module: SecurityModule) -> &'static str {
    match module {
        SecurityModule::Selinux => "it was built without SELinux, as Debian's is",
        SecurityModule::Apparmor => "it does not see /sys/kernel/security/apparmor",
        SecurityModule::Other => "CRIU knows only SELinux and AppArmor",
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
            "dump refused: thread 812 carries the SELinux label u:r:confined_t:s0 (and 2 more in \
             the tree), which this CRIU cannot save: it was built without SELinux, as Debian's is; \
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
