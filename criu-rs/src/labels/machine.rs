//! The security modules of this machine, and the labels of live processes.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use procfs::process::Process;

use super::carried::{Attribute, Carried};
use super::label::Label;
use super::module::SecurityModule;
use crate::host::tree;
use crate::value::Pid;

/// The labels that a process and its descendants carry, by process and thread. `unconfined` and
/// zombies are left out. The list is empty if no module of this machine labels processes.
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
/// Names the file that this process may not read. Threads that end meanwhile are left out.
pub fn of_tree(root: Pid) -> io::Result<Vec<Carried>> {
    let mut carried = Machine::look().of_tree(root)?;
    carried.retain(|carried| !is_zombie(carried.pid, carried.tid));
    Ok(carried)
}

/// The modules that label processes on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The modules, each with its folder in `/proc/PID/attr`. An empty name is `attr` itself.
    folders: Vec<(SecurityModule, &'static str)>,
}

impl Machine {
    /// Finds the modules by the labels of this process, which are in three files at most.
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

    /// Returns true if any module labels processes.
    pub(crate) fn labels(&self) -> bool {
        !self.folders.is_empty()
    }

    /// Returns true if this module labels processes.
    pub(crate) fn runs(&self, module: SecurityModule) -> bool {
        self.folders.iter().any(|(known, _)| *known == module)
    }

    /// The labels that confine the first thread of a process.
    pub(crate) fn of_process(&self, pid: Pid) -> io::Result<Vec<Label>> {
        let mut carried = Vec::new();
        self.of_thread(pid, pid, &[Attribute::Current], &mut carried)?;
        Ok(carried.into_iter().map(|carried| carried.label).collect())
    }

    /// All labels of a thread, for every purpose.
    pub(crate) fn of_one(&self, pid: Pid, tid: Pid) -> io::Result<Vec<Carried>> {
        let mut carried = Vec::new();
        self.of_thread(pid, tid, &ATTRIBUTES, &mut carried)?;
        Ok(carried)
    }

    /// The labels of a tree, without `unconfined`.
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

/// The module whose label is in `attr/current`: the first active module that has labels.
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
    // Without securityfs, other files tell, and the three colons of an SELinux context.
    named.unwrap_or_else(|| {
        if own("apparmor/current").as_deref() == Some(said) {
            SecurityModule::Apparmor
        } else if own("smack/current").as_deref() == Some(said) {
            SecurityModule::Other
        } else if said.iter().filter(|byte| **byte == b':').count() >= 2 {
            SecurityModule::Selinux
        } else if Path::new("/sys/module/apparmor").exists() {
            SecurityModule::Apparmor
        } else if Path::new("/sys/fs/selinux").exists() {
            SecurityModule::Selinux
        } else {
            SecurityModule::Other
        }
    })
}

/// Returns true if a module has labels for this purpose.
fn has(module: SecurityModule, attribute: Attribute) -> bool {
    match module {
        SecurityModule::Selinux => true,
        SecurityModule::Apparmor => matches!(attribute, Attribute::Current | Attribute::Exec),
        SecurityModule::Other => attribute == Attribute::Current,
    }
}

/// The threads of a process, the first thread first. Empty if the process has ended.
pub(crate) fn threads(pid: Pid) -> io::Result<Vec<Pid>> {
    let entries = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Returns true if a thread has ended and waits to be reaped. Its label no longer matters.
pub(crate) fn is_zombie(pid: Pid, tid: Pid) -> bool {
    let task = Process::new(pid.as_raw()).and_then(|process| process.task_from_tid(tid.as_raw()));
    task.and_then(|task| task.stat()).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'))
}

/// A thread's ids in its pid namespaces, from this process's namespace inwards.
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

/// Returns true if a thread has ended, or a module has no such label (`EINVAL`, rarely
/// `EOPNOTSUPP`).
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::EOPNOTSUPP))
}

/// All purposes of labels.
const ATTRIBUTES: [Attribute; 5] = [
    Attribute::Current,
    Attribute::Sockcreate,
    Attribute::Exec,
    Attribute::Fscreate,
    Attribute::Keycreate,
];

/// The file that lists the active security modules, in order.
const ACTIVE: &str = "/sys/kernel/security/lsm";

/// Most bytes read of a label. The kernel's own limit is a page.
const MAX_LABEL: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_module_with_labels_counts() {
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
    fn an_ended_process_carries_no_labels() {
        let machine = Machine { folders: vec![(SecurityModule::Selinux, "")] };
        assert_eq!(machine.of_tree(Pid::new(i32::MAX).unwrap()).unwrap(), []);
    }
}
