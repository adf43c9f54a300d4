//! A runtime that is killed while it restores, and removes its state afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Instant, SystemTime};

use criu_lab::containers::Bundle;
use criu_lab::soon;
use criu_rs::oci::{Container, RestoreHooks, clean_up};
use criu_rs::{Criu, LogLevel, Pid};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};

use crate::trip::{Trip, WeDoBoth, end};
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case {
        name: "a_killed_restore_leaves_the_root_file_system_whole",
        test: killed,
        runtimes: &["runc"],
        newest_only: false,
    },
    Case {
        name: "what_a_killed_runtime_left_is_cleaned_up",
        test: cleaned,
        runtimes: &["runc"],
        newest_only: true,
    },
];

/// The word by which this program becomes [`runtime`].
pub const WORD: &str = "--own-runtime";

/// The variable with the number of rounds.
const ROUNDS: &str = "CRIU_RS_TEST_KILLED_ROUNDS";

/// A small runtime: `CRIU BUNDLE IMAGES STATE`.
pub fn runtime(words: &[String]) {
    let [criu, bundle, images, state] = words else { panic!("CRIU BUNDLE IMAGES STATE") };
    let container = Container::open(bundle).unwrap();
    let work = Path::new(state).join("work");
    fs::create_dir(&work).unwrap();
    let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let restore = container.restore(images).unwrap().prepare(state).unwrap();
    let restore = restore.stdio([null.as_fd(); 3]).work_dir(&work).log_level(LogLevel::Debug);
    let mut own = ();
    let mut hooks = RestoreHooks::new(&container, "c", &mut own);
    let restored = restore.run_with(&Criu::at(criu), &mut hooks).unwrap();
    fs::write(Path::new(state).join("pid"), restored.pid.to_string()).unwrap();
}

/// Kills the runtime at random moments of a restore, and removes its state at once.
fn killed(bed: &Bed) {
    let outside = bed.dir("outside");
    fs::create_dir(outside.join("below")).unwrap();
    fs::write(outside.join("below/file"), "kept").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.bind(&outside, "/data", &[]);
        b.mask(&["/sys/firmware"]);
        b.cgroups_path("/bed/it");
    });
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    Trip::new(bed, &bundle).save(pid, &images);
    bed.runtime.delete("c");
    let (files, mounts, cgroups) = (files(&bed.dir), mounts(), cgroups());

    let state = bed.dir.join("state-of-it");
    let start = || {
        fs::create_dir(&state).unwrap();
        fs::write(state.join("state.json"), "{}").unwrap();
        let words = [&bundle.dir, &images, &state];
        let criu = bed.criu.program().unwrap().unwrap();
        let mut command = Command::new("/proc/self/exe");
        command.arg(WORD).arg(criu).args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let others = processes();
    let begun = Instant::now();
    assert!(start().wait().unwrap().success());
    let mut whole = begun.elapsed();
    bundle.goes_on();
    fs::remove_dir_all(&state).unwrap();
    end_new(&others);

    let rounds: u32 = std::env::var(ROUNDS).map_or(12, |rounds| rounds.parse().unwrap());
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let (mut random, mut died) = (u64::from(seed) | 1, 0);
    println!("{rounds} rounds of at most {whole:?}, seed {seed}");
    for round in 0.. {
        if round >= rounds && died * 2 >= rounds {
            break;
        }
        assert!(round < rounds * 4, "only {died} of {round} were killed during the restore");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = f64::from(u32::try_from(random >> 32).unwrap()) / f64::from(u32::MAX);
        let after = whole.mul_f64(share);
        let mut runtime = start();
        sleep(after);
        if runtime.try_wait().unwrap().is_none() {
            died += 1;
        } else {
            // The whole restore took no longer: the machine was busier before.
            whole = whole.min(after);
        }
        runtime.kill().unwrap();
        // The state goes before and after somebody has waited for the process.
        if round % 2 == 0 {
            runtime.wait().unwrap();
        }
        remove(&state, &mut runtime);
        runtime.wait().unwrap();
        end_new(&others);
        let at = format!("round {round}, killed after {after:?}");
        assert_eq!(self::files(&bed.dir), files, "{at}");
        assert!(soon(|| self::mounts() == mounts), "{at}: {:?}", self::mounts());
        assert!(soon(|| self::cgroups().is_superset(&cgroups)), "{at}: {:?}", self::cgroups());
    }
    assert!(!state.exists());
    let restored = Trip::new(bed, &bundle).bring_back(WeDoBoth, &images);
    bundle.goes_on();
    end(restored);
}

/// Removes the state recursively. A criu that goes on may make files in it meanwhile.
#[track_caller]
fn remove(state: &Path, runtime: &mut Child) {
    let removed = || fs::remove_dir_all(state).is_ok() || !state.exists();
    if !soon(removed) {
        let error = fs::remove_dir_all(state);
        panic!("{error:?}: {:?}, runtime {}", mounts(), runtime.id());
    }
}

