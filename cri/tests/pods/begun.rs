//! Restores that do not come to their end.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use criu_cri::Code;
use criu_cri::client::Client;
use criu_cri::proto::RestorePodRequest;
use criu_lab::soon;
use criu_rs::{Cancel, Criu};
use prost::Message;
use tokio::runtime::Runtime;

use crate::scene::{ENOUGH, Scene, TALKERS, names, pods};
use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[case("a_restore_that_is_not_finished_leaves_nothing", unfinished)];

fn unfinished(bed: &Bed) {
    let scene = Scene::new(bed);
    let pods = scene.pods();
    // It runs on, whatever becomes of others.
    let pod = scene.talking("pod");
    let to = bed.dir("to");
    scene.save(&pods, pod.request(&to, &[("tcp", "established")]), ENOUGH).unwrap();
    let config = scene.pod_config("again");
    let request = RestorePodRequest {
        checkpoint_path: to.to_str().unwrap().into(),
        config: Some(config),
        container_configs: TALKERS.iter().map(|(name, words)| scene.config(name, words)).collect(),
        ..RestorePodRequest::default()
    };
    let sandboxes = || scene.wait(scene.client.sandboxes(None)).unwrap().len();
    let containers = || scene.wait(scene.client.containers(None)).unwrap().len();
    let gone = || sandboxes() == 1 && containers() == 2 && scene.notes().is_empty();
    assert!(gone());

    // The time is too short, or the caller gives up.
    let again = |time: Duration, gives_up: bool| {
        let cancel = Cancel::new().unwrap();
        let (other, state) = (cancel.clone(), scene.state());
        let caller = thread::spawn(move || {
            let has_begun = || names(&state).iter().any(|name| name.starts_with("making-"));
            if gives_up && soon(has_begun) {
                other.cancel();
            }
        });
        let end = Some(Instant::now() + time);
        let restored = scene.wait(pods.restore(request.clone(), end, &cancel));
        caller.join().unwrap();
        restored.unwrap_err()
    };
    let late = again(Duration::from_millis(100), false);
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    let settled = |lines: &mut Vec<String>| {
        soon(|| {
            lines.extend(scene.wait(pods.tidy()));
            gone()
        })
    };
    assert!(settled(&mut Vec::new()), "{:?}", scene.notes());
    let cancelled = again(ENOUGH, true);
    assert_eq!(cancelled.code(), Code::Cancelled, "{cancelled}");
    assert!(settled(&mut Vec::new()), "{:?}", scene.notes());
    drop(pods);

    // The program is killed.
    fs::write(bed.dir.join("request"), request.encode_to_vec()).unwrap();
    type Moment<'m> = (&'m str, &'m dyn Fn() -> bool);
    let moments: &[Moment<'_>] = &[
        ("the sandbox is there", &|| sandboxes() == 2),
        ("a container is there", &|| containers() > 2),
    ];
    for (moment, has_come) in moments {
        let mut child = start(bed, &scene);
        let come = soon(|| has_come() || child.try_wait().unwrap().is_some());
        assert!(come, "{moment}");
        assert!(child.try_wait().unwrap().is_none(), "{moment}: the restore was too quick");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sandboxes(), 2, "{moment}");

        let pods = scene.pods();
        assert!(pods.recover().is_empty(), "{moment}");
        let lines = scene.wait(pods.tidy());
        assert!(matches!(&lines[..], [line] if line.contains("not finished")), "{lines:?}");
        assert!(gone(), "{moment}: {:?}", scene.notes());
        // The directory is there for the first file.
        let options = fs::read_dir("/run/criu-cri-proxy/options");
        assert_eq!(options.map_or(0, Iterator::count), 0, "{moment}");
        assert!(scene.wait(pods.tidy()).is_empty());
    }
    scene.goes_on(&pod, 0);

    // Notes of nobody's are reported, and change nothing.
    let other = format!(
        r#"{{"version": 1, "mark": "other", "until": 0, "sandbox": "{}", "options": null}}"#,
        pod.id
    );
    fs::write(scene.state().join("making-mine.json"), other).unwrap();
    let pods = scene.pods();
    let recovered = pods.recover();
    assert!(matches!(&recovered[..], [one] if one.problem.is_some()), "{recovered:?}");
    assert!(scene.wait(pods.tidy()).is_empty());
    scene.goes_on(&pod, 0);
    scene.remove(&pod);
}

/// Starts a process that restores a pod.
fn start(bed: &Bed, scene: &Scene<'_>) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg(crate::RESTORER).arg(scene.engine.socket()).arg(bed.runtime.criu());
    command.arg(scene.state()).arg(bed.dir.join("request"));
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Restores a pod: `SOCKET CRIU STATE REQUEST`.
pub fn restorer(words: &[&str]) -> ExitCode {
    let request = RestorePodRequest::decode(&*fs::read(words[3]).unwrap()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let client = Client::connect(words[0]).await.unwrap();
        let pods = pods(&client, &Criu::at(words[1]), PathBuf::from(words[2]));
        let end = Some(Instant::now() + ENOUGH);
        pods.restore(request, end, &Cancel::new().unwrap()).await.unwrap();
    });
    ExitCode::SUCCESS
}
