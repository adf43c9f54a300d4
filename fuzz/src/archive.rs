//! Sets in tar archives.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use criu_images::source::{Source, Tar};
use criu_images::{ImageSet, Text, check};

/// Opens bytes as an archive, and opens each set in it.
pub fn run(data: &[u8]) {
    // One file for all inputs: it has no name, so that nothing is left behind.
    static FILE: OnceLock<File> = OnceLock::new();
    let mut file = FILE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("criu-fuzz-{}.tar", std::process::id()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.expect("a file in the folder for temporary ones");
        _ = std::fs::remove_file(path);
        file
    });
    let stored = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
    stored.and_then(|_| file.write_all(data)).expect("a temporary file takes an input");
    let archive = match Tar::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
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
