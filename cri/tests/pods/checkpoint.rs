//! Checkpoints that are refused, or fail: the pod runs on, and the directory is empty.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_cri::Code;
use criu_cri::proto::CheckpointPodRequest;
use criu_lab::process::{descendants, name, send};
use criu_lab::soon;
use criu_rs::{Cancel, Pid};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::pivot_root;

use crate::scene::{ENOUGH, Scene, names};
use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[
    case("wrong_requests_are_refused", refused),
    case("a_container_that_cannot_be_dumped_leaves_the_pod_running", cannot),
];

fn refused(bed: &Bed) {
    let scene = Scene::new(bed);
    let pods = scene.pods();
    let pod = scene.pod("pod", &[("c", &["/payload", "--payload", "count", "/count"])]);
    let to = bed.dir("to");
    let good = pod.request(&to, &[]);
    let cancel = Cancel::new().unwrap();
    let refusal = scene.wait(pods.checkpoint(good.clone(), None, &cancel)).unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.text().contains("deadline"), "{refusal}");

    type Change = fn(&mut CheckpointPodRequest);
    let cases: &[(&str, Code, Change)] = &[
        ("absolute", Code::InvalidArgument, |request| request.output_path = "to".into()),
        ("does not exist", Code::InvalidArgument, |request| request.output_path += "/none"),
        ("not empty", Code::InvalidArgument, |request| request.output_path = "/etc".into()),
        ("is empty", Code::InvalidArgument, |request| request.container_ids.clear()),
        ("twice", Code::InvalidArgument, |request| {
            request.container_ids.push(request.container_ids[0].clone());
        }),
        ("those of the containers that run", Code::InvalidArgument, |request| {
            request.container_ids.push("other".into());
        }),
        ("not found", Code::NotFound, |request| request.pod_sandbox_id = "0123".into()),
        ("pod_sandbox_id", Code::InvalidArgument, |request| {
            request.pod_sandbox_id = "../etc".into();
        }),
        ("unknown option `password`", Code::InvalidArgument, |request| {
            request.options.insert("password".into(), "hunter2".into());
        }),
    ];
    for (wanted, code, change) in cases {
        let mut request = good.clone();
        change(&mut request);
        let refusal = scene.save(&pods, request, ENOUGH).unwrap_err();
        assert!(
            refusal.code() == *code && refusal.text().contains(wanted),
            "{wanted}: {refusal:?}"
        );
        assert!(!refusal.text().contains("hunter2"), "{refusal}");
    }
    // A directory of somebody else's.
    let theirs = bed.dir("theirs");
    chown(&theirs, Some(1000), None).unwrap();
    let refusal = scene.save(&pods, pod.request(&theirs, &[]), ENOUGH).unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    assert!(refusal.text().contains("belongs to user 1000"), "{refusal}");

    // A root that the container has made, whose changes would be files of this machine.
    let host = bed.dir("host");
    fs::write(host.join("secret"), "of the machine").unwrap();
    move_root(scene.process(&pod.containers[0].1), &host);
    let refusal = scene.save(&pods, good, ENOUGH).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    assert!(refusal.text().contains("not the one that the engine has made"), "{refusal}");
    assert!(names(&to).is_empty() && scene.notes().is_empty());
    scene.remove(&pod);
}

fn cannot(bed: &Bed) {
    let scene = Scene::new(bed);
    let pods = scene.pods();
    let pod = scene.talking("pod");
    let to = bed.dir("to");
    let check = |wanted: &str, code: Code, refusal: criu_cri::pod::Refusal| {
        assert!(refusal.code() == code && refusal.text().contains(wanted), "{refusal:?}");
        assert!(names(&to).is_empty(), "{:?}", names(&to));
        assert!(scene.notes().is_empty(), "{:?}", scene.notes());
        scene.goes_on(&pod, 0);
    };

    // The connection is not to be saved.
    let refusal = scene.save(&pods, pod.request(&to, &[]), ENOUGH).unwrap_err();
    check("onnected TCP socket", Code::FailedPrecondition, refusal);

    // CRIU hangs in the middle. The pod goes on at the deadline.
    let request = || pod.request(&to, &[("tcp", "established")]);
    let begun = Instant::now();
    let time = Duration::from_secs(8);
    let refusal = std::thread::scope(|scope| {
        let stopper = scope.spawn(stop_criu);
        let refusal = scene.save(&pods, request(), time).unwrap_err();
        assert!(stopper.join().unwrap(), "no criu was seen");
        refusal
    });
    assert!(begun.elapsed() < time + SLACK, "{:?}", begun.elapsed());
    check("deadline", Code::DeadlineExceeded, refusal);

    // The caller goes away.
    let cancel = Cancel::new().unwrap();
    let refusal = std::thread::scope(|scope| {
        scope.spawn(|| {
            stop_criu();
            cancel.cancel();
        });
        let end = Some(Instant::now() + ENOUGH);
        scene.wait(pods.checkpoint(request(), end, &cancel)).unwrap_err()
    });
    check("cancelled", Code::Cancelled, refusal);

    // The directory stays, and a checkpoint is possible.
    scene.save(&pods, request(), ENOUGH).unwrap();
    assert_eq!(names(&to), ["a.tar", "b.tar", "criu-record.json"]);
    scene.goes_on(&pod, 0);
    scene.remove(&pod);
}

/// Puts a thread into the mounts of a process, and lets the process have another root there: an
/// overlay whose list of options names a directory of this machine.
fn move_root(process: i32, upper: &Path) {
    let mounts = File::open(format!("/proc/{process}/ns/mnt")).unwrap();
    let enter = || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(&mounts, CloneFlags::CLONE_NEWNS).unwrap();
        let place = upper.parent().unwrap();
        fs::create_dir_all(place).unwrap();
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let (work, root) = (place.join("work"), place.join("root"));
        for directory in [upper, &work, &root] {
            fs::create_dir(directory).unwrap();
        }
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&*options)).unwrap();
        fs::create_dir(root.join("old")).unwrap();
        pivot_root(&root, &root.join("old")).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap());
}

/// Stops the first criu that this process starts, once it dumps. Returns false if there is none.
fn stop_criu() -> bool {
    let mut found = None;
    soon(|| {
        let all = descendants(Pid::this());
        found = all.into_iter().find(|&child| name(child) == "criu" && is_tracing(child));
        found.is_some()
    });
    found.is_some_and(|criu| send(criu, Signal::SIGSTOP))
}

/// Says whether a process traces another.
fn is_tracing(process: Pid) -> bool {
    let tracer = format!("TracerPid:\t{process}\n");
    let all = fs::read_dir("/proc").unwrap().flatten();
    let status = |path: &Path| fs::read_to_string(path.join("status")).unwrap_or_default();
    all.into_iter().any(|entry| status(&entry.path()).contains(&tracer))
}

/// Time that a busy machine takes to tell of the end.
const SLACK: Duration = Duration::from_secs(3);
