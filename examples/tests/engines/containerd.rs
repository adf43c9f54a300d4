//! Archives that containerd has written, and archives for containerd.

use std::fs;
use std::path::Path;

use criu_lab::engines::{Containerd, Podman, Tool};
use criu_lab::registry::Registry;

use crate::podman::checkpointctl_accepts;
use crate::{Bed, Case, case, done, text};

pub const TESTS: &[Case] = &[
    case("archives_of_containerd_are_read_and_come_back", exports),
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

    // From a path.
    let ours = bed.dir.join("ours.tar");
    done(&["archive", "convert", "--reproducible", text(&archive), text(&ours)]);
    checkpointctl_accepts(bed, &ours);
    let again = pod.run("again", text(&ours), &[]).unwrap();
    pod.counts_beyond(&again, "again", counted);
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
    done(&[&convert[..], &["--image-id", &podman.image_id()]].concat());
    checkpointctl_accepts(bed, &theirs);
    podman.done(&["pull", "--quiet", "--tls-verify=false", &image]);
    podman.import(&theirs, "again", &[]);
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
    podman.done(&["pull", "--quiet", "--tls-verify=false", &reference]);
    podman.done(&["container", "restore", "--name", "again", &reference]);
    podman.goes_on("again");
    podman.holds_its_changes("again");
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
