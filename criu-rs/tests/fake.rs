//! Faults that a real CRIU does not produce on demand, from a fake one on a socket pair.

#![allow(clippy::unwrap_used)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use criu_lab::scratch;
use criu_rs::rpc::{
    CriuNotify, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp, CriuVersion,
    ProtocolError,
};
use criu_rs::{
    AfterDump, Criu, Dump, End, Error, HookResult, Hooks, Pid, Restore, StopMethod, Version,
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use prost::Message;

/// CRIU's end of a connection.
struct Fake(OwnedFd);

impl Fake {
    fn receive(&self) -> CriuReq {
        let mut bytes = vec![0; 1 << 20];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::empty();
        let length = recvmsg::<()>(self.0.as_raw_fd(), &mut parts, None, flags).unwrap().bytes;
        CriuReq::decode(&bytes[..length]).unwrap()
    }

    fn send(&self, reply: &CriuResp) {
        self.send_bytes(&reply.encode_to_vec(), &[]);
    }

    fn send_bytes(&self, bytes: &[u8], fds: &[i32]) {
        let part = [IoSlice::new(bytes)];
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let sent = sendmsg::<()>(self.0.as_raw_fd(), &part, rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Sends a notification and returns the answer.
    fn notify(&self, script: &str, pid: Option<i32>) -> CriuReq {
        self.send_bytes(&notification(script, pid), &[]);
        let answer = self.receive();
        assert_eq!(answer.r#type(), CriuReqType::Notify);
        answer
    }
}

fn notification(script: &str, pid: Option<i32>) -> Vec<u8> {
    let notify = Some(CriuNotify { script: Some(script.into()), pid });
    CriuResp { notify, ..reply(CriuReqType::Notify, true) }.encode_to_vec()
}

fn reply(kind: CriuReqType, success: bool) -> CriuResp {
    CriuResp { r#type: kind.into(), success, ..Default::default() }
}

/// A fake that does what the closure says.
fn fake<T: Send + 'static>(act: impl FnOnce(Fake) -> T + Send + 'static) -> (Criu, JoinHandle<T>) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    (Criu::connected(ours), std::thread::spawn(move || act(Fake(theirs))))
}

fn dump(name: &str) -> Dump<'static> {
    Dump::new(Pid::this(), scratch(&format!("fake-{name}")))
}

#[test]
fn a_refused_request_keeps_all_that_criu_said() {
    let (criu, thread) = fake(|fake| {
        let request = fake.receive();
        let answer = CriuResp {
            cr_errno: Some(17),
            cr_errmsg: Some(b"Error (criu/x.c:1): no\xff\x1b[31m\n".to_vec()),
            restore: Some(CriuRestoreResp { pid: 4711 }),
            ..reply(CriuReqType::Restore, false)
        };
        fake.send(&answer);
        request
    });
    let error = Restore::new(scratch("fake-refused")).shell_job(true).run(&criu).unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(failure.end, End::Refused);
    assert_eq!(failure.errno, Some(17));
    assert_eq!(failure.message.as_deref(), Some("Error (criu/x.c:1): no\u{fffd}\\u{1b}[31m"));
    assert_eq!(failure.root, Pid::new(4711));
    assert!(error.to_string().contains("File exists"), "{error}");
    let opts = thread.join().unwrap().opts.unwrap();
    assert_eq!((opts.shell_job, opts.notify_scripts), (Some(true), Some(true)));
    assert!(opts.images_dir_fd > 2);
}

#[test]
fn a_nack_comes_back_with_its_source() {
    #[derive(Debug)]
    struct Mine;
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("mine")
        }
    }
    impl std::error::Error for Mine {}
    struct No;
    impl Hooks for No {
        fn post_dump(&mut self) -> HookResult {
            Err(Box::new(Mine))
        }
    }
    let (criu, thread) = fake(|fake| {
        fake.receive();
        let go_on = fake.notify("pre-dump", None);
        let refused = fake.notify("post-dump", None);
        fake.send(&reply(CriuReqType::Dump, false));
        (go_on.notify_success, refused.notify_success)
    });
    match dump("nack").run_with(&criu, &mut No) {
        Err(Error::Hook { action, source }) => {
            assert_eq!(action.name(), "post-dump");
            assert!(source.downcast_ref::<Mine>().is_some());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(thread.join().unwrap(), (Some(true), Some(false)));
}

#[test]
fn an_empty_reply_means_that_the_request_was_not_understood() {
    let (criu, thread) = fake(|fake| {
        fake.receive();
        fake.send(&reply(CriuReqType::Empty, false));
    });
    let error = dump("empty").run(&criu).unwrap_err();
    assert_eq!(error.failure().unwrap().end, End::NotUnderstood, "{error}");
    assert!(error.to_string().starts_with("criu did not understand the dump request"), "{error}");
    thread.join().unwrap();
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    #[derive(Default)]
    struct Count {
        masters: usize,
        other: Vec<(String, usize)>,
    }
    impl Hooks for Count {
        fn orphan_pts_master(&mut self, _: OwnedFd) -> HookResult {
            self.masters += 1;
            Ok(())
        }
        fn other(&mut self, action: &str, _: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
            self.other.push((action.into(), fds.len()));
            Ok(())
        }
    }
    let (criu, thread) = fake(|fake| {
        fake.receive();
        let (read, write) = nix::unistd::pipe().unwrap();
        let fd = write.as_raw_fd();
        for (script, fds) in [
            ("pre-restore", &[fd, fd][..]),
            ("orphan-pts-master", &[fd]),
            ("pre-tea", &[fd, fd, fd]),
        ] {
            fake.send_bytes(&notification(script, None), fds);
            assert_eq!(fake.receive().notify_success, Some(true));
        }
        let mut last = reply(CriuReqType::Restore, true);
        last.restore = Some(CriuRestoreResp { pid: 4711 });
        fake.send_bytes(&last.encode_to_vec(), &[fd]);
        drop(write);
        read
    });
    let mut hooks = Count::default();
    let restored = Restore::new(scratch("fake-fds")).run_with(&criu, &mut hooks).unwrap();
    assert_eq!(restored.pid.as_raw(), 4711);
    assert_eq!((hooks.masters, hooks.other), (1, vec![("pre-tea".into(), 3)]));
    // With every copy of the writing end closed, the pipe is at its end.
    let read = thread.join().unwrap();
    let mut byte = [0];
    assert_eq!(nix::unistd::read(&read, &mut byte), Ok(0), "a descriptor is still open");
}

#[test]
fn criu_dying_in_mid_answer_is_told_as_such() {
    let (criu, thread) = fake(|fake| {
        fake.receive();
        fake.notify("pre-dump", None);
    });
    let error = dump("dies").run(&criu).unwrap_err();
    assert_eq!(error.failure().unwrap().end, End::Died, "{error}");
    thread.join().unwrap();
    // As before the request is even taken.
    let (criu, thread) = fake(drop);
    thread.join().unwrap();
    let error = criu.version().unwrap_err();
    assert_eq!(error.failure().unwrap().end, End::Died, "{error}");
}

#[test]
fn a_reply_of_any_size_is_taken_up_to_the_limit() {
    let (criu, thread) = fake(|fake| {
        fake.receive();
        let version = CriuVersion {
            major_number: 9,
            minor_number: 8,
            sublevel: Some(7),
            name: Some(vec![b'x'; 150_000]),
            ..Default::default()
        };
        fake.send(&CriuResp { version: Some(version), ..reply(CriuReqType::Version, true) });
    });
    let build = criu.build().unwrap();
    assert_eq!(build.version, Version::new(9, 8, 7));
    assert_eq!(build.name.unwrap().len(), 150_000);
    thread.join().unwrap();

    let (criu, thread) = fake(|fake| {
        fake.receive();
        nix::sys::socket::setsockopt(&fake.0, nix::sys::socket::sockopt::SndBufForce, &(8 << 20))
            .unwrap();
        fake.send_bytes(&vec![0; 2 << 20], &[]);
    });
    let error = criu.version().unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::TooLarge { .. })), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_request_larger_than_the_send_buffer_gets_through() {
    let (criu, thread) = fake(|fake| {
        let request = fake.receive();
        fake.send(&reply(CriuReqType::Dump, true));
        request.opts.unwrap().skip_mnt.len()
    });
    let many = (0..10_000).fold(dump("large"), |dump, n| dump.skip_mnt(format!("/mnt/{n:030}")));
    many.run(&criu).unwrap();
    assert_eq!(thread.join().unwrap(), 10_000);
}

#[test]
fn a_packet_that_is_not_an_answer_is_an_error() {
    let answers: [(&str, Vec<u8>); 4] = [
        ("that are not a reply", vec![0xff; 40]),
        ("with a reply of type 2", reply(CriuReqType::Restore, true).encode_to_vec()),
        ("without an action", reply(CriuReqType::Notify, true).encode_to_vec()),
        ("lacks the root task", notification("post-restore", Some(-1))),
    ];
    for (n, (want, bytes)) in answers.into_iter().enumerate() {
        let (criu, thread) = fake(move |fake| {
            fake.receive();
            fake.send_bytes(&bytes, &[]);
        });
        let error = dump(&format!("nonsense-{n}")).run(&criu).unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
        assert!(error.to_string().contains(want), "{error}");
        thread.join().unwrap();
    }
}

#[test]
fn only_true_flags_and_what_was_asked_for_are_sent() {
    let (criu, thread) = fake(|fake| {
        let request = fake.receive();
        fake.send(&reply(CriuReqType::Dump, true));
        request.opts.unwrap()
    });
    dump("plain").after_dump(AfterDump::Kill).run(&criu).unwrap();
    let mut sent = thread.join().unwrap();
    assert!(sent.images_dir_fd >= 0);
    sent.images_dir_fd = -1;
    let plain = CriuOpts {
        images_dir_fd: -1,
        pid: Some(Pid::this().as_raw()),
        log_file: Some(b"dump.log".to_vec()),
        ..Default::default()
    };
    assert_eq!(sent, plain);
}

#[test]
fn a_peer_that_never_answers_is_left_after_the_deadline() {
    let (criu, thread) = fake(|fake| {
        fake.receive();
        // Reading meets the end once the client has hung up.
        let mut byte = [0];
        nix::unistd::read(&fake.0, &mut byte).unwrap()
    });
    let stuck = dump("stuck")
        .deadline(std::time::Duration::from_millis(50))
        .grace(std::time::Duration::from_millis(50));
    match stuck.run(&criu) {
        Err(Error::Stopped(stopped)) => assert_eq!(stopped.how, StopMethod::Disconnected),
        other => panic!("{other:?}"),
    }
    assert_eq!(thread.join().unwrap(), 0);
}

#[test]
fn features_are_the_answer_and_not_the_question() {
    let (criu, thread) = fake(|fake| {
        let asked = fake.receive().features.unwrap();
        let features = criu_rs::rpc::CriuFeatures { mem_track: Some(false), ..Default::default() };
        let mut answer = reply(CriuReqType::FeatureCheck, true);
        answer.features = Some(features);
        fake.send(&answer);
        asked.mem_track
    });
    let features = criu.features().unwrap();
    assert_eq!((features.mem_track, features.lazy_pages), (Some(false), None));
    assert_eq!(thread.join().unwrap(), Some(true));
}
