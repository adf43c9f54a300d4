//! Records of checkpoints: written, read, and refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use criu_archive::record::{Container, Record, State, Tool, ToolKind};
use criu_lab::scratch;
use serde_json::{Value, json};

#[test]
fn unknown_fields_of_every_object_stay() {
    let object = json!({
        "version": 1, "made_by": "later 9", "state": "hibernating", "x": [1, {"y": null}],
        "pod": {"name": "p", "namespace": "n", "uid": "u", "sandbox": "s", "config": "AQI=", "x": 1},
        "containers": [{
            "name": "a", "id": "1", "x": 2,
            "tool": {"kind": "cloud-hypervisor", "version": "50", "x": 3},
            "image": {"name": "i", "digest": "d", "x": 4},
            "files": [{"path": "a/b", "role": "hologram", "size": 1, "x": 5,
                       "sha256": "00".repeat(32)}],
            "needs": {
                "namespaces": ["net"], "x": 6,
                "mounts": [{"path": "/a", "source": "/b", "x": 7}],
                "connections": [{"protocol": "tcp", "local": "a", "remote": "b", "inside": true,
                                 "x": 8}],
            },
        }],
        "host": {
            "name": "node", "kernel": "6.12", "architecture": "x86_64", "x": 9,
            "cpu": {"vendor": "v", "name": "n", "features": [], "x": 10},
            "cgroups": {"version": "v3", "controllers": [], "x": 11},
            "lsm": {"modules": [], "x": 12},
            "programs": [{"kind": "criu", "version": "4.3", "path": "/c", "x": 13}],
            "gpus": {"driver": "580", "devices": [], "x": 14},
        },
        "gpus": {
            "driver": "580", "x": 15, "storage": "tape",
            "devices": [{"uuid": "GPU-1", "model": "m", "x": 16}],
            "processes": [{"container": "a", "pid": 1, "x": 17}],
        },
    });
    let record = Record::parse(object.to_string().as_bytes()).unwrap();
    assert_eq!(record.state, State::Other("hibernating".into()));
    let again: Value = serde_json::from_slice(&record.to_json().unwrap()).unwrap();
    assert_eq!(again, object);
}

#[test]
fn a_record_is_written_and_read() {
    let mut record = Record::new("test 1");
    record.containers.push(Container::new("a", "1", Tool::new(ToolKind::Criu, "4.3")));
    let directory = scratch("record-written");
    record.write(&directory).unwrap();
    assert_eq!(Record::open(&directory).unwrap(), record);
}
