//! The rules that CRIU makes with iptables.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::connection::Ends;
use crate::sys::table;

/// Removes the rules for connections from the network of this thread. With `whole` it also removes
/// the rules that cut off the whole network.
pub(super) fn remove(connections: &[Ends], whole: bool) {
    let mut rules: HashMap<&str, HashSet<String>> = HashMap::new();
    if whole {
        rules = ["iptables", "ip6tables"].into_iter().map(|name| (name, HashSet::new())).collect();
    }
    for ends in connections {
        let program = if ends[0].0.is_ipv4() { "iptables" } else { "ip6tables" };
        rules.entry(program).or_default().extend(of(ends));
    }
    for (program, rules) in rules {
        let Some(listed) = run(program, &["-S"], "") else { continue };
        let is_ours = |line: &&str| rules.contains(*line) || whole && FOR_ALL.contains(line);
        let ours = listed.lines().filter(is_ours).map(|line| match line {
            "-N CRIU" => "-F CRIU\n-X CRIU\n".to_owned(),
            rule => rule.replacen("-A", "-D", 1) + "\n",
        });
        let mut commands: Vec<String> = ours.collect();
        if commands.is_empty() {
            continue;
        }
        // Sorted, -D comes before -F and -X: a chain can be deleted once no rule leads to it.
        commands.sort();
        let commands = format!("*filter\n{}COMMIT\n", commands.concat());
        run(&format!("{program}-restore"), &["--noflush"], &commands);
    }
}

/// The two rules that keep packets of a connection away, as iptables lists them.
fn of([here, there]: &Ends) -> [String; 2] {
    let bits = if here.0.is_ipv4() { 32 } else { 128 };
    let rule = |chain, (source, sport), (destination, dport)| {
        format!(
            "-A {chain} -s {source}/{bits} -d {destination}/{bits} -p tcp -m mark ! --mark 0xc114 \
             -m tcp --sport {sport} --dport {dport} -j DROP"
        )
    };
    [rule("INPUT", *there, *here), rule("OUTPUT", *here, *there)]
}

/// Runs a program of iptables with `input` and returns its output. `None` if it is missing or
/// fails. No descriptor of this process is open in it.
fn run(program: &str, words: &[&str], input: &str) -> Option<String> {
    table::alone(&[], || Ok(run_here(program, words, input))).ok()?
}

fn run_here(program: &str, words: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new(program);
    // Waits up to five seconds for other programs that change the rules.
    command.args(["-w", "5"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let sent = child.stdin.take()?.write_all(input.as_bytes());
    let mut said = Vec::new();
    let read = child.stdout.take()?.read_to_end(&mut said);
    // An error means that another thread has reaped it, which is not a failure.
    let has_failed = child.wait().is_ok_and(|status| !status.success());
    let is_done = !has_failed && sent.is_ok() && read.is_ok();
    is_done.then(|| String::from_utf8_lossy(&said).into_owned())
}

/// The rules with which CRIU cuts off a whole network.
const FOR_ALL: [&str; 3] = ["-N CRIU", "-A INPUT -j CRIU", "-A OUTPUT -j CRIU"];
