//! Finds libcriu and tells cargo how to link it.

use std::env;
use std::path::Path;

fn main() {
    for name in [LIB_DIR, STATIC, DOCS_RS] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    // Documentation links nothing, and its builders have no libcriu.
    if env::var_os(DOCS_RS).is_some() {
        return;
    }
    let is_static = env::var(STATIC).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let found = match env::var_os(LIB_DIR).filter(|dir| !dir.is_empty()) {
        Some(dir) => in_folder(Path::new(&dir), is_static),
        None => installed(is_static),
    };
    if let Err(message) = found {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

/// Links what lies in a folder.
fn in_folder(dir: &Path, is_static: bool) -> Result<(), String> {
    let has = |name: &str| dir.join(name).exists();
    let wanted = if is_static { "libcriu.a" } else { "libcriu.so" };
    if !has(wanted) {
        return Err(format!("{LIB_DIR} is {}, where there is no {wanted}", dir.display()));
    }
    search(dir);
    if is_static {
        if !has("libprotobuf-c.a") {
            search_for(&pkg_config("libprotobuf-c", is_static)?);
        }
        link_statically();
        return Ok(());
    }
    link("criu");
    // Some linkers look for what libcriu needs themselves, and not in this folder.
    if has("libprotobuf-c.so") {
        link("protobuf-c");
    }
    Ok(())
}

/// Links what pkg-config knows.
fn installed(is_static: bool) -> Result<(), String> {
    let criu = pkg_config("criu", is_static)?;
    search_for(&criu);
    if is_static {
        // Its file does not say what it needs.
        search_for(&pkg_config("libprotobuf-c", is_static)?);
        link_statically();
    } else {
        criu.libs.iter().for_each(|name| link(name));
    }
    Ok(())
}

fn pkg_config(name: &str, is_static: bool) -> Result<pkg_config::Library, String> {
    let mut config = pkg_config::Config::new();
    config.cargo_metadata(false).env_metadata(true).statik(is_static);
    config.probe(name).map_err(|error| match error {
        pkg_config::Error::Command { cause, .. } => {
            format!("cannot look for libcriu: pkg-config does not start: {cause}\n{INSTALL}")
        }
        _ => format!("libcriu is not here: pkg-config knows no {name}.pc\n{INSTALL}"),
    })
}

fn search_for(package: &pkg_config::Library) {
    package.link_paths.iter().for_each(|dir| search(dir));
}

/// Links libcriu, and after it the one library that it needs.
fn link_statically() {
    for name in ["criu", "protobuf-c"] {
        println!("cargo::rustc-link-lib=static={name}");
    }
}

fn search(dir: &Path) {
    println!("cargo::rustc-link-search=native={}", dir.display());
}

fn link(name: &str) {
    println!("cargo::rustc-link-lib=dylib={name}");
}

/// A folder to take libcriu from, instead of asking pkg-config.
const LIB_DIR: &str = "CRIU_LIB_DIR";

/// Links statically unless it is empty or 0.
const STATIC: &str = "CRIU_STATIC";

/// Set where docs.rs builds.
const DOCS_RS: &str = "DOCS_RS";

const INSTALL: &str = "\
    install pkg-config and libcriu's development package:\n\
    Debian from 13 and Ubuntu: libcriu-dev (Debian 12: criu); Fedora: criu-devel; Alpine: criu-dev; \
    Arch: criu; others with RPM packages: what provides pkgconfig(criu)\n\
    or set CRIU_LIB_DIR to the folder that holds libcriu.so (with CRIU_STATIC=1: libcriu.a)";
