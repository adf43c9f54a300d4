//! gVisor's runsc as an engine: a sandbox with two containers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criu_archive::record::{Finding, Host, Record, State};
use criu_cri::engine::{
    After, Control, Engine, EngineError, Options, Phase, Place, Running, Runsc, Sandbox, Subject,
    Target, describe,
};
use criu_lab::containers::Bundle;
use criu_lab::{names, place, soon};
use criu_rs::{Cancel, Pid};

use crate::moments::Noted;
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[Case {
    name: "a_sandbox_of_gvisor_is_saved_and_comes_back",
    test: there_and_back,
    // The sandbox of the test is what matters; runsc is started in it.
    runtimes: &["runc"],
    newest_only: true,
}];

/// A sandbox of gVisor.
struct Pod {
    root: PathBuf,
    /// The container that is the sandbox, and two others.
    bundles: Vec<Bundle>,
}

impl Pod {
    /// Makes the bundles of a sandbox whose id is `id`.
    fn new(bed: &Bed, id: &str) -> Self {
        let bundle = |name: &str, kind: &str| {
            Bundle::new(bed, &format!("{id}-{name}"), "count", &[]).with(|bundle| {
                bundle.annotation("io.kubernetes.cri.container-type", kind);
                bundle.annotation("io.kubernetes.cri.sandbox-id", id);
                bundle.annotation("io.kubernetes.cri.container-name", name);
            })
        };
        let bundles = vec![
            bundle("pause", "sandbox"),
            bundle("web", "container"),
            bundle("log", "container"),
        ];
        Self { root: bed.dir.join("root"), bundles }
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(place::runsc());
        command.arg("--root").arg(&self.root).args(FLAGS).arg(word);
        command
    }

    fn start(&self, bed: &Bed, id: &str) {
        for (bundle, name) in self.bundles.iter().zip(NAMES) {
            let id = if name == "pause" { id.into() } else { format!("{name}-{id}") };
            let mut create = self.command("create");
            let (is_done, said) =
                bed.runtime.finish(create.arg("--bundle").arg(&bundle.dir).arg(&id));
            assert!(is_done, "{said}");
            let (is_done, said) = bed.runtime.finish(self.command("start").arg(&id));
            assert!(is_done, "{said}");
            bundle.goes_on();
        }
    }

    fn subject(&self, id: &str) -> Subject {
        let sandbox =
            Sandbox { id: id.into(), bundle: Some(self.bundles[0].dir.clone()), pid: None };
        let containers = self.bundles.iter().zip(NAMES).skip(1).map(|(bundle, name)| Running {
            name: name.into(),
            id: format!("{name}-{id}"),
            bundle: bundle.dir.clone(),
            pid: Pid::this(),
        });
        Subject { sandbox: Some(sandbox), cgroup: None, containers: containers.collect() }
    }

    fn place(&self, id: &str) -> Place {
        let subject = self.subject(id);
        let targets = subject.containers.into_iter().map(|one| Target {
            name: one.name,
            id: one.id,
            bundle: one.bundle,
        });
        Place { sandbox: subject.sandbox, containers: targets.collect(), state: PathBuf::new() }
    }

    fn counts(&self) -> Vec<u64> {
        self.bundles.iter().map(Bundle::goes_on).collect()
    }

    fn still(&self) -> Vec<u64> {
        self.bundles.iter().map(Bundle::stands_still).collect()
    }
}

