//! The words of `cargo xtask`, and help that teaches them.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::misunderstood::Misunderstood;
use crate::test::Extent;
use crate::{
    Result, asan, attack, bindings, ci, demo, evidence, features, fuzz, instant, lazy, msrv,
    session, setup, suite, test, torture, vm,
};

/// A word of the command line.
struct Word {
    name: &'static str,
    about: &'static str,
    /// The flags, each with a description. A name in capitals stands for a word without a dash.
    flags: &'static [(&'static str, &'static str)],
    run: fn(&Flags) -> Result<()>,
}

/// Every word, in the order in which a new user meets them.
const WORDS: &[Word] = &[
    Word {
        name: "setup",
        about: "find a CRIU that works on this machine, or install one in the target directory",
        flags: &[
            ("--tests", "also install what the tests need: CRIUs, runtimes, engines, programs"),
            ("--force", "install again, even if it is installed"),
        ],
        run: |flags| setup::run(flags.has("--tests"), flags.has("--force")),
    },
    Word {
        name: "demo",
        about: "checkpoint a process tree, look at it, and bring it back; needs root",
        flags: &[("--keep", "keep the images, to look at them")],
        run: |flags| demo::run(flags.has("--keep")),
    },
    Word {
        name: "test",
        about: "run format, lints, documentation, tests, packages, fuzzing, vm and oldest Rust",
        flags: &[
            ("--quick", "format, lints and tests alone"),
            ("STEP", "only the steps of these names"),
        ],
        run: |flags| {
            let extent = if flags.has("--quick") { Extent::Quick } else { Extent::Full };
            test::run(extent, &flags.operands())
        },
    },
    Word {
        name: "suite",
        about: "run CRIU's own tests with criu and with our program in its place; needs root",
        flags: &[
            ("CRIU", "a checkout of CRIU's sources"),
            ("FLAVOR", "h, ns, uns (these three by default), page-server, remote-lazy-pages, ..."),
            ("TEST", "only this test: zdtm/static/env00"),
        ],
        run: |flags| suite::run(&flags.operands()),
    },
    Word {
        name: "vm",
        about: "run tests that need another kernel, in emulated machines",
        flags: &[
            ("--apparmor", "only with AppArmor, and where changed memory is tracked"),
            ("--selinux", "only with SELinux"),
            ("--old", "only with CRIU 3.17, on a kernel of its time"),
            ("--scarce", "with cgroups of version 2 and swap: instant dumps near their limits"),
            ("--libselinux", "only with SELinux and a CRIU built for it, at target/criu/selinux"),
        ],
        run: |flags| vm::run(|guest| flags.has(&format!("--{guest}"))),
    },
    Word {
        name: "torture",
        about: "kill, stop and starve operations, and look at what they leave; needs root",
        flags: &[
            ("ROUNDS", "number of rounds, 1000 by default"),
            ("SEED", "start of the random numbers, 1 by default"),
            ("--bare", "kill criu alone, with and without this crate around it"),
        ],
        run: |flags| torture::run(&flags.operands(), flags.has("--bare")),
    },
    Word {
        name: "attack",
        about: "measure dumps into a page server that is under attack; needs root",
        flags: &[
            ("CONNECTIONS", "number of hostile connections, 1000 by default"),
            ("DUMPS", "number of dumps at once, 16 by default"),
            ("MEBIBYTES", "memory of each dumped process, 64 by default"),
        ],
        run: |flags| attack::run(&flags.operands()),
    },
    Word {
        name: "lazy",
        about: "measure lazy restores beside CRIU's, or kill who takes part; needs root",
        flags: &[
            ("MEBIBYTES", "memory of the restored process, 1024 by default"),
            ("ROUNDS", "number of rounds, 5 by default"),
            ("TABLE", "only bare, images, server, dump, busy, early, service, copies or many"),
            ("--faults", "kill daemons, servers, restores and tasks: [ROUNDS] [SEED]"),
        ],
        run: |flags| lazy::run(&flags.operands(), flags.has("--faults")),
    },
    Word {
        name: "instant",
        about: "capture processes at full speed and restore them, or kill who takes part; needs root",
        flags: &[
            (
                "NUMBER",
                "number of dumps, 300 by default, or of rounds, 500 by default, with each CRIU",
            ),
            ("SEED", "start of the random numbers, 1 by default"),
            ("--faults", "kill criu, us, holders and tasks, and let memory and processes run out"),
        ],
        run: |flags| instant::run(&flags.operands(), flags.has("--faults")),
    },
    Word {
        name: "fuzz",
        about: "give the parsers hostile input: each target for a minute, then a table",
        flags: &[
            ("TARGET", "only this target"),
            ("TIME", "time for each target, as 90s or 10m"),
            ("--ci", "a few seconds each, from the seeds alone, whose coverage must not fall"),
            ("--update", "the same, and keep the coverage for the next comparison"),
            ("--keep", "make seeds of small inputs that were found"),
            ("--defects", "take checks out of a copy, and measure how soon a target notices"),
            ("--asan", "with AddressSanitizer, which nightly Rust has"),
        ],
        run: |flags| {
            let has = |flag| flags.has(flag);
            fuzz::run(&fuzz::Wanted {
                ci: has("--ci"),
                update: has("--update"),
                keep: has("--keep"),
                defects: has("--defects"),
                asan: has("--asan"),
                ..fuzz::wanted(&flags.operands())?
            })
        },
    },
    Word {
        name: "asan",
        about: "run tests with AddressSanitizer; needs nightly Rust",
        flags: &[],
        run: |_| asan::run(),
    },
    Word {
        name: "msrv",
        about: "check the workspace with the oldest Rust it promises to build with",
        flags: &[],
        run: |_| msrv::run(),
    },
    Word {
        name: "sizes",
        about: "print how large a runtime is with each set of criu-rs's features",
        flags: &[],
        run: |_| features::sizes(),
    },
    Word {
        name: "codegen",
        about: "turn the .proto files into Rust, and print the files that changed",
        flags: &[],
        run: |_| codegen(),
    },
    Word {
        name: "rooms",
        about: "print the rooms of each crate, their floors and knots, and the broken rules",
        flags: &[("DIR", "another checkout of this workspace")],
        run: |flags| rooms(&flags.operands()),
    },
    Word {
        name: "bindings",
        about: "turn libcriu's header into Rust, with the documentation in criu-sys/prose.txt",
        flags: &[],
        run: |_| bindings::run(),
    },
    Word {
        name: "ci",
        about: "run all of test with nothing left out, and the demo; for a release",
        flags: &[],
        run: |_| ci::run(),
    },
];

