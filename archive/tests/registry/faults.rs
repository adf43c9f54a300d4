//! Registries that lie, as a real one would not.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use criu_archive::oci::{Digest, Image, Layout};
use criu_archive::registry::{Access, Credentials, Registry};
use criu_archive::{Error, ErrorKind};
use criu_lab::{names, scratch};

use crate::liar::{Answer, Asked, Body, Liar};
use crate::{connect, export, nobody};

/// The blobs of an image, as a registry has them.
struct Blobs {
    digest: Digest,
    layer: Digest,
    directory: std::path::PathBuf,
}

impl Blobs {
    fn new(directory: &Path) -> Arc<Self> {
        let image = Image::of_archive(export(directory, 1 << 20)).unwrap();
        let directory = directory.join("layout");
        Layout::Directory(directory.clone()).write(&image, None).unwrap();
        let (digest, layer) = (image.digest(), image.layer().digest);
        Arc::new(Self { digest, layer, directory })
    }

    fn read(&self, digest: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.join("blobs/sha256").join(digest.strip_prefix("sha256:")?)).ok()
    }

    /// Answers as a registry does.
    fn honest(&self, asked: &Asked) -> Answer {
        let last = asked.path.rsplit('/').next().unwrap();
        let version = if last == "v1" { self.digest.to_string() } else { last.to_owned() };
        match (&*asked.path, self.read(&version)) {
            ("/v2/", _) => answer("200 OK", "", b""),
            (_, None) => answer("404 Not Found", "", b"{\"errors\":[{\"code\":\"UNKNOWN\"}]}"),
            (_, Some(bytes)) => match asked.range {
                None => answer("200 OK", "", &bytes),
                Some((start, end)) => {
                    let end = end.min(bytes.len() - 1);
                    let header = format!("content-range: bytes {start}-{end}/{}\r\n", bytes.len());
                    answer("206 Partial Content", &header, &bytes[start..=end])
                }
            },
        }
    }

    fn is_layer(&self, asked: &Asked) -> bool {
        asked.path.ends_with(&self.layer.to_string())
    }
}

fn answer(status: &'static str, headers: &str, body: &[u8]) -> Answer {
    Answer { status, headers: headers.to_owned(), body: Body::Bytes(body.to_vec()) }
}

/// Starts a registry that answers requests for a layer in another way.
fn lies_about_the_layer(
    blobs: &Arc<Blobs>,
    lie: impl Fn(&Blobs, &Asked) -> Answer + Send + Sync + 'static,
) -> Liar {
    let blobs = Arc::clone(blobs);
    Liar::start(
        move |asked| {
            if blobs.is_layer(asked) { lie(&blobs, asked) } else { blobs.honest(asked) }
        },
    )
}

/// Pulls from a registry, and reads a part of the layer by ranges. Returns both errors.
fn both(liar: &Liar, directory: &Path) -> (Option<Error>, Option<String>) {
    let registry = connect(&liar.name("x:v1"));
    let image = registry.open().unwrap();
    let to = directory.join("pulled.tar");
    let _ = fs::remove_file(&to);
    let pulled = registry.pull(&image, &to, |_| {}).err();
    assert_eq!(pulled.is_none(), to.exists());
    let left = names(directory);
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
    let mut bytes = [0; 100];
    let read = image.bytes().read_at(600_000, &mut bytes).err();
    if read.is_none() {
        let all = fs::read(directory.join("checkpoint.tar")).unwrap();
        assert_eq!(bytes, all[600_000..600_100]);
    }
    (pulled, read.map(|error| error.to_string()))
}

