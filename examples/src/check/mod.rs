//! `check`: tells what CRIU can do on this machine, and what would fail.

mod capabilities;
mod machine;
mod problems;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

use clap::Args;
use criu_rs::labels::{LabelSupport, SecurityModule};
use criu_rs::{Build, Check, Criu, Features};
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::options::{Apply, Common, Reach};
use crate::output::Output;
use crate::program::{self, Given};
use crate::settings;
use crate::word::hand_over;
use capabilities::Capability;
use machine::Machine;
use problems::Problem;

/// Options of `check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Program {
    /// Ask criu about this feature only (`criu --help` lists them)
    #[arg(long, value_name = "NAME", help_heading = MAIN)]
    feature: Vec<String>,
    /// Have criu test what only some processes need as well
    #[arg(long, help_heading = MAIN)]
    extra: Option<bool>,
    /// Have criu test what its developers try out as well
    #[arg(long, help_heading = MAIN)]
    experimental: Option<bool>,
    /// Have criu do both of these tests
    #[arg(long, help_heading = MAIN)]
    all: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reach: Reach,
}

const MAIN: &str = "Main options";

impl program::Program for Program {
    const WORD: &'static str = "check";
    const ABOUT: &'static str = "Tells what CRIU can do on this machine, and what would fail.";
    const MORE: &'static str = "\
The exit status is 0 only if the kernel has what CRIU needs at least, and whatever else was asked
for. With --feature the output is that of criu.

Examples:
  criu-rs check
  criu-rs check --feature mem_dirty_track    whether the kernel tracks changed memory
  criu-rs check --all                        with criu's own tests of everything it may want
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        if !self.feature.is_empty() && self.reach.only_here().is_none() {
            // Scripts read what criu says about a feature.
            settings::refuse_pipe(&given.all)?;
            let args = [&["check".into()], given.for_criu.as_slice()].concat();
            return Err(hand_over(self.reach.criu_path(), &args));
        }
        self.common.prepare()?;
        let criu = self.reach.criu()?;
        let program = criu.program()?.unwrap_or_default();
        let good = if self.feature.is_empty() {
            self.look(output, &criu, program)?
        } else {
            self.ask_features(output, &program)?
        };
        Ok(if good { Exit::Done } else { Exit::Failed }.into())
    }
}

impl Program {
    /// Looks at everything, and reports it.
    fn look(&self, output: &Output, criu: &Criu, program: PathBuf) -> Result<bool, Fault> {
        let mut config = Config::default();
        let check = self.reach.apply(Check::new(), &mut config)?;
        let mut check = self.common.apply(check, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            check = check.config_file(config.path());
        }
        let (answers, machine) = Answers::of(criu, &check, Machine::look);
        let answers = answers?;
        // An unprivileged criu cannot be asked.
        let is_unsaved =
            |module| criu.label_support(module).is_ok_and(|yes| yes == LabelSupport::No);
        let active = machine.lsms.iter().filter_map(|name| match name.as_str() {
            "SELinux" => Some(SecurityModule::Selinux),
            "AppArmor" => Some(SecurityModule::Apparmor),
            _ => None,
        });
        let unsaved_labels = active.filter(|module| is_unsaved(*module)).collect();
        let mut found = Found {
            build: answers.build,
            features: answers.features,
            basics: answers.basics,
            capabilities: Capability::all(),
            machine,
            unsaved_labels,
            more: Vec::new(),
            program,
        };
        if let Err(fault) = &found.basics {
            if fault.exit() != Exit::Failed {
                return Err(found.basics.err().unwrap_or(Fault::NoCriu));
            }
        }
        for (option, asked) in [
            ("--extra", self.all || self.extra == Some(true)),
            ("--experimental", self.all || self.experimental == Some(true)),
        ] {
            if asked {
                let answer = Answer::of(&found.program, &[option])?;
                found.more.push((option, answer));
            }
        }
        found.tell(output);
        Ok(found.basics.is_ok() && found.more.iter().all(|(_, answer)| answer.is_yes))
    }

    /// Asks criu about some features, as `criu check --feature` does.
    fn ask_features(&self, output: &Output, program: &PathBuf) -> Result<bool, Fault> {
        let mut all = true;
        let mut answers = serde_json::Map::new();
        for name in &self.feature {
            let answer = Answer::of(program, &["--feature", name])?;
            all &= answer.is_yes;
            output.print(&answer.text);
            answers.insert(name.clone(), json!({ "yes": answer.is_yes, "said": answer.text }));
        }
        output.object(if all { "done" } else { "failed" }, json!({ "features": answers }));
        Ok(all)
    }
}

/// The answers of criu to what is always asked.
struct Answers {
    build: Build,
    features: Features,
    basics: Result<(), Fault>,
}

impl Answers {
    /// Asks, and calls `meanwhile`. A criu tries out the kernel for the features and again for the
    /// test, which takes longest. So two of them work side by side.
    fn of<T>(
        criu: &Criu,
        check: &Check<'_>,
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<Self, Fault>, T) {
        let basics = || {
            let mut kept = criu.keep_open()?;
            let build = kept.build()?;
            Ok::<_, criu_rs::Error>((build, kept.check(check).map_err(Fault::from)))
        };
        thread::scope(|scope| {
            let basics = scope.spawn(basics);
            let features = scope.spawn(|| criu.features());
            let value = meanwhile();
            // An unprivileged criu cannot find out, and then they are unknown.
            let features = features.join().ok().and_then(Result::ok).unwrap_or_default();
            let answers = match basics.join() {
                Ok(Ok((build, basics))) => Ok(Self { build, features, basics }),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Fault::Failed("a question to criu has panicked".into())),
            };
            (answers, value)
        })
    }
}

