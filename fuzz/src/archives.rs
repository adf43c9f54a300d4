//! Seeds of archives: metadata of engines, links of every sort, documents of images.

use crate::pack::Seeds;

/// Archives and documents made by hand.
pub(crate) fn seeds() -> Seeds {
    let podman = [
        ("config.dump", PODMAN_CONFIG),
        ("spec.dump", PODMAN_SPEC),
        ("network.status", NETWORK),
        ("deleted.files", r#"["/etc/passwd.old"]"#),
        ("checkpoint/descriptors.json", r#"["/dev/null","pipe:[81]","pipe:[82]"]"#),
        ("ctr.log", "2026-11-30T04:42:30.1+00:00 stdout F 1\n"),
    ];
    let containerd = [
        ("config.dump", CONTAINERD_CONFIG),
        ("spec.dump", CONTAINERD_SPEC),
        ("status.dump", STATUS),
        ("status", KEPT),
        ("container.log", ""),
    ];
    let crio = [
        ("config.dump", CRIO_CONFIG),
        ("spec.dump", CRIO_SPEC),
        ("bind.mounts", BIND_MOUNTS),
        ("pod.options", r#"{"version":1,"containers":{"a":"a.tar"},"annotations":{"b":"c"}}"#),
    ];
    vec![
        ("archive", "podman".to_owned(), metadata(&podman)),
        ("archive", "containerd".to_owned(), metadata(&containerd)),
        ("archive", "crio".to_owned(), metadata(&crio)),
        ("archive", "links".to_owned(), links()),
        ("archive", "manifest".to_owned(), MANIFEST.into()),
        ("archive", "index".to_owned(), INDEX.into()),
        ("archive", "gvisor".to_owned(), gvisor()),
        ("archive", "qemu".to_owned(), qemu()),
        ("archive", "firecracker".to_owned(), firecracker()),
    ]
}

/// Makes an archive of metadata, with changed files and a whiteout.
fn metadata(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, text) in files {
        member(name, "0", text.as_bytes(), &mut archive);
    }
    let mut diff = Vec::new();
    member("etc/", "5", &[], &mut diff);
    member("etc/motd", "0", b"changed", &mut diff);
    member("etc/.wh.hosts", "0", &[], &mut diff);
    member("var/.wh..wh..opq", "0", &[], &mut diff);
    diff.resize(diff.len() + 1024, 0);
    member("rootfs-diff.tar", "0", &diff, &mut archive);
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Makes an archive with links of every sort, inside and out.
fn links() -> Vec<u8> {
    let mut archive = Vec::new();
    member("a/", "5", &[], &mut archive);
    member("a/file", "0", b"1", &mut archive);
    for (name, sort, target) in [
        ("a/up", "2", "../a/file"),
        ("a/out", "2", "../../etc"),
        ("root", "2", "/etc/passwd"),
        ("b/same", "1", "a/file"),
        ("moved", "1", "a/up"),
    ] {
        member("target", "K", &[target.as_bytes(), b"\0"].concat(), &mut archive);
        member(name, sort, &[], &mut archive);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Makes the head of a state file of gVisor, and a piece of state.
fn gvisor() -> Vec<u8> {
    let map = br#"{"compression":"none","container_count":"2","timestamp":"2026-11-30"}"#;
    [b"gVisorSF", &(map.len() as u64).to_be_bytes()[..], map, b"state"].concat()
}

/// Makes the beginning of a migration stream of QEMU.
fn qemu() -> Vec<u8> {
    let ram = [&0x4_0004u64.to_be_bytes()[..], b"\x06pc.ram", &0x4_0000u64.to_be_bytes(), &[0; 8]];
    let head = b"QEVM\0\0\0\x03\x07\0\0\0\x0apc-q35-7.2\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";
    [&head[..], &ram.concat()].concat()
}

/// Makes the head of a state file of Firecracker.
fn firecracker() -> Vec<u8> {
    let head = [0x0710_1984_8664_0000u64.to_le_bytes(), 5u64.to_le_bytes()];
    [&head.concat()[..], b"5.0.0", &[0; 40]].concat()
}

/// Adds a member of a sort to an archive.
pub(crate) fn member(name: &str, sort: &str, content: &[u8], archive: &mut Vec<u8>) {
    let mut head = [0; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, sort);
    put(257, "ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(head);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Words of archives and their metadata.
pub(crate) const WORDS: [&str; 16] = [
    "../",
    "./",
    "a/",
    ".wh.",
    "config.dump",
    "spec.dump",
    "checkpoint/",
    "rootfs-diff.tar",
    "sha256:",
    "SCHILY.realsize=",
    "GNU.sparse.major=",
    "uid=",
    "gid=",
    "mtime=",
    "\\x28\\xb5\\x2f\\xfd",
    "\\x1f\\x8b",
];

const PODMAN_CONFIG: &str = r#"{"id":"4711","name":"counter","rootfsImageID":"abcd",
"rootfsImageName":"docker.io/library/busybox:latest","RawImageName":"busybox","runtime":"runc",
"createdTime":"2026-11-30T04:42:28.5Z","checkpointedTime":"2026-11-30T05:42:30.123456789+01:00",
"restoredTime":"0001-01-01T00:00:00Z","restored":false,"checkpointRestore":{}}"#;

const PODMAN_SPEC: &str = r#"{"ociVersion":"1.2.1","hostname":"c","process":{"user":{"uid":0,
"gid":0},"args":["/counter","4"],"env":["PATH=/bin"],"cwd":"/","capabilities":{"bounding":
["CAP_KILL"]},"noNewPrivileges":true,"apparmorProfile":"p"},"root":{"path":"/r"},"mounts":
[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid"]}],"linux":{"seccomp":
{"defaultAction":"SCMP_ACT_ERRNO"},"namespaces":[{"type":"pid"}]},"annotations":
{"io.container.manager":"libpod"}}"#;

const NETWORK: &str = r#"{"podman":{"interfaces":{"eth0":{"subnets":[{"ipnet":"10.88.0.5/16",
"gateway":"10.88.0.1"}],"mac_address":"92:d0:c6:0a:29:33"}},"dns_server_ips":[]}}"#;

