//! Whether a CRIU saves and sets labels, found out by asking it.

use crate::criu::Criu;
use crate::diagnosis::LogLevel;
use crate::drive::{Driver, Limits, Subject};
use crate::error::{Error, Failure, Result};
use crate::labels::SecurityModule;
use crate::operation::{Common, Prepared, Scratch};
use crate::rpc::CriuReqType;
use crate::transport::Launch;
use crate::value::Dir;

/// Whether a CRIU, on this machine as it is now, saves and sets the labels of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LabelSupport {
    /// It does.
    Yes,
    /// It does not: the machine does not run the module, or CRIU was built without SELinux, or does not see what it
    /// goes by, which is AppArmor's `/sys/kernel/security/apparmor` and libselinux' `/etc/selinux/config`. A
    /// CRIU keeps what it saw in `/run/criu.kdat` until the next boot.
    No,
}

/// Asks for a dump of a process that cannot be, with a label of the module: CRIU looks at the label first, before it
/// touches anything.
pub(crate) fn ask(criu: &Criu, module: SecurityModule, limits: &Limits) -> Result<LabelSupport> {
    let profile = match module {
        SecurityModule::Selinux => "selinux:u:r:t:s0",
        SecurityModule::Apparmor => "apparmor:unconfined",
        SecurityModule::Other => return Ok(LabelSupport::No),
    };
    let scratch = Scratch::new()?;
    let mut common = Common::new(Dir::from(&scratch.path), "dump.log");
    common.opts.raw(|opts| {
        opts.pid = Some(NOBODY);
        opts.lsm_profile = Some(profile.into());
        opts.log_level = Some(LogLevel::Warnings.number());
        opts.unprivileged = (!nix::unistd::geteuid().is_root()).then_some(true);
    });
    let prepared = Prepared::new(&common, criu)?;
    let (job, handed, _) = prepared.into_job(CriuReqType::Dump, "label check", Subject::None);
    let link = criu.link(&Launch::default(), handed)?;
    let failure = match Driver::new(link, job, limits.clone())?.finish(&mut ()) {
        Err(Error::Failed(failure)) => failure,
        Err(error) => return Err(error),
        Ok(_) => {
            let odd = std::io::Error::other("it dumped a process that cannot be");
            return Err(Error::system("ask criu whether it saves labels", odd));
        }
    };
    if has_said(&failure, UNSUPPORTED) {
        return Ok(LabelSupport::No);
    }
    // It has come as far as to look for the process.
    if failure.errno == Some(libc::ESRCH) || has_said(&failure, "Unable to interrupt task") {
        return Ok(LabelSupport::Yes);
    }
    Err(Error::Failed(failure))
}

/// Whether CRIU has said so in any of its lines.
fn has_said(failure: &Failure, part: &str) -> bool {
    let log = failure.excerpt().into_iter();
    let log = log.flat_map(|log| log.before.iter().chain([&log.error]).chain(&log.more));
    let printed = failure.output.lines().chain(failure.message.as_deref());
    log.map(String::as_str).chain(printed).any(|line| line.contains(part))
}

/// No process: the kernel numbers them to 2^22.
const NOBODY: i32 = i32::MAX;

/// How CRIU ends its complaint of a module that it does not see, or was not built for.
const UNSUPPORTED: &str = "not supported by kernel";
