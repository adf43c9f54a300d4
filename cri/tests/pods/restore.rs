//! Pods that come back in new sandboxes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criu_archive::UNWATCHED;
use criu_archive::metadata::names::SPEC_DUMP;
use criu_archive::record::{File, Holder, Host, RECORD, Record, Role};
use criu_cri::Code;
use criu_cri::pod::{Pods, Refusal, Restored};
use criu_cri::proto::{ContainerConfig, ContainerState, Device, Kept, RestorePodRequest};
use criu_lab::soon;
use criu_rs::Cancel;
use serde_json::Value;

use crate::scene::{ENOUGH, Pod, Scene, TALKERS, names};
use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[
    case("a_pod_whose_containers_talk_comes_back", comes_back),
    case("options_that_reach_no_runtime_are_refused", plain),
];

fn comes_back(bed: &Bed) {
    let mut scene = Scene::new(bed);
    let pods = scene.pods();
    let pod = scene.talking("pod");
    let to = bed.dir("to");
    let options = [
        ("tcp", "established"),
        #[cfg(feature = "instant")]
        ("instant", "true"),
    ];
    scene.save(&pods, pod.request(&to, &options), ENOUGH).unwrap();
    let counted = scene.goes_on(&pod, 0);
    assert_eq!(names(&to), ["a.tar", "b.tar", "criu-record.json"]);
    assert!(scene.notes().is_empty());

    let holder = Holder::open(&to).unwrap();
    let record = Record::read(&holder).unwrap();
    let findings = record.verify(&Host::here(), &holder, UNWATCHED).unwrap();
    assert!(!findings.iter().any(criu_archive::record::Finding::is_error), "{findings:?}");
    assert_eq!(record.order, ["a", "b"]);
    assert!(record.shared_namespaces.iter().any(|kind| kind == "net"), "{record:?}");
    assert!(record.shared_namespaces.iter().any(|kind| kind == "ipc"), "{record:?}");
    let tool = &record.containers[0].tool;
    assert_eq!((tool.kind.to_string(), &*tool.version), ("criu".into(), &*bed.version));
    assert_eq!(tool.arguments, ["--tcp-established"]);
    let needs = &record.containers[0].needs;
    assert!(needs.namespaces.iter().any(|kind| kind == "net"), "{needs:?}");
    assert!(!needs.namespaces.iter().any(|kind| kind == "mnt"), "{needs:?}");
    assert!(needs.mounts.iter().any(|mount| mount.path == "/etc/hosts"), "{needs:?}");
    assert_eq!(record.gpus, None);
    scene.remove(&pod);

    // The record and the archives outlive both.
    drop(pods);
    scene.engine.restart();
    let pods = scene.pods();
    assert!(pods.recover().is_empty());

    let config = scene.pod_config("again");
    let mut request = RestorePodRequest {
        checkpoint_path: to.to_str().unwrap().into(),
        config: Some(config.clone()),
        container_configs: TALKERS.iter().map(|(name, words)| scene.config(name, words)).collect(),
        ..RestorePodRequest::default()
    };
    refusals(&scene, &pods, &request);
    let restored = restore(&scene, &pods, request.clone()).unwrap();
    // containerd has what it needs.
    let aside = bed.dir.join("aside");
    fs::rename(&to, &aside).unwrap();
    let pod = restored_pod(&restored, config.clone());
    for (name, id) in &pod.containers {
        let status = scene.wait(scene.client.container(id, false)).unwrap().status.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerCreated, "{name}");
    }
    let [(_, a), (_, b)] = &pod.containers[..] else { panic!("{:?}", pod.containers) };
    let network = network(&scene, &pod.id);
    start(&scene, &pods, a);
    assert!(is_shut(&network));

    // A proxy that is started again knows of the pod, and holds its network.
    drop(pods);
    let pods = scene.pods();
    assert!(pods.recover().is_empty());
    assert!(pods.is_starting() && is_shut(&network));
    // Engines take the beginning of an id for the id.
    start(&scene, &pods, &b[..16]);
    assert!(!is_shut(&network) && !pods.is_starting());
    assert!(scene.notes().is_empty(), "{:?}", scene.notes());
    scene.goes_on(&pod, counted);
    scene.remove(&pod);

    fs::rename(&aside, &to).unwrap();
    drop(pods);
    for_a_time(&scene, &request);

    // The connections are not wanted, and one container is not started.
    let pods = scene.pods();
    request.options.insert("tcp".into(), "close".into());
    let config = scene.pod_config("closed");
    request.config = Some(config.clone());
    let restored = restore(&scene, &pods, request).unwrap();
    let pod = restored_pod(&restored, config);
    start(&scene, &pods, &pod.containers[0].1);
    assert!(scene.wait(pods.tidy()).is_empty() && pods.is_starting());
    // Somebody else removes the pod, without a word to the proxy.
    scene.remove(&pod);
    assert_eq!(scene.wait(pods.tidy()).len(), 1);
    assert!(!pods.is_starting() && scene.notes().is_empty());
}

