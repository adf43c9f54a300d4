//! A step as CRIU's action scripts come to it: from the environment and criu-coordinator's files.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::Deserialize;

use super::error::CoordinatorError;
use super::files;
use super::message::{Graph, check_id, check_row, split};
use super::step::Step;

/// A step that an action script of CRIU has come to.
///
/// The id and the dependencies are in `criu-coordinator.json` in the images directory. Without that
/// file, `/etc/criu/criu-coordinator.json` has the dependencies of several members. There a member
/// is the container whose id, of 64 hexadecimal digits, is in the process's cgroup, or else the
/// name of the process. A dump then writes the file in the images directory, for the restore.
///
/// The file that names the coordinator's address or port may name a directory with certificates,
/// `certs`, too.
///
/// Where the images directory is writable by others, they choose the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Script {
    /// The step.
    pub step: Step,
    /// The member's id.
    pub id: String,
    /// The ids of the members to wait for.
    pub needs: Vec<String>,
    /// The coordinator's address as `HOST:PORT`.
    pub address: String,
    /// The directory with certificates for TLS, which only this crate's files name.
    pub certs: Option<PathBuf>,
}

/// The contents of a file of criu-coordinator. The name of its log is not used.
#[derive(Debug, Default, Deserialize)]
struct Config {
    id: Option<String>,
    dependencies: Option<Dependencies>,
    address: Option<String>,
    port: Option<Port>,
    certs: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dependencies {
    Own(String),
    All(Graph),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Port {
    Text(String),
    Number(u16),
}

impl Script {
    /// Reads the environment that CRIU gives to an action script. Returns `None` at an action that
    /// is no step.
    ///
    /// # Errors
    /// [`CoordinatorError::Invalid`] outside of an action script and for a process that the files
    /// do not name; [`CoordinatorError::File`] for a file that cannot be used.
    pub fn from_environment() -> Result<Option<Self>, CoordinatorError> {
        let variable = |name: &str| {
            let missing = || format!("the variable {name} is not set: CRIU sets it for scripts");
            env::var_os(name).ok_or_else(missing).map_err(CoordinatorError::Invalid)
        };
        let action = variable("CRTOOLS_SCRIPT_ACTION")?;
        let Some(step) = action.to_str().and_then(Step::of_name) else { return Ok(None) };
        let images = PathBuf::from(variable("CRTOOLS_IMAGE_DIR")?);
        let pid = env::var("CRTOOLS_INIT_PID").ok().and_then(|pid| pid.parse().ok());
        Self::at(step, &images, pid, Path::new("/etc/criu")).map(Some)
    }

    /// Returns the step of a member whose images are in a directory. `common` is the directory of
    /// the file for several members.
    ///
    /// # Errors
    /// The errors of [`from_environment`](Self::from_environment).
    pub fn at(
        step: Step,
        images: &Path,
        pid: Option<u32>,
        common: &Path,
    ) -> Result<Self, CoordinatorError> {
        let (own_path, common_path) = (images.join(FILE), common.join(FILE));
        let own = read(&own_path)?;
        let all = read(&common_path)?.unwrap_or_default();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |why| CoordinatorError::File { path, why }
        };
        let place = own.as_ref().filter(|own| own.address.is_some() || own.port.is_some());
        let (place, path) = place.map_or((&all, &common_path), |own| (own, &own_path));
        let (address, certs) = (place.address().map_err(at(path))?, place.certs.clone());
        let (id, needs) = match own {
            Some(own) => own.member().map_err(at(&own_path))?,
            None if step.is_of_dump() => {
                let (id, needs) = all.member_of(pid).map_err(at(&common_path))?;
                if step == Step::PreDump {
                    note(&own_path, &id, &needs)?;
                }
                (id, needs)
            }
            None => {
                let why = "there is no such file, which the dump has to leave for a restore";
                return Err(at(&own_path)(why.to_owned()));
            }
        };
        Ok(Self { step, id, needs, address, certs })
    }
}

impl Config {
    fn address(&self) -> Result<String, String> {
        let host = self.address.as_deref().unwrap_or("127.0.0.1");
        let port = match &self.port {
            None => 8080,
            Some(Port::Number(port)) => *port,
            Some(Port::Text(text)) => {
                text.parse().map_err(|_| format!("{text:?} is no number of a port"))?
            }
        };
        let is_v6 = host.contains(':') && !host.starts_with('[');
        Ok(if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    fn member(self) -> Result<(String, Vec<String>), String> {
        let id = self.id.ok_or("the file lacks `id`")?;
        let needs = match self.dependencies {
            None => Vec::new(),
            Some(Dependencies::Own(text)) => split(&text)?,
            Some(Dependencies::All(mut all)) => all.remove(&id).unwrap_or_default(),
        };
        check_row(&id, &needs)?;
        Ok((id, needs))
    }

    /// Finds a process among the members of a file for several.
    fn member_of(self, pid: Option<u32>) -> Result<(String, Vec<String>), String> {
        let Some(Dependencies::All(all)) = self.dependencies else {
            return Err("the file lacks `dependencies` as an object of several members".to_owned());
        };
        let pid = pid.ok_or("CRTOOLS_INIT_PID is no process id")?;
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            limited(Path::new(&path)).map_err(|error| format!("{path}: {error}"))
        };
        let id = match container_id(&read("cgroup")?) {
            Some(id) => id.to_owned(),
            None => read("comm")?.trim_end_matches('\n').to_owned(),
        };
        check_id(&id)?;
        // A container's id may be cut short in the file.
        let rows = all.into_iter().filter(|(row, _)| !row.is_empty() && id.starts_with(row));
        let row = rows.max_by_key(|(row, _)| row.len());
        let (_, needs) = row.ok_or_else(|| format!("the file has no dependencies of {id}"))?;
        check_row(&id, &needs)?;
        Ok((id, needs))
    }
}

/// Finds the last run of exactly 64 hexadecimal digits in a process's list of cgroups.
fn container_id(cgroups: &str) -> Option<&str> {
    let mut runs = cgroups.split(|c: char| !c.is_ascii_hexdigit());
    runs.rfind(|run| run.len() == 64)
}

fn read(path: &Path) -> Result<Option<Config>, CoordinatorError> {
    let failed = |why: String| CoordinatorError::File { path: path.to_owned(), why };
    match limited(path) {
        Ok(text) => {
            serde_json::from_str(&text).map(Some).map_err(|error| failed(error.to_string()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Reads a regular file or one of /proc, and follows no link.
fn limited(path: &Path) -> std::io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("this is no regular file"));
    }
    files::limited(file, MAX_FILE)
}

/// Writes the file from which a restore knows its id.
fn note(path: &Path, id: &str, needs: &[String]) -> Result<(), CoordinatorError> {
    let fields = BTreeMap::from([("id", id.to_owned()), ("dependencies", needs.join(":"))]);
    let failed = |why: String| CoordinatorError::File { path: path.to_owned(), why };
    let text = serde_json::to_string(&fields).map_err(|error| failed(error.to_string()))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| failed(error.to_string()))
}

/// The name of criu-coordinator's files.
const FILE: &str = "criu-coordinator.json";

/// Bytes of a file from which on it is refused.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = env::temp_dir().join(format!("criu-cri-script-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn the_file_in_the_images_directory_names_the_member() {
        let (images, common) = (dir("images"), dir("common"));
        let text = r#"{"id":"A","dependencies":"B:C","address":"::1","port":"9","log-file":"-"}"#;
        fs::write(images.join(FILE), text).unwrap();
        let script = Script::at(Step::PostDump, &images, None, &common).unwrap();
        let needs = vec!["B".to_owned(), "C".to_owned()];
        let address = "[::1]:9".to_owned();
        let certs = None;
        assert_eq!(script, Script { step: Step::PostDump, id: "A".into(), needs, address, certs });
    }

