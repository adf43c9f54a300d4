//! The number of processes that are lost when criu is killed, beside that of a criu which this
//! crate has not started.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use criu_lab::process::{children, name, send};
use criu_rs::Pid;
use nix::sys::signal::Signal;

use crate::rounds::Hall;
use crate::scene::{Subject, Talk, strangers};

/// Who starts criu, and how the tasks talk.
const ROWS: [(bool, Talk); 4] =
    [(true, Talk::Pipe), (false, Talk::Pipe), (true, Talk::Tcp), (false, Talk::Tcp)];

impl Hall {
    pub fn bare(&mut self, count: u64) -> ExitCode {
        let mut table = [(0u64, 0u64); ROWS.len()];
        if let Some(mut subject) = self.subject.take() {
            subject.end();
        }
        let images = self.dir.join("images");
        // How long a dump takes, of the first of each.
        let mut times = [Duration::ZERO; ROWS.len()];
        for n in 0..count + ROWS.len() as u64 {
            let row = n as usize % ROWS.len();
            let (bare, talk) = ROWS[row];
            let _ = fs::remove_dir_all(&images);
            fs::create_dir_all(&images).unwrap();
            let mut subject = Subject::start(&self.dir.join("subject"), talk);
            let pid = subject.pid.to_string();
            let mut command;
            if bare {
                command = Command::new(&self.program);
                command.args(["dump", "-R", "--tcp-established", "-t", &pid, "-D"]).arg(&images);
            } else {
                command = Command::new(std::env::current_exe().unwrap());
                command.args(["--drive", "dump-on", "kill-criu", "0"]).arg(&self.program);
                command.arg(&images).arg(&pid);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            if times[row].is_zero() {
                let begun = Instant::now();
                assert!(child.wait().unwrap().success(), "a dump without a fault");
                times[row] = begun.elapsed();
            }
            std::thread::sleep(Duration::from_micros(self.below(times[row].as_micros() as u64)));
            let own = Pid::from(&child);
            let criu = if bare {
                Some(own)
            } else {
                children(own).into_iter().find(|pid| name(*pid) == "criu")
            };
            let killed = child.try_wait().unwrap().is_none()
                && criu.is_some_and(|criu| send(criu, Signal::SIGKILL));
            let _ = child.wait();
            if killed {
                table[row].0 += 1;
                table[row].1 += u64::from(subject.is_well().is_err());
            }
            subject.end();
            // A killed criu may leave a helper.
            for (stranger, _) in strangers(&[]) {
                send(stranger, Signal::SIGKILL);
            }
        }
        println!(
            "| criu killed at a random moment of a dump | tasks that talk over | killed | lost | |"
        );
        println!("| --- | --- | --: | --: | --: |");
        for ((bare, talk), (killed, lost)) in ROWS.into_iter().zip(table) {
            let who = if bare { "bare criu" } else { "this crate's" };
            let talk = if talk == Talk::Tcp { "TCP" } else { "a pipe" };
            let percent = lost as f64 * 100.0 / killed.max(1) as f64;
            println!("| {who} | {talk} | {killed} | {lost} | {percent:.1} % |");
        }
        ExitCode::SUCCESS
    }
}
