//! What looks after the labels of an operation.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use super::saved::Saved;
use crate::criu::Criu;
use crate::drive::Guard;
use crate::error::{Error, Result};
use crate::hooks::Action;
use crate::host::tree;
use crate::labels::machine::Machine;
use crate::labels::{
    Attribute, Carried, Label, LabelError, LabelProblem, LabelSupport, SecurityModule, machine,
};
use crate::options::RunLimits;
use crate::transport::Link;
use crate::value::Pid;

/// Compares the images of a dump with the labels of the tasks, while these are frozen.
#[derive(Debug)]
pub(crate) struct DumpGuard {
    machine: Machine,
    root: Pid,
    /// What a restore gives a task without its label.
    own: Vec<Label>,
    images: OwnedFd,
}

impl DumpGuard {
    /// Looks at the tree that is to be dumped. `None` where there is nothing to look after: no label that counts, or
    /// none that can be seen from here.
    ///
    /// # Errors
    /// [`Error::Label`] for a label that CRIU cannot save.
    pub(crate) fn before(
        criu: &Criu,
        link: &Link,
        root: Pid,
        images: Option<OwnedFd>,
        limits: &RunLimits,
    ) -> Result<Option<Self>> {
        let machine = Machine::look();
        if !machine.labels() || !link.numbers_processes_as_here() {
            return Ok(None);
        }
        let own = machine.of_process(link.criu()).unwrap_or_default();
        let carried = can_be_saved(&machine, criu, root, &own, images.is_some(), limits)?;
        Ok(images.filter(|_| !carried.is_empty()).map(|images| Self { machine, root, own, images }))
    }

    fn compare(&self) -> Result<()> {
        let saved = Saved::read(&self.images)?;
        let depth = machine::ids(self.root, self.root).len();
        let mut lost = Vec::new();
        // Read anew: now they stand still.
        for carried in foreign(&self.machine, self.root, &self.own)? {
            let ids = machine::ids(carried.pid, carried.tid);
            let id = depth.checked_sub(1).and_then(|depth| ids.get(depth).copied());
            let found = id.and_then(|id| saved.of(id, carried.attribute));
            if found != Some(&carried.label) {
                lost.push((carried, found.cloned()));
            }
        }
        let more = lost.len().saturating_sub(1);
        let Some((Carried { tid, attribute, label, .. }, found)) = lost.into_iter().next() else {
            return Ok(());
        };
        let problem = LabelProblem::NotInImages(found);
        let thread = u32::try_from(tid.as_raw()).ok();
        Err(LabelError { operation: "dump", thread, attribute, label, more, problem }.into())
    }
}

impl Guard for DumpGuard {
    fn check(&mut self, action: Action, _root: Option<Pid>) -> Result<()> {
        match action {
            Action::PostDump => self.compare(),
            _ => Ok(()),
        }
    }
}

/// The labels of a tree that count, all of which this CRIU can save.
///
/// # Errors
/// [`Error::Label`] for one that it cannot.
fn can_be_saved(
    machine: &Machine,
    criu: &Criu,
    root: Pid,
    own: &[Label],
    has_images: bool,
    limits: &RunLimits,
) -> Result<Vec<Carried>> {
    let carried = foreign(machine, root, own)?;
    let error = |found: &Carried, more, problem| {
        let Carried { tid, attribute, label, .. } = found.clone();
        let thread = u32::try_from(tid.as_raw()).ok();
        LabelError { operation: "dump", thread, attribute, label, more, problem }.into()
    };
    if let Some((first, more)) = of(&carried, |carried| !carried.attribute.has_a_place()) {
        return Err(error(first, more, LabelProblem::NoPlace));
    }
    let modules: BTreeSet<_> = carried.iter().map(|carried| carried.label.module()).collect();
    for module in modules {
        // The images tell later, where they can be seen.
        let ask = criu.program()?.is_some() || !has_images;
        if ask && criu.saves_labels(module, limits)? == Some(LabelSupport::No) {
            let instead = own.iter().find(|own| own.module() == module).cloned();
            let problem = LabelProblem::NoSupport { instead };
            if let Some((first, more)) = of(&carried, |carried| carried.label.module() == module) {
                return Err(error(first, more, problem));
            }
        }
    }
    Ok(carried)
}

/// Says before a dump what it would be refused for, as far as a look from here can tell.
///
/// # Errors
/// [`Error::Label`] for a label that CRIU cannot save.
pub(crate) fn foresee(criu: &Criu, root: Pid) -> Result<()> {
    let machine = Machine::look();
    if !machine.labels() || criu.program()?.is_none() {
        return Ok(());
    }
    let own = machine.of_process(Pid::this()).unwrap_or_default();
    can_be_saved(&machine, criu, root, &own, true, &RunLimits::default()).map(drop)
}