/// The line with which criu ends if only further tests failed.
const LACKS_MORE: &str = "\nLooks good but some kernel features are missing\n\
which, depending on your process tree, may cause\ndump or restore failure.";

/// The answer of `criu check` to a question.
struct Answer {
    is_yes: bool,
    text: String,
}

impl Answer {
    fn of(program: &PathBuf, question: &[&str]) -> Result<Self, Fault> {
        let result = Command::new(program).arg("check").args(question).output();
        let result = result.map_err(|source| {
            Fault::from(criu_rs::Error::Start { program: program.clone(), source: source.into() })
        })?;
        let text = [result.stdout, result.stderr].concat();
        let lines = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = lines.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        Ok(Self { is_yes: result.status.success(), text: lines.join("\n") })
    }
}

/// Everything that was found out.
struct Found {
    program: PathBuf,
    build: Build,
    features: Features,
    basics: Result<(), Fault>,
    capabilities: Vec<Capability>,
    machine: Machine,
    /// Modules whose labels this CRIU does not save.
    unsaved_labels: Vec<SecurityModule>,
    /// The answers of criu to `--extra` and `--experimental`.
    more: Vec<(&'static str, Answer)>,
}

impl Found {
    fn tell(&self, output: &Output) {
        let problems = Problem::all(self);
        output.print(self.report(&problems));
        let more = self.more.iter().map(|(option, answer)| {
            ((*option).to_owned(), json!({ "yes": answer.is_yes, "said": answer.text }))
        });
        let held = |capability: &Capability| (capability.name(), json!(capability.is_held));
        let features: Vec<_> =
            self.each_feature().map(|(name, _, has)| (name.to_owned(), json!(has))).collect();
        output.object(
            if self.basics.is_ok() && self.has_more() { "done" } else { "failed" },
            json!({
                "criu": {
                    "path": self.program.to_string_lossy(),
                    "version": self.build.version.to_string(),
                    "commit": self.build.commit,
                    "name": self.build.name,
                },
                "basics": self.basics.as_ref().err().map_or(json!({}), Fault::to_json),
                "features": features.into_iter().collect::<Value>(),
                "capabilities": self.capabilities.iter().map(held).collect::<Value>(),
                "machine": self.machine.to_json(),
                "would_fail": problems.iter().map(Problem::to_json).collect::<Value>(),
                "more": more.collect::<Value>(),
            }),
        );
    }

    /// Says if the further tests that were asked for went well.
    fn has_more(&self) -> bool {
        self.more.iter().all(|(_, answer)| answer.is_yes)
    }

    /// The features that criu tells of: the name, the options that need it, and if it is there.
    fn each_feature(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<bool>)> {
        let Features { mem_track, lazy_pages, pidfd_store, mem_compression, .. } = self.features;
        [
            ("mem_track", "pre-dump, --track-mem", mem_track),
            ("lazy_pages", "--lazy-pages", lazy_pages),
            ("pidfd_store", "pidfds kept between pre-dumps", pidfd_store),
            ("mem_compression", "--compress", mem_compression),
        ]
        .into_iter()
    }

    fn report(&self, problems: &[Problem]) -> String {
        let mut lines = Vec::new();
        let mut row = |title: &str, text: String| lines.push(format!("{title:13} {text}"));
        let commit = self.build.commit.iter().map(|commit| format!(", {commit}"));
        let version = format!("{}{}", self.build.version, commit.collect::<String>());
        row("CRIU", format!("{version} at {}", self.program.display()));
        row("kernel", self.machine.kernel.clone());
        row(
            "basics",
            match &self.basics {
                Ok(()) => "the kernel has what CRIU needs at least".into(),
                Err(_) => "something that CRIU needs is missing".into(),
            },
        );
        for (n, (name, user, has)) in self.each_feature().enumerate() {
            let has = match has {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            let title = if n == 0 { "features" } else { "" };
            row(title, format!("{name:16} {has:3} {user}"));
        }
        let missing: Vec<String> =
            self.capabilities.iter().filter(|c| !c.is_held).map(Capability::name).collect();
        row(
            "capabilities",
            match missing.as_slice() {
                [] => "all that CRIU wants".into(),
                missing => format!("without {}", missing.join(", ")),
            },
        );
        self.machine.report(&mut row);
        for (option, answer) in &self.more {
            lines.push(format!("\ncriu check {option}:"));
            lines.extend(answer.text.lines().map(|line| format!("  {line}")));
        }
        lines.push("\nwould fail here".into());
        if problems.is_empty() {
            lines.push("  nothing that is known".into());
        }
        lines.extend(problems.iter().map(ToString::to_string));
        // The words of criu, which scripts look for.
        lines.push(match &self.basics {
            Ok(()) if !self.has_more() => LACKS_MORE.into(),
            Ok(()) => "\nLooks good.".into(),
            Err(fault) => format!("\nDoes not look good: {fault}"),
        });
        lines.join("\n")
    }
}
