//! Records of checkpoints, and the manifests of engines.

use criu_archive::record::{Container, File, Holder, Host, Pod, Record, Role, Tool, ToolKind};
use criu_archive::write::{Draft, Options};
use criu_archive::{Archive, Error, UNWATCHED};
use criu_images::Text;
use criu_images::source::Blob;

/// Reads a record, or an archive with files of an engine. The first byte chooses. Files follow on
/// one another with a zero byte between them: the manifest, the configuration of the sandbox, and
/// the index in the archive of a container.
pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 2 {
        0 => match Record::parse(bytes) {
            Ok(record) => consistent(&record, &holder(&[])),
            Err(error) => printable(&error),
        },
        _ => engine(bytes),
    }
}

fn engine(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default().to_vec();
    let (manifest, pod, index) = (part(), part(), part());
    let archive = packed(&[("index.json", index)]);
    let holder = holder(&[
        ("checkpoint-manifest.json", manifest),
        ("pod-config.json", pod),
        ("c0.tar", archive),
    ]);
    for read in [Record::of_cri_o(&holder), Record::of_containerd(&holder)] {
        match read {
            Ok(record) => {
                assert!(!record.containers.is_empty() && record.pod.is_some());
                consistent(&record, &holder);
            }
            Err(error) => printable(&error),
        }
    }
    _ = Record::of_any(&holder);
}

/// Checks what all users of a record rely on.
fn consistent(record: &Record, holder: &Holder) {
    for file in record.all_files() {
        let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
        assert!(file.path.split('/').all(is_part), "{:?} leads out", file.path);
    }
    let written = record.to_json().expect("what is read can be written");
    let again = Record::parse(&written).expect("what is written can be read");
    assert_eq!(again, *record, "another record is read");
    let mut host = record.host.clone().unwrap_or_default();
    host.programs = Some(Vec::new());
    let findings = record.verify(&host, holder, UNWATCHED).expect("nobody stops it");
    for finding in findings {
        let said = format!("{finding}{}", finding.hint);
        assert!(!said.contains(Text::hides), "not fit for a terminal: {said:?}");
    }
}

fn printable(error: &Error) {
    assert!(!error.to_string().contains(Text::hides), "not fit for a terminal");
}

fn holder(files: &[(&str, Vec<u8>)]) -> Holder {
    let archive = Archive::new("a.tar", Blob::from(packed(files)));
    Holder::archive(&archive.expect("an archive of ours"))
}

fn packed(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut draft, mut bytes) = (Draft::new(), Vec::new());
    for (path, content) in files {
        draft.add_bytes(path, content.clone()).expect("a name of ours");
    }
    draft.write("a.tar", &mut bytes, &Options::default(), UNWATCHED).expect("written to memory");
    bytes
}

/// A record, and manifests of both engines.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut record = Record::new("seed 1");
    record.pod = Some(Pod::new("shop", "default", "1234"));
    let mut host = Host::default();
    host.kernel = "6.12.48".into();
    host.architecture = "x86_64".into();
    host.cpu.features = ["avx2", "fpu", "gfni"].map(str::to_owned).into();
    host.features.insert("userfaultfd".into(), true);
    record.host = Some(host);
    for (kind, version) in [(ToolKind::Criu, "4.3"), (ToolKind::Runsc, "20240729.0")] {
        let name = kind.word().to_owned();
        let mut container = Container::new(name, "aa11", Tool::new(kind, version));
        container.files.push(File::new(format!("{}/a.img", container.name), Role::Image));
        container.labels.insert("apparmor".into(), "web (enforce)".into());
        record.containers.push(container);
    }
    let record = record.to_json().expect("a record of ours");
    let pod = r#"{"metadata":{"name":"shop","uid":"1","namespace":"d"},"labels":{"a":"b"}}"#;
    let zeros = "0".repeat(64);
    let cri_o = format!(
        r#"{{"version":1,"runtime":"cri-o","runtimeHandler":"","sandboxId":"5a","containers":[{{
        "name":"a","id":"1","archive":"c0.tar","sha256":"{zeros}","config":{{"image":{{"image":"i"}}}}
        }}]}}"#
    );
    let containerd = r#"{"version":2,"sandboxId":"5a","containers":[{"name":"a","id":"1",
        "archive":"c0.tar","config":{"metadata":{"attempt":1}},"status":{}}]}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"annotations":{{"io.containerd.checkpoint.runtime":"runc.v2"}},
        "manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","size":2,
        "digest":"sha256:{zeros}"}}]}}"#
    );
    vec![
        [&[0][..], &record].concat(),
        [&[1][..], cri_o.as_bytes(), &[0], pod.as_bytes(), &[0], index.as_bytes()].concat(),
        [&[1][..], containerd.as_bytes(), &[0], pod.as_bytes(), &[0], index.as_bytes()].concat(),
    ]
}
