//! Archives as engines write them, made by GNU tar of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_archive::metadata::Engine;
use criu_lab::scratch;

/// Bytes of the pages of each archive.
pub(crate) const PAGES: usize = 300 << 10;

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn write(directory: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Makes the archive of an engine, and returns it with the directory that it was made of.
pub(crate) fn archive_of(engine: Engine, name: &str) -> (PathBuf, PathBuf) {
    let top = scratch(name);
    let (files, tar) = (top.join("files"), top.join("a.tar"));
    let pages: Vec<u8> = (0..PAGES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    write(
        &files,
        &[
            ("checkpoint/inventory.img", b"inventory"),
            ("checkpoint/pages-1.img", &pages),
            ("checkpoint/descriptors.json", b"[\"/dev/null\",\"pipe:[7]\",\"pipe:[8]\"]"),
            ("stats-dump", b"stats"),
            ("site.note", b"of our own"),
        ],
    );
    let layer = top.join("layer");
    write(&layer, &[("etc/motd", b"changed\n"), ("etc/device", b"kept")]);
    match engine {
        Engine::Podman => {
            let config = r#"{"id":"aa11","name":"web","lockID":3,"staticDir":"/var/lib/c",
                "rootfsImageName":"docker.io/library/web:1","rootfsImageID":"bb22",
                "createdTime":"2026-05-01T12:30:00.5+02:00","runtime":"crun","siteField":[1,{"a":null}]}"#;
            let spec = r#"{"ociVersion":"1.2.1","process":{"args":["/web"],"env":["A=b"],
                "cwd":"/","user":{"uid":0,"gid":0,"umask":18},"ioPriority":{"class":"x"}},
                "annotations":{"io.container.manager":"libpod","site":"1"},
                "linux":{"namespaces":[{"type":"pid"}]},"siteField":{"deep":[[2]]}}"#;
            let network = r#"{"podman":{"interfaces":{"eth0":{"subnets":[{"ipnet":"10.88.0.5/16",
                "gateway":"10.88.0.1"}],"mac_address":"92:d0:c6:0a:29:33"}},"dns_server_ips":["1.1.1.1"]}}"#;
            write(
                &files,
                &[
                    ("config.dump", config.as_bytes()),
                    ("spec.dump", spec.as_bytes()),
                    ("network.status", network.as_bytes()),
                    ("deleted.files", b"[\"/etc/passwd.old\",\"/srv/old\"]"),
                    ("ctr.log", b"2026-05-01T12:30:00.5+02:00 stdout F hello\n"),
                    ("volumes/data.tar", &[0; 1024]),
                    ("devshm-checkpoint.tar", &[0; 1024]),
                ],
            );
            fs::create_dir(files.join("artifacts")).unwrap();
        }
        Engine::CriO => {
            let config = r#"{"id":"aa11","name":"k8s_web_pod_ns_uid_0","rootfsImage":"web:1",
                "rootfsImageRef":"sha256:bb22","rootfsImageName":"docker.io/library/web:1",
                "runtime":"runc","createdTime":"2026-05-01T10:30:00Z",
                "checkpointedTime":"2026-05-01T11:30:00Z","restoredTime":"0001-01-01T00:00:00Z",
                "restored":false,"siteField":1}"#;
            let spec = r#"{"ociVersion":"1.2.1","process":{"args":["/web"],"cwd":"/"},
                "annotations":{"io.container.manager":"cri-o",
                "io.kubernetes.cri-o.Metadata":"{\"name\":\"web\",\"attempt\":2}",
                "io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.name\":\"pod\",\"io.kubernetes.pod.namespace\":\"ns\",\"io.kubernetes.pod.uid\":\"uid\"}",
                "io.kubernetes.cri-o.Annotations":"{}","io.kubernetes.cri-o.IP.0":"10.85.0.3",
                "io.kubernetes.cri-o.SandboxID":"cc33","io.kubernetes.cri-o.ImageName":"docker.io/library/web:1"},
                "linux":{"namespaces":[{"type":"network","path":"/var/run/netns/x"}]}}"#;
            let mounts = r#"[{"source":"/etc/hosts","destination":"/etc/hosts","file_type":"file","permissions":420}]"#;
            write(
                &files,
                &[
                    ("config.dump", config.as_bytes()),
                    ("spec.dump", spec.as_bytes()),
                    ("bind.mounts", mounts.as_bytes()),
                    ("deleted.files", b"[\"/etc/passwd.old\",\"/srv/old\"]"),
                    (
                        "io.kubernetes.cri-o.LogPath",
                        b"2026-05-01T12:30:00.5+02:00 stdout F hello\n",
                    ),
                    ("dump.log", b"(00.000000) Version: 4.3\n"),
                ],
            );
        }
        _ => {
            let config = r#"{"id":"aa11","name":"web_pod_ns_uid_0","rootfsImage":"web:1",
                "rootfsImageRef":"docker.io/library/web@sha256:bb22","rootfsImageName":"docker.io/library/web:1",
                "runtime":"io.containerd.runc.v2","createdTime":"2026-05-01T10:30:00Z",
                "checkpointedTime":"2026-05-01T11:30:00Z","restoredTime":"0001-01-01T00:00:00Z",
                "restored":false}"#;
            let spec = r#"{"ociVersion":"1.2.1","process":{"args":["/web"],"cwd":"/"},
                "annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.container-type":"container",
                "io.kubernetes.cri.sandbox-name":"pod","io.kubernetes.cri.sandbox-namespace":"ns",
                "io.kubernetes.cri.sandbox-uid":"uid","io.kubernetes.cri.sandbox-id":"cc33"},
                "linux":{"namespaces":[{"type":"network","path":"/proc/88/ns/net"},{"type":"pid"}]}}"#;
            let status_dump = r#"{"id":"aa11","metadata":{"name":"web"},"state":1,"created_at":1777631400000000000,
                "started_at":1777631401000000000,"image":{"image":"docker.io/library/web:1"},
                "log_path":"/var/log/c.log","resources":{"linux":{}}}"#;
            let status = r#"{"Version":"v1","Pid":123,"CreatedAt":1777631400000000000,"StartedAt":1,
                "FinishedAt":0,"ExitCode":0,"Reason":"","Message":"","Restore":false}"#;
            write(
                &files,
                &[
                    ("config.dump", config.as_bytes()),
                    ("spec.dump", spec.as_bytes()),
                    ("status.dump", status_dump.as_bytes()),
                    ("status", status.as_bytes()),
                    ("container.log", b"2026-05-01T12:30:00.5+02:00 stdout F hello\n"),
                    ("dump.log", b"(00.000000) Version: 4.3\n"),
                ],
            );
            write(&layer, &[("etc/.wh.passwd.old", b""), (".wh.srv", b"")]);
        }
    }
    // containerd packs its layers.
    let packed = if engine == Engine::Containerd { "-czf" } else { "-cf" };
    let names = fs::read_dir(&layer).unwrap().map(|entry| entry.unwrap().file_name());
    let diff = files.join("rootfs-diff.tar");
    run(Command::new("tar")
        .arg("--format=pax")
        .arg("-C")
        .arg(&layer)
        .arg(packed)
        .arg(diff)
        .args(names));
    let names = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name());
    run(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&tar).args(names));
    (tar, files)
}
