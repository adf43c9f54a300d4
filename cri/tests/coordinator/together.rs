//! Members that wait for each other, fail together and end together.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use criu_cri::coordinator::{
    Client, CoordinatorError, Event, Graph, Joined, Limits, Member, Server, Step,
};
use criu_rs::{Cancel, HookResult, Hooks, Pid, PodHooks};
use nix::sys::socket::{Backlog, listen};

use crate::lab::Coordinator;

#[test]
fn hooks_of_a_dump_and_of_a_restore_pass_all_steps_together() {
    let coordinator = Coordinator::plain();
    let run = |mut member: Member| {
        move || -> HookResult<Member> {
            member.pre_dump()?;
            member.network_lock()?;
            member.post_dump()?;
            member.network_unlock()?;
            member.pre_restore()?;
            member.post_restore(Pid::this())?;
            member.network_unlock()?;
            member.post_resume()?;
            Ok(member)
        }
    };
    let other = thread::spawn(run(coordinator.member("B", &["A"])));
    let member = run(coordinator.member("A", &["B"]))().unwrap();
    assert_eq!(member.passed(), Some(Step::PostResume));
    other.join().unwrap().unwrap();
    let passed = coordinator.events().into_iter().filter_map(|event| match event {
        Event::Passed { step, ids } => Some((step, ids.len())),
        _ => None,
    });
    let steps = [
        Step::PreDump,
        Step::NetworkLock,
        Step::PostDump,
        Step::PreRestore,
        Step::PostRestore,
        Step::NetworkUnlock,
    ];
    assert_eq!(passed.collect::<Vec<_>>(), steps.map(|step| (step, 2)));
}

#[test]
fn hooks_of_pods_pass_all_steps_together() {
    let coordinator = Coordinator::plain();
    let run = |mut member: Member| {
        move || -> HookResult {
            member.join_dump()?;
            member.frozen()?;
            member.saved()?;
            member.restored()
        }
    };
    // Each names the other: one that names nobody may be through before the other begins.
    let other = thread::spawn(run(coordinator.member("pod-b", &["pod-a"])));
    run(coordinator.member("pod-a", &["pod-b"]))().unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn hooks_of_the_caller_come_first_and_keep_others_waiting() {
    struct Refuse;
    impl Hooks for Refuse {
        fn network_lock(&mut self) -> HookResult {
            Err("not now".into())
        }
    }
    let coordinator = Coordinator::plain();
    let mut waiting = coordinator.member("B", &["A"]);
    let other = thread::spawn(move || {
        waiting.pre_dump().unwrap();
        waiting.network_lock().unwrap_err().to_string()
    });
    let mut member = coordinator.member("A", &["B"]);
    let mut refuse = Refuse;
    let mut joined = Joined::new(&mut member, &mut refuse);
    joined.pre_dump().unwrap();
    assert_eq!(joined.network_lock().unwrap_err().to_string(), "not now");
    // The dump has failed, and its member goes.
    drop(member);
    let error = other.join().unwrap();
    assert!(error.contains("failed: A: its connection has ended after pre-dump"), "{error}");
}

#[test]
fn a_dump_that_is_repeated_finds_the_others_waiting() {
    let coordinator = Coordinator::plain();
    let mut member = coordinator.member("A", &[]);
    for _ in 0..2 {
        member.pre_dump().unwrap();
        member.network_lock().unwrap();
    }
    member.post_dump().unwrap();
    member.pre_dump().unwrap();
    assert_eq!(member.passed(), Some(Step::PreDump));
    assert!(matches!(member.post_resume(), Err(error) if error.is::<CoordinatorError>()));
}

#[test]
fn a_member_that_never_comes_is_named() {
    let coordinator = Coordinator::hasty();
    let error = coordinator.member("A", &["B", "C"]).join_dump().unwrap_err().to_string();
    let want = "the coordinator does not let A go on at pre-dump: \
                timeout: B, C have not come to pre-dump within 0.3 s";
    assert_eq!(error, want);
}

#[test]
fn a_job_that_takes_too_long_fails() {
    let mut limits = Limits::default();
    limits.total = Duration::from_millis(300);
    let coordinator = Coordinator::start(Server::new().limits(limits));
    let error = coordinator.member("A", &["B"]).join_dump().unwrap_err().to_string();
    assert!(error.contains("timeout: the job takes longer than 0.3 s"), "{error}");
}

#[test]
fn a_failed_connection_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut member = Member::new(Client::new(free.to_string()), "A", ["B"]).unwrap();
    let error = member.pre_dump().unwrap_err();
    assert!(error.to_string().starts_with("cannot reach the coordinator"), "{error}");
    let error = Client::new("192.0.2.1:1").step("A", Step::PreDump, &[]).unwrap_err();
    assert!(matches!(error, CoordinatorError::Unprotected(_)), "{error}");
    let error = Client::new("localhost").step("A", Step::PreDump, &[]).unwrap_err();
    assert!(error.to_string().contains("HOST:PORT"), "{error}");
}

