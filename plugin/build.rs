//! Tells the linker that the plugin stays loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // CRIU unloads its plugins before it has finished, and still calls through the slot that the
    // plugin has changed.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