/// A network is shut for a time only, whatever becomes of the proxy and of the containers. The
/// notes of this proxy are in another directory than those of the one that has saved the pod.
fn for_a_time(scene: &Scene<'_>, request: &RestorePodRequest) {
    let state = scene.bed.dir("other-state");
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    let time = Duration::from_secs(2);
    let proxy = || scene.pods_with(&state, time);
    let notes = || names(&state).into_iter().filter(|name| name != "lock").collect::<Vec<_>>();
    let pods = proxy();
    let mut restored = Vec::new();
    for name in ["first", "second"] {
        let config = scene.pod_config(name);
        let request = RestorePodRequest { config: Some(config.clone()), ..request.clone() };
        restored.push(restored_pod(&restore(scene, &pods, request).unwrap(), config));
    }
    let [first, second] = &restored[..] else { panic!("two pods") };

    // The proxy lives on.
    let own = network(scene, &first.id);
    start(scene, &pods, &first.containers[0].1);
    assert!(is_shut(&own) && !is_shut(&network(scene, &second.id)));
    assert!(soon(|| !is_shut(&own)));
    // The other container is removed, and what was made for the pod goes.
    let (_, never) = &first.containers[1];
    scene.wait(scene.client.remove_container(never)).unwrap();
    pods.started(never);
    assert_eq!(notes(), [format!("restore-{}.json", second.id)]);
    scene.remove(first);

    // The proxy is killed. The other pod of the same checkpoint has the options that it needs.
    let own = network(scene, &second.id);
    start(scene, &pods, &second.containers[0].1);
    drop(pods);
    std::thread::sleep(time + Duration::from_secs(1));
    assert!(is_shut(&own));
    let pods = proxy();
    assert!(pods.recover().is_empty());
    assert!(soon(|| !is_shut(&own)));
    pods.ended(&second.id);
    assert!(notes().is_empty() && !pods.is_starting());
    scene.remove(second);
}

/// Requests that make nothing.
fn refusals(scene: &Scene<'_>, pods: &Pods, good: &RestorePodRequest) {
    let sandboxes = || scene.wait(scene.client.sandboxes(None)).unwrap().len();
    let before = sandboxes();
    type Change<'c> = &'c dyn Fn(&mut RestorePodRequest);
    let other = scene.config("a", &["/payload", "other"]);
    let cases: &[(&str, Code, Change<'_>)] = &[
        ("cannot be read", Code::InvalidArgument, &|request| {
            request.checkpoint_path = "/nonexistent-checkpoint".into();
        }),
        ("wanted an absolute path", Code::InvalidArgument, &|request| {
            request.checkpoint_path = "../to".into();
        }),
        ("config is missing", Code::InvalidArgument, &|request| request.config = None),
        ("found a, wanted a, b", Code::InvalidArgument, &|request| {
            request.container_configs.pop();
        }),
        ("command", Code::InvalidArgument, &|request| {
            request.container_configs[0] = other.clone();
        }),
        ("unknown option", Code::InvalidArgument, &|request| {
            request.options.insert("any".into(), String::new());
        }),
        ("none of the engine's", Code::InvalidArgument, &|request| {
            request.runtime_handler = "kata".into();
        }),
        // The engine refuses the second container.
        ("container b", Code::Unknown, &|request| {
            let device = Device {
                host_path: "/dev/nonexistent-device".into(),
                container_path: "/dev/none".into(),
                permissions: "r".into(),
            };
            let strange = ContainerConfig { devices: vec![device], ..ContainerConfig::default() };
            request.container_configs[1].overlay(&strange);
        }),
    ];
    for (wanted, code, change) in cases {
        let mut request = good.clone();
        change(&mut request);
        let refusal = restore(scene, pods, request).unwrap_err();
        assert!(refusal.text().contains(wanted), "{wanted}: {refusal:?}");
        assert_eq!(refusal.code(), *code, "{refusal}");
        assert_eq!(sandboxes(), before, "{wanted}");
    }
    // Bytes that are not those of the checkpoint.
    let path = format!("{}/b.tar", good.checkpoint_path);
    let bytes = fs::read(&path).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&path, damaged).unwrap();
    let refusal = restore(scene, pods, good.clone()).unwrap_err();
    assert_eq!(refusal.code(), Code::DataLoss, "{refusal}");
    assert!(refusal.text().contains("b.tar"), "{refusal}");
    fs::write(&path, bytes).unwrap();
    // Processes with another label than the new specification asks for.
    relabelled(Path::new(&good.checkpoint_path), || {
        let refusal = restore(scene, pods, good.clone()).unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
        let wanted = "container a: the engine cannot restore another label: \
                      process.apparmorProfile was shop and is now none";
        assert!(refusal.text().contains(wanted), "{refusal}");
    });
    assert_eq!(sandboxes(), before);
    assert!(scene.notes().is_empty(), "{:?}", scene.notes());
}

