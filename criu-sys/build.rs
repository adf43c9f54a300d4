//! Finds libcriu and tells cargo how to link it.

use std::env;
use std::path::Path;

fn main() {
    for name in [LIB_DIR, STATIC, DOCS_RS] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    // Documentation links nothing, and docs.rs has no libcriu.
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

/// Links the libcriu in a folder.
fn in_folder(dir: &Path, is_static: bool) -> Result<(), String> {
    let has = |name: &str| dir.join(name).exists();
    let wanted = if is_static { "libcriu.a" } else { "libcriu.so" };
    if !has(wanted) {
        return Err(format!("found no {wanted} in {}, the folder of {LIB_DIR}", dir.display()));
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
    // Some linkers look for libprotobuf-c themselves, and not in this folder.
    if has("libprotobuf-c.so") {
        link("protobuf-c");
    }
    Ok(())
}

/// Links the libcriu that pkg-config finds.
fn installed(is_static: bool) -> Result<(), String> {
    let criu = pkg_config("criu", is_static)?;
    search_for(&criu);
    if is_static {
        // criu.pc does not name libprotobuf-c.
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
            format!("cannot look for libcriu: cannot start pkg-config: {cause}\n{INSTALL}")
        }
        _ => format!("found no libcriu: pkg-config has no {name}.pc\n{INSTALL}"),
    })
}

fn search_for(package: &pkg_config::Library) {
    package.link_paths.iter().for_each(|dir| search(dir));
}

/// Links libcriu, and after it libprotobuf-c, the library that libcriu needs.
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

/// The variable with a folder that holds libcriu. Without it pkg-config is asked.
const LIB_DIR: &str = "CRIU_LIB_DIR";

/// The variable that asks for static libraries, unless it is empty or 0.
const STATIC: &str = "CRIU_STATIC";

/// The variable that docs.rs sets.
const DOCS_RS: &str = "DOCS_RS";

const INSTALL: &str = "\
    install pkg-config and libcriu's development package:\n\
    Debian from 13 and Ubuntu: libcriu-dev (Debian 12: criu); Fedora: criu-devel; \
    Alpine: criu-dev; Arch: criu; other RPM systems: the package that provides pkgconfig(criu)\n\
    or set CRIU_LIB_DIR to the folder that holds libcriu.so (with CRIU_STATIC=1: libcriu.a)";
