//! CRIU as an engine, for containers of runc that share a network and an IPC namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criu_archive::record::{Host, State};
use criu_cri::engine::{
    After, Control, Criu, Engine, EngineError, Options, Phase, Place, Running, Subject, Target,
    describe,
};
use criu_lab::containers::Bundle;
use criu_lab::names;
use criu_rs::Pid;

use crate::moments::Noted;
use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case {
        name: "a_pod_of_runc_is_saved_and_comes_back",
        test: there_and_back,
        runtimes: &["runc"],
        // Older ones do not save connections on new kernels.
        newest_only: true,
    },
    Case {
        name: "a_pod_that_cannot_be_saved_runs_on_and_leaves_nothing",
        test: refused,
        runtimes: &["runc"],
        newest_only: true,
    },
    #[cfg(feature = "instant")]
    Case {
        name: "a_pod_of_runc_is_saved_while_it_runs_on",
        test: instant,
        runtimes: &["runc"],
        newest_only: false,
    },
];

/// A pod: a process that holds the namespaces, a container with a connection, and another one.
struct Pod {
    bundles: [Bundle; 2],
    subject: Subject,
}

impl Pod {
    fn start(bed: &Bed, payload: &str) -> Self {
        let sandbox = Bundle::new(bed, "sandbox", "count", &[])
            .with(|bundle| bundle.cgroups_path("/pod/sandbox"));
        let holder = bed.runtime.run(&sandbox, "sandbox", &[]);
        let container = |name: &str, payload: &str| {
            Bundle::new(bed, name, payload, &[]).with(|bundle| {
                bundle.cgroups_path(&format!("/pod/{name}"));
                for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
                    let path = PathBuf::from(format!("/proc/{holder}/ns/{file}"));
                    bundle.namespace(kind, Some(&path));
                }
            })
        };
        let bundles = [container("web", payload), container("log", "count")];
        let containers = bundles.iter().zip(["web", "log"]).map(|(bundle, name)| Running {
            name: name.into(),
            id: name.into(),
            bundle: bundle.dir.clone(),
            pid: bed.runtime.run(bundle, name, &[]),
        });
        let containers = containers.collect();
        let subject = Subject { sandbox: None, cgroup: Some("/pod".into()), containers };
        Self { bundles, subject }
    }

    fn counts(&self) -> Vec<u64> {
        self.bundles.iter().map(Bundle::goes_on).collect()
    }

    fn still(&self) -> Vec<u64> {
        self.bundles.iter().map(Bundle::stands_still).collect()
    }

    fn place(&self, state: &Path) -> Place {
        let targets = self.subject.containers.iter().map(|running| Target {
            name: running.name.clone(),
            id: running.id.clone(),
            bundle: running.bundle.clone(),
        });
        Place { sandbox: None, containers: targets.collect(), state: state.into() }
    }
}