    #[test]
    fn a_process_is_found_in_the_common_file_and_noted_for_the_restore() {
        let (images, common) = (dir("noted"), dir("all"));
        let pid = std::process::id();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        let graph = serde_json::json!({ comm.trim(): ["B"], "other": [] });
        let text = serde_json::json!({"dependencies": graph, "port": 7}).to_string();
        fs::write(common.join(FILE), text).unwrap();
        let dump = Script::at(Step::PreDump, &images, Some(pid), &common).unwrap();
        assert_eq!((dump.id.as_str(), dump.needs.as_slice()), (comm.trim(), &["B".to_owned()][..]));
        // Unlike with criu-coordinator, the address of the common file holds for the restore, too.
        let restore = Script::at(Step::PreRestore, &images, None, &common).unwrap();
        assert_eq!((restore.id, restore.address), (dump.id, "127.0.0.1:7".to_owned()));
    }

    #[test]
    fn a_restore_without_its_file_and_hostile_files_are_refused() {
        let (images, common) = (dir("empty"), dir("none"));
        let refused = |why: &str| {
            let error = Script::at(Step::PreRestore, &images, None, &common).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        };
        refused("no such file");
        std::os::unix::fs::symlink("/etc/passwd", images.join(FILE)).unwrap();
        refused("symbolic link");
        fs::remove_file(images.join(FILE)).unwrap();
        fs::write(images.join(FILE), vec![b' '; 1 << 20]).unwrap();
        refused("1048576 bytes or more");
        fs::write(images.join(FILE), r#"{"id":"a:b"}"#).unwrap();
        refused("is no id");
        fs::write(images.join(FILE), r#"{"id":"a","dependencies":{"a":["b:c"]}}"#).unwrap();
        refused("is no id");
    }

    #[test]
    fn a_bad_port_is_that_of_the_file_that_has_it() {
        let (images, common) = (dir("good"), dir("bad"));
        fs::write(images.join(FILE), r#"{"id":"A"}"#).unwrap();
        fs::write(common.join(FILE), r#"{"port":"http"}"#).unwrap();
        let error = Script::at(Step::PreDump, &images, None, &common).unwrap_err().to_string();
        let path = common.join(FILE);
        assert_eq!(error, format!("{}: \"http\" is no number of a port", path.display()));
    }

    #[test]
    fn the_last_id_of_a_container_is_taken() {
        let id = "0123456789abcdef".repeat(4);
        let text = format!("1:cpu:/{id}0/x\n0::/pod/cri-containerd-{id}.scope\n");
        assert_eq!(container_id(&text), Some(id.as_str()));
        assert_eq!(container_id("0::/user.slice\n"), None);
    }
}
