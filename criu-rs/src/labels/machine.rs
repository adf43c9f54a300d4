//! The modules that label processes here, and the labels of live ones.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use procfs::process::Process;

use super::carried::{Attribute, Carried};
use super::label::Label;
use super::module::SecurityModule;
use crate::host::tree;
use crate::value::Pid;

/// The labels that a process and its descendants carry, by process and thread; `unconfined` and zombies are left
/// out. On a machine without a module that labels processes there are none.
///
/// ```no_run
/// use criu_rs::labels;
///
/// for carried in labels::of_tree("4711".parse()?)? {
///     println!("{} {}: {}", carried.tid, carried.attribute, carried.label);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// With the file, where this process may not read one. What has ended meanwhile is left out.
pub fn of_tree(root: Pid) -> io::Result<Vec<Carried>> {
    let mut carried = Machine::look().of_tree(root)?;
    carried.retain(|carried| !is_zombie(carried.pid, carried.tid));
    Ok(carried)
}

/// What labels processes on this machine, and where the kernel says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Modules with the folder of `/proc/PID/attr` that is theirs; an empty one is the folder itself.
    folders: Vec<(SecurityModule, &'static str)>,
}

impl Machine {
    /// Looks at the labels of this process: three files that fail to read where there is none.
    pub(crate) fn look() -> Self {
        let own = |file: &str| read(Path::new("/proc/thread-self/attr").join(file).as_path());
        let speaks = |file: &str| matches!(own(file), Ok(said) if !said.is_empty());
        let mut folders = Vec::new();
        if let Some(said) = own("current").ok().filter(|said| !said.is_empty()) {
            let active = fs::read_to_string(ACTIVE).ok();
            let own = |folder| own(folder).ok();
            folders.push((first(active.as_deref(), &said, own), ""));
        }
        for (module, folder) in
            [(SecurityModule::Apparmor, "apparmor/"), (SecurityModule::Other, "smack/")]
        {
            if !folders.iter().any(|(known, _)| *known == module)
                && speaks(&format!("{folder}current"))
            {
                folders.push((module, folder));
            }
        }
        Self { folders }
    }

    /// Whether any module labels processes.
    pub(crate) fn labels(&self) -> bool {
        !self.folders.is_empty()
    }

    /// Whether this module does.
    pub(crate) fn runs(&self, module: SecurityModule) -> bool {
        self.folders.iter().any(|(known, _)| *known == module)
    }

    /// The labels of a process itself, its first thread's.
    pub(crate) fn of_process(&self, pid: Pid) -> io::Result<Vec<Label>> {
        let mut carried = Vec::new();
        self.of_thread(pid, pid, &[Attribute::Current], &mut carried)?;
        Ok(carried.into_iter().map(|carried| carried.label).collect())
    }

    /// All labels of a thread.
    pub(crate) fn of_one(&self, pid: Pid, tid: Pid) -> io::Result<Vec<Carried>> {
        let mut carried = Vec::new();
        self.of_thread(pid, tid, &ATTRIBUTES, &mut carried)?;
        Ok(carried)
    }

    /// The labels of a tree, `unconfined` left out.
    pub(crate) fn of_tree(&self, root: Pid) -> io::Result<Vec<Carried>> {
        let mut carried = Vec::new();
        if !self.labels() {
            return Ok(carried);
        }
        for pid in tree::descendants(root) {
            for tid in threads(pid)? {
                self.of_thread(pid, tid, &ATTRIBUTES, &mut carried)?;
            }
        }
        carried.retain(|carried| !carried.label.is_unconfined());
        Ok(carried)
    }

    fn of_thread(
        &self,
        pid: Pid,
        tid: Pid,
        attributes: &[Attribute],
        carried: &mut Vec<Carried>,
    ) -> io::Result<()> {
        for &(module, folder) in &self.folders {
            for &attribute in attributes {
                if !has(module, attribute) {
                    continue;
                }
                let file = format!("/proc/{pid}/task/{tid}/attr/{folder}{attribute}");
                let said = match read(Path::new(&file)) {
                    Ok(said) => said,
                    Err(error) if is_absent(&error) => continue,
                    Err(error) => {
                        return Err(io::Error::new(error.kind(), format!("{file}: {error}")));
                    }
                };
                if let Some(label) = Label::read(module, &said) {
                    carried.push(Carried { pid, tid, attribute, label });
                }
            }
        }
        Ok(())
    }
}

