//! The part of an output that says what failed.

use super::watch::{plain, program};

/// Returns the failed test programs of an output, each from its list of failures on. The whole
/// output if no test program failed.
pub(super) fn failures(output: &str) -> String {
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in output.lines() {
        if program(&plain(line)).is_some() || sections.is_empty() {
            sections.push(Vec::new());
        }
        sections.last_mut().into_iter().for_each(|section| section.push(line));
    }
    let failed: Vec<String> = sections.iter().filter_map(|section| failed(section)).collect();
    if failed.is_empty() { output.trim_end().to_owned() } else { failed.join("\n\n") }
}

/// The failed parts of one program's output: a guest runs its tests in several parts, each with a
/// result. A part that did not come to its result is shown whole.
fn failed(section: &[&str]) -> Option<String> {
    let first = *section.first()?;
    // A program that cargo did not start has no line with its name.
    let name = program(&plain(first)).map(|_| first);
    let body = &section[usize::from(name.is_some())..];
    let has_result = body.iter().any(|line| is_result(line));
    let mut shown: Vec<&str> = Vec::new();
    for part in body.split_inclusive(|line| is_result(line)) {
        let last = part.last().filter(|line| is_result(line));
        if last.is_some_and(|line| !plain(line).starts_with(PASSED)) {
            let list = part.iter().position(|line| plain(line).trim_end() == "failures:");
            shown.extend(part.iter().skip(list.unwrap_or(0)));
        } else if last.is_none() {
            let has_error = part.iter().any(|line| plain(line).starts_with("error: "));
            let did_begin = part.iter().any(|line| is_begin(&plain(line)));
            if did_begin || (name.is_some() && !has_result && has_error) {
                shown.extend(part);
            }
        }
    }
    let is_failed = !shown.is_empty();
    is_failed.then(|| name.into_iter().chain(shown).collect::<Vec<_>>().join("\n"))
}

fn is_result(line: &str) -> bool {
    plain(line).starts_with(RESULT)
}

/// Tells if the line is the first of a run of tests: `running 3 tests`.
fn is_begin(line: &str) -> bool {
    let count = line.trim_end().strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
    count.is_some_and(|(count, rest)| count.parse::<u32>().is_ok() && matches!(rest, "" | "s"))
}

/// The start of a program's last line.
const RESULT: &str = "test result: ";

/// The last line of a program without failures begins like this.
const PASSED: &str = "test result: ok";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_programs_are_shown_from_their_list_of_failures() {
        let output = "   Compiling x\n     Running tests/a.rs (target/a)\ntest one ... ok\n\
                      test result: ok. 1 passed; 0 failed\n\
                      \n     Running tests/b.rs (target/b)\ntest two ... FAILED\ntest three ... ok\n\
                      failures:\n\n---- two stdout ----\nit broke\n\nfailures:\n    two\n\n\
                      test result: FAILED. 1 passed; 1 failed\n\
                      error: test failed, to rerun pass `--test b`\n\
                      \x20    Running tests/c.rs (target/c)\ntest four ... \n\
                      error: test failed, to rerun pass `--test c`\n\nCaused by:\n  SIGSEGV\n";
        let shown = failures(output);
        assert!(shown.starts_with("     Running tests/b.rs (target/b)\nfailures:\n"), "{shown}");
        assert!(shown.contains("it broke") && shown.contains("SIGSEGV"), "{shown}");
        assert!(!shown.contains("test one") && !shown.contains("test two"), "{shown}");
    }

    #[test]
    fn a_program_without_cargo_is_shown_from_its_list_of_failures() {
        let output = "    Finished `test` profile\n\nrunning 2 tests\ntest a ... ok\n\
                      test b ... FAILED\n\nfailures:\n\n---- b ----\nit broke\n\n\
                      test result: FAILED. 1 passed; 1 failed\n";
        assert!(failures(output).starts_with("failures:\n\n---- b ----\nit broke"));
    }

    #[test]
    fn each_failed_part_of_a_guest_is_shown() {
        let output = "guest one\nrunning 1 test\ntest a ... ok\ntest result: ok. 1 passed; 0 failed\n\
                      running 1 test\ntest b ... FAILED\n\nfailures:\nit broke\n\
                      test result: FAILED. 0 passed; 1 failed\n\
                      running 2 tests\ntest c ... FAILED\n\nfailures:\nit burst\n\
                      test result: FAILED. 1 passed; 1 failed\nguest one: 9.0 s\n\
                      guest two\nrunning 1 test\ntest d ... ok\ntest result: ok. 1 passed; 0 failed\n\
                      running 1 test\nKernel panic\nguest two: 3.0 s\n\
                      guest three\nno disk\nerror: the guest three ended before its tests\n\
                      guest four\nrunning 1 test\ntest result: ok. 1 passed; 0 failed\nerror: old\n";
        let wanted = "guest one\nfailures:\nit broke\ntest result: FAILED. 0 passed; 1 failed\n\
                      failures:\nit burst\ntest result: FAILED. 1 passed; 1 failed\n\n\
                      guest two\nrunning 1 test\nKernel panic\nguest two: 3.0 s\n\n\
                      guest three\nno disk\nerror: the guest three ended before its tests";
        assert_eq!(failures(output), wanted);
    }

    #[test]
    fn an_output_without_tests_is_shown_whole() {
        let output = "    Checking x\nerror: unused\n  --> src/lib.rs:1:1\n";
        assert_eq!(failures(output), output.trim_end());
    }
}