/// The labels of a tree that count.
fn foreign(machine: &Machine, root: Pid, own: &[Label]) -> Result<Vec<Carried>> {
    let read = machine.of_tree(root);
    let mut carried = read.map_err(|source| Error::system("read security labels", source))?;
    carried.retain(|carried| {
        let is_own = carried.attribute == Attribute::Current && own.contains(&carried.label);
        !is_own && !machine::is_zombie(carried.pid, carried.tid)
    });
    Ok(carried)
}

/// The first that is so, and how many others are.
fn of(carried: &[Carried], is_so: impl Fn(&Carried) -> bool) -> Option<(&Carried, usize)> {
    let mut found = carried.iter().filter(|carried| is_so(carried));
    let first = found.next()?;
    Some((first, found.count()))
}

/// Compares restored tasks, before they run, with the images and with what was asked for.
#[derive(Debug)]
pub(crate) struct RestoreGuard {
    machine: Machine,
    saved: Option<Saved>,
    asked: Option<Label>,
}

impl RestoreGuard {
    /// Looks at what is to be restored. `profile` is what the caller asks for, as CRIU takes it. `None` where no
    /// label is to come back, or no module is here to give one: CRIU itself refuses that.
    ///
    /// # Errors
    /// [`Error::Label`] for a label that this machine does not know, or that CRIU cannot set.
    pub(crate) fn before(
        criu: &Criu,
        images: Option<&OwnedFd>,
        profile: Option<&[u8]>,
        limits: &RunLimits,
    ) -> Result<Option<Self>> {
        let machine = Machine::look();
        if !machine.labels() {
            return Ok(None);
        }
        let asked = match profile.map(asked) {
            // `none:`, or what CRIU refuses.
            Some(None) => return Ok(None),
            asked => asked.flatten(),
        };
        // What is wrong with images CRIU will say.
        let saved = images.and_then(|images| Saved::read(images).ok());
        let wanted = |label: &Label| machine.runs(label.module()) && !label.is_unconfined();
        let mut labels: Vec<(Option<u32>, &Label)> = match (&asked, &saved) {
            (Some(asked), _) => vec![(None, asked)],
            (None, Some(saved)) => saved.all().map(|(id, label)| (Some(id), label)).collect(),
            (None, None) => Vec::new(),
        };
        labels.retain(|(_, label)| wanted(label));
        labels.sort_by_key(|(id, _)| *id);
        if labels.is_empty() && asked.is_none() {
            return Ok(None);
        }
        let error = |thread, label: &Label, more, problem| {
            let (label, attribute) = (label.clone(), Attribute::Current);
            LabelError { operation: "restore", thread, attribute, label, more, problem }.into()
        };
        if let Some(&(id, label)) = labels.first() {
            let ask = criu.program()?.is_some();
            if ask && criu.saves_labels(label.module(), limits)? == Some(LabelSupport::No) {
                let problem = LabelProblem::NoSupport { instead: None };
                return Err(error(id, label, labels.len() - 1, problem));
            }
        }
        let mut known: Vec<&Label> = Vec::new();
        for (id, label) in &labels {
            if known.contains(label) {
                continue;
            }
            known.push(label);
            if let Some(part) = unknown(label) {
                let more = labels.iter().filter(|(_, other)| other == label).count() - 1;
                return Err(error(*id, label, more, LabelProblem::Unknown(part)));
            }
        }
        Ok(Some(Self { machine, saved, asked }))
    }

    fn compare(&self, root: Pid) -> Result<()> {
        let depth = machine::ids(root, root).len();
        let mut wrong = Vec::new();
        for pid in tree::descendants(root) {
            let threads = machine::threads(pid);
            for tid in threads.map_err(|source| Error::system("list threads", source))? {
                let ids = machine::ids(pid, tid);
                let id = depth.checked_sub(1).and_then(|depth| ids.get(depth).copied());
                wrong.extend(self.wrong(pid, tid, id)?);
            }
        }
        let more = wrong.len().saturating_sub(1);
        wrong.into_iter().next().map_or(Ok(()), |first| Err(LabelError { more, ..first }.into()))
    }

