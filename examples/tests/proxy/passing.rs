//! Calls that pass as they are.

use criu_lab::engines::{Asked, Outcome, Outside};
use criu_lab::soon;
use serde_json::{Value, json};

use crate::Scene;

#[test]
fn calls_and_answers_pass_unchanged() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    let [direct, proxied] = [&scene.engine_socket(), proxy.socket()].map(|socket| {
        let mut client = Outside::new(socket);
        outcomes(&mut client)
    });
    for ((name, direct), (_, proxied)) in direct.iter().zip(&proxied) {
        assert_eq!(direct.all(), proxied.all(), "{name}");
    }
    let named = |name: &str| &proxied.iter().find(|(of, _)| *of == name).unwrap().1;
    // The comparison is of what is meant.
    assert_eq!(named("refused").code(), "FAILED_PRECONDITION");
    assert!(named("refused").all()["trailers"].to_string().contains("grpc-status-details-bin"));
    assert_eq!(named("unknown").code(), "UNIMPLEMENTED");
    assert_eq!(named("many").bytes().as_array().unwrap().len(), 1000);
    for (name, bytes) in [("large request", 9 << 20), ("large answer", 9 << 20)] {
        let base64 = named(name).bytes()[0].as_str().unwrap();
        assert_eq!(base64.len(), bytes / 3 * 4, "{name}");
    }
    let echo = named("metadata").all();
    for wanted in [r#"["initial","first"]"#, r#"["x-two","b"]"#, r#"["remaining","50"]"#] {
        assert!(echo.to_string().contains(wanted), "{wanted}: {echo}");
    }
}

/// The outcomes of calls that have to be the same with and without a proxy.
fn outcomes(client: &mut Outside) -> Vec<(&'static str, Outcome)> {
    let metadata = [("x-one", "a"), ("x-two", "a"), ("x-two", "b"), ("x-text", "a b%20,c")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let asked = Asked { metadata: metadata.into(), timeout: Some(50.4), ..Asked::default() };
    vec![
        ("version", client.call("Version", json!({}))),
        ("metadata", client.ask("/test.Engine/Echo", text("hello"), &asked)),
        ("no deadline", client.call("/test.Engine/Echo", text("hello"))),
        ("empty", client.call("/test.Engine/Echo", text(""))),
        ("large request", client.call("/test.Engine/Echo", "QUJD".repeat(3 << 20).into())),
        ("large answer", client.call("/test.Engine/Large", text("9437184"))),
        ("many", client.call("/test.Engine/Many", text("1000"))),
        ("refused", client.call("/test.Engine/Refuse", text("details"))),
        ("unknown", client.call("/test.Engine/Unknown", text(""))),
    ]
}

/// A call that a client gives up is given up at the engine: by cancelling it, by its deadline, and
/// by `kill -9` of the client.
#[test]
fn a_call_that_is_given_up_ends_at_the_engine() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    let mut client = Outside::new(proxy.socket());
    let id = client.begin("/test.Engine/Sleep", text("30"), &Asked::default());
    have_begun(&scene, 1);
    client.cancel(id);
    assert_eq!(client.wait(id).code(), "CANCELLED");
    let asked = Asked { timeout: Some(0.3), ..Asked::default() };
    assert_eq!(client.ask("/test.Engine/Sleep", text("31"), &asked).code(), "DEADLINE_EXCEEDED");
    let mut other = Outside::new(proxy.socket());
    other.begin("/test.Engine/Sleep", text("32"), &Asked::default());
    other.begin("/test.Engine/Many", text("100000"), &Asked::default());
    have_begun(&scene, 4);
    drop(other);
    let mut seen = Value::Null;
    let have_ended = soon(|| {
        seen = seen_by(&scene)["ended"].take();
        seen.as_array().is_some_and(|seen| seen.len() >= 4)
    });
    assert!(have_ended, "{seen}");
    let cancelled = |call: &Value| call[1] == "cancelled" || call[1].as_u64() < Some(100_000);
    assert!(seen.as_array().unwrap().iter().all(cancelled), "{seen}");
}

/// Waits until the engine has begun calls.
fn have_begun(scene: &Scene, count: u64) {
    assert!(soon(|| seen_by(scene)["begun"] == count), "{}", seen_by(scene));
}

/// The calls that the engine has seen begin and end.
fn seen_by(scene: &Scene) -> Value {
    let mut client = Outside::new(&scene.engine_socket());
    let bytes = client.call("/test.Engine/Seen", text("")).bytes()[0].as_str().unwrap().to_owned();
    serde_json::from_slice(&plain(&bytes)).unwrap()
}

/// A request of the engine's own methods.
pub fn text(text: &str) -> Value {
    base64(text.as_bytes()).into()
}

fn base64(bytes: &[u8]) -> String {
    let digit = |number: u32| char::from(DIGITS[number as usize & 63]);
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let number = at(0) << 16 | at(1) << 8 | at(2);
        let digits = [18, 12, 6, 0].map(|shift| digit(number >> shift));
        let kept = three.len() + 1;
        text.extend(digits.into_iter().take(kept).chain(std::iter::repeat_n('=', 4 - kept)));
    }
    text
}

fn plain(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let digits = four.iter().filter_map(|byte| DIGITS.iter().position(|digit| digit == byte));
        let digits: Vec<usize> = digits.collect();
        let number = digits.iter().fold(0, |number, digit| number << 6 | digit);
        let number = number << (6 * (4 - digits.len()));
        let [_, three @ ..] = u32::try_from(number).unwrap().to_be_bytes();
        bytes.extend(&three[..digits.len() - 1]);
    }
    bytes
}

const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
