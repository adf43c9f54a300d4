//! Text of a server, made short and harmless.

use criu_images::Text;

/// Returns the beginning of a text in one line, without control characters.
pub(super) fn short(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    Text(short.as_bytes()).to_string()
}

/// The longest text of a server that is shown, in characters.
const LONGEST: usize = 1000;