/// Ends processes that are not in `others`: a criu that goes on, and restored tasks.
#[track_caller]
fn end_new(others: &[Pid]) {
    let ended = soon(|| {
        let new: Vec<Pid> = processes().into_iter().filter(|pid| !others.contains(pid)).collect();
        for pid in &new {
            let pid = nix::unistd::Pid::from_raw(pid.as_raw());
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        }
        new.is_empty()
    });
    assert!(ended, "processes are left: {:?}", processes());
}

fn processes() -> Vec<Pid> {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// The mount points that this process sees.
fn mounts() -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

/// The cgroups of all hierarchies.
fn cgroups() -> std::collections::BTreeSet<PathBuf> {
    let mut all = std::collections::BTreeSet::new();
    let mut next: Vec<PathBuf> = vec!["/sys/fs/cgroup".into()];
    while let Some(dir) = next.pop() {
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        next.extend(below.map(|entry| entry.path()));
        // Those of the container come and go.
        if !dir.to_string_lossy().contains("/bed") {
            all.insert(dir);
        }
    }
    all
}

/// Every file of the bundle and of the folder that it binds, with its size.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut all = BTreeMap::new();
    let mut next = vec![dir.join("bundle"), dir.join("outside")];
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let meta = entry.path().symlink_metadata().unwrap();
            if meta.is_dir() {
                next.push(entry.path());
            }
            let counts = entry.file_name().to_string_lossy().starts_with("count");
            if !counts {
                all.insert(entry.path(), if meta.is_dir() { 0 } else { meta.len() });
            }
        }
    }
    all
}

/// The mounts of another runtime, or of an earlier version, as a kill leaves them.
fn cleaned(bed: &Bed) {
    let (root, state, away) = (bed.dir("root"), bed.dir("state"), bed.dir("away"));
    fs::write(root.join("precious"), "of the container").unwrap();
    let bind = |source: &Path, at: &Path| {
        fs::create_dir_all(at).unwrap();
        mount(Some(source), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    };
    let tmpfs = |at: &Path| {
        fs::create_dir_all(at).unwrap();
        let none = None::<&str>;
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    };
    let before = mounts();
    // Twice at one place, with a mount below it; the cgroups of CRIU; a mount of the runtime's own.
    bind(&root, &state.join("criu-root"));
    bind(&root, &state.join("criu-root"));
    tmpfs(&state.join("criu-root/below"));
    // A copy that is a peer of the container's mounts, as runc makes one.
    let (shared, copy) = (bed.dir("shared"), state.join("criu-mount-7"));
    let none = None::<&str>;
    tmpfs(&shared);
    mount(none, &shared, none, MsFlags::MS_SHARED, none).unwrap();
    tmpfs(&shared.join("volume"));
    fs::create_dir(&copy).unwrap();
    mount(Some(&shared), &copy, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    tmpfs(&state.join("criu-empty"));
    bind(&root, &state.join("criu-mount-0"));
    bind(Path::new("/sys/fs/cgroup"), &state.join("criu.work/.criu.cgyard.abc123"));
    bind(&root, &state.join("own"));
    // A link that leads to a mount somewhere else.
    bind(&root, &away.join("criu-root"));
    std::os::unix::fs::symlink(away.join("criu-root"), state.join("criu-mount-1")).unwrap();
    std::os::unix::fs::symlink(&away, state.join("criu.link")).unwrap();

    let cleaned = clean_up(&state).unwrap();
    let expected = [
        "criu.work/.criu.cgyard.abc123",
        "criu-mount-0",
        "criu-empty",
        "criu-mount-7",
        "criu-root",
    ];
    assert_eq!(cleaned, expected.map(|name| state.join(name)));
    let kept = [shared.clone(), shared.join("volume"), state.join("own"), away.join("criu-root")];
    let kept = kept.map(|path| path.display().to_string());
    assert_eq!(mounts(), [before, kept.to_vec()].concat());
    assert_eq!(clean_up(&state).unwrap(), [] as [PathBuf; 0]);
    assert_eq!(clean_up(bed.dir.join("never")).unwrap(), [] as [PathBuf; 0]);
    assert!(state.join("criu-mount-1").is_symlink());
    for path in kept.iter().rev() {
        umount2(Path::new(&path), MntFlags::MNT_DETACH).unwrap();
    }
    fs::remove_dir_all(&state).unwrap();
    assert_eq!(fs::read_to_string(root.join("precious")).unwrap(), "of the container");
    assert!(away.join("criu-root").exists());
    fs::remove_dir(root.join("below")).unwrap();
}
