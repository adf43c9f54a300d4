//! The end of a round, from which on its process is a keeper.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use criu_rs::instant::InstantSeries;
use serde_json::{Value, json};

use super::asked::Earlier;
use super::file::Entry;
use super::serve::Keeper;
use super::start::Foreground;
use crate::fault::Fault;
use crate::places::open_log;
use crate::signals::Signals;
use crate::stdout;

/// The forks of a round that is complete.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    keeper: Keeper<'a>,
    log: File,
}

/// Makes a keeper of the forks of a round that is complete, and lets the earlier one end. Adds to
/// the facts, and returns words for a person. There is no keeper if the forks have ended already.
pub(crate) fn keep<'a>(
    series: InstantSeries<'a>,
    earlier: Option<Earlier>,
    images: &Path,
    keep: Duration,
    facts: &mut Value,
) -> Result<(Option<Kept<'a>>, String), Fault> {
    let failed = |source: io::Error| Fault::system("keep the forks", source);
    let directory = fs::canonicalize(images).map_err(failed)?;
    let base = series.describe();
    let ended = series.ended();
    let (kept, mut words) = match base {
        Some(base) => {
            let log = open_log(&directory.join("keeper.log")).map_err(failed)?;
            let keeper = Keeper::new(series, &base, directory, keep).map_err(failed)?;
            let (own, seconds) = (std::process::id(), keep.as_secs_f64());
            facts["keeper"] = json!({ "pid": own, "keep_s": seconds });
            let words = format!(
                "; process {own} keeps its forks for the next round, for {seconds} seconds unless \
                 SIGTERM ends it"
            );
            (Some(Kept { keeper, log }), words)
        }
        None => {
            facts["keeper"] = Value::Null;
            let why = ended.map_or_else(|| "they were lost".to_owned(), |end| end.to_string());
            Entry::ended(&why).write(&directory).map_err(failed)?;
            (None, format!("; its forks have ended already, and no round can follow: {why}"))
        }
    };
    words += &earlier.and_then(Earlier::complete).unwrap_or_default();
    Ok((kept, words))
}

impl Kept<'_> {
    /// Lets the foreground end, and keeps the forks until there is a reason to end them.
    pub(crate) fn stay(self, foreground: Foreground, signals: &Signals) -> Result<(), Fault> {
        let Self { keeper, log } = self;
        foreground.release(u8::from(stdout::has_failed()), log)?;
        let why = keeper.serve(signals);
        let _ = writeln!(io::stderr(), "the forks have ended: {why}");
        Ok(())
    }
}
