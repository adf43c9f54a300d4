//! Coordinators that ask for certificates.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use criu_cri::coordinator::{Client, Graph, Member, Server};
use criu_lab::certs::{Authority, Signed, Wanted};
use criu_rs::Tls;

use crate::lab::Coordinator;

/// An authority, and a coordinator with one of its certificates.
struct Secured {
    authority: Authority,
    coordinator: Coordinator,
    dir: PathBuf,
}

impl Secured {
    fn new(name: &str) -> Self {
        let dir = criu_lab::scratch(&format!("coordinator-{name}-{}", std::process::id()));
        let authority = Authority::new(&dir.join("authority"));
        let server = Server::new().tls(&tls(&authority.sign_for_loopback(1))).unwrap();
        Self { authority, coordinator: Coordinator::start(server), dir }
    }

    /// The way to the coordinator with a certificate for ids.
    fn client(&self, number: u64, ids: &[&str]) -> Client {
        let wanted = Wanted { names: ids, ..Wanted::default() };
        self.with(&tls(&self.authority.sign(number, &wanted)))
    }

    fn with(&self, tls: &Tls) -> Client {
        let client = Client::new(self.coordinator.address.to_string()).tls(tls).unwrap();
        client.limit(Duration::from_secs(20))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn tls(signed: &Signed) -> Tls {
    Tls::new().ca(&signed.ca).certificate(&signed.certificate).key(&signed.key)
}

#[test]
fn members_with_certificates_pass_together() {
    let secured = Secured::new("together");
    let run = |client: Client, id: &str, other: &str| {
        let mut member = Member::new(client, id, [other]).unwrap();
        move || {
            use criu_rs::Hooks;
            member.pre_dump().unwrap();
            member.network_lock().unwrap();
            member.post_dump().unwrap();
        }
    };
    let other = thread::spawn(run(secured.client(3, &["rank-1"]), "rank-1", "rank-0"));
    // The common name of a certificate is an id, too: one of a container has 64 bytes.
    let id = "0123456789abcdef".repeat(4);
    let wanted = Wanted { common: &id, ..Wanted::default() };
    let client = secured.with(&tls(&secured.authority.sign(4, &wanted)));
    Member::new(client, id, [""; 0]).unwrap().join_dump().unwrap();
    run(secured.client(2, &["rank-0"]), "rank-0", "rank-1")();
    other.join().unwrap();
}

#[test]
fn a_certificate_is_for_its_ids_alone() {
    let secured = Secured::new("ids");
    let client = secured.client(2, &["rank-0", "rank-7"]);
    let join = |id: &str| {
        Member::new(client.clone(), id, [""; 0]).unwrap().join_dump().map_err(|e| e.to_string())
    };
    assert_eq!((join("rank-0"), join("rank-7")), (Ok(()), Ok(())));
    let error = join("rank-1").unwrap_err();
    let want = "refused: the certificate names rank-0, rank-7, and not rank-1";
    assert!(error.ends_with(want), "{error}");
    let error = client.add_dependencies(Graph::new()).unwrap_err().to_string();
    assert!(error.contains("and not kubescr"), "{error}");
    secured.client(3, &["kubescr"]).add_dependencies(Graph::new()).unwrap();
}

#[test]
fn a_wrong_certificate_and_none_are_refused_at_both_ends() {
    let secured = Secured::new("wrong");
    let stranger = Authority::new(&secured.dir.join("stranger"));
    let ours = secured.authority.sign(2, &Wanted { names: &["A"], ..Wanted::default() });
    let theirs = stranger.sign(2, &Wanted { names: &["A"], ..Wanted::default() });
    let join = |tls: &Tls| {
        let client = secured.with(tls);
        Member::new(client, "A", [""; 0]).unwrap().join_dump().unwrap_err().to_string()
    };
    // The coordinator does not know the authority of the client.
    let error = join(&Tls::new().ca(&ours.ca).certificate(&theirs.certificate).key(&theirs.key));
    assert!(error.contains("the other end refuses TLS with this end: UnknownCA"), "{error}");
    // The client does not know that of the coordinator.
    let error = join(&Tls::new().ca(&theirs.ca).certificate(&ours.certificate).key(&ours.key));
    assert!(error.contains("UnknownIssuer"), "{error}");
    let expired = Wanted { names: &["A"], expired: true, ..Wanted::default() };
    let error = join(&tls(&secured.authority.sign(3, &expired)));
    assert!(error.contains("CertificateExpired"), "{error}");
    // Plain text is no TLS, and TLS is no plain text.
    let plain = Client::new(secured.coordinator.address.to_string());
    let mut member = Member::new(plain, "A", [""; 0]).unwrap();
    member.join_dump().unwrap_err();
    let coordinator = Coordinator::plain();
    let client = Client::new(coordinator.address.to_string()).tls(&tls(&ours)).unwrap();
    Member::new(client, "A", [""; 0]).unwrap().join_dump().unwrap_err();
    // Whoever shows a certificate is served on.
    secured.with(&tls(&ours)).step("A", criu_cri::coordinator::Step::PreDump, &[]).unwrap();
}

#[test]
fn the_coordinators_certificate_is_for_its_host() {
    let secured = Secured::new("host");
    let signed = secured.authority.sign(2, &Wanted { names: &["A"], ..Wanted::default() });
    let server = Server::new().tls(&tls(&secured
        .authority
        .sign(3, &Wanted { names: &["elsewhere"], ..Wanted::default() })));
    let elsewhere = Coordinator::start(server.unwrap());
    let join = |tls: Tls| {
        let client = Client::new(elsewhere.address.to_string()).tls(&tls).unwrap();
        Member::new(client, "A", [""; 0]).unwrap().join_dump()
    };
    let error = join(tls(&signed)).unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    join(tls(&signed).any_name()).unwrap();
}
