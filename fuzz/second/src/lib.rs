//! The messages of the images as types of protobuf-codegen. A crate of its own, because it takes
//! long to build. `messages!` hands the list of messages to a macro: name, our type, module and
//! type here.

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// The generated types.
#[allow(warnings, clippy::all, reason = "generated")]
pub mod second {
    include!(concat!(env!("OUT_DIR"), "/second/mod.rs"));
}
