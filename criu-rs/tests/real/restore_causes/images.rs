//! Images that are missing, damaged, or not what a restore needs.

use std::fs;
use std::os::unix::fs::symlink;

use criu_rs::{Cause, Restore};

use super::{Away, cause, fails, only, saved};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("restore_of_damaged_images_says_crit_check", damaged),
    ("restore_without_an_image_says_crit_check", missing),
    ("restore_without_the_parent_says_so", parent),
];

fn damaged(lab: &Lab) {
    let saved = saved(lab, lab.start(&["count"]), |dump| dump);
    let restore = Restore::new(&saved.images);
    let cut = ["core-", "files.img", "pagemap-", "ids-", "inventory.img", "pages-"];
    for beginning in cut {
        let away = Away::take(only(&saved.images, beginning));
        // Half of a pagemap may be a whole number of entries.
        let length = away.bytes.len();
        let left = if beginning == "pagemap-" { length - 1 } else { length / 2 };
        fs::write(&away.path, &away.bytes[..left]).unwrap();
        let error = restore.run(&lab.criu).unwrap_err();
        assert_eq!(error.cause(), Some(Cause::ImagesDamaged), "{beginning}: {error}");
        assert!(error.to_string().contains("crit check"), "{error}");
    }
    let seen = [("core-", "core-"), ("files.img", "files.img")];
    for (beginning, seen) in seen {
        let away = Away::take(only(&saved.images, beginning));
        fs::write(&away.path, [0x5a; 64]).unwrap();
        fails(&lab.criu, &restore, &cause(Cause::ImagesDamaged, seen, "run crit check"));
    }
}

fn missing(lab: &Lab) {
    let saved = saved(lab, lab.start(&["count"]), |dump| dump);
    let restore = Restore::new(&saved.images);
    let seen = [("core-", ""), ("ids-", ""), ("pages-", "pages-")];
    for (beginning, seen) in seen {
        let _away = Away::take(only(&saved.images, beginning));
        fails(&lab.criu, &restore, &cause(Cause::ImagesDamaged, seen, "run crit check"));
    }
    {
        let _away = Away::take(only(&saved.images, "mm-"));
        let died = cause(Cause::DiedInRestore, "process", "run crit check");
        fails(&lab.criu, &restore, &died);
    }
    let _away = Away::take(saved.images.join("inventory.img"));
    fails(&lab.criu, &restore, &cause(Cause::NotCheckpoint, "", "check the path"));
}

fn parent(lab: &Lab) {
    let saved = saved(lab, lab.start(&["count"]), |dump| dump);
    symlink("../no-such-parent", saved.images.join("parent")).unwrap();
    let advice = "put the parent's directory to where the link `parent`";
    let restore = Restore::new(&saved.images);
    fails(&lab.criu, &restore, &cause(Cause::ParentMissing, "parent", advice));
}