/// Calls `then` while the specification of the first container names another profile of AppArmor.
fn relabelled(to: &Path, then: impl FnOnce()) {
    let saved: Vec<(PathBuf, Vec<u8>)> =
        ["a.tar", RECORD].map(|name| (to.join(name), fs::read(to.join(name)).unwrap())).into();
    let tar = |words: &[&str]| {
        let ran = Command::new("tar").current_dir(to).args(words).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
    };
    // `tar --delete` cuts off some archives.
    let members = String::from_utf8(tar(&["-tf", "a.tar"])).unwrap();
    fs::create_dir(to.join("members")).unwrap();
    tar(&["-xf", "a.tar", "-C", "members"]);
    let place = to.join("members").join(SPEC_DUMP);
    let mut spec: Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    spec["process"]["apparmorProfile"] = "shop".into();
    fs::write(place, spec.to_string()).unwrap();
    let words = ["-cf", "a.tar", "-C", "members", "--no-recursion"];
    tar(&words.into_iter().chain(members.lines()).collect::<Vec<_>>());
    fs::remove_dir_all(to.join("members")).unwrap();
    let mut record = Record::open(to).unwrap();
    let holder = Holder::open(to).unwrap();
    record.containers[0].files[0] =
        File::measured(&holder, "a.tar", Role::Archive, UNWATCHED).unwrap();
    record.write(to).unwrap();
    then();
    for (path, bytes) in saved {
        fs::write(path, bytes).unwrap();
    }
}

/// A runtime to which no annotation names CRIU's options needs them in its own file.
fn plain(bed: &Bed) {
    let scene = Scene::new(bed);
    let pods = scene.pods();
    let pod = scene.talking("pod");
    let to = bed.dir("to");
    scene.save(&pods, pod.request(&to, &[("tcp", "established")]), ENOUGH).unwrap();
    let counted = scene.goes_on(&pod, 0);
    scene.remove(&pod);
    let config = scene.pod_config("again");
    let request = RestorePodRequest {
        checkpoint_path: to.to_str().unwrap().into(),
        config: Some(config.clone()),
        runtime_handler: "plain".into(),
        container_configs: TALKERS.iter().map(|(name, words)| scene.config(name, words)).collect(),
        ..RestorePodRequest::default()
    };
    fs::create_dir_all("/etc/criu").unwrap();
    // In the mounts of this test alone.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "criu", "/etc/criu"]).status();
    assert!(mounted.unwrap().success());
    let refusal = restore(&scene, &pods, request.clone()).unwrap_err();
    for wanted in ["tcp-established", "/etc/criu/runc.conf", "container_annotations"] {
        assert!(refusal.text().contains(wanted), "{refusal}");
    }
    fs::write("/etc/criu/runc.conf", "tcp-established\n").unwrap();
    let restored = restore(&scene, &pods, request).unwrap();
    let pod = restored_pod(&restored, config);
    for (_, id) in &pod.containers {
        start(&scene, &pods, id);
    }
    scene.goes_on(&pod, counted);
    scene.remove(&pod);
}

fn restore(
    scene: &Scene<'_>,
    pods: &Pods,
    request: RestorePodRequest,
) -> Result<Restored, Refusal> {
    let cancel = Cancel::new().unwrap();
    scene.wait(pods.restore(request, Some(Instant::now() + ENOUGH), &cancel))
}

fn restored_pod(restored: &Restored, config: Kept<criu_cri::proto::PodSandboxConfig>) -> Pod {
    let all = restored.response.restored_containers.iter();
    let containers = all.map(|one| (one.name.clone(), one.container_id.clone())).collect();
    Pod::restored(&restored.response.pod_sandbox_id, config, containers)
}

/// Starts a container as a proxy does.
#[track_caller]
fn start(scene: &Scene<'_>, pods: &Pods, id: &str) {
    let id = scene.wait(pods.container(id));
    pods.starting(&id).unwrap();
    let started = scene.wait(scene.client.start_container(&id));
    pods.started(&id);
    started.unwrap();
}

/// The path of a sandbox's network.
fn network(scene: &Scene<'_>, sandbox: &str) -> String {
    let answer = scene.wait(scene.client.sandbox(sandbox, true)).unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    format!("/proc/{}/ns/net", info["pid"])
}

/// Says whether there is a rule that shuts a network.
fn is_shut(network: &str) -> bool {
    let mut nft = Command::new("nsenter");
    let said = nft.arg(format!("--net={network}")).args(["nft", "list", "tables"]).output();
    String::from_utf8(said.unwrap().stdout).unwrap().contains("table inet criu_cri_shut")
}
