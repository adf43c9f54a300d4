//! A root file system that this same program runs in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use procfs::process::{MMapPath, Process};

/// Puts this program into `root` as `/payload`, and its libraries into `/lib64`.
pub fn place_program(root: &Path) {
    let program = root.join("payload");
    fs::copy("/proc/self/exe", &program).unwrap();
    everybody(&program, 0o755);
    let maps = Process::myself().unwrap().maps().unwrap();
    for map in maps {
        let MMapPath::Path(path) = map.pathname else { continue };
        if path.to_string_lossy().contains(".so") {
            // By the name that programs want: of libc.so.6.1, libc.so.6.
            let name = path.file_name().unwrap().to_str().unwrap();
            let end = name.split_once(".so.").and_then(|(_, rest)| rest.find('.'));
            let end = end.map_or(name.len(), |at| name.find(".so.").unwrap() + 4 + at);
            let copy = root.join("lib64").join(&name[..end]);
            if !copy.exists() {
                fs::copy(&path, &copy).unwrap();
                everybody(&copy, 0o755);
            }
        }
    }
}

/// Opens the folders on the way to `root` to the users of user namespaces.
pub fn open_the_way(root: &Path) {
    for folder in
        root.ancestors().skip(1).take_while(|f| f.ends_with("tmp") || f != &Path::new("/"))
    {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        if mode & 0o001 == 0 {
            everybody(folder, mode | 0o011);
        }
    }
}

/// Sets a mode, whatever the umask.
pub fn everybody(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
