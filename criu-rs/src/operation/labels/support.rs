//! The question whether a CRIU saves and sets labels.

use crate::criu::Criu;
use crate::diagnosis::Failure;
use crate::drive::Driver;
use crate::error::{Error, Result};
use crate::labels::{LabelSupport, SecurityModule};
use crate::operation::prepared::Prepared;
use crate::operation::scratch::Scratch;
use crate::options::{Common, RunLimits};
use crate::rpc::CriuReqType;
use crate::transport::{Launch, Subject, Transport};
use crate::value::{Dir, LogLevel};

impl Criu {
    /// Asks whether this CRIU, on this machine, saves and sets the labels of a security module.
    /// CRIU is asked to dump a process that cannot exist, so no process is touched.
    ///
    /// ```no_run
    /// use criu_rs::Criu;
    /// use criu_rs::labels::{LabelSupport, SecurityModule};
    ///
    /// if Criu::new().label_support(SecurityModule::Selinux)? == LabelSupport::No {
    ///     println!("containers would come back without their SELinux labels");
    /// }
    /// # Ok::<(), criu_rs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Criu does not start, or gives another answer. [`Error::TooOld`]: a CRIU before 3.12 cannot
    /// be asked. [`Error::NotOverSocket`] for [`Criu::connected`]: the question would use up the
    /// one request of that connection.
    pub fn label_support(&self, module: SecurityModule) -> Result<LabelSupport> {
        self.ask_labels(module, &RunLimits::default())
    }

    fn ask_labels(&self, module: SecurityModule, limits: &RunLimits) -> Result<LabelSupport> {
        match self.transport() {
            Transport::Connected(_) => {
                let why = "the connection takes one operation, and the question is one";
                Err(Error::NotOverSocket { what: "label_support", why })
            }
            #[cfg(feature = "libcriu")]
            Transport::Libcriu(_, program) => ask(&Self::at(program), module, limits),
            _ => ask(self, module, limits),
        }
    }

    /// Asks as [`label_support`](Self::label_support) does, unless this program is known to save
    /// the labels. A `No` is not remembered, since a mount is often all that is missing. `None` if
    /// CRIU cannot be asked.
    pub(crate) fn saves_labels(
        &self,
        module: SecurityModule,
        limits: &RunLimits,
    ) -> Result<Option<LabelSupport>> {
        // Taken before the question: the answer is this program's.
        let program = self.stamp()?;
        if program.is_some_and(|program| self.is_known_to_save(program, module)) {
            return Ok(Some(LabelSupport::Yes));
        }
        let support = match self.ask_labels(module, limits) {
            Err(Error::TooOld { .. } | Error::NotOverSocket { .. }) => return Ok(None),
            support => support?,
        };
        if let (LabelSupport::Yes, Some(program)) = (support, program) {
            self.remember_to_save(program, module);
        }
        Ok(Some(support))
    }
}

/// Asks for a dump of a process that cannot exist, with a label of the module. CRIU looks at the
/// label before it touches anything.
pub(crate) fn ask(criu: &Criu, module: SecurityModule, limits: &RunLimits) -> Result<LabelSupport> {
    let profile = match module {
        SecurityModule::Selinux => "selinux:u:r:t:s0",
        SecurityModule::Apparmor => "apparmor:unconfined",
        SecurityModule::Other => return Ok(LabelSupport::No),
    };
    let scratch = Scratch::new()?;
    let mut common = Common::new(Dir::from(scratch.path()), "dump.log");
    // No file decides where the log of this question goes.
    common.opts.work = Some(Dir::from(scratch.path()));
    let log = common.opts.default_log.take();
    common.opts.raw(|opts| {
        opts.log_file = log;
        opts.pid = Some(NOBODY);
        opts.lsm_profile = Some(profile.into());
        opts.log_level = Some(LogLevel::Warnings.number());
        opts.unprivileged = (!nix::unistd::geteuid().is_root()).then_some(true);
    });
    let prepared = Prepared::new(&common, criu)?;
    let (job, handed, _) = prepared.into_job(CriuReqType::Dump, "label check", Subject::None);
    let link = criu.link_for(&job, &Launch::default(), handed)?;
    let failure = match Driver::new(link, job, limits.clone())?.finish(&mut ()) {
        Err(Error::Failed(failure)) => failure,
        Err(error) => return Err(error),
        Ok(_) => {
            let odd = std::io::Error::other("it dumped a process that cannot exist");
            return Err(Error::system("ask criu whether it saves labels", odd));
        }
    };
    if has_said(&failure, UNSUPPORTED) {
        return Ok(LabelSupport::No);
    }
    // It has come as far as the search for the process.
    if failure.errno == Some(libc::ESRCH) || has_said(&failure, "Unable to interrupt task") {
        return Ok(LabelSupport::Yes);
    }
    Err(Error::Failed(failure))
}

/// Says whether one of CRIU's lines holds the text.
fn has_said(failure: &Failure, part: &str) -> bool {
    let log = failure.excerpt().into_iter();
    let log = log.flat_map(|log| log.before.iter().chain([&log.error]).chain(&log.more));
    let printed = failure.output.lines().chain(failure.message.as_deref());
    log.map(String::as_str).chain(printed).any(|line| line.contains(part))
}

/// A process id that cannot exist: the kernel's end at 2^22.
const NOBODY: i32 = i32::MAX;

/// The end of CRIU's complaint about a module that it does not see or was not built for.
const UNSUPPORTED: &str = "not supported by kernel";
