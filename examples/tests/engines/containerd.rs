//! Archives that containerd has written, and archives for containerd.

use std::fs;
use std::path::Path;
use std::process::Command;

use criu_archive::UNWATCHED;
use criu_archive::record::{self, Container, Holder, Host, Image, Record, Role, State, ToolKind};
use criu_lab::engines::{Containerd, PodNetwork, Podman, Tool, finish};
use criu_lab::registry::Registry;

use crate::podman::checkpointctl_accepts;
use crate::{Bed, Case, case, done, program, text};

pub const TESTS: &[Case] = &[
    case("archives_of_containerd_are_read_and_come_back", exports),
    case("a_pod_in_its_own_network_comes_back", own_network),
    case("an_archive_of_podman_is_restored_by_containerd", of_podman),
    case("an_archive_made_of_images_is_restored_by_containerd", created),
    case("an_image_of_a_checkpoint_is_restored_by_podman", pushed_for_podman),
];

/// Our program reads an archive of containerd, and containerd restores what we make of it.
fn exports(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    engine.pull(&image).unwrap();
    let pod = engine.pod("pod");
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let archive = bed.dir.join("c.tar");
    engine.checkpoint(&id, &archive).unwrap();
    pod.remove(&id).unwrap();

    let shown = done(&["inspect", text(&archive)]);
    for wanted in ["/bin/sh -c", "nc -l -p 7007"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }

    recorded(bed, &archive, &id, &image);

    // From a path.
    let ours = bed.dir.join("ours.tar");
    done(&["archive", "convert", "--reproducible", text(&archive), text(&ours)]);
    checkpointctl_accepts(bed, &ours);
    let again = pod.run("again", text(&ours), &[]).unwrap();
    pod.counts_beyond(&again, "again", counted);
    holds_its_changes(&engine, &again);
    pod.remove(&again).unwrap();

    // From a registry, where others copy it as well.
    let reference = registry.name("checkpoint:1");
    done(&["push", text(&ours), &reference]);
    engine.pull(&reference).unwrap();
    let pulled = pod.run("pulled", &reference, &[]).unwrap();
    pod.counts_beyond(&pulled, "pulled", counted);
    pod.remove(&pulled).unwrap();
    copied_by_others(bed, &registry, &ours);

    // For podman, whose identifier of the image the archive does not tell.
    let theirs = bed.dir.join("podman.tar");
    let convert = ["archive", "convert", "--to", "podman", text(&archive), text(&theirs)];
    assert!(done(&convert).contains("missing: config.dump: rootfsImageID"));
    fs::remove_file(&theirs).unwrap();
    let said = done(&[&convert[..], &["--image-id", &podman.image_id()]].concat());
    // The pod is in the network of the machine, and so is the container that podman restores.
    let wanted = "namespaces that were the machine's are so again: uts, network";
    assert!(said.contains(wanted), "{said}");
    checkpointctl_accepts(bed, &theirs);
    podman.pull(&image);
    assert!(podman.import(&theirs, "again", &[]) > counted);
    let mode = podman.done(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", "again"]);
    assert_eq!(mode.trim(), "host");
    podman.has_its_root("again");
}

/// A record is made of containerd's archive. The program shows and verifies both.
fn recorded(bed: &Bed, archive: &Path, id: &str, image: &str) {
    let folder = bed.dir("recorded");
    let copy = folder.join("c.tar");
    fs::copy(archive, &copy).unwrap();
    let mut record = Record::new("test 1");
    record.host = Some(Host::here());
    let tool = record::Tool::new(ToolKind::Criu, &*bed.version);
    let mut container = Container::new("c", id, tool);
    container.image = Image::new(image, "");
    let holder = Holder::open(&folder).unwrap();
    let file = record::File::measured(&holder, "c.tar", Role::Archive, UNWATCHED).unwrap();
    container.files.push(file);
    record.containers.push(container);
    record.order.push("c".into());
    record.state = State::Complete;
    record.write(&folder).unwrap();

    let criu = format!("criu={}", text(bed.runtime.criu()));
    let verify = ["pod", "verify", text(&folder), "--tool", &criu];
    done(&verify);
    let shown = done(&["pod", "inspect", text(&folder)]);
    for wanted in ["c.tar", image, &bed.version] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, bytes).unwrap();
    let refused = program(&verify).failed();
    assert!(refused.contains("c.tar: has the digest"), "{refused}");
    fs::remove_dir_all(folder).unwrap();
}

/// A pod's own network is the new pod's in containerd, and an empty one in podman.
fn own_network(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    engine.pull(&image).unwrap();
    let pod = engine.pod_in("pod", PodNetwork::Own);
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let archive = bed.dir.join("c.tar");
    engine.checkpoint(&id, &archive).unwrap();
    pod.remove(&id).unwrap();

    let ours = bed.dir.join("ours.tar");
    done(&["archive", "convert", text(&archive), text(&ours)]);
    let again = pod.run("again", text(&ours), &[]).unwrap();
    pod.counts_beyond(&again, "again", counted);
    pod.remove(&again).unwrap();

    let theirs = bed.dir.join("podman.tar");
    let convert = ["archive", "convert", "--to", "podman", text(&archive), text(&theirs)];
    let said = done(&[&convert[..], &["--image-id", &podman.image_id()]].concat());
    assert!(said.contains("lost: spec.dump: the pod's network: the container is in an"), "{said}");
    podman.pull(&image);
    assert!(podman.import(&theirs, "again", &[]) > counted);
    podman.has_its_root("again");
    let own = podman.done(&["exec", "again", "/bin/cat", "/proc/net/dev"]);
    assert!(own.contains("lo:") && !own.contains("eth"), "{own}");
}

