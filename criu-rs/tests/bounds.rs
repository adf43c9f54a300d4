//! Bounds set by a program. A single test, because bounds belong to the whole process.

#![cfg(feature = "oci")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use criu_lab::scratch;
use criu_rs::config::Setting;
use criu_rs::oci::Container;
use criu_rs::rpc::{CriuReqType, CriuResp};
use criu_rs::{Criu, Dump, Pid, bounds};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use prost::Message;
use std::os::fd::AsRawFd;

#[test]
fn input_of_the_machine_that_passes_a_bound_is_refused() {
    a_log_is_searched_up_to_its_bound();
    a_configuration_file_has_a_bound();
    a_bundle_and_a_mount_list_have_bounds();
    assert!(bounds::ALL.iter().all(|bound| bound.get() == bound.default_value()));
}

/// A criu that writes a log of two lines, and fails. Returns the text of the dump's error.
fn failing_dump() -> String {
    let images = scratch("bounds-log");
    let log = images.join("dump.log");
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let criu = std::thread::spawn(move || {
        recv(theirs.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()).unwrap();
        let lines = "(00.000001) A line\n(00.000002) Error (criu/files.c:1): Out of tea\n";
        fs::write(log, lines).unwrap();
        let kind = CriuReqType::Dump.into();
        let answer = CriuResp { r#type: kind, success: false, ..Default::default() };
        send(theirs.as_raw_fd(), &answer.encode_to_vec(), MsgFlags::empty()).unwrap();
    });
    let error = Dump::new(Pid::this(), &images).run(&Criu::connected(ours)).unwrap_err();
    criu.join().unwrap();
    error.to_string()
}

fn a_log_is_searched_up_to_its_bound() {
    assert!(failing_dump().contains("Out of tea"));
    bounds::LOG.raise(20);
    let error = failing_dump();
    assert!(!error.contains("tea"), "{error}");
    bounds::LOG.raise(bounds::LOG.default_value());
}

fn a_configuration_file_has_a_bound() {
    let file = scratch("bounds-config").join("x.conf");
    fs::write(&file, "tcp-established\n").unwrap();
    Setting::read(&file).unwrap();
    bounds::CRIU_CONFIG.raise(8);
    let error = Setting::read(&file).unwrap_err().to_string();
    assert!(error.contains("more than 8 bytes"), "{error}");
    bounds::CRIU_CONFIG.raise(bounds::CRIU_CONFIG.default_value());
}

fn a_bundle_and_a_mount_list_have_bounds() {
    let bundle = scratch("bounds-bundle");
    fs::create_dir(bundle.join("rootfs")).unwrap();
    let config = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}"#;
    fs::write(bundle.join("config.json"), config).unwrap();
    let container = Container::open(&bundle).unwrap();
    bounds::CONFIG.raise(8);
    let error = Container::open(&bundle).unwrap_err();
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error} {why}").contains("the limit of 8 bytes"), "{error} {why}");
    bounds::CONFIG.raise(bounds::CONFIG.default_value());

    bounds::MOUNTS.raise(8);
    let error = container.checkpoint(Pid::this()).unwrap_err();
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error} {why}").contains("has more than 8 bytes"), "{error} {why}");
    bounds::MOUNTS.raise(bounds::MOUNTS.default_value());
}