#[test]
fn a_coordinator_that_says_nothing_or_nonsense_or_goes_fails_the_member() {
    for (answer, why) in [
        ("", "ended without an answer"),
        ("OK", "none of the protocol's: \"OK\""),
        ("ACK\n", "none of the protocol's"),
        ("ACKACK", "none of the protocol's"),
        ("timeout", "does not let A go on at post-dump: timeout"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let size = socket.read(&mut [0; 4096]).unwrap();
            assert!(size > 0);
            socket.write_all(answer.as_bytes()).unwrap();
        });
        let error = Client::new(address).step("A", Step::PostDump, &[]).unwrap_err().to_string();
        assert!(error.contains(why), "{answer}: {error}");
        server.join().unwrap();
    }
}

#[test]
fn a_silent_coordinator_is_waited_for_until_the_limit_or_a_cancellation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = Client::new(address).limit(Duration::from_millis(200));
    let error = client.step("A", Step::PostDump, &[]).unwrap_err();
    assert!(matches!(error, CoordinatorError::Deadline { .. }), "{error}");
    let cancel = Cancel::new().unwrap();
    let client = client.limit(Duration::from_secs(60)).cancel(&cancel);
    let begun = Instant::now();
    let waiting = thread::spawn(move || client.step("A", Step::PostDump, &[]).unwrap_err());
    thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    let error = waiting.join().unwrap();
    assert!(matches!(error, CoordinatorError::Cancelled(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_cancellation_ends_a_connection_that_is_not_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The queue takes one connection, and the kernel does not answer a second.
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let cancel = Cancel::new().unwrap();
    let client = Client::new(address.to_string()).cancel(&cancel);
    let begun = Instant::now();
    let waiting = thread::spawn(move || client.step("A", Step::PreDump, &[]).unwrap_err());
    thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    let error = waiting.join().unwrap();
    assert!(matches!(error, CoordinatorError::Cancelled(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn members_lose_a_coordinator_that_stops_and_fail() {
    let coordinator = Coordinator::plain();
    let client = coordinator.client();
    let waiting = thread::spawn(move || client.step("A", Step::PreDump, &["B".into()]));
    while coordinator.events().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    drop(coordinator);
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error, CoordinatorError::Connection { .. }), "{error}");
}

#[test]
fn dependencies_may_be_set_before_the_members_come() {
    let graph = |text: &str| -> Graph { [("A".to_owned(), vec![text.to_owned()])].into() };
    let coordinator =
        Coordinator::start(Server::new().limits(crate::lab::hasty()).graph(graph("B")).unwrap());
    let error = coordinator.member("A", &[]).join_dump().unwrap_err().to_string();
    assert!(error.contains("B has not come to pre-dump"), "{error}");
    coordinator.client().add_dependencies(graph("C")).unwrap();
    let error = coordinator.member("A", &[]).join_dump().unwrap_err().to_string();
    assert!(error.contains("C has not come to pre-dump"), "{error}");
}

#[test]
fn dependencies_that_the_protocol_cannot_name_are_refused() {
    let refused = |id: &str, needs: Vec<String>, why: &str| {
        let graph: Graph = [(id.to_owned(), needs)].into();
        let error = Server::new().graph(graph).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused("a:b", Vec::new(), "is no id");
    refused("a", vec!["b\n".into()], "is no id");
    refused("a", vec!["b".into(); 1025], "has 1025 dependencies, and 1024 are the limit");
    let many: Graph = (0..4097).map(|id: u32| (id.to_string(), Vec::new())).collect();
    let error = Server::new().graph(many).unwrap_err().to_string();
    assert_eq!(error, "dependencies of 4097 members, and 4096 are the limit");
}

#[test]
fn clients_of_criu_coordinator_are_served() {
    let coordinator = Coordinator::plain();
    let ask = |id: &str, action: &str, needs: &str| {
        let text = format!(r#"{{"id":"{id}","action":"{action}","dependencies":"{needs}"}}"#);
        coordinator.say(text.as_bytes())
    };
    assert_eq!(ask("A", "post-dump", "B"), "not connected");
    for action in ["pre-dump", "network-lock", "post-dump", "network-unlock"] {
        let answers = thread::scope(|scope| {
            let both = [("A", "B"), ("B", "A")];
            both.map(|(id, needs)| scope.spawn(move || ask(id, action, needs)))
                .map(|thread| thread.join().unwrap())
        });
        assert_eq!(answers, ["ACK", "ACK"], "{action}");
    }
    assert_eq!(ask("A", "post-dump", "B"), "checkpoint is already created");
    let socket = TcpStream::connect(coordinator.address).unwrap();
    (&socket).write_all(br#"{"id":"C","action":"pre-dump","dependencies":"D"}"#).unwrap();
    while !coordinator
        .events()
        .iter()
        .any(|event| matches!(event, Event::Registered { id, .. } if id == "C"))
    {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask("C", "pre-dump", "D"), "client already connected");
}