fn there_and_back(bed: &Bed) {
    // runsc takes processes that nobody has waited for to be alive. Process 1 does wait.
    nix::sys::prctl::set_child_subreaper(false).unwrap();
    let pod = Pod::new(bed, "pod");
    let plain = Runsc::at(place::runsc()).root(&pod.root);
    let engine = FLAGS.iter().fold(plain, |engine, flag| engine.flag(*flag));
    pod.start(bed, "pod");
    let subject = pod.subject("pod");
    let to = bed.dir("checkpoint");
    let parse =
        |given: &[(&str, &str)], phase| Options::parse(given.iter().copied(), &engine, phase);
    let error = parse(&[("tcp", "close")], Phase::Checkpoint).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown option `tcp` of a checkpoint, wanted one of: compression, direct, \
         exclude-committed-zero-pages"
    );

    // What fails leaves the sandbox running, and nothing behind.
    let runs_on = |why: &str| {
        pod.counts();
        assert!(names(&to).is_empty(), "{why}");
    };
    let none = Options::default();
    let mut part = subject.clone();
    part.containers.pop();
    let error = engine.checkpoint(&part, &to, &none, &Control::default()).unwrap_err().to_string();
    assert!(error.contains("found log-pod, web-pod in the sandbox pod, wanted web-pod"), "{error}");
    runs_on("a part");
    let refuse = || Err("no".into());
    for moment in ["freezing", "frozen", "saved"] {
        let noted = Noted::at(moment, &refuse);
        let control = Control { moments: &noted, ..Control::default() };
        let error = engine.checkpoint(&subject, &to, &none, &control).unwrap_err();
        assert!(matches!(error, EngineError::Hook(_)), "{moment}: {error}");
        runs_on(moment);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    let wait = || {
        let left = deadline.saturating_duration_since(Instant::now());
        std::thread::sleep(left.saturating_sub(Duration::from_millis(10)));
        Ok(())
    };
    let noted = Noted::at("frozen", &wait);
    let control = Control { moments: &noted, deadline: Some(deadline), ..Control::default() };
    let error = engine.checkpoint(&subject, &to, &none, &control).unwrap_err();
    assert!(matches!(error, EngineError::Deadline), "{error}");
    assert_eq!(noted.names(), ["freezing", "frozen"]);
    runs_on("deadline");
    cancelled_in_the_pause(bed, &pod, &subject, &to);
    runs_on("cancelled in the pause");
    let paused = |word| {
        let (is_done, said) = bed.runtime.finish(pod.command(word).arg("pod"));
        assert!(is_done, "{said}");
    };
    paused("pause");
    let error = engine.checkpoint(&subject, &to, &none, &Control::default()).unwrap_err();
    assert_eq!(error.to_string(), "the sandbox pod: found a paused sandbox, wanted a running one");
    pod.still();
    paused("resume");
    runs_on("paused by another");

    // A checkpoint from which it runs on, and then the last one.
    let still = || {
        pod.still();
        Ok(())
    };
    let noted = Noted::at("saved", &still);
    let control = Control { moments: &noted, ..Control::default() };
    engine.checkpoint(&subject, &to, &none, &control).unwrap();
    assert_eq!(noted.names(), ["freezing", "frozen", "saved"]);
    pod.counts();
    assert_eq!(names(&to), ["sandbox"]);
    assert_eq!(names(to.join("sandbox")), ["checkpoint.img"]);

    let last = bed.dir("last");
    let options = parse(&[("compression", "none")], Phase::Checkpoint).unwrap();
    let control = Control { after: After::Stop, ..Control::default() };
    let saved = engine.checkpoint(&subject, &last, &options, &control).unwrap();
    let counted = pod.still();
    let folder = last.join("sandbox");
    assert_eq!(names(&folder), ["checkpoint.img", "pages.img", "pages_meta.img"]);
    let facts = engine.inspect(&folder).unwrap();
    assert_eq!((facts.get("compression"), facts.get("container_count")), (Some("none"), Some("3")));
    assert!(facts.get("timestamp").is_some() && facts.get("pages.img").is_some(), "{facts:?}");
    let mut record = describe("test 1", &engine, &subject, &saved, &last).unwrap();
    record.state.advance(State::Complete).unwrap();
    record.write(&last).unwrap();
    let record = Record::open(&last).unwrap();
    let here = Host::here();
    let findings = engine.verify(&record, &here, &last);
    assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
    assert_eq!(record.files.len(), 3);

    other_versions(&engine, &record, &here, &last, &pod);

    for id in ["log-pod", "web-pod", "pod"] {
        let (is_done, said) = bed.runtime.finish(pod.command("delete").args(["--force", id]));
        assert!(is_done, "{said}");
    }
    // Under other ids, in other bundles whose files are as the old ones were.
    let new = Pod::new(bed, "new");
    for (old, new) in pod.bundles.iter().zip(&new.bundles) {
        std::fs::copy(old.root.join("count"), new.root.join("count")).unwrap();
    }
    let options = Options::default();
    let noted = Noted::at("restored", &refuse);
    let control = Control { moments: &noted, ..Control::default() };
    let error = engine.restore(&last, &record, &new.place("new"), &options, &control).unwrap_err();
    assert!(matches!(error, EngineError::Hook(_)), "{error}");
    let (_, said) = bed.runtime.finish(&mut pod.command("list"));
    assert!(!said.contains("new"), "{said}");
    let started =
        engine.restore(&last, &record, &new.place("new"), &options, &Control::default()).unwrap();
    assert_eq!(started.len(), 2);
    for (bundle, before) in new.bundles.iter().zip(counted) {
        assert!(bundle.goes_on() > before);
    }
    assert!(started.iter().all(|one| one.pid.is_some()));
    // The ids are taken, and their containers run on.
    let error = engine
        .restore(&last, &record, &new.place("new"), &options, &Control::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("runsc has one already, in the state running"), "{error}");
    new.counts();
    for id in ["log-new", "web-new", "new"] {
        let (is_done, said) = bed.runtime.finish(pod.command("delete").args(["--force", id]));
        assert!(is_done, "{said}");
    }
}

