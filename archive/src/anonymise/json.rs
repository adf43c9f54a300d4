//! JSON with every text replaced. Its structure and its numbers stay.

use criu_images::anonymise::Anonymous;
use serde_json::{Map, Value};

use super::fields::{
    ARGUMENTS, ENVIRONMENT, KEPT_PREFIXES, KEPT_VALUES, KEPT_VARIABLES, MAPS, MAPS_OF_OBJECTS,
    NAMED_VARIABLES, NAMES, OPTIONS, VOCABULARY,
};
use crate::metadata::Time;
use crate::metadata::json::parse;
use crate::metadata::names::NETWORK_STATUS;

/// Replaces all texts in a member that an engine writes. Keys of objects and numbers stay, except
/// where a user gives the keys.
pub(super) fn replaced(secret: &Anonymous, name: &str, value: Value) -> Value {
    let field = if name == NETWORK_STATUS { "networks" } else { NO_FIELD };
    Walk { secret, is_known: true }.value(field, value)
}

/// A walk through JSON.
#[derive(Clone, Copy)]
struct Walk<'s> {
    secret: &'s Anonymous,
    /// Set for JSON whose fields have names of an engine. In other JSON, such as that in an
    /// annotation, all keys and numbers are a user's.
    is_known: bool,
}

impl Walk<'_> {
    /// Replaces a value of a field. Values in a list count as values of its field.
    fn value(self, field: &str, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(field, text)),
            Value::Number(_) if self.is_given(field) => Value::from(0),
            Value::Array(values) => {
                Value::Array(values.into_iter().map(|value| self.value(field, value)).collect())
            }
            Value::Object(object) => self.object(field, object),
            other => other,
        }
    }

    fn object(self, field: &str, object: Map<String, Value>) -> Value {
        let is_map = !self.is_known || field == GIVEN || MAPS.contains(&field);
        // A rule of seccomp names system calls.
        let is_rule = object.get("action").and_then(Value::as_str).is_some_and(is_action);
        let replaced = object.into_iter().map(|(key, value)| {
            if is_map && field == "interfaces" {
                return (self.device(&key), self.value(NO_FIELD, value));
            }
            if is_map {
                let new = self.key(field, &key);
                // A key of an engine or of the kernel says what the value is.
                let is_path = field == "sysctl" && new == key && key.contains('.');
                let inner = match &*key {
                    key if is_kept(key) || is_path => key,
                    _ if MAPS_OF_OBJECTS.contains(&field) => NO_FIELD,
                    _ => GIVEN,
                };
                return (new, self.value(inner, value));
            }
            if is_rule && key == "names" {
                return (key, value);
            }
            let value = self.value(&key, value);
            (key, value)
        });
        Value::Object(replaced.collect())
    }

    /// Returns true if nobody knows what the numbers of a field mean.
    fn is_given(self, field: &str) -> bool {
        !self.is_known || field == GIVEN || field == NO_FIELD
    }

    /// Replaces a key that a user may have given.
    fn key(self, field: &str, key: &str) -> String {
        if field == "sysctl" {
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            let path = self.path(&path);
            return path.trim_start_matches("/proc/sys/").replace('/', ".");
        }
        if is_kept(key) { key.to_owned() } else { self.name(key) }
    }

    fn text(self, field: &str, text: String) -> String {
        if text.is_empty() {
            return text;
        }
        if ENVIRONMENT.contains(&field) {
            return self.variable(&text);
        }
        if ARGUMENTS.contains(&field) {
            return self.argument(&text);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_kept = is_time(&text)
            || text == "true"
            || text == "false"
            || self.is_known && VOCABULARY.contains(&field) && text.bytes().all(is_plain)
            || KEPT_VALUES.contains(&(field, &*text))
            || !self.is_given(field)
                && !NAMES.contains(&field)
                && text.len() <= 10
                && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_kept {
            return text;
        }
        if text.starts_with(['{', '[']) {
            // Annotations hold JSON.
            if let Ok(inner) = parse::<Value>(text.as_bytes()) {
                let walk = Self { is_known: false, ..self };
                return walk.value(GIVEN, inner).to_string();
            }
        }
        if OPTIONS.contains(&field) {
            return shown(self.secret.options(text.as_bytes()));
        }
        if let Some(address) = self.address(&text) {
            return address;
        }
        if field == "name" && text.len() < 16 {
            return self.device(&text);
        }
        // The name of an image begins with a host.
        let host = text.split('/').next().unwrap_or_default();
        match self.address(host) {
            Some(address) => {
                let rest = text.strip_prefix(host).unwrap_or_default();
                address + &self.path(rest)
            }
            None if text.contains('/') => self.path(&text),
            None => self.name(&text),
        }
    }

    /// Replaces a variable of an environment: its name, unless everybody has it, and its value.
    fn variable(self, variable: &str) -> String {
        let Some((name, value)) = variable.split_once('=') else { return self.name(variable) };
        let value = match value {
            "" => String::new(),
            value if KEPT_VARIABLES.contains(&variable) => value.to_owned(),
            value if value.starts_with('/') => {
                let paths: Vec<_> = value.split(':').map(|path| self.path(path)).collect();
                paths.join(":")
            }
            value if NAMED_VARIABLES.contains(&name) => self.name(value),
            value => self.address(value).unwrap_or_else(|| self.content(value)),
        };
        let is_usual = NAMED_VARIABLES.contains(&name)
            || KEPT_VARIABLES.iter().any(|known| known.split('=').next() == Some(name));
        if is_usual { format!("{name}={value}") } else { format!("{}={value}", self.name(name)) }
    }

    /// Replaces an argument of a command.
    fn argument(self, argument: &str) -> String {
        if let Some((option, value)) =
            argument.split_once('=').filter(|_| argument.starts_with('-'))
        {
            return format!("{}={}", self.name(option), self.argument(value));
        }
        if argument.starts_with('/') && !argument.contains(' ') {
            return self.path(argument);
        }
        match self.address(argument) {
            Some(address) => address,
            None if argument.starts_with('-') && argument.len() == 2 => argument.to_owned(),
            None => self.content(argument),
        }
    }

    /// Replaces an address, with or without a port.
    fn address(self, text: &str) -> Option<String> {
        if let Some(address) = self.secret.address(text.as_bytes()) {
            return Some(shown(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = self.secret.address(inner.unwrap_or(host).as_bytes()).filter(|_| is_port)?;
        let address = shown(address);
        Some(match inner {
            Some(_) => format!("[{address}]:{port}"),
            None => format!("{address}:{port}"),
        })
    }

    fn name(self, name: &str) -> String {
        shown(self.secret.name(name.as_bytes()))
    }

    fn path(self, path: &str) -> String {
        shown(self.secret.path(path.as_bytes()))
    }

    fn device(self, name: &str) -> String {
        shown(self.secret.device(name.as_bytes()))
    }

    fn content(self, content: &str) -> String {
        shown(self.secret.content(content.as_bytes()))
    }
}

/// Pseudonyms are ASCII.
fn shown(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns true for a key that an engine gives to an annotation or a label.
fn is_kept(key: &str) -> bool {
    KEPT_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Returns true for an action of a seccomp rule.
fn is_action(text: &str) -> bool {
    text.starts_with("SCMP_ACT_")
}

/// Returns true for a time, such as `2026-11-30T04:58:09.5Z`. A longer fraction than that of
/// nanoseconds could be any number.
fn is_time(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count() <= 9 && text.parse::<Time>().is_ok()
}

/// Field of values whose key was given by a user. Keys inside them are a user's, too.
const GIVEN: &str = "\0given";

/// Field of values without a key. Objects among them have the keys of an engine.
const NO_FIELD: &str = "";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use criu_images::source::InMemory;
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_replaced_and_the_structure_stays() {
        let secret = Anonymous::new(InMemory::default());
        let spec = json!({
            "ociVersion": "1.2.1",
            "hostname": "acmehost",
            "process": {
                "args": ["/opt/acme/bin/acmed", "--token=acmetoken", "acme word"],
                "env": ["PATH=/usr/bin:/opt/acme", "ACME_KEY=acme123", "HOSTNAME=acmehost", "A="],
                "user": { "uid": 1000 },
            },
            "mounts": [{
                "destination": "/srv/acme", "source": "/home/acme/data", "type": "bind",
                "options": ["rbind", "ro", "size=64k", "lowerdir=/a/acme:/b/acme"],
            }],
            "annotations": {
                "io.container.manager": "libpod",
                "acme.com/team": "acme team",
                "io.kubernetes.cri-o.Labels": "{\"acme\":\"acmelabel\",\"n\":[1]}",
            },
            "linux": {
                "sysctl": { "net.ipv4.conf.acme0.forwarding": "1" },
                "seccomp": { "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] },
            },
            "created": "2026-11-30T04:58:09.533302456Z",
            "finished": ["2026-11-30T04:58:09.5333024561Z", "4711-04-71T04:71:14.711Z"],
            "gateway": "10.88.0.1",
            "listen": "10.88.0.1:8080",
        });
        let new = replaced(&secret, "spec.dump", spec.clone());
        let text = new.to_string();
        assert!(!text.to_lowercase().contains("acme"), "{text}");
        for kept in ["/ociVersion", "/process/user", "/linux/seccomp", "/created", "/mounts/0/type"]
        {
            assert_eq!(new.pointer(kept), spec.pointer(kept), "{kept}");
        }
        assert!(!text.contains("5333024561") && !text.contains("4711"), "{text}");
        assert_eq!(new["annotations"]["io.container.manager"], "libpod");
        assert_eq!(new["mounts"][0]["options"][2], "size=64k");
        let host = new["hostname"].as_str().unwrap();
        assert_eq!(host.as_bytes(), secret.name(b"acmehost"));
        assert_eq!(new["process"]["env"][2], format!("HOSTNAME={host}"));
        assert_eq!(
            new["mounts"][0]["source"].as_str().unwrap().as_bytes(),
            secret.path(b"/home/acme/data")
        );
        let gateway = new["gateway"].as_str().unwrap();
        assert_eq!(new["listen"], format!("{gateway}:8080"));
        assert!(text.contains("net.ipv4.conf.") && text.contains(".forwarding"), "{text}");
        let env = new["process"]["env"][1].as_str().unwrap();
        assert_eq!(env.len(), "ACME_KEY=acme123".len());
    }

    #[test]
    fn what_a_user_gives_is_replaced_whatever_its_key_says() {
        let secret = Anonymous::new(InMemory::default());
        let spec = json!({
            "annotations": {
                "runtime": "acme-jvm", "type": "acme", "driver": "acme", "user": "48151623",
                "pod": "48151623", "session": "48151623", "name": 48151623,
                "example.com/spec":
                    "{\"type\":\"acme\",\"pin\":4711,\"list\":[\"4711\",4711],\"name\":\"4711\"}",
                "example.com/list": "[\"4711\"]",
            },
            "labels": [{ "runtime": "acme", "map": { "acme": 4711 } }],
            "hostname": "4711",
            "restarts": "7",
            "runtime": "crun",
            "options": ["rw", "size=64k", "lowerdir=/a/acme:/b/acme", "acme=1", "c=a,b,acme"],
            "linux": { "sysctl": { "net.ipv4.ip_forward": "1", "runtime": "acme" } },
        });
        let new = replaced(&secret, "spec.dump", spec);
        let text = new.to_string();
        for private in ["acme", "4815", "4711"] {
            assert!(!text.contains(private), "{private}: {text}");
        }
        assert_eq!((&new["runtime"], &new["restarts"]), (&json!("crun"), &json!("7")));
        assert_eq!(new["linux"]["sysctl"]["net.ipv4.ip_forward"], "1");
        assert_eq!((&new["options"][0], &new["options"][1]), (&json!("rw"), &json!("size=64k")));
    }

    #[test]
    fn texts_and_names_without_a_field_are_replaced() {
        let secret = Anonymous::new(InMemory::default());
        let options = json!({ "containers": { "acme": "k8s_acme_pod", "runtime": "acme-jvm" } });
        let new = replaced(&secret, "pod.options", options).to_string();
        assert!(!new.contains("acme") && new.starts_with("{\"containers\":{"), "{new}");
        let gone = replaced(&secret, "deleted.files", json!(["48151623", 48151623])).to_string();
        assert!(!gone.contains("4815"), "{gone}");
        let mounts = json!([{ "source": "/srv/acme", "recursive": 1 }]);
        let mounts = replaced(&secret, "bind.mounts", mounts);
        assert_eq!(mounts[0]["recursive"], 1);
    }
}