#[test]
fn a_layer_that_is_another_one_is_refused() {
    let directory = scratch("liar-layer");
    let blobs = Blobs::new(&directory);

    let honest = lies_about_the_layer(&blobs, Blobs::honest);
    let (pulled, read) = both(&honest, &directory);
    assert!(pulled.is_none() && read.is_none(), "{pulled:?} {read:?}");

    let other = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut answer = blobs.honest(asked);
        if let Body::Bytes(bytes) = &mut answer.body {
            *bytes.last_mut().unwrap() ^= 1;
        }
        answer
    });
    let (pulled, _) = both(&other, &directory);
    assert!(matches!(pulled.as_ref().unwrap().kind(), ErrorKind::Digest { .. }), "{pulled:?}");

    // A body that ends early is fetched on from there, and given up when nothing comes.
    let short = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut answer = blobs.honest(asked);
        if let Body::Bytes(bytes) = &mut answer.body {
            let half = bytes[..bytes.len().div_ceil(2)].to_vec();
            answer.body = Body::Short(half, bytes.len());
        }
        answer
    });
    let registry = connect(&short.name("x:v1"));
    let to = directory.join("resumed.tar");
    registry.pull(&registry.open().unwrap(), &to, |_| {}).unwrap();
    assert_eq!(fs::read(to).unwrap(), fs::read(directory.join("checkpoint.tar")).unwrap());
    let nothing = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut answer = blobs.honest(asked);
        if let Body::Bytes(bytes) = &mut answer.body {
            answer.body = Body::Short(Vec::new(), bytes.len());
        }
        answer
    });
    let (pulled, read) = both(&nothing, &directory);
    assert!(matches!(pulled.as_ref().unwrap().kind(), ErrorKind::Unreachable(_)), "{pulled:?}");
    assert!(read.unwrap().contains("ends early"));

    let endless = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut answer = blobs.honest(asked);
        answer.body = Body::Endless;
        answer
    });
    let (pulled, read) = both(&endless, &directory);
    assert!(matches!(pulled.as_ref().unwrap().kind(), ErrorKind::TooLarge { .. }), "{pulled:?}");
    assert!(read.is_some());

    let shifted = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut asked = asked.clone();
        asked.range = asked.range.map(|(start, end)| (start + 512, end + 512));
        blobs.honest(&asked)
    });
    let (pulled, read) = both(&shifted, &directory);
    assert!(pulled.is_none());
    assert!(read.unwrap().contains("another range"));
}

#[test]
fn a_registry_without_ranges_sends_the_whole_layer_once() {
    let directory = scratch("liar-whole");
    let blobs = Blobs::new(&directory);
    let whole = lies_about_the_layer(&blobs, |blobs, asked| {
        let asked = Asked { range: None, ..asked.clone() };
        blobs.honest(&asked)
    });
    let (pulled, read) = both(&whole, &directory);
    assert!(pulled.is_none() && read.is_none(), "{pulled:?} {read:?}");
    let registry = connect(&whole.name("x:v1"));
    let archive = registry.open().unwrap().archive().unwrap();
    let mut bytes = vec![0; 1 << 20];
    archive.bytes("checkpoint/pages-99.img").unwrap().read_at(0, &mut bytes).unwrap();
    let size = fs::metadata(directory.join("checkpoint.tar")).unwrap().len();
    let traffic = registry.traffic();
    assert!((size..size + 10_000).contains(&traffic.fetched), "{traffic:?}, {size} bytes");
    // Threads that want different parts at once wait for one of them.
    let registry = connect(&whole.name("x:v1"));
    let image = registry.open().unwrap();
    std::thread::scope(|scope| {
        for part in 0..8 {
            let bytes = image.bytes().clone();
            scope.spawn(move || bytes.read_at(part << 17, &mut [0; 100]).unwrap());
        }
    });
    let traffic = registry.traffic();
    assert!((size..size + 10_000).contains(&traffic.fetched), "{traffic:?}, {size} bytes");
    // A whole layer is checked.
    let other = lies_about_the_layer(&blobs, |blobs, asked| {
        let mut answer = blobs.honest(&Asked { range: None, ..asked.clone() });
        if let Body::Bytes(bytes) = &mut answer.body {
            bytes[9] ^= 1;
        }
        answer
    });
    let refused = connect(&other.name("x:v1")).open().unwrap().archive().unwrap_err().to_string();
    assert!(refused.contains("has the digest"), "{refused}");
}

#[test]
fn a_registry_that_is_busy_for_a_moment_is_asked_again() {
    let directory = scratch("liar-busy");
    let blobs = Blobs::new(&directory);
    let tries = AtomicUsize::new(0);
    let busy = lies_about_the_layer(&blobs, move |blobs, asked| {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => answer("503 Service Unavailable", "", b""),
            1 => {
                let mut answer = blobs.honest(asked);
                if let Body::Bytes(bytes) = &mut answer.body {
                    answer.body = Body::Short(bytes[..1000].to_vec(), bytes.len());
                }
                answer
            }
            2 => answer("429 Too Many Requests", "", b""),
            _ => blobs.honest(asked),
        }
    });
    let (pulled, read) = both(&busy, &directory);
    assert!(pulled.is_none() && read.is_none(), "{pulled:?} {read:?}");
    let down = lies_about_the_layer(&blobs, |_, _| answer("503 Service Unavailable", "", b""));
    let (pulled, read) = both(&down, &directory);
    let kind = pulled.as_ref().unwrap().kind();
    assert!(matches!(kind, ErrorKind::Answer { status: 503, .. }), "{pulled:?}");
    assert!(read.unwrap().contains("503"));
}

