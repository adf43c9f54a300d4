//! Python's grpcio, for tests with a client and a server that are not this project's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace::{root, target_dir};
use crate::{Result, process, programs};

/// Makes a virtual environment below the target directory, with the packages of
/// `lab/python/requirements.txt`, as pip is configured on this machine.
///
/// # Errors
/// If the packages cannot be had as wheels that fit this machine.
pub(crate) fn install(force: bool) -> Result<()> {
    let folder = target_dir().join("python");
    let wanted = fs::read_to_string(root().join(REQUIREMENTS))?;
    let recipe = folder.join("requirements.txt");
    if !force && fs::read_to_string(&recipe).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if !has_venv() {
        programs::install(&["python3-venv"])?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    eprintln!("installing grpcio below {}", folder.display());
    process::read(Command::new(PYTHON).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r"]);
    pip.arg(root().join(REQUIREMENTS));
    process::read(&mut pip).map_err(|error| {
        format!(
            "the tests need grpcio and grpcio-tools in {}, which pip cannot install as wheels: \
             {error}",
            folder.display()
        )
    })?;
    // Written last: a folder without it is not complete.
    Ok(fs::write(recipe, wanted)?)
}

/// Tells if Python can make virtual environments: Debian has that in a package of its own.
fn has_venv() -> bool {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut paths = folders.map(|folder| folder.path()).filter(|path| is_of_python(path));
    paths.any(|path| path.join("ensurepip/__init__.py").exists())
}

fn is_of_python(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3."))
}

/// The program that makes the environment.
const PYTHON: &str = "/usr/bin/python3";

/// The packages, from the root of the workspace.
const REQUIREMENTS: &str = "lab/python/requirements.txt";
