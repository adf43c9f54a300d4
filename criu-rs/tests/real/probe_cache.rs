//! The kernel-probe cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use criu_lab::mounts::OwnMounts;
use criu_rs::{Criu, Dump, LogLevel, ProbeCache};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[("probe_cache", probe_cache)];

/// Whether the run that wrote this log found the cache.
fn is_cached(log: &Path) -> bool {
    let log = fs::read_to_string(log).unwrap();
    log.contains("Loaded kdat cache from")
}

fn probe_cache(lab: &Lab) {
    // All of this is once on a machine, and criu of other tests removes what is there.
    let own = OwnMounts::with_run("tmpfs");
    let store = Path::new("/dev/shm/criu-rs");
    // CRIU keeps its own; nothing must have been made.
    assert!(!ProbeCache::make(&lab.criu).unwrap().is_needed());
    assert!(!store.exists());

    own.fresh("ramfs", "/run");
    let cache = ProbeCache::make(&lab.criu).unwrap();
    assert!(cache.is_needed());
    let criu = lab.criu.clone().with_probe_cache(&cache);
    let link = Path::new("/run/criu.kdat");
    let kept = fs::read_link(link).unwrap();
    let target = lab.start(&["count"]);
    let dump = |criu: &Criu, name: &str| {
        let images = lab.dir(name);
        let after = criu_rs::AfterDump::LeaveRunning;
        let dump = Dump::new(target.pid, &images).log_level(LogLevel::Debug).after_dump(after);
        dump.run(criu).unwrap();
        is_cached(&images.join("dump.log"))
    };
    assert!(dump(&criu, "first"));
    // Another version removes the link; the next run has it again.
    fs::remove_file(link).unwrap();
    assert!(dump(&criu, "second"));
    assert_eq!(fs::read_link(link).unwrap(), kept);
    // Made once: the same file serves the next program.
    let made = fs::metadata(&kept).unwrap().modified().unwrap();
    let again = ProbeCache::make(&lab.criu).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), made);
    // A file of somebody else's is not touched.
    fs::remove_file(link).unwrap();
    fs::write(link, "mine").unwrap();
    let error = ProbeCache::make(&lab.criu).unwrap_err().to_string();
    assert!(error.contains("a foreign file"), "{error}");
    assert_eq!(fs::read(link).unwrap(), b"mine");
    fs::remove_file(link).unwrap();

    again.remove().unwrap();
    cache.remove().unwrap();
    assert!(fs::symlink_metadata(link).is_err() && !kept.exists() && !store.exists());
    assert!(!dump(&lab.criu, "third"));

    // A directory that others can write to is not trusted.
    fs::create_dir(store).unwrap();
    fs::set_permissions(store, fs::Permissions::from_mode(0o777)).unwrap();
    let error = ProbeCache::make(&lab.criu).unwrap_err().to_string();
    assert!(error.contains("mode 777"), "{error}");
}
