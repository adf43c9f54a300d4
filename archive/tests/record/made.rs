//! A record with every field, and directories of checkpoints.

use std::fs;
use std::path::{Path, PathBuf};

use criu_archive::UNWATCHED;
use criu_archive::record::{
    Container, File, Holder, Host, Pod, Program, Record, Role, State, Tool, ToolKind,
};
use criu_archive::write::{Draft, Options};
use criu_lab::scratch;
use serde_json::{Value, json};

/// A record with every field of every object, and an unknown field in each.
pub(crate) fn whole() -> Value {
    json!({
        "version": 1, "made_by": "later 9", "time": "2026-11-30T12:30:00.5Z",
        "state": "hibernating", "x": [1, {"y": null}],
        "pod": {
            "name": "p", "namespace": "n", "uid": "u", "attempt": 2, "sandbox": "s",
            "runtime_handler": "h", "hostname": "w", "labels": {"a": "b"},
            "annotations": {"c": "d"}, "config": "AQI=", "config_json": {"metadata": {}}, "x": 1,
        },
        "containers": [{
            "name": "a", "id": "1", "attempt": 3, "x": 2,
            "tool": {
                "kind": "cloud-hypervisor", "version": "50", "format": "2", "runtime": "runc 1.3.6",
                "arguments": ["--a"], "features": ["b"], "x": 3,
            },
            "image": {"name": "i", "digest": "d", "x": 4},
            "config": "AwQ=", "config_json": {"image": {}}, "labels": {"selinux": "a:b:c:d"},
            "files": [{"path": "a/b", "role": "hologram", "size": 1, "x": 5,
                       "sha256": "0f".repeat(32)}],
            "needs": {
                "namespaces": ["net"], "x": 6,
                "mounts": [{"path": "/a", "source": "/b", "x": 7}],
                "connections": [{"protocol": "tcp", "local": "a", "remote": "b", "inside": true,
                                 "x": 8}],
            },
        }],
        "files": [{"path": "c", "role": "archive", "x": 18}],
        "shared_namespaces": ["ipc", "net"], "order": ["a"], "completed_init": ["i"],
        "host": {
            "name": "node", "kernel": "6.12", "architecture": "x86_64", "page_size": 4096, "x": 9,
            "cpu": {"vendor": "v", "name": "n", "model": [6, 85, 7], "features": ["avx"], "x": 10},
            "cgroups": {"version": "v3", "controllers": ["cpu"], "x": 11},
            "lsm": {"modules": ["yama"], "selinux_enforcing": true, "x": 12},
            "features": {"userfaultfd": true},
            "programs": [{"kind": "criu", "version": "4.3", "path": "/c",
                          "features": {"mem_track": false}, "x": 13}],
            "gpus": {"driver": "580", "devices": [], "x": 14},
        },
        "gpus": {
            "tool": "libcuda", "driver": "580", "cuda": "13.0", "storage": "tape",
            "job_file": "job", "one_by_one": true, "x": 15,
            "devices": [{"uuid": "GPU-1", "model": "m", "memory": 5, "pci": "0000:65:00.0",
                         "path": "/dev/nvidia0", "x": 16}],
            "processes": [{"container": "a", "pid": 1, "x": 17}],
        },
    })
}

/// A directory with the checkpoints of two containers, and its record, which is written there. The
/// machine of the record is this one, with the programs that are wanted.
pub(crate) fn directory(name: &str) -> (PathBuf, Record, Host) {
    let directory = scratch(name);
    let write = |path: &str, bytes: &[u8]| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("web.tar", &[7; 100_000]);
    write("db/core-1.img", b"core");
    write("db/pages-1.img", &vec![9; 3 << 20]);
    let holder = Holder::open(&directory).unwrap();
    let file = |path: &str, role| File::measured(&holder, path, role, UNWATCHED).unwrap();
    let mut record = Record::new("test 1");
    record.pod = Some(Pod::new("shop", "default", "1234"));
    let mut web = Container::new("web", "aa", Tool::new(ToolKind::Criu, "4.3"));
    web.files.push(file("web.tar", Role::Archive));
    let mut db = Container::new("db", "bb", Tool::new(ToolKind::Criu, "4.3"));
    db.files.push(file("db/core-1.img", Role::Image));
    db.files.push(file("db/pages-1.img", Role::Pages));
    record.containers = vec![web, db];
    let mut host = Host::here();
    record.host = Some(host.clone());
    host.programs = Some(vec![Program::new(ToolKind::Criu, "4.3", "/usr/sbin/criu")]);
    record.state.advance(State::Complete).unwrap();
    record.write(&directory).unwrap();
    (directory, record, host)
}

/// Makes an archive of a directory, whose members begin with `top`.
pub(crate) fn archive(directory: &Path, top: &str, to: &Path) {
    let mut draft = Draft::new();
    let holder = Holder::open(directory).unwrap();
    for (path, is_file) in holder.files().unwrap() {
        assert!(is_file, "{path}");
        draft.add_bytes(&format!("{top}{path}"), fs::read(directory.join(path)).unwrap()).unwrap();
    }
    draft.save(to, &Options::default(), UNWATCHED).unwrap();
}