/// Cancels a checkpoint while `runsc pause` works, when the sandbox is paused and runsc has not
/// ended yet.
fn cancelled_in_the_pause(bed: &Bed, pod: &Pod, subject: &Subject, to: &Path) {
    let dir = bed.dir("slow");
    let (is_paused, may_end) = (dir.join("paused"), dir.join("end"));
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\n\
         case \" $* \" in *' pause '*) : > {}; until [ -e {} ]; do sleep 0.01; done;; esac\n",
        place::runsc().display(),
        is_paused.display(),
        may_end.display(),
    );
    let program = dir.join("runsc");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let plain = Runsc::at(&program).root(&pod.root);
    let slow = FLAGS.iter().fold(plain, |engine, flag| engine.flag(*flag));
    let cancel = Cancel::new().unwrap();
    let control = Control { cancel: Some(&cancel), ..Control::default() };
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(soon(|| is_paused.exists()));
            cancel.cancel();
            // Time in which a command that does not wait for the pause would be killed.
            std::thread::sleep(Duration::from_millis(100));
            std::fs::write(&may_end, "").unwrap();
        });
        slow.checkpoint(subject, to, &Options::default(), &control).unwrap_err()
    });
    assert!(matches!(error, EngineError::Cancelled), "{error}");
}

/// Edits the record in ways that a restore must refuse.
fn other_versions(engine: &Runsc, record: &Record, here: &Host, from: &Path, pod: &Pod) {
    let refused = |change: &dyn Fn(&mut Record), why: &str| {
        let mut record = record.clone();
        change(&mut record);
        let findings = engine.verify(&record, here, from);
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains(why)), "{why}: {texts:?}");
        let restored = engine.restore(
            from,
            &record,
            &pod.place("other"),
            &Options::default(),
            &Control::default(),
        );
        match restored {
            Err(EngineError::Unfit(unfit)) => {
                assert!(unfit.iter().any(|one| one.to_string().contains(why)), "{unfit:?}");
            }
            other => panic!("{why}: {other:?}"),
        }
    };
    refused(
        &|record| record.containers[0].tool.version = "0.0~20221219.0".into(),
        "runsc 0.0~20221219.0 made the checkpoint",
    );
    refused(
        &|record| {
            for flag in &mut record.containers[1].tool.arguments {
                *flag = flag.replace("systrap", "kvm");
            }
        },
        "was saved with --platform=kvm, this runsc has systrap",
    );
    refused(
        &|record| {
            let host = record.host.as_mut().unwrap();
            host.cpu.features.push("avx1024".into());
            host.cpu.features.push("amx_tile".into());
        },
        "the processor here lacks",
    );
}

const NAMES: [&str; 3] = ["pause", "web", "log"];

/// Flags for a machine without KVM. Files that containers write are to be seen outside.
const FLAGS: &[&str] =
    &["--ignore-cgroups", "--network=none", "--platform=systrap", "--overlay2=none"];
