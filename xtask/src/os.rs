//! The machine's distribution, from `os-release(5)`.

use std::fs;

use crate::Result;

/// The running distribution.
#[derive(Debug, PartialEq)]
pub(crate) struct Os {
    /// `ID`: `debian`, `ubuntu`, `fedora` ...
    pub(crate) id: String,
    /// `ID_LIKE`: the distributions that it descends from, closest first.
    pub(crate) like: Vec<String>,
    /// `VERSION_CODENAME`: the suite; empty if the distribution has no such names.
    pub(crate) codename: String,
    /// `PRETTY_NAME`, for messages.
    pub(crate) name: String,
}

impl Os {
    /// Reads the machine's `os-release`.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .map_err(|error| format!("cannot tell the distribution: /etc/os-release: {error}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let get = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(k, _)| *k == key)
                .map_or("", |(_, value)| value.trim_matches(['"', '\'']))
        };
        Self {
            id: get("ID").into(),
            like: get("ID_LIKE").split_whitespace().map(Into::into).collect(),
            codename: get("VERSION_CODENAME").into(),
            name: get("PRETTY_NAME").into(),
        }
    }

    /// Returns the name of the machine's own suite, for a directory.
    pub(crate) fn suite(&self) -> &str {
        match &*self.codename {
            "" => &self.id,
            codename => codename,
        }
    }

    /// Tells if the distribution's packages come by apt.
    pub(crate) fn has_apt(&self) -> bool {
        self.is("debian") || self.is("ubuntu")
    }

    /// Returns the command that installs the distribution's CRIU, for a person to run.
    pub(crate) fn install_criu(&self) -> Option<&'static str> {
        COMMANDS.iter().find(|(id, _)| self.is(id)).map(|(_, command)| *command)
    }

    fn is(&self, id: &str) -> bool {
        self.id == id || self.like.iter().any(|like| like == id)
    }
}

/// A distribution, or an ancestor in `ID_LIKE`, with the command that installs CRIU.
const COMMANDS: &[(&str, &str)] = &[
    ("debian", "apt-get install criu"),
    ("ubuntu", "apt-get install criu"),
    ("fedora", "dnf install criu"),
    ("rhel", "dnf install criu"),
    ("suse", "zypper install criu"),
    ("arch", "pacman -S criu"),
    ("alpine", "apk add criu"),
    ("gentoo", "emerge sys-process/criu"),
    ("void", "xbps-install -S criu"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_read() {
        let os = Os::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n",
        );
        assert_eq!(os.id, "debian");
        assert_eq!(os.codename, "bookworm");
        assert_eq!(os.name, "Debian GNU/Linux 12 (bookworm)");
        assert!(os.has_apt());
    }

    #[test]
    fn a_descendant_is_known_by_its_ancestors() {
        let rocky = Os::parse("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!(rocky.install_criu(), Some("dnf install criu"));
        let leap = Os::parse("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n");
        assert_eq!(leap.install_criu(), Some("zypper install criu"));
        let mint = Os::parse("ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=wilma\n");
        assert!(mint.has_apt());
    }

    #[test]
    fn an_unknown_distribution_gets_no_command() {
        assert_eq!(Os::parse("ID=plan9\n").install_criu(), None);
        assert!(!Os::parse("").has_apt());
    }
}
