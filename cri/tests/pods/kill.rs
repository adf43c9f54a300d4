//! A program that is killed in the middle of a checkpoint.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use criu_cri::client::Client;
use criu_cri::proto::CheckpointPodRequest;
use criu_lab::process::{children, name};
use criu_lab::soon;
use criu_rs::{Cancel, Criu, Pid};
use prost::Message;
use tokio::runtime::Runtime;

use crate::scene::{ENOUGH, Scene, names, pods};
use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[case("a_kill_while_the_pod_is_frozen_is_recovered", killed)];

fn killed(bed: &Bed) {
    let scene = Scene::new(bed);
    let pod = scene.talking("pod");
    let to = bed.dir("to");
    let request = pod.request(&to, &[("tcp", "established")]);
    fs::write(bed.dir.join("request"), request.encode_to_vec()).unwrap();
    type Moment<'m> = (&'m str, &'m dyn Fn(&Child) -> bool);
    let moments: &[Moment<'_>] = &[
        ("all stand still", &|_| is_frozen("pod")),
        ("criu dumps", &|child| children(Pid::from(child)).into_iter().any(|c| name(c) == "criu")),
        ("an image is there", &|_| to.join(".criu-cri/a/core-1.img").exists()),
        ("the changes are there", &|_| to.join(".criu-cri/a.diff").exists()),
        ("an archive is made", &|_| to.join(".criu-cri/.done/a.tar").exists()),
    ];
    let mut frozen = 0;
    for (moment, has_come) in moments {
        kill_at(moment, *has_come, || start(bed, &scene, &to), &to);
        let was_frozen = is_frozen("pod");
        frozen += usize::from(was_frozen);
        // No file has its name before all are finished.
        assert_eq!(names(&to), [".criu-cri"], "{moment}");

        let pods = scene.pods();
        let recovered = pods.recover();
        assert_eq!(recovered.len(), 1, "{moment}: {recovered:?}");
        assert!(recovered[0].problem.is_none() && recovered[0].of == pod.id, "{recovered:?}");
        assert!(recovered[0].thawed || !was_frozen, "{moment}: {recovered:?}");
        if *moment == "an archive is made" {
            assert!(!recovered[0].thawed, "{recovered:?}");
        }
        assert_eq!(names(&to), [""; 0], "{moment}");
        assert!(scene.notes().is_empty(), "{moment}: {:?}", scene.notes());
        assert!(!is_frozen("pod"), "{moment}");
        scene.goes_on(&pod, 0);
        assert!(pods.recover().is_empty());
    }
    assert!(frozen > 0, "no kill has left the pod frozen");

    // Notes of nobody's are reported, and change nothing.
    let state = scene.state();
    let theirs = bed.dir("theirs");
    fs::write(theirs.join("criu-record.json"), "").unwrap();
    fs::write(state.join("checkpoint-x.json"), "{").unwrap();
    let hostile = format!(
        r#"{{"version": 1, "sandbox": "y", "cgroups": ["/etc"], "output":
            {{"path": "{}", "device": 0, "inode": 0, "names": ["criu-record.json"]}}}}"#,
        theirs.display()
    );
    fs::write(state.join("checkpoint-y.json"), hostile).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", state.join("checkpoint-z.json")).unwrap();
    let pods = scene.pods();
    let recovered = pods.recover();
    assert_eq!(recovered.len(), 3, "{recovered:?}");
    assert!(recovered.iter().all(|one| one.problem.is_some()), "{recovered:?}");
    assert_eq!(names(&theirs), ["criu-record.json"]);
    scene.remove(&pod);
}

/// Kills a process that makes a checkpoint at a moment. A checkpoint that is over before is removed
/// and made again: some moments last milliseconds.
fn kill_at(moment: &str, has_come: &dyn Fn(&Child) -> bool, start: impl Fn() -> Child, to: &Path) {
    for _ in 0..20 {
        let mut child = start();
        let come = soon(|| has_come(&child) || child.try_wait().unwrap().is_some());
        assert!(come, "{moment}");
        child.kill().unwrap();
        let end = child.wait().unwrap();
        // A process that was killed after its last file is as good as over.
        if !end.success() && to.join(".criu-cri").exists() {
            return;
        }
        assert!(end.success() || end.signal() == Some(9), "{moment}: {end}");
        names(to).iter().for_each(|name| fs::remove_file(to.join(name)).unwrap());
    }
    panic!("{moment}: all checkpoints were too quick");
}

/// Starts a process that makes a checkpoint.
fn start(bed: &Bed, scene: &Scene<'_>, to: &Path) -> Child {
    assert!(names(to).is_empty());
    let criu = bed.runtime.criu();
    let mut command = Command::new("/proc/self/exe");
    command.arg("--own-saver").arg(scene.engine.socket()).arg(criu).arg(scene.state());
    command.arg(bed.dir.join("request")).stdin(Stdio::null()).spawn().unwrap()
}

/// Makes a checkpoint: `SOCKET CRIU STATE REQUEST`.
pub fn saver(words: &[&str]) -> ExitCode {
    let request = CheckpointPodRequest::decode(&*fs::read(words[3]).unwrap()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let client = Client::connect(words[0]).await.unwrap();
        let pods = pods(&client, &Criu::at(words[1]), PathBuf::from(words[2]));
        let end = Some(std::time::Instant::now() + ENOUGH);
        pods.checkpoint(request, end, &Cancel::new().unwrap()).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// Says whether a pod's cgroup, or one of those below, is frozen.
fn is_frozen(pod: &str) -> bool {
    let mut places = Vec::new();
    for above in ["freezer", "unified", "."] {
        let place = Path::new("/sys/fs/cgroup").join(above).join("kubepods").join(pod);
        places.extend(fs::read_dir(&place).into_iter().flatten().flatten().map(|e| e.path()));
        places.push(place);
    }
    let is = |path: &PathBuf, file: &str, line: &str| {
        fs::read_to_string(path.join(file)).is_ok_and(|text| text.lines().any(|one| one == line))
    };
    places.iter().any(|at| is(at, "freezer.state", "FROZEN") || is(at, "cgroup.events", "frozen 1"))
}
