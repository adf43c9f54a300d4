//! Runs tests in sandboxes, each by itself.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::bed::{self, Bed, Case};
use crate::cgroups::{self, Layout};
use crate::payload;
use crate::sandbox::{self, Sandbox};

/// Runs the tests, or the word that a program of such tests has given itself. `None` for a word
/// that is not known here.
pub fn run(cases: &[Case], words: &[String]) -> Option<ExitCode> {
    let word = words.get(1).map_or("", String::as_str);
    match word {
        "--payload" => payload::run(&words[2..]),
        "--apart" => apart(&words[2..]),
        sandbox::FIRST => return Some(sandbox::first(&words[2], &words[3..])),
        "--one" => one(cases, &words[2..]),
        "--hang" => hang(),
        word if word.starts_with("--own-") => return None,
        _ => return Some(run_all(cases)),
    }
    Some(ExitCode::SUCCESS)
}

fn run_all(cases: &[Case]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait for processes more than they compute.
    arguments.test_threads.get_or_insert(4);
    let mut trials = vec![
        Trial::test("outside_of_a_sandbox_there_is_no_runtime", none_outside),
        Trial::test("what_hangs_in_a_sandbox_ends_with_it", ends_with_it),
    ];
    match bed::crius() {
        Ok(crius) => {
            for case in cases {
                for runtime in case.runtimes {
                    for (version, criu) in crius.iter().rev().take(case.crius()) {
                        let name = format!("{runtime}::{version}::{}", case.name);
                        let words =
                            [case.name.into(), (*runtime).into(), criu.display().to_string()];
                        let layout = bed::layout(runtime);
                        trials.push(Trial::test(name, move || {
                            run_apart("--one", &words, layout, LIMIT)
                        }));
                    }
                }
            }
        }
        Err(why) => trials.push(Trial::test("setup", move || Err(Failed::from(why)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs this program with `word` in a sandbox.
fn run_apart(word: &str, words: &[String], layout: Layout, limit: Duration) -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--apart", &format!("{layout:?}"), &limit.as_millis().to_string(), word])
        .args(words)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}{}", text(&output.stdout), text(&output.stderr)).into())
}

/// The task of the process that waits outside of the sandbox.
fn apart(words: &[String]) {
    let layout = Layout::named(&words[0]);
    let limit = Duration::from_millis(words[1].parse().unwrap());
    if let Err(error) = sandbox::run(&words[2..], layout, limit) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Runs one test in this process, which is in a sandbox.
fn one(cases: &[Case], words: &[String]) {
    let case = cases.iter().find(|case| case.name == words[0]).expect("a test of this name");
    Bed::lay(Sandbox::check().unwrap(), &words[0], &words[1], Path::new(&words[2])).run(case.test);
}

fn none_outside() -> Result<(), Failed> {
    if Sandbox::check().is_ok() {
        return Err("this process passes for one in a sandbox".into());
    }
    // The claim that all namespaces differ is not enough.
    match Sandbox::check_against("pid:[1] mnt:[2] ipc:[3] uts:[4] net:[5] cgroup:[6]") {
        Err(why) if why == "process 1 is not ours" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Hangs, in a session and a cgroup of its own.
fn hang() {
    Sandbox::check().unwrap();
    let cgroup = Path::new("/sys/fs/cgroup/hangs");
    std::fs::create_dir(cgroup).unwrap();
    cgroups::join(cgroup).unwrap();
    let _ = Command::new("setsid").args(["sleep", MARK]).status();
}

fn ends_with_it() -> Result<(), Failed> {
    let limit = Duration::from_millis(500);
    let Err(failed) = run_apart("--hang", &[], Layout::Unified, limit) else {
        return Err("the test ended by itself".into());
    };
    let said = failed.message().unwrap_or_default();
    if !said.contains("not done after") {
        return Err(format!("it said {said}").into());
    }
    let is_left = |process: procfs::process::Process| {
        process.cmdline().is_ok_and(|words| words.iter().any(|word| word == MARK))
    };
    if procfs::process::all_processes()?.flatten().any(is_left) {
        return Err("the process of the test runs on".into());
    }
    Ok(())
}

/// A number of seconds that nothing else sleeps for.
const MARK: &str = "94061";

/// The longest test takes some seconds.
const LIMIT: Duration = Duration::from_secs(90);
