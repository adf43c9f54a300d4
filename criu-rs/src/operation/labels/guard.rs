//! The guards of the labels of an operation.

use std::collections::BTreeSet;
use std::fs;
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
    policy,
};
use crate::options::RunLimits;
use crate::rpc::CriuOpts;
use crate::transport::Link;
use crate::value::{InvalidValue, Pid, printable};

/// A guard that compares the images of a dump with the labels of the tasks, while the tasks are
/// frozen.
#[derive(Debug)]
pub(crate) struct DumpGuard {
    machine: Machine,
    root: Pid,
    /// The labels that a restore gives to a task without a label of its own.
    own: Vec<Label>,
    images: OwnedFd,
}

impl DumpGuard {
    /// Looks at the tree that is to be dumped. `None` if there is nothing to guard: no label that
    /// counts, or no label that can be seen from here.
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
        // Read again: now the tasks stand still.
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

/// Returns the labels of a tree that count. This CRIU can save all of them.
///
/// # Errors
/// [`Error::Label`] for a label that CRIU cannot save.
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
        // If the images can be seen, they tell later.
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

/// Says before a dump whether it would be refused, as far as a look from here can tell.
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

/// Returns the labels of a tree that count.
fn foreign(machine: &Machine, root: Pid, own: &[Label]) -> Result<Vec<Carried>> {
    let read = machine.of_tree(root);
    let mut carried = read.map_err(|source| Error::system("read security labels", source))?;
    carried.retain(|carried| {
        let is_own = carried.attribute == Attribute::Current && own.contains(&carried.label);
        !is_own && !machine::is_zombie(carried.pid, carried.tid)
    });
    Ok(carried)
}

/// Returns the first label that fits, and the number of other labels that fit.
fn of(carried: &[Carried], is_so: impl Fn(&Carried) -> bool) -> Option<(&Carried, usize)> {
    let mut found = carried.iter().filter(|carried| is_so(carried));
    let first = found.next()?;
    Some((first, found.count()))
}

/// A guard that compares restored tasks, before they run, with the images and with the profile
/// asked for.
#[derive(Debug)]
pub(crate) struct RestoreGuard {
    machine: Machine,
    saved: Option<Saved>,
    asked: Option<Label>,
}

impl RestoreGuard {
    /// Looks at the images, and at the profile and the context of mounts that the caller asks for.
    /// `None` if no label is to come back, or if no module here can give one: CRIU itself refuses
    /// that.
    ///
    /// # Errors
    /// [`Error::Label`] for a label that this machine does not know, or that CRIU cannot set.
    /// [`Error::InvalidValue`] for a context of mounts that this machine does not know.
    pub(crate) fn before(
        criu: &Criu,
        images: Option<&OwnedFd>,
        message: &CriuOpts,
        limits: &RunLimits,
    ) -> Result<Option<Self>> {
        let machine = Machine::look();
        if !machine.labels() {
            return Ok(None);
        }
        let context = message.lsm_mount_context.as_deref();
        let context = context.filter(|_| machine.runs(SecurityModule::Selinux));
        if let Some(context) = context.filter(|context| policy::lacks(context)) {
            let (what, want) = ("a mount context", "one that the policy of this machine has");
            return Err(InvalidValue::new(what, printable(context), want).into());
        }
        let asked = match message.lsm_profile.as_deref().map(asked) {
            // `none:`, or what CRIU refuses.
            Some(None) => return Ok(None),
            asked => asked.flatten(),
        };
        // CRIU will say what is wrong with the images.
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
        // Tasks begin with criu's label, which is this process's if this process starts criu.
        let starts = criu.transport().starts_criu();
        let own = if starts { machine.of_process(Pid::this()) } else { Ok(Vec::new()) };
        let own = own.unwrap_or_default();
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
            let confines = |saved: &Saved| asked.is_some() || saved.confines(label);
            let is_taken = saved.as_ref().is_none_or(confines);
            if let Some(own) = own.iter().find(|own| is_taken && is_forbidden(own, label)) {
                let more = labels.iter().filter(|(_, other)| other == label).count() - 1;
                return Err(error(*id, label, more, LabelProblem::Forbidden(own.clone())));
            }
        }
        if let (Some(asked), Some(saved)) = (&asked, &saved) {
            if let Some(problem) = useless_sockets(asked, saved) {
                return Err(error(None, asked, 0, problem));
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

    /// Returns the wrong labels of a thread.
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
                // CRIU also gives the label asked for to sockets that have a label.
                (Some(_), _) => (None, None),
                (None, _) => (saved(), u32::try_from(tid.as_raw()).ok()),
            };
            let Some(wanted) = wanted else { continue };
            let found = has(attribute, wanted.module());
            let is_right = match &self.asked {
                // Of stacked profiles CRIU replaces the outer ones.
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

/// Reads `selinux:LABEL` or `apparmor:PROFILE`.
fn asked(profile: &[u8]) -> Option<Label> {
    let at = profile.iter().position(|byte| *byte == b':')?;
    let module = match profile.get(..at)? {
        b"selinux" => SecurityModule::Selinux,
        b"apparmor" => SecurityModule::Apparmor,
        _ => return None,
    };
    Some(Label::new(module, profile.get(at + 1..)?))
}

/// Returns the part of a label that this machine does not know, as far as the machine tells.
fn unknown(label: &Label) -> Option<Label> {
    let module = label.module();
    match module {
        SecurityModule::Selinux => policy::lacks(label.as_bytes()).then(|| label.clone()),
        SecurityModule::Apparmor => {
            let loaded = fs::read(PROFILES).ok()?;
            let is_loaded = |part: &[u8]| {
                // CRIU makes namespaces together with their content.
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

/// Returns true if tasks with the label `own` cannot change to the other label.
fn is_forbidden(own: &Label, label: &Label) -> bool {
    let are_contexts = [own, label].iter().all(|label| label.module() == SecurityModule::Selinux);
    are_contexts && policy::forbids(own, label.as_bytes(), "process", "dyntransition")
}

/// Returns the problem with sockets that tasks with the label asked for cannot use.
fn useless_sockets(asked: &Label, saved: &Saved) -> Option<LabelProblem> {
    if asked.module() != SecurityModule::Selinux {
        return None;
    }
    let mut sockets: Vec<_> = saved
        .sockets()
        .filter(|(class, label, _)| {
            let forbids = |permission| policy::forbids(asked, label, class, permission);
            *label != asked.as_bytes() && (forbids("read") || forbids("write"))
        })
        .collect();
    sockets.sort_unstable();
    let (_, label, count) = *sockets.first()?;
    Some(LabelProblem::Sockets { saved: Label::new(SecurityModule::Selinux, label), count })
}

/// Says whether a line of the loaded profiles is about this profile: `docker-default (enforce)`.
fn is_profile(line: &[u8], name: &[u8]) -> bool {
    let rest = line.strip_prefix(name);
    rest.is_some_and(|mode| {
        mode.starts_with(b" (") && !mode.get(2..).unwrap_or_default().contains(&b'(')
    })
}

/// The loaded profiles of the reader's namespace.
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