fn there_and_back(bed: &Bed) {
    let engine = Criu::new(bed.criu.clone());
    let pod = Pod::start(bed, "tcp");
    let to = bed.dir("checkpoint");
    let tcp = [("tcp", "established")];
    let options = Options::parse(tcp, &engine, Phase::Checkpoint).unwrap();

    // All stand still between the moments.
    let still = || {
        pod.still();
        Ok(())
    };
    let noted = Noted::at("saved", &still);
    let control = Control { moments: &noted, ..Control::default() };
    let saved = engine.checkpoint(&pod.subject, &to, &options, &control).unwrap();
    assert_eq!(noted.names(), ["freezing", "frozen", "saved"]);
    let cgroups = noted.cgroups.lock().unwrap().clone();
    assert!(cgroups.len() == 3 && cgroups.iter().all(|cgroup| cgroup.is_dir()), "{cgroups:?}");
    assert!(cgroups[2].ends_with("pod"), "{cgroups:?}");
    pod.counts();
    assert_eq!(names(&to), ["log", "web"]);
    assert!(saved.iter().all(|one| one.arguments == ["--tcp-established"]));

    // A folder that is there already is not touched.
    let error = engine.checkpoint(&pod.subject, &to, &options, &Control::default()).unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
    assert_eq!(names(&to), ["log", "web"]);

    let to = bed.dir("last");
    let control = Control { after: After::Stop, ..Control::default() };
    let saved = engine.checkpoint(&pod.subject, &to, &options, &control).unwrap();
    let counted = pod.still();
    let mut record = describe("test 1", &engine, &pod.subject, &saved, &to).unwrap();
    record.state.advance(State::Complete).unwrap();
    assert_eq!(record.containers[0].tool.version, bed.version);
    let needs = &record.containers[0].needs;
    assert!(["ipc", "net", "uts"].iter().all(|kind| needs.namespaces.contains(&(*kind).into())));
    let programs = record.host.as_ref().unwrap().programs.as_ref().unwrap();
    let [criu] = &programs[..] else { panic!("{programs:?}") };
    assert!(criu.features.contains_key("mem_track") && Path::new(&criu.path).is_file(), "{criu:?}");
    let pages = record.containers[1].files.iter().find(|file| file.path == "log/pages-1.img");
    assert!(pages.is_some_and(|file| file.sha256.is_some()));
    let findings = engine.verify(&record, &Host::here(), &to);
    assert!(!findings.iter().any(criu_archive::record::Finding::is_error), "{findings:?}");
    assert!(engine.inspect(&to.join("web")).unwrap().get("processes").is_some());

    // The record decides what is restored.
    let state = bed.dir("restored");
    let mut place = pod.place(&state);
    let web = place.containers.remove(0);
    let options = Options::parse(tcp, &engine, Phase::Restore).unwrap();
    let restore = |place: &Place, control: &Control<'_>| {
        engine.restore(&to, &record, place, &options, control)
    };
    let error = restore(&place, &Control::default()).unwrap_err().to_string();
    assert_eq!(error, "the containers to restore: found log, wanted log, web");
    place.containers.insert(0, web);
    pod.subject.containers.iter().for_each(|running| bed.runtime.delete(&running.name));

    let refuse = || Err("not yet".into());
    let noted = Noted::at("restored", &refuse);
    let control = Control { moments: &noted, ..Control::default() };
    assert!(matches!(restore(&place, &control), Err(EngineError::Hook(_))));
    assert_eq!(counted, pod.still());

    let started = restore(&place, &Control::default()).unwrap();
    for (bundle, before) in pod.bundles.iter().zip(counted) {
        assert!(bundle.goes_on() > before);
    }
    for one in started {
        kill(one.pid.unwrap());
    }
}

fn refused(bed: &Bed) {
    let engine = Criu::new(bed.criu.clone());
    let pod = Pod::start(bed, "tcp");
    let to = bed.dir("checkpoint");
    fs::write(to.join("other"), "").unwrap();
    let runs_on = |why: &str| {
        pod.counts();
        assert_eq!(names(&to), ["other"], "{why}");
    };
    let checkpoint = |control: &Control<'_>| {
        engine.checkpoint(&pod.subject, &to, &Options::default(), control).unwrap_err()
    };
    // A connection, without an option for it.
    let error = checkpoint(&Control::default());
    assert!(error.to_string().starts_with("container web: "), "{error}");
    runs_on("no option");

    let established = [("tcp", "established")];
    let options = Options::parse(established, &engine, Phase::Checkpoint).unwrap();
    let checkpoint = |control: &Control<'_>| {
        engine.checkpoint(&pod.subject, &to, &options, control).unwrap_err()
    };
    let refuse = || Err("no".into());
    for moment in ["freezing", "frozen", "saved"] {
        let noted = Noted::at(moment, &refuse);
        let error = checkpoint(&Control { moments: &noted, ..Control::default() });
        assert!(matches!(error, EngineError::Hook(_)), "{moment}: {error}");
        runs_on(moment);
    }
    let sleep = || {
        std::thread::sleep(Duration::from_millis(400));
        Ok(())
    };
    let noted = Noted::at("frozen", &sleep);
    let deadline = Some(Instant::now() + Duration::from_millis(300));
    let error = checkpoint(&Control { moments: &noted, deadline, ..Control::default() });
    assert!(matches!(error, EngineError::Deadline), "{error}");
    runs_on("deadline");
    let cancel = criu_rs::Cancel::new().unwrap();
    let act = || {
        cancel.cancel();
        Ok(())
    };
    let noted = Noted::at("frozen", &act);
    let cancel = Some(&cancel);
    let error = checkpoint(&Control { moments: &noted, cancel, ..Control::default() });
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    runs_on("cancelled");

    // A session of exec begins after the first look. CRIU would not save it.
    let mut command = bed.runtime.command("exec");
    command.args(["--detach", "log", "/bin/sleep", "1000"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let command = Mutex::new(command);
    let exec = || {
        assert!(command.lock().unwrap().status().unwrap().success());
        Ok(())
    };
    let begun = Noted::at("freezing", &exec);
    let error = checkpoint(&Control { moments: &begun, ..Control::default() });
    assert_eq!(begun.names(), ["freezing"]);
    let session = of_session(&error);
    runs_on("exec, seen when all stand still");
    let running = Noted::default();
    let error = checkpoint(&Control { moments: &running, ..Control::default() });
    assert_eq!(of_session(&error), session);
    assert!(running.names().is_empty());
    kill(session);
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(session.as_raw()), None);
    engine.checkpoint(&pod.subject, &to, &options, &Control::default()).unwrap();
    assert_eq!(names(&to), ["log", "other", "web"]);
}

