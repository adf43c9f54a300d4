//! Answers of a kubelet, and of an API server before it.

use std::path::PathBuf;

use serde::Deserialize;

use super::container::Container;
use super::endpoint::Endpoint;
use super::error::{ErrorKind, Party};
use super::http::Reply;
use super::text::short;

/// Reads an answer to a request for a checkpoint: the path of the archive on the node.
pub(super) fn read(
    endpoint: &Endpoint,
    container: &Container,
    reply: &Reply,
) -> Result<PathBuf, ErrorKind> {
    let status = reply.status;
    if status == 200 {
        if reply.is_cut {
            return Err(ErrorKind::Garbled("the answer is longer than 64 KiB"));
        }
        return path(&reply.body).map_err(ErrorKind::Garbled);
    }
    let text = String::from_utf8_lossy(&reply.body);
    // An API server speaks JSON where it refuses by itself.
    let of_api = endpoint.node().and_then(|_| serde_json::from_str::<Status>(&text).ok());
    let of_api = of_api.filter(|found| found.kind == "Status");
    let by = if of_api.is_some() { Party::ApiServer } else { Party::Kubelet };
    let said = short(of_api.as_ref().map_or(&*text, |found| &found.message));
    let is_page = said.replace(':', "").eq_ignore_ascii_case("404 page not found");
    let no_container = format!("container {} does not exist", container.name());
    Err(match status {
        // The caller knows the end of the client certificate.
        401 => ErrorKind::Unauthenticated { by, said: other(said, "Unauthorized"), expired: None },
        403 => ErrorKind::Forbidden { by, said },
        404 if by == Party::ApiServer => ErrorKind::NoNode { said },
        404 if said == "pod does not exist" => ErrorKind::NoPod {
            namespace: container.namespace().to_owned(),
            pod: container.pod().to_owned(),
        },
        404 if said == no_container => ErrorKind::NoContainer(container.name().to_owned()),
        404 if said == "cannot parse value of timeout parameter" => ErrorKind::Timeout,
        404 if is_page => ErrorKind::GateOff,
        500 if by == Party::Kubelet => of_runtime(container, said),
        502..=504 if endpoint.node().is_some() => ErrorKind::NodeUnreachable { status, said },
        _ => ErrorKind::Answer { status, said },
    })
}

/// A status of the API server.
#[derive(Deserialize)]
struct Status {
    kind: String,
    #[serde(default)]
    message: String,
}

/// Reads `checkpointing of NS/POD/CONTAINER failed (REASON)`.
fn of_runtime(container: &Container, said: String) -> ErrorKind {
    let rest = said.strip_prefix("checkpointing of ").and_then(|rest| rest.split_once(" failed ("));
    let Some((_, reason)) = rest else { return ErrorKind::Answer { status: 500, said } };
    let reason = reason.strip_suffix(')').unwrap_or(reason);
    if reason.ends_with(&format!("container {} not found", container.name())) {
        return ErrorKind::NotRunning { said: String::new() };
    }
    let coded = reason.split_once("code = ").and_then(|(_, rest)| rest.split_once(" desc = "));
    let (code, said) = match coded {
        Some((code, text)) => (Some(code.to_owned()), text.to_owned()),
        None => (None, reason.to_owned()),
    };
    let lacks = ["support not available", "not implemented", "does not support checkpoint"];
    match code.as_deref() {
        Some("Unimplemented") => ErrorKind::RuntimeLacks { said },
        _ if lacks.iter().any(|lacks| said.contains(lacks)) => ErrorKind::RuntimeLacks { said },
        Some("DeadlineExceeded") => ErrorKind::RuntimeTimeout { said },
        _ => ErrorKind::Runtime { code, said },
    }
}

/// Reads `{"items":["PATH"]}`. A kubelet does not escape the path.
fn path(body: &[u8]) -> Result<PathBuf, &'static str> {
    #[derive(Deserialize)]
    struct Items {
        items: Vec<String>,
    }
    let text = std::str::from_utf8(body).map_err(|_| "the answer is no JSON")?.trim();
    let inner = text.strip_prefix(r#"{"items":[""#).and_then(|rest| rest.strip_suffix(r#""]}"#));
    let path = match (inner, serde_json::from_str::<Items>(text)) {
        // Without quotes and backslashes, with or without escapes is the same.
        (_, Ok(Items { items })) if !text.contains('\\') => match &items[..] {
            [one] => one.clone(),
            _ => return Err("the answer does not name one archive"),
        },
        (Some(inner), _) => inner.to_owned(),
        (None, Ok(_)) => return Err("the answer has escapes in an unknown form"),
        (None, Err(_)) => return Err("the answer is no JSON with the path of an archive"),
    };
    // No kubelet makes a name with control characters, which would steer a terminal.
    let is_whole =
        path.starts_with('/') && !path.contains(char::is_control) && !path.ends_with('/');
    if !is_whole || path.split('/').any(|part| part == "..") {
        return Err("the answer does not name an absolute path of a file");
    }
    Ok(path.into())
}

fn other(said: String, usual: &str) -> String {
    if said == usual { String::new() } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: &Endpoint, status: u16, body: &str) -> Result<PathBuf, ErrorKind> {
        let container = "ns/pod/app".parse().unwrap();
        let reply = Reply { status, body: body.as_bytes().to_vec(), is_cut: false };
        read(endpoint, &container, &reply)
    }

    #[test]
    fn paths_are_taken_as_kubelets_write_them() {
        let node = Endpoint::kubelet("node").unwrap();
        let path = |text: &str| of(&node, 200, text).ok().map(|path| path.display().to_string());
        let dir = "/var/lib/kubelet/checkpoints";
        for name in ["checkpoint-a_b-c-2026.tar", r#"with"quote.tar"#, r"with\backslash\n.tar"] {
            let want = format!("{dir}/{name}");
            assert_eq!(path(&format!(r#"{{"items":["{want}"]}}"#)), Some(want));
        }
        assert_eq!(path("{ \"items\": [ \"/a\" ] }\n").as_deref(), Some("/a"));
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"items":[]}"#,
            r#"{"items":["/a","/b"]}"#,
            r#"{"items":["a"]}"#,
            r#"{"items":["/a/../b"]}"#,
            r#"{"items":["/"]}"#,
            r#"{"items":[1]}"#,
            r#"{"items":[{}]}"#,
            "<html>",
            r#"{"items":["/a"#,
            r#"{ "items":["/a\u0041"]}"#,
            "{\"items\":[\"/a\\\n\x1b[2J\"]}",
            "{\"items\":[\"/a\u{9b}2J\"]}",
        ] {
            assert!(matches!(of(&node, 200, bad), Err(ErrorKind::Garbled(_))), "{bad}");
        }
        let deep = "[".repeat(60_000);
        assert!(matches!(of(&node, 200, &deep), Err(ErrorKind::Garbled(_))));
        let mut escape = of(&node, 500, "\u{1b}[2J\u{202e}x").unwrap_err().to_string();
        escape.retain(criu_images::Text::hides);
        assert_eq!(escape, "");
    }
}
