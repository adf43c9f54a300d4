//! The Rust files of a checkout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Result;

/// Source texts by their path from the workspace root. Tests change them in memory.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<String, String>);

impl Sources {
    /// Reads the `src` folder of each package in the checkout at `root`.
    ///
    /// # Errors
    /// If a file or a folder cannot be read, or `root` holds no package.
    pub fn read(root: &Path) -> Result<Self> {
        let mut sources = Self::default();
        let entries = fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))?;
        for entry in entries {
            let package = entry?.path();
            if package.join("Cargo.toml").is_file() {
                sources.read_folder(root, &package.join("src"))?;
            }
        }
        if sources.0.is_empty() {
            return Err(format!("{} holds no package with a src folder", root.display()).into());
        }
        Ok(sources)
    }

    /// Adds a text, or replaces the one at that path.
    pub fn insert(&mut self, path: &str, text: &str) {
        self.0.insert(path.to_owned(), text.to_owned());
    }

    /// Returns the text at a path.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Returns the path of every text, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                self.read_folder(root, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                self.0.insert(name, text);
            }
        }
        Ok(())
    }
}