#[test]
fn documents_have_a_bound_and_a_digest() {
    let directory = scratch("liar-documents");
    let blobs = Blobs::new(&directory);
    let digest = blobs.digest;
    let tries = AtomicUsize::new(0);
    let lie = {
        let blobs = Arc::clone(&blobs);
        move |asked: &Asked| {
            let mut answer = blobs.honest(asked);
            if asked.path.contains("manifests") {
                match tries.fetch_add(1, Ordering::Relaxed) {
                    0 => answer.body = Body::Endless,
                    1 => answer.body = Body::Short(Vec::new(), 5 << 20),
                    2 => answer.status = "500 Internal Server Error",
                    3 => {
                        answer.status = "418 I'm a teapot";
                        answer.body = Body::Endless;
                    }
                    4 => answer.status = "301 Moved Permanently",
                    5 => {
                        // Always to itself.
                        answer.status = "302 Found";
                        answer.headers = "location: /v2/x/manifests/v1\r\n".to_owned();
                        tries.store(5, Ordering::Relaxed);
                    }
                    _ => {}
                }
            }
            answer
        }
    };
    let liar = Liar::start(lie);
    let fail = || connect(&liar.name("x:v1")).open().unwrap_err();
    let endless = fail();
    assert!(matches!(endless.kind(), ErrorKind::TooLarge { limit: 0x40_0000, .. }), "{endless}");
    let large = fail();
    assert!(matches!(large.kind(), ErrorKind::TooLarge { size: 0x50_0000, .. }), "{large}");
    let broken = fail();
    assert!(matches!(broken.kind(), ErrorKind::Answer { status: 500, .. }), "{broken}");
    let endless = fail();
    assert!(matches!(endless.kind(), ErrorKind::Answer { status: 418, .. }), "{endless}");
    let nowhere = fail();
    assert!(matches!(nowhere.kind(), ErrorKind::Answer { status: 301, .. }), "{nowhere}");
    let circle = fail();
    assert!(circle.to_string().contains("redirects too often"), "{circle}");

    // A digest in the name is what counts.
    let other = Digest::of(b"another");
    let liar = Liar::start({
        let blobs = Arc::clone(&blobs);
        move |asked| {
            let mut asked = asked.clone();
            asked.path = asked.path.replace(&other.to_string(), &digest.to_string());
            blobs.honest(&asked)
        }
    });
    connect(&liar.name(&format!("x@{digest}"))).open().unwrap();
    let refused = connect(&liar.name(&format!("x@{other}"))).open().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Digest { .. }), "{refused}");
}

#[test]
fn credentials_go_to_no_other_host() {
    let directory = scratch("liar-redirect");
    let blobs = Blobs::new(&directory);
    // The place that a registry keeps its blobs in.
    let store = Liar::start({
        let blobs = Arc::clone(&blobs);
        move |asked| blobs.honest(asked)
    });
    let elsewhere = format!("http://localhost:{}", store.port);
    let port = store.port;
    let registry = Liar::start({
        let blobs = Arc::clone(&blobs);
        move |asked| match (&asked.login, blobs.is_layer(asked)) {
            (None, _) => answer("401 Unauthorized", "www-authenticate: Basic realm=x\r\n", b""),
            (Some(_), true) => {
                let header = format!("location: http://127.0.0.1:{port}{}\r\n", asked.path);
                answer("307 Temporary Redirect", &header, b"")
            }
            _ => blobs.honest(asked),
        }
    });
    let mut access = Access::default();
    access.authfile = Some(nobody());
    access.credentials = Some(Credentials::new("me", "word"));
    let name = registry.name("x:v1").parse().unwrap();
    let opened = Registry::connect(name, &access).unwrap();
    let archive = opened.open().unwrap().archive().unwrap();
    assert!(archive.member("config.dump").is_some());
    let seen = store.asked.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|asked| asked.login.is_none()), "{seen:?}");

    // To another host without TLS there is no way, unless it is allowed.
    let other = Liar::start({
        let blobs = Arc::clone(&blobs);
        move |asked| {
            if blobs.is_layer(asked) {
                let header = format!("location: {elsewhere}{}\r\n", asked.path);
                return answer("307 Temporary Redirect", &header, b"");
            }
            blobs.honest(asked)
        }
    });
    let refused = connect(&other.name("x:v1")).open().unwrap().archive().unwrap_err();
    assert!(refused.to_string().contains("redirects to plain HTTP"), "{refused}");
    access.plain_http = true;
    access.credentials = None;
    let name = other.name("x:v1").parse().unwrap();
    Registry::connect(name, &access).unwrap().open().unwrap().archive().unwrap();
}

