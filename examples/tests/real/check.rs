//! `check`.

use criu_rs::Criu;

use crate::lab::{Lab, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("check_tells_what_would_fail", tells),
    ("check_as_json", as_json),
    ("check_asks_about_one_feature", feature),
    ("check_without_privileges", without_privileges),
];

fn tells(lab: &Lab) {
    let ran = lab.done(&["check"]);
    let (version, path) = (lab.version.to_string(), lab.criu.display().to_string());
    for said in [&version, &path, "capabilities", "would fail here", "Looks good."] {
        assert!(ran.out.contains(said), "no {said}: {ran:?}");
    }
    let tracks = Criu::at(&lab.criu).features().unwrap().mem_track == Some(true);
    assert_eq!(ran.out.contains("pre-dump, --track-mem\n"), !tracks, "{ran:?}");
    // What criu thinks of more than the basics; its word is the exit status.
    let all = lab.run(&["check", "--all"]);
    assert!(all.out.contains("criu check --extra:"), "{all:?}");
    assert!(all.out.contains("criu check --experimental:"), "{all:?}");
}

fn as_json(lab: &Lab) {
    let said = lab.done(&["check", "--json"]).json();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["criu"]["version"], lab.version.to_string());
    assert_eq!(said["criu"]["path"], lab.criu.display().to_string());
    let features = Criu::at(&lab.criu).features().unwrap();
    assert_eq!(said["features"]["mem_track"].as_bool(), features.mem_track);
    assert_eq!(said["features"]["lazy_pages"].as_bool(), features.lazy_pages);
    assert_eq!(said["capabilities"]["CAP_SYS_ADMIN"], true);
    for problem in said["would_fail"].as_array().unwrap() {
        for part in ["what", "why", "hint"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
    }
}

fn feature(lab: &Lab) {
    let tracks = Criu::at(&lab.criu).features().unwrap().mem_track == Some(true);
    let ran = lab.run(&["check", "--feature", "mem_dirty_track"]);
    assert_eq!(ran.code, Some(i32::from(!tracks)), "{ran:?}");
    let ran = lab.done(&["check", "--feature", "uffd", "--feature", "userns"]);
    assert_eq!(ran.out, "uffd: yes\nuserns: yes\n");
    let unknown = lab.run(&["check", "--feature", "frob", "--json"]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(unknown.json()["features"]["frob"]["yes"], false);
}

fn without_privileges(lab: &Lab) {
    let program = &link(lab, "check");
    let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", program];
    let ran = run(lab.program("setpriv", &drop).current_dir("/"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for said in ["  everything\n", "do: run it as root", "Does not look good"] {
        assert!(ran.out.contains(said), "no {said}: {ran:?}");
    }
}