/// An instant checkpoint, and what ends one: refusals, a deadline, and a cancellation while the
/// memory is read.
#[cfg(feature = "instant")]
fn instant(bed: &Bed) {
    use criu_rs::instant::{InstantOptions, Way};

    let how = InstantOptions::new().least(1).least_per_mapping(1);
    let engine = Criu::new(bed.criu.clone()).instant(how.verify(true));
    let pod = Pod::start(bed, "count");
    let to = bed.dir("checkpoint");
    let options = Options::parse([("instant", "")], &engine, Phase::Checkpoint).unwrap();
    let left = || {
        pod.counts();
        let pids = pod.subject.containers.iter().map(|running| running.pid);
        assert!(pids.flat_map(criu_lab::process::children).next().is_none(), "a holder is left");
        names(&to)
    };
    let refuse = || Err("no".into());
    for moment in ["frozen", "saved"] {
        let noted = Noted::at(moment, &refuse);
        let control = Control { moments: &noted, ..Control::default() };
        let error = engine.checkpoint(&pod.subject, &to, &options, &control).unwrap_err();
        assert!(matches!(error, EngineError::Hook(_)), "{moment}: {error}");
        assert_eq!(left(), [""; 0], "{moment}");
    }
    // The memory is not read before both run on.
    let cancel = criu_rs::Cancel::new().unwrap();
    let act = || {
        cancel.cancel();
        Ok(())
    };
    let noted = Noted::at("reading", &act);
    let control = Control { moments: &noted, cancel: Some(&cancel), ..Control::default() };
    match engine.checkpoint(&pod.subject, &to, &options, &control) {
        Err(EngineError::Cancelled) => assert_eq!(left(), [""; 0]),
        Ok(saved) => {
            // It was complete by then.
            assert_eq!(left(), ["log", "web"]);
            saved.iter().for_each(|one| fs::remove_dir_all(to.join(&one.folder)).unwrap());
        }
        Err(error) => panic!("{error}"),
    }
    let saved = engine.checkpoint(&pod.subject, &to, &options, &Control::default()).unwrap();
    for one in &saved {
        let instant = one.instant.as_ref().unwrap();
        println!("{}: frozen {:?}, {instant:?}", one.name, one.frozen);
        assert!(instant.tasks.iter().all(|task| matches!(task.way, Way::Held { .. })));
        assert!(instant.read.held > 0 && instant.read.unreaped.is_empty(), "{instant:?}");
        assert!(one.arguments.is_empty() && one.features.is_empty(), "{one:?}");
    }
    assert_eq!(left(), ["log", "web"]);
    let mut record = describe("test 1", &engine, &pod.subject, &saved, &to).unwrap();
    record.state.advance(State::Complete).unwrap();
    for running in &pod.subject.containers {
        bed.runtime.kill(&running.name, "KILL");
        assert!(
            criu_lab::soon(|| bed.runtime.state(&running.name).unwrap()["status"] == "stopped")
        );
        bed.runtime.delete(&running.name);
    }
    let options = Options::parse([("", ""); 0], &engine, Phase::Restore).unwrap();
    let place = pod.place(&bed.dir("restored"));
    let started = engine.restore(&to, &record, &place, &options, &Control::default()).unwrap();
    pod.counts();
    started.into_iter().for_each(|one| kill(one.pid.unwrap()));
}

/// The process of an exec session in the container `log` that an error is about.
#[track_caller]
fn of_session(error: &EngineError) -> Pid {
    match error {
        EngineError::Beside { name, processes } if name == "log" && processes.len() == 1 => {
            let text = format!("container log: the processes {} (", processes[0].0);
            assert!(error.to_string().starts_with(&text), "{error}");
            processes[0].0
        }
        error => panic!("{error}"),
    }
}

fn kill(pid: Pid) {
    let pid = nix::unistd::Pid::from_raw(pid.as_raw());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
