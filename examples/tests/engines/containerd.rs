//! Archives that containerd has written, and archives for containerd.

use criu_lab::engines::{Containerd, Podman, Registry};

use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[case("containerd_exports", exports)];

fn exports(bed: &Bed) {
    let criu = bed.criu.program().unwrap().unwrap();
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed, &criu);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &criu, &image);
    engine.pull(&image).unwrap();
    let pod = engine.pod("pod");
    let id = pod.run("c", &image, &[]).unwrap();
    let counted = pod.counts_beyond(&id, "c", 3);
    let archive = bed.dir.join("c.tar");
    engine.checkpoint(&id, &archive).unwrap();
    pod.remove(&id).unwrap();
    let again = pod.run("again", archive.to_str().unwrap(), &[]).unwrap();
    pod.counts_beyond(&again, "again", counted);
}
