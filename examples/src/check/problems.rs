//! Operations that would fail on this machine, in words.

use std::fmt;

use criu_rs::labels::SecurityModule;
use criu_rs::preflight::CLASHES;
use procfs::sys::kernel::Version as Kernel;
use serde_json::{Value, json};

use super::Found;

/// An operation that would fail.
pub(super) struct Problem {
    /// The operation.
    what: String,
    /// The reason.
    why: String,
    /// The advice.
    hint: &'static str,
}

impl Problem {
    /// Returns all problems that are known, the worst first.
    pub(super) fn all(found: &Found) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |what: &str, why: String, hint| {
            all.push(Self { what: what.into(), why, hint });
        };
        let (machine, features) = (&found.machine, &found.features);
        let basic = found.capabilities.iter().filter(|capability| capability.is_basic());
        if basic.clone().all(|capability| !capability.is_held) {
            let why = "neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE is held".into();
            add("everything", why, "run it as root");
        } else {
            for capability in found.capabilities.iter().filter(|capability| !capability.is_held) {
                let why = format!("{} is not held", capability.name());
                add(capability.loses, why, "give it to criu; a container often lacks it");
            }
        }
        for clash in CLASHES {
            let linux = Kernel::new(clash.linux.0, clash.linux.1, 0);
            let is_new = machine.version.as_ref().is_some_and(|version| *version >= linux);
            if is_new && found.build.version < clash.criu {
                let why = format!("{} (CRIU {} does)", clash.why, clash.criu);
                add(clash.fails, why, "install a newer CRIU");
            }
        }
        if machine.ptrace_scope == Some(3) {
            let why = "Yama forbids to trace any process (kernel.yama.ptrace_scope is 3)".into();
            add("every dump", why, "lift that at the next boot: it cannot be lowered");
        }
        if features.mem_track == Some(false) {
            let why = "the kernel does not track changed memory (CONFIG_MEM_SOFT_DIRTY)".into();
            add("pre-dump, --track-mem", why, "dump without them");
        }
        if features.lazy_pages == Some(false) {
            let why = if machine.has_userfaultfd {
                "userfaultfd lacks what CRIU needs of it"
            } else {
                "the kernel has no userfaultfd (CONFIG_USERFAULTFD)"
            };
            add("--lazy-pages", why.into(), "dump and restore without it");
        }
        if let Err(why) = &machine.instant {
            let hint = why.hint();
            add("--instant", why.to_string(), hint);
        }
        if features.mem_compression == Some(false) {
            add("--compress", "this CRIU was built without LZ4".into(), "dump without it");
        }
        if machine.iptables.is_none() {
            let why = "iptables-restore is not installed".into();
            let hint = "install iptables, or add --network-lock nftables or skip";
            add("--tcp-established", why, hint);
        }
        for module in &found.unsaved_labels {
            let (why, hint) = match module {
                SecurityModule::Selinux => (
                    "this CRIU was built without SELinux",
                    "name one built with it with --criu PATH",
                ),
                _ => (
                    "this CRIU does not see /sys/kernel/security/apparmor",
                    "mount securityfs there, and remove /run/criu.kdat",
                ),
            };
            add(&format!("processes that {module} confines"), why.into(), hint);
        }
        if machine.zombies_of_init > 0 {
            let why = format!(
                "process 1 does not reap, so process ids stay in use: {} at present",
                machine.zombies_of_init
            );
            let hint = "restore below a process that reaps (a subreaper), or in a pid namespace";
            add("restoring detached trees a second time", why, hint);
        }
        all
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "what": self.what, "why": self.why, "hint": self.hint })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}\n      {}\n      do: {}", self.what, self.why, self.hint)
    }
}
