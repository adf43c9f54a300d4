//! Sets in archives.

use criu_archive::Archive;
use criu_images::source::{Blob, Source};
use criu_images::{ImageSet, Text, check};

/// Opens bytes as an archive, and opens each set in it.
pub fn run(data: &[u8]) {
    let archive = match Archive::new("input", Blob::from(data.to_vec())) {
        Ok(archive) => archive,
        Err(error) => {
            assert!(!error.to_string().contains(Text::hides), "not fit for a terminal");
            return;
        }
    };
    for name in archive.sets().take(4).collect::<Vec<_>>() {
        let folder = archive.folder(&name);
        for file in folder.names().unwrap_or_default() {
            if let Ok(Some(blob)) = folder.open(&file) {
                assert!(blob.len() <= data.len() as u64, "{file} is larger than its archive");
            }
        }
        if let Ok(set) = ImageSet::new(folder) {
            _ = check(&set);
            _ = set.checkpoint().map(|checkpoint| checkpoint.tree().to_string());
        }
    }
}