const CONTAINERD_CONFIG: &str = r#"{"id":"130f","name":"c_pod_tests_pod-uid_0","rootfsImage":
"a/count:1","rootfsImageRef":"a/count@sha256:00","rootfsImageName":"a/count:1","runtime":
"io.containerd.runc.v2","createdTime":"2026-11-30T04:58:09.5Z","restored":false}"#;

const CONTAINERD_SPEC: &str = r#"{"ociVersion":"1.2.1","process":{"args":["/bin/sh"],"cwd":"/"},
"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-name":
"pod","io.kubernetes.cri.sandbox-namespace":"tests","io.kubernetes.cri.sandbox-id":"9ffd"}}"#;

const STATUS: &str = r#"{"id":"130f","metadata":{"name":"c"},"state":1,"created_at":1764478689533,
"started_at":1764478689600,"image":{"image":"a/count:1"},"image_ref":"a/count@sha256:00",
"labels":{"a":"b"},"mounts":[{"container_path":"/data","host_path":"/d"}],"log_path":"/l"}"#;

const KEPT: &str = r#"{"Version":"v1","Pid":12,"CreatedAt":1,"StartedAt":2,"FinishedAt":0,
"ExitCode":0,"Reason":"","Message":"","Unknown":false,"Resources":null}"#;

const CRIO_CONFIG: &str = r#"{"id":"8","name":"k8s_c_pod_ns_1_0","rootfsImageName":"q.io/c:1",
"runtime":"runc","checkpointedTime":"2026-11-30T04:42:30Z"}"#;

const CRIO_SPEC: &str = r#"{"ociVersion":"1.0.2","annotations":{"io.container.manager":"cri-o",
"io.kubernetes.cri-o.Metadata":"{\"name\":\"c\",\"attempt\":1}",
"io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.name\":\"pod\"}",
"io.kubernetes.cri-o.SandboxID":"77","io.kubernetes.pod.namespace":"ns"}}"#;

const BIND_MOUNTS: &str = r#"[{"source":"/s","destination":"/d","file_type":"directory",
"permissions":493}]"#;

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":
"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":
"application/vnd.oci.image.config.v1+json","digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":
[{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7,
"annotations":{"io.github.criu-rs.toc.position":"1:2"}}],"annotations":{"a":"b"}}"#;

const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",
"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7,"platform":
{"architecture":"amd64","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"v1"}}],
"annotations":null}"#;
