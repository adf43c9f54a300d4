//! The rooms of each crate, and what they import.
//!
//! A room is a top-level module of a crate: a file or a folder. This module reads the `use` lines
//! and the inline paths of a checkout, follows re-exports to the file that defines a name, and
//! compares the imports with the rules of the workspace. Code under `#[cfg(test)]` is left out.
//!
//! ```text
//! sources     the Rust files of a checkout, or texts in memory
//! scan        the names, imports and child modules in the syntax of a module
//! tree        the modules of a crate; where a path leads
//! graph       rooms, their imports, floors and knots
//! rules       the rules, and the breaches of them
//! ```

mod graph;
mod rules;
mod scan;
mod sources;
mod tree;

pub use graph::{Graph, Import};
pub use rules::{Breach, FLOORS, Rule, breaches};
pub use sources::Sources;

use std::path::Path;

use crate::Result;

/// Prints the rooms of each crate of the checkout at `root`, with their floors and knots.
///
/// # Errors
/// If a file does not parse, or a rule is broken. The breaches are printed before that.
pub(crate) fn run(root: &Path) -> Result<()> {
    let sources = Sources::read(root)?;
    for graph in Graph::all(&sources)? {
        println!("{graph}");
    }
    let breaches = breaches(&sources)?;
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        println!("{breach}");
    }
    Err(format!("{} breaches of the rules between rooms, see above", breaches.len()).into())
}
