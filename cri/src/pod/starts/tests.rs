//! Tests with a real network. They need root.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::{Child, Command};

use criu_lab::place::Short;
use criu_lab::soon;

use super::*;

/// A restored pod of two containers that wait for their start.
struct Scene {
    folder: Short,
    starts: Option<Starts>,
    /// The process that holds the pod's network, which this thread has, too.
    holder: Child,
}

impl Scene {
    fn lay() -> Self {
        criu_lab::own_network();
        let folder = Short::folder();
        let holder = Command::new("sleep").arg("600").spawn().unwrap();
        let starts = Some(starts(&folder));
        let scene = Self { folder, starts, holder };
        let new = NewPod {
            sandbox: "pod1".into(),
            containers: vec!["ab1".into(), "ac2".into()],
            network: Pid::new(scene.holder.id().try_into().unwrap()),
            options: None,
            bundles: "/bundles".into(),
        };
        scene.starts().add(new).unwrap();
        assert!(!is_shut());
        scene
    }

    fn starts(&self) -> &Starts {
        self.starts.as_ref().unwrap()
    }

    /// Puts another file into the place of the pod's network. Returns the one before.
    fn replace(&self, network: File) -> File {
        let mut pods = self.starts().held.lock();
        pods.get_mut("pod1").unwrap().network.replace(network).unwrap()
    }

    fn note(&self) -> Option<Note> {
        self.starts().held.state.read("restore-pod1.json").ok()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

#[test]
fn a_network_that_was_not_shut_is_shut_by_the_next_start() {
    let scene = Scene::lay();
    let network = scene.replace(no_network());
    let refusal = scene.starts().starting("ab1").unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    assert_eq!(scene.note().unwrap().until, None);
    scene.replace(network);
    let bundle = scene.starts().starting("ab1").unwrap();
    assert_eq!(bundle, Some("/bundles/ab1".into()));
    assert!(is_shut() && scene.note().unwrap().until.is_some());
    scene.starts().started("ab1", false);
    assert!(is_shut());
    scene.starts().started("ac2", false);
    assert!(!is_shut() && scene.note().is_none());
}

#[test]
fn a_network_that_was_not_opened_is_opened_later() {
    let scene = Scene::lay();
    scene.starts().starting("ab1").unwrap();
    let network = scene.replace(no_network());
    scene.starts().ended("pod1");
    assert!(is_shut() && scene.note().is_some() && scene.starts().sandboxes() == ["pod1"]);
    scene.replace(network);
    assert!(soon(|| scene.starts().held.count.load(Ordering::SeqCst) == 0));
    assert!(!is_shut() && scene.note().is_none());
}

#[test]
fn the_beginning_of_an_id_is_enough_if_no_other_begins_so() {
    let scene = Scene::lay();
    for word in ["", "a", "b", "ab12"] {
        assert_eq!(scene.starts().starting(word).unwrap(), None, "{word:?}");
        scene.starts().started(word, false);
        scene.starts().ended(word);
    }
    assert!(!is_shut());
    let bundle = scene.starts().starting("ab").unwrap();
    assert_eq!(bundle, Some("/bundles/ab1".into()));
    assert!(is_shut());
    // The engine may have refused it because another container begins so.
    scene.starts().started("ab", true);
    assert_eq!(scene.note().unwrap().waiting, ["ab1", "ac2"]);
    scene.starts().started("ab", false);
    assert_eq!(scene.note().unwrap().waiting, ["ac2"]);
    scene.starts().ended("po");
    assert!(!is_shut() && scene.note().is_none());
}

#[test]
fn a_program_that_leaves_opens_the_network_and_the_next_one_shuts_it() {
    let mut scene = Scene::lay();
    scene.starts().starting("ab1").unwrap();
    let left = scene.starts().leave();
    assert!(matches!(&left[..], [(sandbox, None)] if sandbox == "pod1"), "{left:?}");
    assert!(!is_shut() && scene.note().is_some());
    assert!(scene.starts().leave().is_empty());
    scene.starts = None;
    scene.starts = Some(starts(&scene.folder));
    assert!(scene.starts().recover().is_empty());
    assert!(is_shut());
    scene.starts().ended("pod1");
    assert!(!is_shut());
}

fn starts(folder: &Short) -> Starts {
    let state = StateDir::open(folder.join("state")).unwrap();
    let options = StateDir::shared(folder.join("options")).unwrap();
    Starts::new(Arc::new(state), Arc::new(options), Duration::from_secs(60)).unwrap()
}

/// A file by which no network can be shut or opened.
fn no_network() -> File {
    File::open("/dev/null").unwrap()
}

/// Says whether the network of this thread is shut.
fn is_shut() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    match socket.send_to(b"any", socket.local_addr().unwrap()) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            true
        }
    }
}