#[test]
fn a_token_server_without_tls_on_another_host_gets_no_credentials() {
    let directory = scratch("liar-token");
    let blobs = Blobs::new(&directory);
    let tokens = Liar::start(|_| answer("200 OK", "", br#"{"token":"abc"}"#));
    let port = tokens.port;
    let registry = |host: &'static str| {
        let blobs = Arc::clone(&blobs);
        Liar::start(move |asked| match (&*asked.path, asked.login.as_deref()) {
            ("/v2/", _) | (_, Some("Bearer abc")) => blobs.honest(asked),
            _ => {
                let realm = format!("http://{host}:{port}/token");
                let header = format!("www-authenticate: Bearer realm=\"{realm}\"\r\n");
                answer("401 Unauthorized", &header, b"")
            }
        })
    };
    let mut access = Access::default();
    access.authfile = Some(nobody());
    access.credentials = Some(Credentials::new("me", "word"));
    let open = |liar: &Liar, access: &Access| {
        Registry::connect(liar.name("x:v1").parse().unwrap(), access).unwrap().open()
    };
    // `localhost` stands for a host that is not the registry's, 127.0.0.1.
    let refused = open(&registry("localhost"), &access).unwrap_err();
    assert!(refused.to_string().ends_with("the registry's token server has no TLS"), "{refused}");
    assert!(tokens.asked.lock().unwrap().is_empty());
    open(&registry("127.0.0.1"), &access).unwrap();
    access.plain_http = true;
    open(&registry("localhost"), &access).unwrap();
    let seen = tokens.asked.lock().unwrap().clone();
    assert!(seen.len() == 2 && seen.iter().all(|asked| asked.login.is_some()), "{seen:?}");
}

#[test]
fn a_place_to_upload_to_without_tls_on_another_host_gets_nothing() {
    let directory = scratch("liar-upload");
    let image = Image::of_archive(export(&directory, 0)).unwrap();
    let elsewhere = Liar::start(|_| answer("202 Accepted", "", b""));
    let port = elsewhere.port;
    let registry = Liar::start(move |asked| match &*asked.method {
        "POST" => {
            let header = format!("location: http://localhost:{port}/upload\r\n");
            answer("202 Accepted", &header, b"")
        }
        "GET" => answer("200 OK", "", b""),
        _ => answer("404 Not Found", "", b""),
    });
    let refused = connect(&registry.name("x:v1")).push(&image, |_| {}).unwrap_err();
    assert!(refused.to_string().contains("from TLS to plain HTTP"), "{refused}");
    assert!(elsewhere.asked.lock().unwrap().is_empty());
}

#[test]
fn a_layer_of_any_size_is_an_error_and_no_panic() {
    let directory = scratch("liar-size");
    let blobs = Blobs::new(&directory);
    let manifest = String::from_utf8(blobs.read(&blobs.digest.to_string()).unwrap()).unwrap();
    let size = blobs.read(&blobs.layer.to_string()).unwrap().len();
    for said in [u64::MAX, u64::MAX - 70_000, 1 << 62, 0, 1] {
        let text = manifest.replace(&format!("\"size\":{size}"), &format!("\"size\":{said}"));
        assert_ne!(text, manifest);
        let blobs = Arc::clone(&blobs);
        let liar = Liar::start(move |asked| {
            if asked.path.contains("/manifests/") {
                return answer("200 OK", "", text.as_bytes());
            }
            let range = asked.range.filter(|_| blobs.is_layer(asked));
            let Some((start, end)) = range else { return blobs.honest(asked) };
            // Zstd's magic leads to the last bytes of the layer, where a table may be.
            let mut bytes = vec![0xff; end - start + 1];
            if start == 0 {
                let len = bytes.len().min(4);
                bytes[..len].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd][..len]);
            }
            let header = format!("content-range: bytes {start}-{end}/{said}\r\n");
            answer("206 Partial Content", &header, &bytes)
        });
        let image = connect(&liar.name("x:v1")).open().unwrap();
        let error = image.archive().unwrap_err();
        assert!(!error.to_string().is_empty());
        let mut piece = [0; 100];
        _ = image.bytes().read_at(said.saturating_sub(100), &mut piece);
        _ = image.bytes().read_at(said, &mut piece).unwrap_err();
    }
}

#[test]
fn a_place_without_a_registry_is_told() {
    let liar = Liar::start(|_| answer("404 Not Found", "", b"<html>"));
    let mut access = Access::default();
    access.authfile = Some(nobody());
    let none = Registry::connect(liar.name("x:v1").parse().unwrap(), &access).unwrap_err();
    let said = none.to_string();
    assert!(said.ends_with("ask for the API: the registry answered 404"), "{said}");
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = format!("127.0.0.1:{unused}/x:v1").parse().unwrap();
    let none = Registry::connect(name, &access).unwrap_err();
    assert!(matches!(none.kind(), ErrorKind::Unreachable(_)), "{none}");
    assert!(none.to_string().contains("refused"), "{none}");
}
