//! Limits that a restore meets.

use std::fs;
use std::path::Path;

use criu_lab::soon;
use criu_rs::{Cause, CgroupMode, Restore};

use super::{cause, fails, python, saved};
use crate::causes::wrapped;
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] =
    &[("restore_says_which_limit_it_meets", limits), ("restore_says_what_a_cgroup_lacks", cgroups)];

fn limits(lab: &Lab) {
    let code = "held = [open('/dev/null') for _ in range(80)]";
    let many = python(lab, code);
    let expected = cause(Cause::TooFewDescriptors, "", "raise the hard limit of open files");
    let less = wrapped(lab, "prlimit --nofile=40:40");
    fails(&less, &Restore::new(&many.images), &expected);
    let large = saved(lab, lab.start(&["memory", "64"]), |dump| dump);
    let expected = cause(Cause::NoMemory, "", "free memory, or raise the limit");
    let less = wrapped(lab, "prlimit --as=67108864");
    fails(&less, &Restore::new(&large.images), &expected);
}

/// A cgroup below the root of a hierarchy of version 1, removed at the end.
struct Below(std::path::PathBuf);

impl Below {
    fn make(controller: &str) -> Self {
        let name = format!("criu-rs-cause-{}", std::process::id());
        let path = Path::new("/sys/fs/cgroup").join(controller).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _ = soon(|| fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

fn cgroups(lab: &Lab) {
    // Three processes in a cgroup that admits one.
    let few = Below::make("pids");
    let target = lab.python("children = [subprocess.Popen(['sleep', '1000']) for _ in range(2)]");
    for pid in criu_lab::process::descendants(target.pid) {
        fs::write(few.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let soft = |images| Restore::new(images).manage_cgroups(CgroupMode::Soft);
    let crowd = saved(lab, target, |dump| dump.manage_cgroups(CgroupMode::Soft));
    fs::write(few.0.join("pids.max"), "1").unwrap();
    let advice = "raise pids.max of the cgroup";
    let expected = cause(Cause::TooManyProcesses, "process", advice);
    fails(&lab.criu, &soft(&crowd.images), &expected);
    // The cgroup is missing, and the restore may not make it.
    assert!(soon(|| fs::remove_dir(&few.0).is_ok()));
    let expected = cause(Cause::CgroupDirMissing, "cgroup", "make the cgroup, or set another");
    let restore = Restore::new(&crowd.images).manage_cgroups(CgroupMode::None);
    fails(&lab.criu, &restore, &expected);
}