/// containerd restores what we make of an archive of podman.
fn of_podman(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    podman.pull(&image);
    podman.run_image(&image, "c", &["--volume", "kept:/data"]);
    let archive = bed.dir.join("c.tar");
    podman.export("c", &archive, &[]);

    let ours = bed.dir.join("ours.tar");
    let convert = ["archive", "convert", "--to", "containerd", text(&archive), text(&ours)];
    let said = done(&convert);
    for wanted in [
        "ignored: volumes/kept.tar: containerd does not read it",
        "the new container has a mount at /data",
        "the new container has a mount at /run/.containerenv",
        "the new container has masked paths",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    fs::remove_file(&ours).unwrap();
    let strict = program(&[&convert[..], &["--strict"]].concat()).failed();
    assert!(strict.contains("volumes/kept.tar") && !ours.exists(), "{strict}");
    done(&convert);
    checkpointctl_accepts(bed, &ours);

    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    let pod = engine.pod("pod");
    let marker = bed.dir.join("containerenv");
    fs::write(&marker, "").unwrap();
    let data = bed.dir("data");
    let mounts = [(&*marker, "/run/.containerenv"), (&*data, "/data")];
    let id = pod.run("again", text(&ours), &mounts).unwrap();
    pod.counts_beyond(&id, "again", 3);
    holds_its_changes(&engine, &id);
}

/// runc checkpoints a container of containerd, and the archive is made of what a person has then.
fn created(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    engine.pull(&image).unwrap();
    let pod = engine.pod("pod");
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let images = bed.dir("images");
    let bundle = engine.bundle(&id);
    let kept = bed.dir("bundle");
    fs::copy(bundle.join("config.json"), kept.join("config.json")).unwrap();
    // What changed has to be as the images have it: CRIU compares sizes of files.
    finish(&mut engine.runtime(&["pause", &id])).done();
    let words = ["checkpoint", "--leave-running", "--image-path", text(&images), &id];
    finish(&mut engine.runtime(&words)).done();
    let diff = bed.dir.join("diff.tar");
    let mut tar = Command::new("tar");
    tar.args(["-C", text(&bundle.join("rootfs")), "-cf", text(&diff), "count", "etc/passwd"]);
    finish(&mut tar).done();
    finish(&mut engine.runtime(&["resume", &id])).done();
    pod.remove(&id).unwrap();

    let archive = bed.dir.join("made.tar");
    let words = ["archive", "create", text(&images), text(&archive), "--engine", "containerd"];
    let more = ["--name", "made", "--image", &image, "--bundle", text(&kept)];
    done(&[&words[..], &more, &["--rootfs-diff", text(&diff)]].concat());
    checkpointctl_accepts(bed, &archive);
    let again = pod.run("again", text(&archive), &[]).unwrap();
    pod.counts_beyond(&again, "again", counted);
}

/// Checks the root file system of a container that runs.
fn holds_its_changes(engine: &Containerd, id: &str) {
    let root = engine.bundle(id).join("rootfs");
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.ends_with("changed\n"), "{passwd}");
    assert!(!root.join("etc/passwd.old").exists());
}

/// Podman restores from a registry an image that we have pushed.
fn pushed_for_podman(bed: &Bed) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    podman.run("c", &["--volume", "kept:/data"]);
    let archive = bed.dir.join("c.tar");
    podman.export("c", &archive, &[]);
    let reference = registry.name("checkpoint:1");
    done(&["push", text(&archive), &reference]);
    podman.pull(&reference);
    podman.done(&["container", "restore", "--name", "again", &reference]);
    podman.goes_on("again");
    podman.has_its_root("again");
    copied_by_others(bed, &registry, &archive);
}

/// skopeo and oras copy the image `checkpoint:1`, and the archive comes back with the same bytes.
fn copied_by_others(bed: &Bed, registry: &Registry, archive: &Path) {
    let home = bed.dir.join("home");
    let name = |tag: &str| registry.name(&format!("checkpoint:{tag}"));
    let (ours, copied) =
        (format!("docker://{}", name("1")), format!("docker://{}", name("skopeo")));
    let mut skopeo = Tool::new("skopeo", &home);
    let loose = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo.run(&[&["copy", "--all"], &loose[..], &[&ours, &copied]].concat()).done();
    let mut oras = Tool::new("oras", &home);
    let loose = ["--from-plain-http", "--to-plain-http"];
    oras.run(&[&["copy"], &loose[..], &[&name("1"), &name("oras")]].concat()).done();
    for tag in ["1", "skopeo", "oras"] {
        let back = bed.dir.join(format!("back-{tag}.tar"));
        done(&["pull", &name(tag), text(&back)]);
        assert!(fs::read(&back).unwrap() == fs::read(archive).unwrap(), "{tag}");
    }
}
