//! A list of findings on files that has a bound.

use criu_images::Severity;

use crate::record::finding::{About, Finding};

/// Findings up to a number that somebody reads.
#[derive(Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    pub(super) fn add(&mut self, severity: Severity, path: &str, text: String) {
        if self.all.len() < MOST {
            self.all.push(Finding::new(severity, About::Files, text).at(path));
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            let text = format!("{} more findings on files are left out", self.left_out);
            self.all.push(Finding::new(Severity::Error, About::Files, text));
        }
        self.all
    }
}

/// Most findings on files.
const MOST: usize = 1000;