    /// What is wrong with the labels of a thread.
    fn wrong(&self, pid: Pid, tid: Pid, id: Option<u32>) -> Result<Vec<LabelError>> {
        let has = self.machine.of_one(pid, tid);
        let has = has.map_err(|source| Error::system("read security labels", source))?;
        let has = |attribute, module| {
            let mut labels = has.iter().filter(|has| has.attribute == attribute);
            labels.find(|has| has.label.module() == module).map(|has| has.label.clone())
        };
        let mut wrong = Vec::new();
        for attribute in [Attribute::Current, Attribute::Sockcreate] {
            let saved = || self.saved.as_ref()?.of(id?, attribute);
            let (wanted, thread) = match (&self.asked, attribute) {
                (Some(asked), Attribute::Current) => (Some(asked), None),
                // CRIU gives sockets the label asked for as well, where they have one.
                (Some(_), _) => (None, None),
                (None, _) => (saved(), u32::try_from(tid.as_raw()).ok()),
            };
            let Some(wanted) = wanted else { continue };
            let found = has(attribute, wanted.module());
            let is_right = match &self.asked {
                // Where profiles are stacked CRIU replaces the outer ones.
                Some(asked) => found.as_ref().is_some_and(|found| found.includes(asked)),
                None => found.as_ref() == Some(wanted),
            };
            if !is_right && !machine::is_zombie(pid, tid) {
                let (label, problem) = (wanted.clone(), LabelProblem::NotRestored(found));
                let operation = "restore";
                wrong.push(LabelError { operation, thread, attribute, label, more: 0, problem });
            }
        }
        Ok(wrong)
    }
}

impl Guard for RestoreGuard {
    fn check(&mut self, action: Action, root: Option<Pid>) -> Result<()> {
        match (action, root) {
            // CRIU sets labels after post-restore.
            (Action::PreResume, Some(root)) => self.compare(root),
            _ => Ok(()),
        }
    }
}

/// `selinux:LABEL` or `apparmor:PROFILE`.
fn asked(profile: &[u8]) -> Option<Label> {
    let at = profile.iter().position(|byte| *byte == b':')?;
    let module = match profile.get(..at)? {
        b"selinux" => SecurityModule::Selinux,
        b"apparmor" => SecurityModule::Apparmor,
        _ => return None,
    };
    Some(Label::new(module, profile.get(at + 1..)?))
}

/// What of a label this machine does not know, as far as it says.
fn unknown(label: &Label) -> Option<Label> {
    let module = label.module();
    match module {
        SecurityModule::Selinux => {
            let file = fs::OpenOptions::new().read(true).write(true).open(CONTEXT);
            let written = file.and_then(|mut file| file.write_all(label.as_bytes()));
            let error: io::Error = written.err()?;
            (error.raw_os_error() == Some(libc::EINVAL)).then(|| label.clone())
        }
        SecurityModule::Apparmor => {
            let loaded = fs::read(PROFILES).ok()?;
            let is_loaded = |part: &[u8]| {
                // CRIU makes namespaces with what is in them.
                part.first() == Some(&b':')
                    || part == b"unconfined"
                    || part.windows(7).any(|bytes| bytes == b"//null-")
                    || loaded.split(|byte| *byte == b'\n').any(|line| is_profile(line, part))
            };
            let part = label.parts().into_iter().find(|part| !is_loaded(part))?;
            Some(Label::new(module, part))
        }
        SecurityModule::Other => None,
    }
}

/// Whether a line of the loaded profiles is of this one: `docker-default (enforce)`.
fn is_profile(line: &[u8], name: &[u8]) -> bool {
    let rest = line.strip_prefix(name);
    rest.is_some_and(|mode| {
        mode.starts_with(b" (") && !mode.get(2..).unwrap_or_default().contains(&b'(')
    })
}

/// Where the kernel looks a context up in its policy.
const CONTEXT: &str = "/sys/fs/selinux/context";

/// The profiles loaded, of the namespace of the reader.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        assert!(is_profile(b"docker-default (enforce)", b"docker-default"));
        assert!(is_profile(b"a (b) (complain)", b"a (b)"));
        assert!(!is_profile(b"a (b) (complain)", b"a"));
        assert!(!is_profile(b"docker-default (enforce)", b"docker"));
        assert!(!is_profile(b"docker-default (enforce)", b"docker-default//hat"));
    }

    #[test]
    fn what_is_asked_for_is_read_as_criu_does() {
        let label = asked(b"selinux:u:r:t:s0:c1").unwrap();
        assert_eq!(
            (label.module(), label.as_bytes()),
            (SecurityModule::Selinux, &b"u:r:t:s0:c1"[..])
        );
        assert_eq!(asked(b"apparmor:x").unwrap().module(), SecurityModule::Apparmor);
        assert_eq!(asked(b"none:x"), None);
        assert_eq!(asked(b"x"), None);
    }
}
