//! The features of the libraries: each is checked without the others. Those of criu-rs are weighed
//! in a program.

use std::fs;
use std::path::Path;

use crate::steps::Step;
use crate::workspace::{cargo, root, target_dir};
use crate::{Result, process};

/// Makes the steps that check libraries with few of their features. A warning is a failure.
pub(crate) fn steps() -> Vec<Step> {
    FEW.iter()
        .map(|(name, package, part, features)| {
            let mut clippy = cargo(&["clippy", "--package", package, part]);
            clippy.args(["--no-default-features", "--features", features]);
            clippy.args(["--", "--deny", "warnings"]);
            Step::new(name, clippy)
        })
        .collect()
}

/// Builds a small runtime with each set of features, and prints how large the programs are.
///
/// # Errors
/// If a program does not build.
pub(crate) fn sizes() -> Result<()> {
    let folder = target_dir().join("sizes");
    let mut before: Option<u64> = None;
    println!("| features of criu-rs | bytes of the program | more than the line above |");
    println!("| --- | --- | --- |");
    for (name, features) in SIZES {
        let size = size(&folder, *features)?;
        let more =
            before.map_or(String::new(), |before| format!("{}", size.saturating_sub(before)));
        println!("| {name} | {size} | {more} |");
        before = Some(size);
    }
    Ok(())
}

/// Builds the program with these features, or without criu-rs. Returns its size in bytes.
fn size(folder: &Path, features: Option<&str>) -> Result<u64> {
    let library = root().join("criu-rs");
    let (dependency, main) = match features {
        Some(features) => {
            let list = features.split(',').map(|name| format!("{name:?}"));
            let list = list.collect::<Vec<_>>().join(", ");
            let dependency = format!(
                "criu-rs = {{ path = {library:?}, default-features = false, features = [{list}] }}"
            );
            (dependency, fs::read_to_string(library.join("examples/runtime.rs"))?)
        }
        None => (
            "[dependencies.oci-spec]\nversion = \"0.10\"\ndefault-features = false\n\
             features = [\"runtime\"]\n\n[dependencies.serde_json]\nversion = \"1\""
                .into(),
            BARE.into(),
        ),
    };
    let manifest = format!(
        "[package]\nname = \"runtime\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [profile.release]\nlto = \"thin\"\ncodegen-units = 1\nstrip = true\n\n\
         [dependencies]\n{dependency}\n"
    );
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/main.rs"), main)?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let mut build = cargo(&["build", "--release", "--offline", "--quiet"]);
    build.current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target"));
    let output = process::finish(&mut build)?;
    if !output.status.success() {
        return Err(format!("the program does not build:\n{}", process::said(&output)).into());
    }
    Ok(fs::metadata(folder.join("target/release/runtime"))?.len())
}

/// Steps with the package, its part, and the features that they check.
const FEW: &[(&str, &str, &str, &str)] = &[
    ("features none", "criu-rs", "--lib", ""),
    ("features oci", "criu-rs", "--lib", "oci"),
    ("features pages", "criu-rs", "--lib", "pages"),
    ("features lazy", "criu-rs", "--lib", "lazy"),
    ("features archive", "criu-rs", "--lib", "archive"),
    ("features instant", "criu-rs", "--lib", "instant"),
    ("features firecracker", "criu-rs", "--lib", "firecracker"),
    ("criu-cri none", "criu-cri", "--lib", ""),
    ("criu-images none", "criu-images", "--all-targets", ""),
    ("criu-images serde", "criu-images", "--all-targets", "serde"),
    ("criu-archive none", "criu-archive", "--all-targets", ""),
    ("criu-archive gzip", "criu-archive", "--all-targets", "gzip"),
];

/// The sets of features that are weighed, each more than the one before.
const SIZES: &[(&str, Option<&str>)] = &[
    ("without criu-rs: reads `config.json` with oci-spec", None),
    ("`oci`", Some("oci")),
    ("`oci`, `pages`", Some("oci,pages")),
    ("`oci`, `pages`, `pod`", Some("oci,pages,pod")),
    ("`oci`, `pages`, `pod`, `preflight`", Some("oci,pages,pod,preflight")),
    (
        "`oci`, `pages`, `pod`, `preflight`, `lazy` (the default, and `oci`)",
        Some("oci,pages,pod,preflight,lazy"),
    ),
];

/// The source of a runtime without criu-rs.
const BARE: &str = r#"
fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    let bytes = std::fs::read(path).unwrap_or_default();
    match serde_json::from_slice::<oci_spec::runtime::Spec>(&bytes) {
        Ok(spec) => println!("{spec:?}"),
        Err(error) => println!("{error}"),
    }
}
"#;
