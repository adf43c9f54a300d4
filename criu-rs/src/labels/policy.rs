//! The SELinux policy of this machine, as the kernel answers for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use super::label::Label;

/// Returns true if the policy has no such context.
pub(crate) fn lacks(context: &[u8]) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(Path::new(SELINUX).join("context"));
    let written = file.and_then(|mut file| file.write_all(context));
    written.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Returns true if the kernel enforces the policy, and the policy forbids tasks with the label
/// `subject` a permission of a class on objects with the label `object`. Returns false where the
/// kernel does not tell.
pub(crate) fn forbids(subject: &Label, object: &[u8], class: &str, permission: &str) -> bool {
    is_enforced() && ask(subject, object, class, permission).is_ok_and(|is_allowed| !is_allowed)
}

fn is_enforced() -> bool {
    fs::read(Path::new(SELINUX).join("enforce")).is_ok_and(|said| said.first() == Some(&b'1'))
}

/// Asks whether a permission is granted.
fn ask(subject: &Label, object: &[u8], class: &str, permission: &str) -> io::Result<bool> {
    let folder = Path::new(SELINUX).join("class").join(class);
    let number = |file: &Path| -> io::Result<u32> {
        fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)
    };
    // The policy numbers classes, and the permissions of a class, from 1.
    let class = number(&folder.join("index"))?;
    let permission = number(&folder.join("perms").join(permission))?;
    let question = [subject.as_bytes(), object, class.to_string().as_bytes()].join(&b' ');
    let mut file = OpenOptions::new().read(true).write(true).open(format!("{SELINUX}/access"))?;
    file.write_all(&question)?;
    let mut answer = [0; 128];
    let length = file.read(&mut answer)?;
    let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default());
    granted(&answer, permission).ok_or_else(|| io::Error::other("an answer without bits"))
}

/// Reads an answer: `allowed decided auditallow auditdeny sequence flags`, of which all but the
/// sequence are hexadecimal.
fn granted(answer: &str, permission: u32) -> Option<bool> {
    let mut words = answer.split_whitespace();
    let allowed = u32::from_str_radix(words.next()?, 16).ok()?;
    let flags = words.nth(4).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
    let bit = 1_u32.checked_shl(permission.checked_sub(1)?)?;
    Some(allowed & bit != 0 || flags & PERMISSIVE != 0)
}

/// The file system of SELinux.
const SELINUX: &str = "/sys/fs/selinux";

/// The flag of subjects that are allowed everything.
const PERMISSIVE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_grants_permissions_by_their_bits() {
        let answer = "5 ffffffff 0 ffffffff 1 0";
        assert_eq!(granted(answer, 1), Some(true));
        assert_eq!(granted(answer, 2), Some(false));
        assert_eq!(granted(answer, 3), Some(true));
        assert_eq!(granted("0 ffffffff 0 ffffffff 7 1", 2), Some(true), "a permissive domain");
        assert_eq!(granted("0 ffffffff 0 ffffffff 7", 2), Some(false), "a kernel without flags");
        for nonsense in ["", "x", "-1"] {
            assert_eq!(granted(nonsense, 1), None);
        }
        assert_eq!((granted(answer, 0), granted(answer, 33)), (None, None));
    }
}