/// The module that `attr/current` speaks for: the first of the active ones that has labels.
fn first(
    active: Option<&str>,
    said: &[u8],
    own: impl Fn(&'static str) -> Option<Vec<u8>>,
) -> SecurityModule {
    let named =
        active.into_iter().flat_map(|list| list.trim().split(',')).find_map(|name| match name {
            "selinux" => Some(SecurityModule::Selinux),
            "apparmor" => Some(SecurityModule::Apparmor),
            "smack" | "tomoyo" => Some(SecurityModule::Other),
            _ => None,
        });
    // Without securityfs: by what else the kernel shows, and by the look of a context.
    named.unwrap_or_else(|| match () {
        () if own("apparmor/current").as_deref() == Some(said) => SecurityModule::Apparmor,
        () if own("smack/current").as_deref() == Some(said) => SecurityModule::Other,
        () if said.iter().filter(|byte| **byte == b':').count() >= 2 => SecurityModule::Selinux,
        () if Path::new("/sys/module/apparmor").exists() => SecurityModule::Apparmor,
        () if Path::new("/sys/fs/selinux").exists() => SecurityModule::Selinux,
        () => SecurityModule::Other,
    })
}

/// Whether a module has such a label.
fn has(module: SecurityModule, attribute: Attribute) -> bool {
    match module {
        SecurityModule::Selinux => true,
        SecurityModule::Apparmor => matches!(attribute, Attribute::Current | Attribute::Exec),
        SecurityModule::Other => attribute == Attribute::Current,
    }
}

/// The threads of a process, itself first; none once it has ended.
pub(crate) fn threads(pid: Pid) -> io::Result<Vec<Pid>> {
    let entries = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a thread has ended and waits to be reaped: it will never do anything again.
pub(crate) fn is_zombie(pid: Pid, tid: Pid) -> bool {
    let task = Process::new(pid.as_raw()).and_then(|process| process.task_from_tid(tid.as_raw()));
    task.and_then(|task| task.stat()).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'))
}

/// A thread's id in each pid namespace that it is in, from ours inwards.
pub(crate) fn ids(pid: Pid, tid: Pid) -> Vec<u32> {
    let task = Process::new(pid.as_raw()).and_then(|process| process.task_from_tid(tid.as_raw()));
    let ids = task.and_then(|task| task.status()).ok().and_then(|status| status.nspid);
    let ids = ids.unwrap_or_else(|| vec![tid.as_raw()]);
    ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    File::open(file)?.take(MAX_LABEL).read_to_end(&mut said)?;
    Ok(said)
}

/// Whether a thread has gone, or a module has nothing of this kind: `EINVAL`, and sometimes `EOPNOTSUPP`.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::EOPNOTSUPP))
}

/// All of them.
const ATTRIBUTES: [Attribute; 5] = [
    Attribute::Current,
    Attribute::Sockcreate,
    Attribute::Exec,
    Attribute::Fscreate,
    Attribute::Keycreate,
];

/// The active security modules, in order.
const ACTIVE: &str = "/sys/kernel/security/lsm";

/// The kernel's own limit is a page.
const MAX_LABEL: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_module_with_labels_speaks() {
        let none = |_: &str| None;
        let of = |list| first(Some(list), b"x", none);
        assert_eq!(
            of("lockdown,capability,landlock,yama,apparmor,bpf\n"),
            SecurityModule::Apparmor
        );
        assert_eq!(of("lockdown,capability,selinux,bpf"), SecurityModule::Selinux);
        assert_eq!(of("smack,apparmor"), SecurityModule::Other);
        let context = b"system_u:system_r:init_t:s0\0";
        assert_eq!(first(None, context, none), SecurityModule::Selinux);
        let same = |folder: &str| (folder == "apparmor/current").then(|| b"unconfined\n".to_vec());
        assert_eq!(first(None, b"unconfined\n", same), SecurityModule::Apparmor);
    }

    #[test]
    fn a_process_that_has_gone_carries_nothing() {
        let machine = Machine { folders: vec![(SecurityModule::Selinux, "")] };
        assert_eq!(machine.of_tree(Pid::new(i32::MAX).unwrap()).unwrap(), []);
    }
}
