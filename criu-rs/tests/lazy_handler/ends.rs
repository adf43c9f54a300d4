//! Tasks that end or run another program.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use criu_lab::process;

use crate::PAGES;
use crate::stage::{Stage, without_fill};
use crate::task::Task;

pub fn ends() {
    for has_pidfd in [true, false] {
        let mut stage = Stage::new(without_fill(1));
        stage.has_pidfd = has_pidfd;
        stage.start("doomed", PAGES);
        stage.start("exec", PAGES);
        stage.restoration.complete();
        let waited = stage.restoration.wait(Some(Duration::from_millis(50)));
        assert!(!waited.unwrap(), "the tasks run");
        process::kill_tree(i32::try_from(stage.tasks[0].0.id()).unwrap());
        stage.tasks[1].1.write_all(b"x").unwrap();
        assert!(stage.restoration.wait(Some(Duration::from_secs(5))).unwrap());
        // The pages that the two have not touched.
        let progress = stage.restoration.progress();
        assert_eq!((progress.unused, progress.missing), (2 * PAGES as u64 - 11, 0), "{progress:?}");
        assert!(stage.tasks[1].0.try_wait().unwrap().is_none(), "the other program runs");
        stage.end();
    }
}

pub fn exec(task: &Task) {
    task.check(3);
    task.hear();
    let error = Command::new("sleep").arg("100").exec();
    panic!("{error}");
}
