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

/// The failed part of one program's output: all of it if the program did not come to its result.
fn failed(section: &[&str]) -> Option<String> {
    let first = *section.first()?;
    // A program that cargo did not start has no line with its name.
    let name = program(&plain(first)).map(|_| first);
    let result = section.iter().position(|line| plain(line).starts_with(RESULT));
    let Some(result) = result else {
        let has_end = section.iter().any(|line| plain(line).starts_with("error: "));
        return (name.is_some() && has_end).then(|| section.join("\n"));
    };
    if plain(section[result]).starts_with(PASSED) {
        return None;
    }
    let list = section.iter().position(|line| plain(line).trim_end() == "failures:");
    let shown = section.get(list.unwrap_or(0).min(result)..=result)?;
    Some(name.into_iter().chain(shown.iter().copied()).collect::<Vec<_>>().join("\n"))
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
    fn an_output_without_tests_is_shown_whole() {
        let output = "    Checking x\nerror: unused\n  --> src/lib.rs:1:1\n";
        assert_eq!(failures(output), output.trim_end());
    }
}
