//! The judgement of a round, by the things it has left.

use std::path::Path;
use std::time::Duration;

use criu_images::ImageSet;
use criu_images::edit::{Edit, edit, recover};
use criu_lab::process::{exists, send};
use criu_lab::{names, within};
use criu_rs::Pid;
use nix::sys::signal::Signal;

use crate::rounds::{End, Hall};
use crate::scene::{self, Machine, is_complete, strangers};

impl Hall {
    /// What there is now, and whether that may be.
    pub fn judge(
        &mut self,
        operation: &str,
        fault: &str,
        images: &Path,
        said: &Option<String>,
    ) -> Result<End, String> {
        let said = said.as_deref().unwrap_or("");
        if said.contains("panicked") {
            return Err("it panicked".into());
        }
        if said.starts_with("RESULT hang") {
            return Err("it hangs".into());
        }
        let done = said.starts_with("RESULT done");
        // Whoever is killed says nothing; whoever stands still is not there to be asked.
        let failed = said.starts_with("RESULT failed");
        if !done && !failed && fault != "kill-ours" && fault != "memory" {
            return Err("the driver said nothing".into());
        }
        match operation {
            "edit" => self.judge_edit(images, done),
            "restore" => self.judge_restore(images, done, failed),
            _ => self.judge_dump(operation, fault, images, done, failed),
        }
    }

    fn judge_dump(
        &mut self,
        operation: &str,
        fault: &str,
        images: &Path,
        done: bool,
        failed: bool,
    ) -> Result<End, String> {
        let kills = operation == "dump";
        // criu may be at it still when our process is gone.
        let mut subject = self.subject.take().unwrap();
        if fault == "kill-ours" {
            strangers(&[subject.pid, subject.child]);
        }
        let complete = is_complete(images);
        if done && complete.is_err() && fault != "kill-target" {
            self.subject = Some(subject);
            return Err(format!("done, and the checkpoint is not whole: {complete:?}"));
        }
        if fault == "kill-target" {
            subject.end();
            if kills && done && complete.is_ok() {
                // Without it the rules stay that keep its connections.
                scene::bring_back(&self.criu, &mut subject, images).ok();
                subject.end();
            }
            return match (failed, complete) {
                (true, Ok(())) => Err("failed, and there is a checkpoint".into()),
                _ => Ok(if done { End::Done } else { End::Failed }),
            };
        }
        let well = if kills && subject.is_gone() { Err("gone".into()) } else { subject.is_well() };
        let verdict = match (&well, &complete) {
            (Ok(()), Err(_)) => Ok(End::Failed),
            (Ok(()), Ok(())) if failed => Err("failed, and there is a checkpoint".into()),
            (Ok(()), Ok(())) if done && kills => Err("done, and the tasks run on".into()),
            (Ok(()), Ok(())) => Ok(End::Done),
            (Err(_), Ok(())) if kills && subject.is_gone() => Ok(End::Done),
            // The one fault that may.
            (Err(_), _) if fault == "kill-criu" => Ok(End::LostToKill),
            (Err(why), complete) => Err(format!("lost: {why}; the checkpoint: {complete:?}")),
        };
        if failed && verdict.is_ok() && fault != "kill-ours" {
            // A server's part of the images is the server's.
            let names = names(images);
            let image = |name: &&String| name.ends_with(".img") && operation != "pages";
            if let Some(left) = names.iter().find(image) {
                self.subject = Some(subject);
                return Err(format!("failed, and {left} is left"));
            }
        }
        if verdict == Ok(End::Done) {
            // It has to be worth something.
            if well.is_ok() {
                subject.end();
            }
            if let Err(why) = scene::bring_back(&self.criu, &mut subject, images) {
                return Err(format!("the checkpoint does not restore: {why}"));
            }
        }
        if verdict == Ok(End::LostToKill) {
            subject.end();
        } else {
            self.subject = Some(subject);
        }
        verdict
    }

    fn judge_restore(&mut self, images: &Path, done: bool, failed: bool) -> Result<End, String> {
        let mut subject = self.subject.take().unwrap();
        subject.restored();
        // Where criu or our process was killed, what is there may be about to go or to run.
        let settled = within(Duration::from_secs(4), || {
            [subject.pid, subject.child].iter().all(|&pid| !exists(pid))
                || subject.is_well().is_ok()
        });
        let well = subject.is_well();
        let gone = subject.is_gone();
        let verdict = match (&well, gone) {
            (Ok(()), _) if failed => Err("failed, and the tasks run".into()),
            (Ok(()), _) => Ok(End::Done),
            (Err(_), true) if done => Err("done, and there are no tasks".into()),
            (Err(_), true) => Ok(End::Failed),
            (Err(why), false) => Err(format!("half restored ({settled}): {why}")),
        };
        if verdict == Ok(End::Failed) {
            is_complete(images).map_err(|why| format!("the checkpoint has changed: {why}"))?;
            scene::bring_back(&self.criu, &mut subject, images)
                .map_err(|why| format!("the checkpoint does not restore any more: {why}"))?;
        }
        self.subject = Some(subject);
        verdict
    }

    fn judge_edit(&mut self, images: &Path, done: bool) -> Result<End, String> {
        // The tasks are in the checkpoint, which comes back at the end.
        let recovered = recover(images).map_err(|error| error.to_string())?;
        is_complete(images).map_err(|why| format!("the edited checkpoint is not whole: {why}"))?;
        let hidden = names(images).into_iter().find(|name| name.starts_with('.'));
        if let Some(left) = hidden {
            return Err(format!("{left} is left (recovered: {recovered})"));
        }
        let set = ImageSet::open(images).map_err(|error| error.to_string())?;
        let changes = |from: &str, to: &str| {
            let path = Edit::Path { from: from.into(), to: to.into() };
            edit(&set, &[path]).map(|edited| edited.len()).map_err(|error| error.to_string())
        };
        let own = self.dir.display().to_string();
        let (old, new) = (changes(&own, "/some/where/else")?, changes("/some/where/else", &own)?);
        let verdict = match (old > 0, new > 0) {
            (true, false) if done => Err("done, and nothing is edited".into()),
            (true, false) => Ok(End::Failed),
            (false, true) => Ok(End::Done),
            _ => Err(format!("half edited: {old} images old, {new} new")),
        };
        let mut subject = self.subject.take().unwrap();
        scene::bring_back(&self.criu, &mut subject, &self.good)?;
        self.subject = Some(subject);
        verdict
    }

    /// What is left of an operation that should not be.
    pub fn left(&mut self, said: Option<&str>) -> Option<(End, String)> {
        let known: Vec<Pid> =
            self.subject.iter().flat_map(|subject| [subject.pid, subject.child]).collect();
        let strangers = strangers(&known);
        if !strangers.is_empty() {
            for (pid, _) in &strangers {
                send(*pid, Signal::SIGKILL);
            }
            return Some((End::Helpers, format!("{strangers:?}")));
        }
        if said.is_some_and(|said| said.contains("leaked") && !said.contains("leaked 0")) {
            return Some((End::Leaked, "descriptors".into()));
        }
        let now = Machine::look();
        now.since(&self.machine).map(|what| (End::Leaked, what))
    }
}
