//! `check`.

use criu_rs::Criu;

use crate::lab::{Lab, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("check_tells_what_would_fail", tells),
    ("check_as_json", as_json),
    ("check_of_a_feature_prints_what_criu_prints", feature),
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

/// The output and the status are those of criu.
fn feature(lab: &Lab) {
    let tracks = Criu::at(&lab.criu).features().unwrap().mem_track == Some(true);
    for question in [
        &["--feature", "mem_dirty_track"][..],
        &["--feature", "uffd", "--feature", "userns"],
        &["--feature=frob"],
        &["--feature", "list"],
        &["--no-default-config", "-verbosity=0", "--feature", "uffd"],
        &["--no-default-config", "-verbosity=0", "--feature", "mem_dirty_track", "--exit-codes"],
    ] {
        let words = [&["check"][..], question].concat();
        let ours = lab.run(&words);
        let theirs: Vec<&str> = words.into_iter().filter(|word| *word != "--exit-codes").collect();
        let theirs = run(lab.program(&lab.criu, &theirs));
        assert_eq!((ours.code, &ours.out, &ours.err), (theirs.code, &theirs.out, &theirs.err));
        let asks_tracking = question.contains(&"mem_dirty_track");
        assert!(!asks_tracking || ours.code == Some(i32::from(!tracks)), "{ours:?}");
    }
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
