//! Archives that podman has written, and archives for podman.

use criu_lab::engines::Podman;

use crate::{Bed, Case, case};

pub const TESTS: &[Case] = &[case("podman_exports", exports)];

fn exports(bed: &Bed) {
    let criu = bed.criu.program().unwrap().unwrap();
    let podman = Podman::new(bed, &criu);
    podman.run("c", &["--volume", "kept:/data", "--env", "SECRET=hunter2"]);
    let archive = bed.dir.join("c.tar");
    podman.export("c", &archive, &[]);
    let first = podman.import(&archive, "again", &[]);
    assert!(first > 0);
}
