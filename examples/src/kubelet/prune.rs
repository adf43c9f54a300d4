//! `kubelet prune`: deletes old checkpoints from the directory of a node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use criu_cri::kubelet::retention::{
    DIRECTORY, Directory, PODS, Plan, Removed, Row, Rules, Scope, Verdict, live_pods,
};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::inspect::Table;
use crate::options::memory;
use crate::output::Output;
use crate::tool::Fallible;

/// Options of `kubelet prune`.
#[derive(Args)]
pub(super) struct Prune {
    /// The directory with the archives
    #[arg(value_name = "DIR", default_value = DIRECTORY)]
    directory: PathBuf,
    /// Keep the newest N of each container; N of each pod or namespace, or of all, with pod=N,
    /// namespace=N or all=N. May be given once for each
    #[arg(long, value_name = "[SCOPE=]N", value_parser = count, help_heading = RULES)]
    keep: Vec<(Scope, usize)>,
    /// Keep so many bytes, with K, M, G or T: of all, or of each container, pod or namespace with
    /// container=SIZE and so on. The oldest go first. May be given once for each
    #[arg(long, value_name = "[SCOPE=]SIZE", value_parser = total, help_heading = RULES)]
    max_total: Vec<(Scope, u64)>,
    /// Keep checkpoints that are not older: a number with s, m, h, d or w, such as 30d
    #[arg(long, value_name = "TIME", value_parser = age, help_heading = RULES)]
    max_age: Option<Duration>,
    /// Keep checkpoints that are not larger, with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = RULES)]
    max_size: Option<u64>,
    /// Keep checkpoints only of pods that are on this node: those with a directory in DIR, which
    /// is /var/lib/kubelet/pods unless given
    #[arg(
        long, value_name = "DIR", num_args = 0..=1, require_equals = true,
        default_missing_value = PODS, help_heading = RULES
    )]
    orphans: Option<PathBuf>,
    /// Apply the rules to checkpoints of this namespace alone
    #[arg(long, value_name = "NAME", help_heading = RULES)]
    namespace: Option<String>,
    /// Apply the rules to checkpoints of pods of this name alone
    #[arg(long, value_name = "NAME", help_heading = RULES)]
    pod: Option<String>,
    /// Apply the rules to checkpoints of containers of this name alone
    #[arg(long, value_name = "NAME", help_heading = RULES)]
    container: Option<String>,
    /// Leave files that were changed in the last so much time, as a runtime may be writing them
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "5m")]
    young: Duration,
    /// Delete the files. Without this option they are listed only
    #[arg(long)]
    apply: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "kubelet", self.json);
        let rules = self.rules()?;
        if rules.is_empty() && self.apply {
            let why = "--apply needs a rule: --keep, --max-total, --max-age, --max-size, --orphans";
            return Err(Fault::usage(why).into());
        }
        let named = |error: std::io::Error| format!("{}: {error}", self.directory.display());
        let directory = Directory::open(&self.directory).map_err(named)?;
        let plan = Plan::new(directory.read().map_err(named)?, &rules, SystemTime::now());
        let removed = self.apply.then(|| directory.remove(&plan));
        output.print(table(&plan, removed.as_ref()));
        let facts = self.facts(&plan, removed.as_ref());
        let bytes = BinaryBytes(removed.as_ref().map_or(plan.bytes(), |removed| removed.bytes));
        let line = match &removed {
            Some(removed) => {
                let deleted = format!("{} deleted, {bytes}", files(removed.names.len()));
                match removed.gone.len() {
                    0 => deleted,
                    gone => format!("{deleted}; {} gone before", files(gone)),
                }
            }
            None if rules.is_empty() => "there is no rule, and nothing would go".to_owned(),
            None => {
                let files = files(plan.removals().count());
                format!("{files} would go, {bytes}; --apply deletes them")
            }
        };
        match &removed {
            Some(removed) if !removed.left.is_empty() => {
                output.say(format!("{line}; {} left", removed.left.len()));
                output.object("failed", facts);
                Ok(Exit::Failed.into())
            }
            _ => {
                output.done(line, facts);
                Ok(Exit::Done.into())
            }
        }
    }

    fn rules(&self) -> Result<Rules, Fault> {
        let mut rules = Rules::default().young(self.young);
        for (scope, most) in &self.keep {
            rules = rules.keep(*scope, *most);
        }
        for (scope, bytes) in &self.max_total {
            rules = rules.max_total(*scope, *bytes);
        }
        if let Some(age) = self.max_age {
            rules = rules.max_age(age);
        }
        if let Some(bytes) = self.max_size {
            rules = rules.max_size(bytes);
        }
        if let Some(pods) = &self.orphans {
            let doing = || format!("read the node's pods in {}", pods.display());
            let live = live_pods(pods).map_err(|error| Fault::system(doing(), error))?;
            rules = rules.of_live_pods(live);
        }
        if let Some(name) = &self.namespace {
            rules = rules.of_namespace(name);
        }
        if let Some(name) = &self.pod {
            rules = rules.of_pod(name);
        }
        if let Some(name) = &self.container {
            rules = rules.of_container(name);
        }
        Ok(rules)
    }

    fn facts(&self, plan: &Plan, removed: Option<&Removed>) -> Value {
        let rows: Vec<Value> = plan.rows().iter().map(|row| fact(row, removed)).collect();
        let bytes = removed.map_or(plan.bytes(), |removed| removed.bytes);
        json!({
            "path": self.directory.to_string_lossy(),
            "applied": removed.is_some(),
            "bytes": bytes,
            "files": rows,
        })
    }
}

