//! The cgroups of a pod's containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use criu_rs::Pid;
use criu_rs::oci::Cgroups;

use super::refusal::Refusal;
use crate::engine::{Running, Subject};

/// Returns the cgroup that holds the containers of the pod, the sandbox's own and nothing else, if
/// there is one. It freezes all at one stroke.
pub(super) fn above(subject: &Subject) -> Option<PathBuf> {
    let sandbox = subject.sandbox.as_ref()?;
    let own = paths(sandbox.pid?).ok()?;
    let (_, first) = own.iter().find(|(names, _)| names.is_empty() || names == "freezer")?;
    let above = first.parent()?.to_path_buf();
    // Others may have put something there.
    if stranger(subject, &above).ok()?.is_some() {
        return None;
    }
    let is_below = |container: &Running| {
        let paths = paths(container.pid).unwrap_or_default();
        paths.iter().any(|(_, path)| path.starts_with(&above))
    };
    subject.containers.iter().all(is_below).then_some(above)
}

/// Refuses a subject that has changed since it was asked for: a container that is started or has
/// ended meanwhile. Says the truth once the containers are frozen.
pub(super) fn unchanged(subject: &Subject) -> Result<(), Refusal> {
    for Running { name, id, pid, .. } in &subject.containers {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let all = paths(*pid).map_err(Refusal::file("read", &file))?;
        if !all.iter().any(|(_, path)| is_of(path, id)) {
            let text = format!("container {name}: has ended before the pod was frozen");
            return Err(Refusal::state(text));
        }
    }
    let Some(above) = &subject.cgroup else { return Ok(()) };
    match stranger(subject, above).map_err(Refusal::file("look into the cgroup", above))? {
        None => Ok(()),
        Some(name) => {
            let shown = name.escape_debug();
            let text = format!("a container was started before the pod was frozen: {shown}");
            Err(Refusal::state(text))
        }
    }
}

/// Returns the name of a cgroup below one that is of no container of the subject and not of the
/// sandbox.
fn stranger(subject: &Subject, above: &Path) -> io::Result<Option<String>> {
    let directory = Cgroups::at(above).and_then(|cgroups| cgroups.freezer());
    let directory = directory.map_err(|error| io::Error::other(error.to_string()))?;
    let directory = directory.ok_or_else(|| io::Error::other("it has no freezer here"))?;
    let mut ids: Vec<&str> = subject.containers.iter().map(|one| &*one.id).collect();
    ids.extend(subject.sandbox.as_ref().map(|sandbox| &*sandbox.id));
    stranger_in(&directory, &ids)
}

fn stranger_in(directory: &Path, ids: &[&str]) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !ids.iter().any(|id| name.contains(id)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Says whether a cgroup is that of a container, or below it: `ID` or `cri-containerd-ID.scope`.
fn is_of(path: &Path, id: &str) -> bool {
    path.iter().any(|part| part.to_str().is_some_and(|part| part.contains(id)))
}

/// Returns the cgroups of a process: the names of the controllers, and the path.
fn paths(process: Pid) -> io::Result<Vec<(String, PathBuf)>> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let row = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), PathBuf::from(parts.next()?)))
    };
    Ok(text.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_nobody_named_is_seen() {
        let dir = criu_lab::scratch("pod-cgroups");
        for name in ["aa11", "cri-containerd-bb22.scope"] {
            fs::create_dir(dir.join(name)).expect("a folder");
        }
        fs::write(dir.join("cgroup.procs"), "").expect("a file");
        assert_eq!(stranger_in(&dir, &["aa11", "bb22"]).expect("a folder"), None);
        assert_eq!(stranger_in(&dir, &["bb22"]).expect("a folder").as_deref(), Some("aa11"));
        fs::remove_dir_all(dir).expect("a folder");
    }

    #[test]
    fn a_process_of_another_container_is_not_saved() {
        assert!(is_of(Path::new("/kubepods/pod7/cri-containerd-aa11.scope/below"), "aa11"));
        let container =
            Running { name: "c".into(), id: "aa11".into(), bundle: "/b".into(), pid: Pid::this() };
        let subject = Subject { containers: vec![container], ..Subject::default() };
        let refusal = unchanged(&subject).expect_err("this test is in no container of that id");
        assert!(refusal.text().contains("has ended before"), "{refusal}");
    }
}
