//! Archives that containerd has written, and archives for containerd.

use criu_lab::engines::{Containerd, Podman, Registry};

use crate::podman::checkpointctl_accepts;
use crate::{Bed, Case, case, done, text};

pub const TESTS: &[Case] = &[case("archives_of_containerd_are_read_and_come_back", exports)];

/// Our program reads an archive of containerd; containerd and podman restore what we make of it.
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

    // By podman.
    podman.done(&["tag", Podman::IMAGE, &image]);
    let theirs = bed.dir.join("podman.tar");
    done(&["archive", "convert", "--to", "podman", text(&archive), text(&theirs)]);
    checkpointctl_accepts(bed, &theirs);
    podman.import(&theirs, "there", &[]);
}