/// Outcome of a file: a word, and a reason.
fn outcome(row: &Row, removed: Option<&Removed>) -> (&'static str, String) {
    let why = match (&row.verdict, &row.entry.stored) {
        (Verdict::Unread, Err(why)) => why.clone(),
        (verdict, _) => verdict.to_string(),
    };
    if !matches!(row.verdict, Verdict::Remove(_)) {
        return ("stays", why);
    }
    let Some(removed) = removed else { return ("goes", why) };
    if let Some((_, left)) = removed.left.iter().find(|(name, _)| *name == row.entry.name) {
        return ("left", left.clone());
    }
    if removed.gone.contains(&row.entry.name) {
        return ("gone", "somebody else has deleted it".to_owned());
    }
    ("deleted", why)
}

fn fact(row: &Row, removed: Option<&Removed>) -> Value {
    let (word, why) = outcome(row, removed);
    let mut fact = json!({
        "name": row.entry.name.to_string_lossy(),
        "bytes": row.entry.size,
        "file": word,
        "reason": why,
        "pinned": row.entry.is_pinned,
    });
    if let Ok(stored) = &row.entry.stored {
        fact["namespace"] = stored.container.namespace().into();
        fact["pod"] = stored.container.pod().into();
        fact["container"] = stored.container.name().into();
        fact["pod_uid"] = (*stored.pod_uid).into();
        fact["checkpointed"] = stored.time.to_string().into();
        fact["engine"] = stored.engine.into();
    }
    fact
}

fn table(plan: &Plan, removed: Option<&Removed>) -> Table<6> {
    let mut table = Table::new(["FILE", "CONTAINER", "CHECKPOINTED", ">SIZE", "REASON", "NAME"]);
    for row in plan.rows() {
        let (word, why) = outcome(row, removed);
        let stored = row.entry.stored.as_ref().ok();
        let known = |fact: Option<String>| fact.unwrap_or_else(|| "-".to_owned());
        table.row([
            word.to_owned(),
            known(stored.map(|stored| stored.container.to_string())),
            known(stored.map(|stored| stored.time.to_string())),
            BinaryBytes(row.entry.size).to_string(),
            why,
            row.entry.name.to_string_lossy().into_owned(),
        ]);
    }
    table
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// Parses `[SCOPE=]N`.
fn count(text: &str) -> Result<(Scope, usize), String> {
    let (scope, number) = scoped(text, Scope::Container)?;
    let number = number.parse().map_err(|_| format!("{number} is no number, as in 10 or pod=20"));
    Ok((scope, number?))
}

/// Parses `[SCOPE=]SIZE`.
fn total(text: &str) -> Result<(Scope, u64), String> {
    let (scope, bytes) = scoped(text, Scope::All)?;
    Ok((scope, size(bytes)?))
}

fn scoped(text: &str, usual: Scope) -> Result<(Scope, &str), String> {
    let Some((word, rest)) = text.split_once('=') else { return Ok((usual, text)) };
    let found = Scope::ALL.into_iter().find(|scope| scope.word() == word);
    let scope =
        found.ok_or_else(|| format!("{word} is no scope: container, pod, namespace or all"))?;
    Ok((scope, rest))
}

/// Parses a number of bytes with `K`, `M`, `G` or `T`, and `iB` or `B` after it.
fn size(text: &str) -> Result<u64, String> {
    let bytes = memory(text.trim_end_matches('B').trim_end_matches('i'))?;
    u64::try_from(bytes).map_err(|error| error.to_string())
}

/// Parses a number of seconds, minutes, hours, days or weeks.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no time, as in 30d, 12h or 5m");
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        // A number alone could be days or seconds.
        "" if digits == "0" => 0,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// The heading of the rules.
const RULES: &str = "Rules";

#[cfg(test)]
mod tests {
    use criu_lab::checkpoints::Checkpoints;

    use super::*;

    #[test]
    fn a_file_that_somebody_else_deletes_is_gone_and_not_deleted() {
        let place = Checkpoints::new("gone");
        let gone = place.archive("gone.tar", "ns/pod/app", 1, 10);
        place.archive("mine.tar", "ns/pod/app", 2, 10);
        let directory = Directory::open(place.directory()).unwrap();
        let rules = Rules::default().young(Duration::ZERO).keep(Scope::All, 0);
        let plan = Plan::new(directory.read().unwrap(), &rules, SystemTime::now());
        std::fs::remove_file(gone).unwrap();
        let removed = directory.remove(&plan);
        let words: Vec<_> = plan.rows().iter().map(|row| outcome(row, Some(&removed)).0).collect();
        assert_eq!(words, ["deleted", "gone"]);
    }

    #[test]
    fn rules_are_read_with_their_scopes_and_units() {
        assert_eq!(count("10"), Ok((Scope::Container, 10)));
        assert_eq!(count("namespace=0"), Ok((Scope::Namespace, 0)));
        assert_eq!(total("100G"), Ok((Scope::All, 100 << 30)));
        assert_eq!(total("pod=1KiB"), Ok((Scope::Pod, 1024)));
        assert_eq!(size("2TB"), Ok(2 << 40));
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86400)));
        for bad in ["", "x", "-1", "pod=", "node=1", "=1", "pod=1=2"] {
            assert!(count(bad).is_err() && total(bad).is_err(), "{bad}");
        }
        for bad in ["1X", "1.5G", "99999999T", "G", "1iB i"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["7", "1y", "d", "", "99999999999999999999w", "18446744073709551615w"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
