//! A report: one HTML file about a checkpoint, which opens without a network.
//!
//! ```text
//! Inspection ─▶ facts, rows ─▶ JSON ┐
//! ImageSet   ─▶ cells               ├▶ page/report.html with style and scripts ─▶ one file
//! ```
//!
//! The page draws itself from the JSON. Its Content-Security-Policy allows that script and that
//! style by their digests, and nothing else: no other script, no request.

mod cells;
mod facts;
mod row;
mod rows;
mod safe;
mod sections;

use std::fmt;
use std::io::{self, Write};

use criu_images::ImageSet;
use sha2::{Digest, Sha256};

use crate::inspection::Inspection;
use cells::Pages;

/// A report about a checkpoint, as one HTML file.
///
/// The data in the page have no more than [`REPORT`](crate::bounds::REPORT) bytes. Rows beyond that
/// are counted, and the page says so. Style and script add some 60 KiB. The file holds names,
/// command lines and addresses, and environments if the inspection has them: it is for its owner
/// alone.
///
/// ```
/// use criu_archive::inspection::{Inspection, Part, Place};
/// use criu_archive::report::Report;
///
/// let place = Place::directory("../images/tests/data/pipeline", "")?;
/// let inspection = Inspection::new(&place, Part::ALL)?;
/// let mut html = Vec::new();
/// Report::new(&inspection).with_pages(place.set()).write(&mut html)?;
/// assert!(html.starts_with(b"<!doctype html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Report<'i> {
    inspection: &'i Inspection,
    pages: Pages,
}

impl<'i> Report<'i> {
    /// Takes the parts that an inspection has.
    #[must_use]
    pub fn new(inspection: &'i Inspection) -> Self {
        Self { inspection, pages: Pages::default() }
    }

    /// Adds where in each mapping the pages are. Without that, the page draws how many there are.
    /// Only pagemaps are read. A pagemap that cannot be read is left out.
    #[must_use]
    pub fn with_pages(self, set: &ImageSet) -> Self {
        Self { pages: Pages::of(set), ..self }
    }

    /// Writes the file. A caller who writes to the disk gives the file mode 0600.
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let (title, script) = (self.title(), SCRIPT.concat());
        // A part of the template after "@@" begins with a name.
        for (i, part) in TEMPLATE.split("@@").enumerate() {
            match part {
                _ if i % 2 == 0 => to.write_all(part.as_bytes())?,
                "policy" => write!(
                    to,
                    "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; \
                     base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'",
                    digest(&script),
                    digest(STYLE),
                )?,
                "title" => to.write_all(safe::html(&title).as_bytes())?,
                "style" => to.write_all(STYLE.as_bytes())?,
                "script" => to.write_all(script.as_bytes())?,
                "data" => {
                    to.write_all(sections::data(self.inspection, &self.pages).as_bytes())?;
                }
                _ => {}
            }
        }
        to.flush()
    }

    fn title(&self) -> String {
        let Inspection { container, summary, source, .. } = self.inspection;
        let name = container.as_ref().and_then(|container| container.name.as_deref());
        let name = match (name, summary) {
            (Some(name), _) => name.to_owned(),
            (None, Some(summary)) => format!("{} (pid {})", summary.name, summary.root),
            (None, None) => source.name.clone(),
        };
        format!("Checkpoint of {}", rows::short(&name))
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("source", &self.inspection.source).finish_non_exhaustive()
    }
}

/// Returns the SHA-256 of a text in base64, as a Content-Security-Policy has it.
fn digest(text: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut shown = String::new();
    for bytes in Sha256::digest(text).chunks(3) {
        let bits = bytes.iter().fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - bytes.len()));
        for i in 0..4 {
            let digit = digits.get(bits >> (18 - 6 * i) & 63).filter(|_| i <= bytes.len());
            shown.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    shown
}

const TEMPLATE: &str = include_str!("page/report.html");
const STYLE: &str = include_str!("page/report.css");
/// The parts of the script, in order: each uses those before it.
const SCRIPT: [&str; 5] = [
    include_str!("page/base.js"),
    include_str!("page/memory.js"),
    include_str!("page/process.js"),
    include_str!("page/tables.js"),
    include_str!("page/main.js"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_browsers() {
        assert_eq!(digest(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn the_template_has_each_part_once() {
        let names: Vec<&str> = TEMPLATE.split("@@").skip(1).step_by(2).collect();
        assert_eq!(names, ["policy", "title", "style", "title", "data", "script"]);
        // A part must not end its element.
        assert!(!STYLE.contains("</") && !SCRIPT.concat().contains("</"));
    }

    #[test]
    fn text_stands_out_in_both_themes() {
        for theme in 0..2 {
            let color = |name: &str| {
                let (_, value) = STYLE.split_once(&format!("--{name}: light-dark(")).unwrap();
                let value = value.split_once(')').unwrap().0.split(", ").nth(theme).unwrap();
                [1, 3, 5].map(|at| u8::from_str_radix(&value[at..at + 2], 16).unwrap())
            };
            for text in ["text", "quiet", "accent", "error", "warning"] {
                for ground in ["ground", "sheet", "raised", "chosen"] {
                    let contrast = contrast(color(text), color(ground));
                    assert!(contrast >= 4.5, "{text} on {ground} in theme {theme}: {contrast}");
                }
            }
            for kind in ["code", "file", "heap", "anon", "stack", "shared", "kernel"] {
                let contrast = contrast(color(kind), color("sheet"));
                assert!(contrast >= 3.0, "{kind} in theme {theme}: {contrast}");
            }
        }
    }

    /// Contrast of two colours, as the Web Content Accessibility Guidelines define it.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let light = |color: [u8; 3]| {
            let [red, green, blue] = color.map(|part| {
                let part = f64::from(part) / 255.0;
                if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
        };
        let (a, b) = (light(a), light(b));
        a.max(b) / a.min(b)
    }
}
