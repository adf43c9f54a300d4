//! The messages of the images as types of protobuf-codegen, a crate of its own because it takes long to build. And
//! `messages!`, which hands a macro the list of them: name, our type, module and type here.

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// The types.
#[allow(warnings, clippy::all, reason = "generated")]
pub mod second {
    include!(concat!(env!("OUT_DIR"), "/second/mod.rs"));
}