/// The flags that were given.
struct Flags(Vec<String>);

impl Flags {
    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|given| given == flag)
    }

    /// The words that are not flags.
    fn operands(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect()
    }
}

/// Runs `cargo xtask ARGS`. The exit status is 0 for success, 1 for a failure, and 2 for a wrong
/// command line.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let result = match args.split_first() {
        Some((word, command)) if word == session::WORD => session::main(command),
        Some((word, words)) if word == evidence::WORD => evidence::main(words),
        _ => words(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        if error.is::<Misunderstood>() { ExitCode::from(MISUNDERSTOOD) } else { ExitCode::FAILURE }
    })
}

/// The exit status for a wrong command line.
const MISUNDERSTOOD: u8 = 2;

fn words(args: Vec<OsString>) -> Result<ExitCode> {
    let args: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let is_help = |arg: &String| matches!(arg.as_str(), "--help" | "-h" | "help");
    let (name, flags) = match args.split_first() {
        Some(words) if !args.iter().any(is_help) => words,
        _ => {
            print!("{}", help());
            return Ok(ExitCode::SUCCESS);
        }
    };
    let Some(word) = WORDS.iter().find(|word| word.name == name) else {
        return Ok(misunderstood(&format!("unknown word `{name}`")));
    };
    let known = |flag: &String| {
        let stands = |known: &str| !known.starts_with('-') && !flag.starts_with('-');
        word.flags.iter().any(|(known, _)| known == flag || stands(known))
    };
    if let Some(flag) = flags.iter().find(|flag| !known(flag)) {
        return Ok(misunderstood(&format!("`{name}` does not take `{flag}`")));
    }
    (word.run)(&Flags(flags.to_vec()))?;
    Ok(ExitCode::SUCCESS)
}

fn misunderstood(what: &str) -> ExitCode {
    eprintln!("xtask: {what}\n\n{}", help());
    ExitCode::from(MISUNDERSTOOD)
}

fn help() -> String {
    let mut help = String::from("Usage: cargo xtask WORD [FLAGS]\n\n");
    for word in WORDS {
        help += &format!("  {:10} {}\n", word.name, word.about);
        for (flag, about) in word.flags {
            help += &format!("  {:10}   {flag:12} {about}\n", "");
        }
    }
    help + NOTES
}

const NOTES: &str = "
Start with `cargo xtask demo`. Run `cargo xtask test` before a commit.
The system is not changed, except that `setup --tests` and `test` install missing programs as root.
All else goes to the target directory (CARGO_TARGET_DIR): CRIU to criu/SUITE, the output of each
step to xtask/STEP.log. `cargo clean` removes it.
";

#[cfg(feature = "codegen")]
fn codegen() -> Result<()> {
    for file in crate::codegen::run()? {
        println!("wrote {file}");
    }
    Ok(())
}

#[cfg(not(feature = "codegen"))]
fn codegen() -> Result<()> {
    hand_over("codegen", &[])
}

#[cfg(feature = "architecture")]
fn rooms(operands: &[&str]) -> Result<()> {
    let root = operands.first().map_or(crate::workspace::root(), |dir| std::path::Path::new(dir));
    crate::architecture::run(root)
}

#[cfg(not(feature = "architecture"))]
fn rooms(operands: &[&str]) -> Result<()> {
    let absolute = |dir: &&str| Ok(std::path::absolute(dir)?.to_string_lossy().into_owned());
    let operands = operands.iter().map(absolute).collect::<Result<Vec<_>>>()?;
    hand_over("rooms", &operands)
}

/// Runs the word with an xtask that has all features.
#[cfg(not(all(feature = "architecture", feature = "codegen")))]
fn hand_over(word: &str, operands: &[String]) -> Result<()> {
    let mut cargo = crate::workspace::cargo(&["run", "--quiet", "--package", "xtask", "--", word]);
    if !cargo.args(operands).status()?.success() {
        return Err(format!("{word} failed, see above").into());
    }
    Ok(())
}
