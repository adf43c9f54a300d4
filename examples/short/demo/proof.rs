//! The proof that nothing was lost: the state of every counter before and after.

use std::fmt::Display;

use console::style;
use serde_json::{Value, json};

use crate::counters::{Counter, SHOWN, Snapshot};

/// The counters at the dump, after the restore, and some time later.
pub(crate) struct Proof {
    pub(crate) saved: Snapshot,
    pub(crate) first: Snapshot,
    pub(crate) last: Snapshot,
    /// Tells if all processes are there.
    pub(crate) is_whole: bool,
}

impl Proof {
    /// Tells if every counter has gone on from its saved state, in every process.
    pub(crate) fn holds(&self) -> bool {
        let goes_on = SHOWN.iter().all(|&(counter, _)| self.goes_on(counter));
        self.is_whole && goes_on && self.last.get(Counter::Faults) == 0
    }

    /// Tells if a counter did not begin anew, and still grows.
    fn goes_on(&self, counter: Counter) -> bool {
        let [saved, first, last] = self.values(counter);
        0 < saved && saved <= first && first < last
    }

    fn values(&self, counter: Counter) -> [u64; 3] {
        [&self.saved, &self.first, &self.last].map(|snapshot| snapshot.get(counter))
    }

    /// Returns a table, and a line with the verdict.
    pub(crate) fn lines(&self) -> Vec<String> {
        let row = |name: &str, values: [&dyn Display; 3], mark: &str| {
            let [saved, first, last] = values.map(ToString::to_string);
            format!("  {name:28} {saved:>10} {first:>10} {last:>10} {mark}")
        };
        let titles: [&dyn Display; 3] = [&"saved", &"restored", &"now"];
        let mut lines = vec![style(row("", titles, "")).dim().to_string()];
        for &(counter, name) in SHOWN {
            let [saved, first, last] = self.values(counter);
            lines.push(row(
                name,
                [&saved, &first, &last],
                if self.goes_on(counter) { "" } else { "  <-- stands still" },
            ));
        }
        let verdict = match (self.holds(), self.last.get(Counter::Faults)) {
            (true, _) => {
                style("Every counter goes on from where it was, and no number was lost.").green()
            }
            (false, 0) => style("This is not as it should be.").red(),
            (false, _) => style("Numbers were lost.").red(),
        };
        lines.push(verdict.bold().to_string());
        lines
    }

    pub(crate) fn to_json(&self) -> Value {
        let row = |&(counter, name): &(Counter, &str)| {
            let [saved, restored, now] = self.values(counter);
            let goes_on = self.goes_on(counter);
            json!({ "name": name, "saved": saved, "restored": restored, "now": now,
                    "goes_on": goes_on })
        };
        json!({
            "each": SHOWN.iter().map(row).collect::<Value>(),
            "lost": self.last.get(Counter::Faults),
        })
    }
}
