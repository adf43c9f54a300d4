//! Packages from the machine's own mirror, by an apt with a state of its own.
//!
//! The system's apt is not asked, changed or locked: sources, lists, cache and the list of
//! installed packages lie in a directory that is thrown away. Root is not needed. apt checks
//! signatures and hashes as ever.

pub(crate) mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::os::Os;
use crate::{Result, process};
use sources::Source;

/// The sources of packages.
#[derive(Debug)]
pub(crate) struct Archive {
    sources: Vec<Source>,
    /// An error of any source counts. Of the many sources of a machine, some may be stale.
    strict: bool,
}

impl Archive {
    /// Returns Debian suites from the mirror of this Debian machine. If several have CRIU, the
    /// first suite wins; its dependencies come from the suite that apt prefers.
    pub(crate) fn debian(suites: &[&str]) -> Result<Self> {
        let os = Os::read()?;
        let sources = sources::read()?;
        if os.id != "debian" {
            return Err(format!(
                "packages of Debian {} come from the mirror and the keyring of a Debian machine, and \
                 this is {}: run it in Debian, a container will do",
                suites.join(", "),
                os.name,
            )
            .into());
        }
        let base = sources::base(&sources, &os)
            .ok_or("no source of Debian's main in /etc/apt: apt cannot install anything here")?;
        let source = Source {
            suites: suites.iter().map(|&s| s.into()).collect(),
            components: vec!["main".into()],
            ..base.clone()
        };
        Ok(Self { sources: vec![source], strict: true })
    }

    /// Returns every source of the machine.
    pub(crate) fn machine() -> Result<Self> {
        Ok(Self { sources: sources::read()?, strict: false })
    }

    /// Downloads the packages and their dependencies into `dir`, except those in [`ASSUMED`].
    ///
    /// # Errors
    /// If a source does not answer or a package cannot be downloaded, with apt's output.
    pub(crate) fn download(&self, packages: &[&str], dir: &Path) -> Result<Vec<PathBuf>> {
        let config = self.lay(dir)?;
        let apt = || {
            let mut apt = Command::new("apt-get");
            apt.arg("-c").arg(&config).env("LC_ALL", "C");
            apt
        };
        let updated = process::read(apt().arg("update"));
        if let (Err(error), true) = (&updated, self.strict) {
            return Err(
                format!("cannot read the package index, is there a network?\n{error}").into()
            );
        }
        process::read(apt().args(["install", "--yes", "--download-only"]).args(packages)).map_err(
            |error| match updated {
                Ok(_) => error,
                Err(update) => format!("{error}\nand before that {update}").into(),
            },
        )?;
        let mut debs: Vec<_> = fs::read_dir(dir.join("debs"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .collect();
        debs.sort();
        Ok(debs)
    }

    /// Writes apt's private state to `dir`; returns its configuration file.
    fn lay(&self, dir: &Path) -> Result<PathBuf> {
        let architecture = process::read(Command::new("dpkg").arg("--print-architecture"))?;
        let architecture = architecture.trim();
        let stanzas: Vec<_> = self.sources.iter().map(|s| s.stanza(architecture)).collect();
        let assumed: String = ASSUMED.iter().map(|name| installed(name, architecture)).collect();
        for part in ["lists/partial", "debs/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("apt.sources"), stanzas.join("\n"))?;
        fs::write(dir.join("status"), assumed)?;
        fs::write(dir.join("preferences"), PREFERENCES)?;
        let config = dir.join("apt.conf");
        fs::write(&config, CONFIG.replace("DIR", &dir.display().to_string()))?;
        Ok(config)
    }
}

/// The entry of an installed package in dpkg's `status` file.
fn installed(name: &str, architecture: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nVersion: 99\n\
         Architecture: {architecture}\nMulti-Arch: allowed\n\
         Maintainer: nobody <nobody@localhost>\nDescription: assumed\n\n"
    )
}

/// Dependencies that count as installed. Some are for maintainer scripts and Python tools, which
/// are not run. Some are for abilities of container engines that no test needs. The compiler is
/// that of the machine.
const ASSUMED: &[&str] = &[
    "binutils",
    "containernetworking-plugins",
    "debconf",
    "dpkg",
    "gcc",
    "gnupg",
    "libc-dev",
    "perl",
    "python3",
    "python3-minimal",
    "python3-protobuf",
    "sgml-base",
    "systemd",
];

/// Lets apt take CRIU from experimental, which apt does not use by default.
const PREFERENCES: &str = "Package: src:criu\nPin: release a=experimental\nPin-Priority: 990\n";

/// The configuration that apt reads after the system's. The system's proxies stay; its hooks do not
/// run. `Sandbox`: apt's own user could not write below a home directory.
const CONFIG: &str = r#"
#clear APT::Update;
#clear DPkg;
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Etc::sourcelist "DIR/apt.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "DIR/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "DIR";
Dir::State::lists "DIR/lists";
Dir::State::status "DIR/status";
Dir::Cache "DIR";
Dir::Cache::archives "DIR/debs";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
"#;
