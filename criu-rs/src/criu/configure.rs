//! The configuration files that a criu will read, and the options of an operation with them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};

use super::Criu;
use crate::config::{ConfigError, ConfigFiles, Setting};
use crate::error::Result;
use crate::options::Common;
use crate::transport::Transport;
use crate::value::{Pid, Version};

impl Criu {
    /// Returns the configuration files that this criu reads when it starts, in their order. A
    /// service has forgotten them when it serves a request, and so has none. A criu at the other
    /// end of a socket pair counts as started by this process without arguments.
    pub fn config_files(&self) -> ConfigFiles {
        let own = |name: &str| {
            let set = self.environment().iter().rev().find(|(known, _)| known == name);
            set.map(|(_, value)| value.clone()).or_else(|| std::env::var_os(name))
        };
        match self.transport() {
            Transport::Service(_) => ConfigFiles::default(),
            Transport::Connected(socket) if !is_of_a_pair(socket) => ConfigFiles::default(),
            _ => ConfigFiles::of(&self.arguments, own),
        }
    }

    /// Returns the options of an operation as they hold once CRIU has read its files.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), if CRIU refuses a file or a setting cannot be true
    /// for the operation.
    pub(crate) fn configure<'c, 'a>(&self, common: &'c Common<'a>) -> Result<Cow<'c, Common<'a>>> {
        let started = self.config_files().settings()?;
        let named = common.opts.message().config_file.as_deref();
        let named = named.map(|path| Setting::read(Path::new(OsStr::from_bytes(path))));
        let named = named.transpose()?.unwrap_or_default();
        if started.is_empty() && named.is_empty() {
            return Ok(Cow::Borrowed(common));
        }
        if let Some(setting) = started.iter().chain(&named).find(|setting| !setting.is_known()) {
            let version = self.known_version()?;
            if version <= NEWEST {
                let reason = format!("CRIU {version} has no such option");
                return Err(setting.refused(reason).into());
            }
        }
        if let Some(setting) = named.iter().find(|setting| setting.name == "network-lock") {
            let version = self.known_version()?;
            if version < LOCK_IN_FILES {
                return Err(crash(setting, version).into());
            }
        }
        common.configured(&started, &named)
    }
}

/// CRIU looks at its command line after this option, and in a request it has none.
fn crash(setting: &Setting, version: Version) -> ConfigError {
    setting.refused(format!(
        "CRIU {version} crashes when the file of a request has this option, CRIU {LOCK_IN_FILES} \
         does not: set it on the operation, or in a file that criu reads when it starts"
    ))
}

/// Says whether a socket is one of a pair that this process has made: then it has started the criu
/// at the other end.
fn is_of_a_pair(socket: impl AsFd) -> bool {
    let peer = getsockopt(&socket, sockopt::PeerCredentials);
    peer.is_ok_and(|peer| peer.pid() == Pid::this().as_raw())
}

/// The newest CRIU whose options this crate knows.
const NEWEST: Version = Version::new(4, 3, u32::MAX);

/// The first CRIU in which the file of a request can have `network-lock`.
const LOCK_IN_FILES: Version = Version::new(4, 3, 0);
